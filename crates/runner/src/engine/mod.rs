//! Engines: whatever places and starts a job. An engine is given a launcher's hand-over and answers with a handle; the
//! handle is all that is kept, so a restarted agent finds its jobs again.

mod devices;
mod leftovers;
mod process;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use kluis_core::api::agents::{HandOver, JobSpec};
pub use process::{ProcessEngine, find_launcher};

pub(crate) use self::devices::found_devices;

/// What an engine is asked to run.
#[derive(Debug)]
pub struct Job {
    /// For the launcher's standard input. Holds the ticket: it goes nowhere else.
    pub hand_over: HandOver,
    /// What the job needs, and whose it is.
    pub spec: JobSpec,
    /// Where the launcher's own messages go: a new file.
    pub log: PathBuf,
    /// The job sees these devices and no others; `None` leaves that to the machine.
    pub devices: Option<Vec<String>>,
    /// For a job with a console: the launcher's standard output, a connection to whoever waits for the job.
    pub connection: Option<OwnedFd>,
}

/// A job that an engine has taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submitted {
    /// What the engine finds the job by, across restarts of the agent; at most 1000 bytes.
    pub handle: String,
    /// For people, such as `process 4242 on gpu-1`.
    pub description: String,
}

/// Where a job stands, as its engine knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobStatus {
    /// It waits or runs.
    Alive,
    /// It is over.
    Over {
        /// Whether its launcher left with success, which means that it has reported the end itself; `None` when the
        /// engine can not tell.
        success: Option<bool>,
    },
}

/// Why an engine did not take a job.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// It never will, for this reason: the run fails.
    #[error("{0}")]
    Refused(String),
    /// It can not now: the run goes back to the queue.
    #[error("{0}")]
    Unable(String),
}

/// An engine.
pub trait Executor: Send + Sync + 'static {
    /// Starts a job. When this returns, the engine has it, and the hand-over is on its way by a channel that only the
    /// job reads.
    fn submit(&self, job: Job) -> impl Future<Output = Result<Submitted, SubmitError>> + Send;

    /// Where a job stands. A handle that is none of this engine's is over.
    fn status(&self, handle: &str) -> impl Future<Output = JobStatus> + Send;

    /// Whether the handle is one that this engine, as it stands, can judge: not of another machine or of another boot.
    fn is_from_here(&self, handle: &str) -> bool;

    /// Ends what a job that is over left running, known by the folder that it worked in, and removes what killed launchers
    /// left in memory. Says how many processes there were.
    fn tidy(&self, over: Option<&Path>) -> impl Future<Output = usize> + Send;

    /// Ends a job: its launcher ends the user's process with grace. Of a job that is over: nothing.
    fn cancel(&self, handle: &str) -> impl Future<Output = ()> + Send;
}
