//! What needs a socket, a restart, or the files on disk.

mod lifecycle;
mod offline;
mod server;
mod tls;
