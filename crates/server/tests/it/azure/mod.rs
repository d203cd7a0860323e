//! The Azure faces.

mod authority;
mod vault;
