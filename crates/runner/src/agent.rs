//! The agent's loop. One task per job: hand over, confirm, watch, report, clean up. Stopping the agent stops leasing and
//! leaves jobs alone: they are the launchers', and the next agent finds them in the journal.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kluis_client::Error;
use kluis_core::api::agents::{
    AttemptId, Confine, ConfirmAttempt, Console, EngineEvent, HandOver, Lease, LeaseRequest, LocalRun, ReportAttempt,
};
use kluis_core::name::ComputeName;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::board::Board;
use crate::engine::{Executor, Job, JobStatus, SubmitError};
use crate::journal::{Entry, Journal, JournalError, Place};

/// How long the server is asked to wait for work, in seconds.
const WAIT_SECONDS: u32 = 20;
/// How often a job is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// The longest pause between two tries while the server is away.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// What an agent serves, and how.
#[derive(Clone, Debug)]
pub struct AgentOptions {
    /// Whose queue.
    pub compute: ComputeName,
    /// Only this run; the agent is done when it has ended.
    pub only: Option<LocalRun>,
    /// Only runs of the agent's own principal.
    pub mine: bool,
    /// How many jobs at once, at least 1.
    pub slots: u32,
    /// Devices to share out among the slots, such as `["0", "1"]`.
    pub devices: Vec<String>,
    /// Where folders of runs and the journal lie. Hidden from runs.
    pub state: PathBuf,
    /// What else is hidden from runs.
    pub covered: Vec<PathBuf>,
    /// The interpreter for scripts on this machine.
    pub python: Option<String>,
    /// How the user's process is confined.
    pub confine: Confine,
    /// Seconds between SIGTERM and SIGKILL.
    pub grace_seconds: u64,
}

