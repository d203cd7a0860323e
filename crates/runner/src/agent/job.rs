//! One job, from its lease to the removal of its folder.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kluis_client::{Error, jittered};
use kluis_core::api::agents::{AttemptId, ConfirmAttempt, EngineEvent, HandOver, Lease, ReportAttempt};
use kluis_core::clock::{Clock, SystemClock};
use tokio::time::Instant;

use super::slots::Slot;
use super::{AgentOptions, Attached, Entered, FIRST_PAUSE, LONGEST_PAUSE, Returns};
use crate::board::Board;
use crate::engine::{Executor, Job, JobStatus, SubmitError};
use crate::journal::{Entry, Place};

/// How often a job is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// A lease lasts so long at least and at most, whatever the two clocks say.
const SHORTEST_LEASE: Duration = Duration::from_secs(5);
const LONGEST_LEASE: Duration = Duration::from_mins(1);
/// The longest reason that the server takes, in bytes.
const MAX_REASON: usize = 1000;

pub(super) struct Worker<B, E> {
    pub(super) board: Arc<B>,
    pub(super) engine: Arc<E>,
    pub(super) options: Arc<AgentOptions>,
    pub(super) returns: Arc<Returns>,
    pub(super) attached: Option<Arc<Attached>>,
    pub(super) place: Place,
    pub(super) _known: Entered,
}

/// Why a job was not started.
enum NotStarted {
    /// It never will be, for this reason.
    Refused(String),
    /// Not here and now.
    Unable(String),
    /// The server has given it to somebody else, or does not want it any more.
    Unwanted(String),
}

/// What became of a confirmation.
enum Confirmed {
    /// The ticket works, or may work: the answer was lost.
    Perhaps,
    /// It does not and will not.
    No(String),
}

impl<B: Board, E: Executor> Worker<B, E> {
    pub(super) async fn work(self, lease: Lease, slot: Slot) {
        let attempt = lease.attempt.clone();
        let (event, reason) = match self.start(lease, &slot).await {
            Ok(entry) => {
                self.returns.started(&attempt);
                return self.watch(&entry).await;
            }
            Err(NotStarted::Refused(reason)) => (EngineEvent::Refused, reason),
            Err(NotStarted::Unable(reason)) => (self.returns.returned(&attempt), reason),
            Err(NotStarted::Unwanted(reason)) => (EngineEvent::Returned, reason),
        };
        tracing::warn!(run = %attempt.run, %reason, "not started");
        report(&*self.board, &attempt, event, reason).await;
        self.place.remove().await;
    }

    /// Hands the job to the engine, notes it, and makes its ticket work.
    async fn start(&self, mut lease: Lease, slot: &Slot) -> Result<Entry, NotStarted> {
        let left = lease.expires.since(SystemClock.now()).clamp(SHORTEST_LEASE, LONGEST_LEASE);
        let deadline = Instant::now() + left;
        let devices = self.devices(lease.job.resources.gpus, slot)?;
        let (address, ca_sha256) = self.board.server();
        let ticket = lease.tickets.pop();
        let ticket = ticket.ok_or_else(|| NotStarted::Unable("the lease came without a ticket".to_owned()))?;
        let (console, connection) = self.attached.as_ref().and_then(|attached| attached.take()).unzip();
        let job = Job {
            hand_over: HandOver {
                address,
                ca_sha256,
                attempt: lease.attempt.clone(),
                ticket,
                work_dir: self.place.folder(),
                covered: self.covered().map_err(NotStarted::Unable)?,
                python: self.options.python.clone(),
                grace_seconds: self.options.grace_seconds,
                confine: self.options.confine,
                console,
            },
            spec: lease.job,
            log: self.place.log(),
            devices,
            connection,
        };
        let submitted = self.engine.submit(job).await.map_err(|error| match error {
            SubmitError::Refused(reason) => NotStarted::Refused(reason),
            SubmitError::Unable(reason) => NotStarted::Unable(reason),
        })?;
        let entry = Entry { attempt: lease.attempt, handle: submitted.handle.clone(), devices: slot.devices.clone() };
        if let Err(error) = self.place.record(&entry).await {
            self.end(&entry).await;
            return Err(NotStarted::Unable(error.to_string()));
        }
        let confirm = ConfirmAttempt {
            attempt: entry.attempt.clone(),
            handle: submitted.handle,
            engine_job: submitted.description,
        };
        match self.confirm(&confirm, deadline).await {
            Confirmed::Perhaps => Ok(entry),
            Confirmed::No(reason) => {
                self.end(&entry).await;
                Err(NotStarted::Unwanted(reason))
            }
        }
    }

