//! The client against a small HTTPS server of its own, and snapshots against the file system.

#![expect(clippy::unwrap_used, reason = "helpers of tests, where a panic is the report")]

mod calls;
mod fake;
mod logs;
mod session;
mod snapshot;
mod trust;
