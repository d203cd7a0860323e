//! What runs beside the user's process: the launcher. An engine starts it with a ticket on its standard input and nothing
//! else; it redeems the ticket, fetches the run's tree, starts the user's program in walls of its own, serves it secrets
//! over a UNIX socket, masks and uploads what it writes, and reports its end.
//!
//! | step | module |
//! |---|---|
//! | harden, redeem, watch, end | `harden`, `run`, `finish` |
//! | `./outputs` and `./logs` | `collected` |
//! | the run's folders on this node | `place` |
//! | snapshot, interpreter, declared secrets | `prepare`, `python`, `environment` |
//! | namespaces, Landlock, the stage in between | `confine` |
//! | unmodified Azure clients | `azure` |
//! | who may ask, and what | `membership`, `broker`, `secrets`, `deliveries` |
//! | whoever waits for the command | [`console`] |
//! | log, metrics, files on their way | `logs`, `metrics`, `files`, `outbox`, `masking` |
//! | sign of life, notices | `heartbeat` |
//!
//! Two programs call [`launch`] and [`confine`]: `kluis-launch`, and `kluis launch`.

mod azure;
mod broker;
mod child;
mod clock;
mod collected;
mod confine;
pub mod console;
mod deliveries;
mod ending;
mod environment;
mod files;
mod finish;
mod harden;
mod heartbeat;
mod logs;
mod masking;
mod membership;
mod metrics;
mod outbox;
mod place;
mod prepare;
mod processes;
mod python;
mod reaper;
mod retry;
mod run;
mod secrets;

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

pub use harden::HardenError;
use kluis_core::api::agents::HandOver;

/// The largest hand-over, in bytes.
const MAX_HAND_OVER: u64 = 1024 * 1024;

/// What the program around the launcher knows and the launcher does not look up itself.
#[derive(Clone, Debug)]
pub struct Start {
    /// The process's environment. Only a part of it reaches the user's process.
    pub environment: Vec<(OsString, OsString)>,
    /// How to start a program that calls [`confine`], such as `/usr/bin/kluis-launch confine`: an absolute path, then
    /// arguments.
    pub stage: Vec<OsString>,
}

impl Start {
    fn variable(&self, name: &str) -> Option<&OsStr> {
        self.environment.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_os_str())
    }
}

/// Why a launcher could not report its run's end. Its agent sees that it is gone, and says so.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The process could not be made safe to hold secrets.
    #[error(transparent)]
    Harden(#[from] HardenError),
    /// The hand-over is not one. Never holds its content.
    #[error("the hand-over on standard input: {0}")]
    HandOver(String),
    /// This machine lacks something.
    #[error("{0}")]
    Machine(String),
    /// No session came of the ticket.
    #[error("the ticket could not be redeemed: {0}")]
    Redeem(String),
    /// The end was wanted before the run had begun.
    #[error("ended before the ticket was redeemed: {0}")]
    Stopped(String),
    /// The run has ended and the server does not know.
    #[error("the run's end could not be reported: {0}")]
    Unreported(String),
    /// Asked to end twice.
    #[error("asked to end twice; the run's end was not reported")]
    Abandoned,
}

/// Runs one attempt: reads the hand-over (JSON, see [`HandOver`]) to the end of `input`, and returns when the run's end
/// has been reported.
///
/// Hardens the calling process for good, takes its SIGCHLD, SIGTERM and SIGINT, and waits for all its children: call it
/// from a process that does nothing else, on its main thread.
pub fn launch(input: impl Read, start: Start) -> Result<(), LaunchError> {
    let limits = harden::harden()?;
    let mut json = zeroize::Zeroizing::new(Vec::with_capacity(64 * 1024));
    let read = input.take(MAX_HAND_OVER).read_to_end(&mut json);
    read.map_err(|e| LaunchError::HandOver(e.to_string()))?;
    let hand_over: HandOver = serde_json::from_slice(&json).map_err(|e| {
        LaunchError::HandOver(format!("not a hand-over of this version (line {}, column {})", e.line(), e.column()))
    })?;
    drop(json);
    let connection = hand_over.console.map(|_| take_standard_output()).transpose();
    let connection = connection.map_err(|e| LaunchError::Machine(format!("standard output: {e}")))?;
    // One thread, and the main one: the user's process dies with the thread that started it.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| LaunchError::Machine(format!("a runtime: {e}")))?;
    let outcome = runtime.block_on(run::run(hand_over, connection, start, limits));
    // A thread that waits for a slow disk is not waited for.
    runtime.shutdown_background();
    outcome
}

/// The connection to whoever waits for the command, under a number that no other process inherits.
fn take_standard_output() -> std::io::Result<OwnedFd> {
    let connection = std::io::stdout().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdout(std::io::stderr())?;
    Ok(connection)
}

/// Removes what launchers of this user left in memory-backed folders when they were killed: sockets, and secrets that
/// were delivered as files. Each launcher does so at its start; an agent may when a launcher is gone. `runtime` is
/// `XDG_RUNTIME_DIR`, if there is one.
pub fn sweep(runtime: Option<&std::path::Path>) {
    place::sweep_everywhere(runtime);
}

/// The stage between the launcher and the user's program; started by [`launch`] only. Returns an exit code if it could
/// not become the program.
pub fn confine() -> u8 {
    confine::stage::run()
}