    /// The devices that the job sees; `None` when this agent shares out none and the run asks for none in particular.
    fn devices(&self, wanted: Option<u32>, slot: &Slot) -> Result<Option<Vec<String>>, NotStarted> {
        match wanted {
            None if self.options.devices.is_empty() => Ok(None),
            None => Ok(Some(slot.devices.clone())),
            Some(wanted) => match slot.devices.get(..wanted as usize) {
                Some(devices) => Ok(Some(devices.to_vec())),
                None => Err(NotStarted::Refused(format!(
                    "the run asks for {wanted} GPUs; a slot of this agent has {}: start it with fewer --slots or more \
                     --gpus",
                    slot.devices.len()
                ))),
            },
        }
    }

    /// What is hidden from the run: absolute, and there. What is missing is made, so that it is hidden when it fills.
    fn covered(&self) -> Result<Vec<PathBuf>, String> {
        use std::os::unix::fs::DirBuilderExt;
        let options = &self.options;
        let make = |path: &PathBuf| {
            let path = std::path::absolute(path)?;
            if !path.try_exists()? {
                std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
            }
            Ok(path)
        };
        let all = options.covered.iter().chain([&options.state]);
        all.map(|path| {
            make(path).map_err(|e: std::io::Error| format!("{} is to be hidden from runs: {e}", path.display()))
        })
        .collect()
    }

    /// Says that the engine runs the job, until the server has an answer or the lease is over.
    async fn confirm(&self, confirm: &ConfirmAttempt, deadline: Instant) -> Confirmed {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.board.confirm(confirm).await {
                Ok(()) => return Confirmed::Perhaps,
                // A confirmation that was heard before is answered like the first: this one never was.
                Err(error) if is_refusal(&error) => return Confirmed::No(error.to_string()),
                Err(error) if Instant::now() + pause >= deadline => {
                    // It may have been heard, and then the run is on its way; if not, its launcher gives up by itself.
                    tracing::warn!(%error, run = %confirm.attempt.run, "whether the job is confirmed is not known");
                    return Confirmed::Perhaps;
                }
                Err(error) => {
                    tracing::debug!(%error, run = %confirm.attempt.run, "confirming again");
                    tokio::time::sleep(jittered(pause)).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Ends a job whose ticket never worked: nothing of the user's has run.
    async fn end(&self, entry: &Entry) {
        self.engine.cancel(&entry.handle).await;
        while self.engine.status(&entry.handle).await == JobStatus::Alive {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits for the job's end, says so unless its launcher did, and cleans up.
    pub(super) async fn watch(&self, entry: &Entry) {
        let success = loop {
            match self.engine.status(&entry.handle).await {
                JobStatus::Alive => tokio::time::sleep(LOOK).await,
                JobStatus::Over { success } => break success,
            }
        };
        if success != Some(true) {
            // Before another attempt can start beside them.
            let ended = self.engine.tidy(Some(&self.place.folder())).await;
            if ended > 0 {
                tracing::warn!(run = %entry.attempt.run, ended, "processes that the launcher left running were ended");
            }
            let words = self.place.last_words();
            let reason = if words.is_empty() { "the launcher is gone".to_owned() } else { words };
            // For a run that had started the server takes both for the same.
            let event = if success == Some(false) { EngineEvent::LauncherFailed } else { EngineEvent::Gone };
            report(&*self.board, &entry.attempt, event, reason).await;
        }
        self.place.remove().await;
    }
}

/// Whether the server understood and said no.
fn is_refusal(error: &Error) -> bool {
    let passing = [kluis_core::api::code::UNAVAILABLE, kluis_core::api::code::CLOCK_SKEW];
    let status = error.status().unwrap_or_default();
    (400..500).contains(&status)
        && !matches!(status, 408 | 425 | 429)
        && !error.code().is_some_and(|code| passing.contains(&code))
}

/// Says what happened, as long as it takes: until the server has heard it, or knows better.
pub(super) async fn report(board: &impl Board, attempt: &AttemptId, event: EngineEvent, reason: String) {
    let report = ReportAttempt { attempt: attempt.clone(), event, reason: worded(&reason) };
    let mut pause = FIRST_PAUSE;
    loop {
        match board.report(&report).await {
            Ok(()) => return,
            Err(error) if is_refusal(&error) => {
                // A run that has ended in the meantime needs no report.
                tracing::debug!(%error, run = %attempt.run, "the report was not wanted");
                return;
            }
            Err(_) => {
                tokio::time::sleep(jittered(pause)).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// A reason as the server takes it: one line, not too long, cut between characters.
fn worded(reason: &str) -> String {
    let mut text: String = reason.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    text.truncate(text.floor_char_boundary(MAX_REASON));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_cut_to_what_the_server_takes_between_characters_and_in_one_line() {
        assert_eq!(worded("no room\0 here\n"), "no room  here ");
        let long = worded(&format!("x{}", "ä".repeat(900)));
        assert_eq!((long.len(), long.chars().last()), (999, Some('ä')));
    }
}
