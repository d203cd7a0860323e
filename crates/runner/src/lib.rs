//! The agent: leases queued runs of a compute target, hands each to its engine, and says how it fares. It connects outward
//! only, and survives its own restart: a journal beside the runs' folders says which jobs are its own.
//!
//! | concept | module |
//! |---|---|
//! | the loop: lease, hand over, confirm, watch, report | [`Agent`] |
//! | what the agent asks of a server | [`board`] |
//! | what the agent asks of an engine | [`engine`] |
//! | folders of runs, and which jobs are in them | `journal` |
//!
//! **Adding an engine**: a file in `engine/` with an [`engine::Executor`], its cases in the conformance suite
//! (`tests/engines.rs`), a page in `docs/guide/engines/`. The launcher is started by path and never linked.

mod agent;
pub mod board;
pub mod engine;
mod journal;

pub use agent::{Agent, AgentError, AgentOptions};
pub use journal::{Journal, JournalError};
