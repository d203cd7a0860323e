//! `/session`, and with it the life of a run from queue to end.

mod children;
mod end;
mod heartbeat;
pub(crate) mod launcher;
mod metrics;
mod outputs;
mod read;
mod redeem;
mod signature;
pub(crate) mod stage;
mod walk;
