//! The server from outside, without a socket: the router over a fresh installation in a temporary folder, with a clock
//! that a test moves. Folders mirror URLs; what holds for every route stands in `all/`, what needs a socket or a restart
//! in `process/`.

#![expect(clippy::unwrap_used, reason = "helpers of tests, outside of #[test] functions")]

mod agents;
mod all;
mod audit;
mod azure;
mod azureml;
mod computes;
mod login;
mod principals;
mod process;
mod runs;
mod session;
mod tampering;
mod tokens;
mod workspaces;
mod world;