/// Why an agent gave up.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The server refuses it for good, or it was set up wrong.
    #[error(transparent)]
    Server(#[from] Error),
    /// Its state folder can not be used.
    #[error("the agent's state folder: {0}")]
    State(#[from] JournalError),
    /// The one run that it was to serve was not to be had.
    #[error("run {0} can not be leased: it is not queued, or not yours")]
    NotLeased(kluis_core::name::RunId),
}

/// An agent. See the crate's front page.
#[derive(Debug)]
pub struct Agent<B, E> {
    board: Arc<B>,
    engine: Arc<E>,
    options: Arc<AgentOptions>,
    journal: Journal,
    attached: Option<Arc<Attached>>,
}

/// Somebody waits for the one run of an agent, and has its standard streams.
#[derive(Debug)]
struct Attached {
    console: Console,
    /// The launcher's end of the connection, until it is handed over.
    connection: Mutex<Option<OwnedFd>>,
}

impl<B: Board, E: Executor> Agent<B, E> {
    /// An agent with its state folder made.
    pub fn new(board: B, engine: E, options: AgentOptions) -> Result<Self, AgentError> {
        let journal = Journal::open(&options.state)?;
        let (board, engine, options) = (Arc::new(board), Arc::new(engine), Arc::new(options));
        Ok(Self { board, engine, options, journal, attached: None })
    }

    /// The first job's launcher gets this end of a connection to whoever waits for the job.
    #[must_use]
    pub fn attached(mut self, console: Console, connection: OwnedFd) -> Self {
        self.attached = Some(Arc::new(Attached { console, connection: Mutex::new(Some(connection)) }));
        self
    }

    /// Serves until `stop`, or until the one run that it serves has ended. Jobs go on.
    pub async fn run(self, stop: CancellationToken) -> Result<(), AgentError> {
        let slots = Slots::new(self.options.slots.max(1), &self.options.devices);
        let mut jobs = JoinSet::new();
        for (place, entry) in self.journal.left()? {
            match entry {
                // Handed over and never noted: its ticket is inert, or was never written.
                None => place.remove(),
                Some(entry) => {
                    tracing::info!(run = %entry.attempt.run, attempt = entry.attempt.attempt, "found a job of an earlier agent");
                    let slot = slots.try_take();
                    let worker = self.worker(place);
                    jobs.spawn(async move {
                        worker.watch(&entry).await;
                        drop(slot);
                    });
                }
            }
        }
        let outcome = self.serve(&slots, &mut jobs, &stop).await;
        if self.options.only.is_some() && outcome.is_ok() {
            tokio::select! {
                () = stop.cancelled() => {}
                () = async { while jobs.join_next().await.is_some() {} } => {}
            }
        }
        // What still runs is left to itself: the tasks end here, the launchers do not.
        jobs.abort_all();
        outcome
    }

    async fn serve(&self, slots: &Slots, jobs: &mut JoinSet<()>, stop: &CancellationToken) -> Result<(), AgentError> {
        let mut pause = Duration::from_millis(200);
        loop {
            while jobs.try_join_next().is_some() {}
            let slot = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                slot = slots.take() => slot,
            };
            let request = LeaseRequest {
                compute: self.options.compute.clone(),
                run: self.options.only.clone(),
                mine: self.options.mine,
                wait_seconds: if self.options.only.is_some() { 0 } else { WAIT_SECONDS },
            };
            let leased = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                leased = self.board.lease(&request) => leased,
            };
            match (leased, &self.options.only) {
                (Ok(Some(lease)), only) => {
                    pause = Duration::from_millis(200);
                    let (run, attempt) = (&lease.attempt.run, lease.attempt.attempt);
                    tracing::info!(%run, attempt, "leased");
                    let place = self.journal.make(&lease.attempt)?;
                    let worker = self.worker(place);
                    jobs.spawn(async move { worker.work(lease, slot).await });
                    if only.is_some() {
                        return Ok(());
                    }
                }
                (Ok(None), Some(only)) => return Err(AgentError::NotLeased(only.run.clone())),
                (Ok(None), None) => {}
                (Err(error), _) if error.is_transient() => {
                    tracing::warn!(%error, "no work could be asked for; trying again");
                    tokio::select! {
                        () = stop.cancelled() => return Ok(()),
                        () = tokio::time::sleep(pause) => {}
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                (Err(error), _) => return Err(error.into()),
            }
        }
    }

    fn worker(&self, place: Place) -> Worker<B, E> {
        let Self { board, engine, options, attached, .. } = self;
        let (board, engine, options) = (board.clone(), engine.clone(), options.clone());
        Worker { board, engine, options, place, attached: attached.clone() }
    }
}

/// One job, from its lease to the removal of its folder.
struct Worker<B, E> {
    board: Arc<B>,
    engine: Arc<E>,
    options: Arc<AgentOptions>,
    place: Place,
    attached: Option<Arc<Attached>>,
}

impl<B: Board, E: Executor> Worker<B, E> {
    async fn work(self, lease: Lease, slot: Slot) {
        let attempt = lease.attempt.clone();
        match self.start(lease, &slot).await {
            Ok(entry) => self.watch(&entry).await,
            Err((event, reason)) => {
                tracing::warn!(run = %attempt.run, %reason, "not started");
                self.report(&attempt, event, reason).await;
                self.place.remove();
            }
        }
    }

    /// Hands the job to the engine, notes it, and makes its ticket work.
    async fn start(&self, mut lease: Lease, slot: &Slot) -> Result<Entry, (EngineEvent, String)> {
        let wanted = lease.job.resources.gpus.unwrap_or(0) as usize;
        if wanted > slot.devices.len() {
            let reason = format!(
                "the run asks for {wanted} GPUs; a slot of this agent has {}: start it with fewer --slots or more --gpus",
                slot.devices.len()
            );
            return Err((EngineEvent::Refused, reason));
        }
        let (address, ca_sha256) = self.board.server();
        let Some(ticket) = lease.tickets.pop() else {
            return Err((EngineEvent::Returned, "the lease came without a ticket".to_owned()));
        };
        let mut covered = self.options.covered.clone();
        covered.push(self.options.state.clone());
        let attached = self.attached.as_ref().and_then(|attached| {
            let connection = attached.connection.lock().unwrap_or_else(PoisonError::into_inner).take()?;
            Some((attached.console, connection))
        });
        let (console, connection) = attached.unzip();
        let job = Job {
            hand_over: HandOver {
                address,
                ca_sha256,
                attempt: lease.attempt.clone(),
                ticket,
                work_dir: self.place.folder(),
                covered,
                python: self.options.python.clone(),
                grace_seconds: self.options.grace_seconds,
                confine: self.options.confine,
                console,
            },
            spec: lease.job,
            log: self.place.log(),
            devices: slot.devices[..wanted].to_vec(),
            connection,
        };
        let submitted = self.engine.submit(job).await.map_err(|error| match error {
            SubmitError::Refused(reason) => (EngineEvent::Refused, reason),
            SubmitError::Unable(reason) => (EngineEvent::Returned, reason),
        })?;
        let entry = Entry { attempt: lease.attempt, handle: submitted.handle.clone() };
        let noted = self.place.record(&entry).map_err(|error| error.to_string());
        let confirm = ConfirmAttempt {
            attempt: entry.attempt.clone(),
            handle: submitted.handle,
            engine_job: submitted.description,
        };
        let confirmed = match noted {
            Ok(()) => self.board.confirm(&confirm).await.map_err(|error| error.to_string()),
            Err(reason) => Err(reason),
        };
        if let Err(reason) = confirmed {
            // The ticket never worked: nothing of the user's has run.
            self.engine.cancel(&entry.handle).await;
            while self.engine.status(&entry.handle).await == JobStatus::Alive {
                tokio::time::sleep(LOOK).await;
            }
            return Err((EngineEvent::Returned, reason));
        }
        Ok(entry)
    }

    /// Waits for the job's end, says so unless its launcher did, and cleans up.
    async fn watch(&self, entry: &Entry) {
        let success = loop {
            match self.engine.status(&entry.handle).await {
                JobStatus::Alive => tokio::time::sleep(LOOK).await,
                JobStatus::Over { success } => break success,
            }
        };
        if success != Some(true) {
            let words = self.place.last_words();
            let reason = if words.is_empty() { "the launcher is gone".to_owned() } else { words };
            self.report(&entry.attempt, EngineEvent::Gone, reason).await;
        }
        self.place.remove();
    }

    /// Says what happened, as long as it takes: until the server has heard it, or knows better.
    async fn report(&self, attempt: &AttemptId, event: EngineEvent, reason: String) {
        let report = ReportAttempt { attempt: attempt.clone(), event, reason };
        let mut pause = Duration::from_millis(200);
        loop {
            match self.board.report(&report).await {
                Ok(()) => return,
                Err(error) if error.is_transient() => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(error) => {
                    // A run that has ended in the meantime needs no report.
                    tracing::debug!(%error, run = %attempt.run, "the report was not wanted");
                    return;
                }
            }
        }
    }
}

/// Places for jobs, each with its share of the devices.
struct Slots {
    free: Arc<Mutex<Vec<Vec<String>>>>,
    count: Arc<Semaphore>,
}

/// A place that is taken; it is free again when this is dropped.
struct Slot {
    devices: Vec<String>,
    free: Arc<Mutex<Vec<Vec<String>>>>,
    _permit: tokio::sync::OwnedSemaphorePermit,
}

impl Slots {
    fn new(count: u32, devices: &[String]) -> Self {
        let share = devices.len() / count as usize;
        let free = (0..count as usize).map(|i| devices[i * share..(i + 1) * share].to_vec()).rev().collect();
        Self { free: Arc::new(Mutex::new(free)), count: Arc::new(Semaphore::new(count as usize)) }
    }

    async fn take(&self) -> Slot {
        let permit = self.count.clone().acquire_owned().await.expect("the semaphore is never closed");
        self.slot(permit)
    }

    /// A place for a job that is there already: it runs even when there are more of them than slots.
    fn try_take(&self) -> Option<Slot> {
        Some(self.slot(self.count.clone().try_acquire_owned().ok()?))
    }

    fn slot(&self, permit: tokio::sync::OwnedSemaphorePermit) -> Slot {
        let devices = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        Slot { devices, free: self.free.clone(), _permit: permit }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let devices = std::mem::take(&mut self.devices);
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(devices);
    }
}
