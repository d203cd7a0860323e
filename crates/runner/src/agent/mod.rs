//! The agent's loop. One task per job: hand over, confirm, watch, report, clean up. Stopping the agent stops leasing and
//! leaves jobs alone: they are the launchers', and the next agent finds them in the journal. Beside the loop, what the
//! server believes to be alive is compared with what is (see `reconcile`).

mod job;
mod reconcile;
mod slots;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kluis_client::{Error, jittered};
use kluis_core::api::agents::{AttemptId, Confine, Console, EngineEvent, Lease, LeaseRequest, LocalRun};
use kluis_core::name::ComputeName;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::board::Board;
use crate::engine::{Executor, found_devices};
use crate::journal::{Journal, JournalError, Left, Place};
use job::Worker;
use slots::{Slot, Slots};

/// How long the server is asked to wait for work, in seconds.
const WAIT_SECONDS: u32 = 20;
/// The first pause between two tries while the server is away, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// A machine that gives everything back asks for work less and less often: at first after this, at last after that.
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_mins(1);
/// So often one run is given back because it could not be started here; then it is this machine's failure.
const MOST_RETURNS: u32 = 5;

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
    /// Devices to share out among the slots, such as `["0", "1"]`. With none, those that the machine has, if there are
    /// enough for every slot.
    pub devices: Vec<String>,
    /// Where folders of runs and the journal lie. Hidden from runs.
    pub state: PathBuf,
    /// What else is hidden from runs. A folder that is missing is made, empty and private: what comes into it later is
    /// hidden too.
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
    returns: Arc<Returns>,
    known: Arc<Known>,
    jobs: TaskTracker,
    /// Ends the tasks of jobs, not the jobs.
    leave: CancellationToken,
    attached: Option<Arc<Attached>>,
}

/// Somebody waits for the one run of an agent, and has its standard streams.
#[derive(Debug)]
struct Attached {
    console: Console,
    /// The launcher's end of the connection, until it is handed over.
    connection: Mutex<Option<OwnedFd>>,
}

impl Attached {
    /// What the launcher gets, once.
    fn take(&self) -> Option<(Console, OwnedFd)> {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some((self.console, connection))
    }
}

impl<B: Board, E: Executor> Agent<B, E> {
    /// An agent with its state folder made.
    pub fn new(board: B, engine: E, mut options: AgentOptions) -> Result<Self, AgentError> {
        let absolute = std::path::absolute(&options.state);
        options.state = absolute.map_err(|source| JournalError { path: options.state.clone(), source })?;
        let journal = Journal::open(&options.state)?;
        options.slots = options.slots.max(1);
        if options.devices.is_empty() {
            let found = found_devices();
            if found.len() >= options.slots as usize {
                options.devices = found;
            }
        }
        Ok(Self {
            board: Arc::new(board),
            engine: Arc::new(engine),
            options: Arc::new(options),
            journal,
            returns: Arc::default(),
            known: Arc::default(),
            jobs: TaskTracker::new(),
            leave: CancellationToken::new(),
            attached: None,
        })
    }

    /// The first job's launcher gets this end of a connection to whoever waits for the job.
    #[must_use]
    pub fn attached(mut self, console: Console, connection: OwnedFd) -> Self {
        self.attached = Some(Arc::new(Attached { console, connection: Mutex::new(Some(connection)) }));
        self
    }

    /// Serves until `stop`, or until the one run that it serves has ended. Jobs go on.
    pub async fn run(self, stop: CancellationToken) -> Result<(), AgentError> {
        if rustix::process::geteuid().is_root() {
            tracing::warn!("runs run as root here, and walls keep root from little: let the agent run as another user");
        }
        self.engine.tidy(None).await;
        let slots = Slots::new(self.options.slots, &self.options.devices);
        let mut unreadable = Vec::new();
        let mut adopted_only = false;
        for (place, left) in self.journal.left()? {
            match left {
                // Handed over and never noted: its ticket is inert, or was never written.
                Left::Nothing => place.remove().await,
                Left::Unreadable => {
                    tracing::warn!(place = %place.folder().display(), "the note on a job can not be read");
                    unreadable.push(place);
                }
                Left::Job(entry) => {
                    let (run, attempt) = (&entry.attempt.run, entry.attempt.attempt);
                    tracing::info!(%run, attempt, "found a job of an earlier agent");
                    let only = self.options.only.as_ref();
                    adopted_only |= only.is_some_and(|o| o.run == *run && o.workspace == entry.attempt.workspace);
                    let slots = slots.take_for(&entry.devices);
                    let worker = self.worker(place, &entry.attempt);
                    self.spawn(async move {
                        worker.watch(&entry).await;
                        drop(slots);
                    });
                }
            }
        }
        let work = async {
            // The one run is here already, and would not be leased again.
            if !adopted_only {
                self.serve(&slots, &stop).await?;
            }
            if self.options.only.is_some() {
                self.jobs.close();
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = self.jobs.wait() => {}
                }
            }
            Ok(())
        };
        let outcome = tokio::select! {
            outcome = work => outcome,
            never = self.reconcile(&slots, unreadable) => match never {},
        };
        // What still runs is left to itself: the tasks end here, the launchers do not.
        self.leave.cancel();
        self.jobs.close();
        self.jobs.wait().await;
        outcome
    }

    async fn serve(&self, slots: &Slots, stop: &CancellationToken) -> Result<(), AgentError> {
        let mut pause = FIRST_PAUSE;
        loop {
            let slot = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                slot = slots.take() => slot,
            };
            if let Some(rest) = self.returns.rest()
                && stopped_within(stop, rest).await
            {
                return Ok(());
            }
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
                    pause = FIRST_PAUSE;
                    self.take_on(lease, slot).await;
                    if only.is_some() {
                        return Ok(());
                    }
                }
                (Ok(None), Some(only)) => return Err(AgentError::NotLeased(only.run.clone())),
                (Ok(None), None) => {}
                (Err(error), only) if is_final(&error, only.is_some()) => return Err(error.into()),
                (Err(error), _) => {
                    tracing::warn!(%error, "no work could be asked for; trying again");
                    if stopped_within(stop, jittered(pause)).await {
                        return Ok(());
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Starts the task of a leased job.
    async fn take_on(&self, lease: Lease, slot: Slot) {
        let attempt = lease.attempt.clone();
        tracing::info!(run = %attempt.run, attempt = attempt.attempt, "leased");
        match self.journal.make(&attempt).await {
            Ok(place) => {
                let worker = self.worker(place, &attempt);
                self.spawn(async move { worker.work(lease, slot).await });
            }
            Err(error) => {
                let event = self.returns.returned(&attempt);
                let board = self.board.clone();
                self.spawn(async move {
                    job::report(&*board, &attempt, event, format!("no folder for the run: {error}")).await;
                    drop(slot);
                });
            }
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let leave = self.leave.clone();
        self.jobs.spawn(async move {
            tokio::select! {
                () = task => {}
                () = leave.cancelled() => {}
            }
        });
    }

    fn worker(&self, place: Place, attempt: &AttemptId) -> Worker<B, E> {
        Worker {
            board: self.board.clone(),
            engine: self.engine.clone(),
            options: self.options.clone(),
            returns: self.returns.clone(),
            attached: self.attached.clone(),
            place,
            _known: Known::enter(&self.known, attempt),
        }
    }
}

/// Whether asking for work again is no use. Everything else passes: a proxy's page, a certificate that is being renewed, a
/// clock, a full disk. Who serves one run only has somebody waiting, so a plain refusal ends it as well.
fn is_final(error: &Error, only: bool) -> bool {
    match error.status() {
        Some(401 | 403 | 404) => error.code() != Some(kluis_core::api::code::CLOCK_SKEW),
        Some(status) => only && (400..500).contains(&status) && !matches!(status, 408 | 425 | 429),
        None => false,
    }
}

async fn stopped_within(stop: &CancellationToken, pause: Duration) -> bool {
    tokio::time::timeout(pause, stop.cancelled()).await.is_ok()
}

/// What was given back. A run that can not be started here would be leased again at once.
#[derive(Debug, Default)]
struct Returns(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// Since a job was last started.
    in_a_row: u32,
    /// By run.
    of: HashMap<LocalRun, u32>,
}

impl Returns {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(attempt: &AttemptId) -> LocalRun {
        LocalRun { workspace: attempt.workspace.clone(), run: attempt.run.clone() }
    }

    fn started(&self, attempt: &AttemptId) {
        let mut counts = self.counts();
        counts.in_a_row = 0;
        counts.of.remove(&Self::run(attempt));
    }

    /// A run is given back: what is to be said of it.
    fn returned(&self, attempt: &AttemptId) -> EngineEvent {
        let mut counts = self.counts();
        counts.in_a_row += 1;
        let run = Self::run(attempt);
        let count = counts.of.entry(run.clone()).or_default();
        *count += 1;
        if *count < MOST_RETURNS {
            return EngineEvent::Returned;
        }
        counts.of.remove(&run);
        EngineEvent::LauncherFailed
    }

    /// How long to rest before more work is asked for.
    fn rest(&self) -> Option<Duration> {
        let in_a_row = self.counts().in_a_row;
        (in_a_row > 0).then(|| (FIRST_REST * 2_u32.pow((in_a_row - 1).min(10))).min(LONGEST_REST))
    }
}

/// The attempts that this agent looks after.
#[derive(Debug, Default)]
struct Known(Mutex<std::collections::HashSet<AttemptId>>);

/// An attempt that is looked after, until this is dropped.
#[derive(Debug)]
struct Entered {
    known: Arc<Known>,
    attempt: AttemptId,
}

impl Known {
    fn enter(known: &Arc<Self>, attempt: &AttemptId) -> Entered {
        known.0.lock().unwrap_or_else(PoisonError::into_inner).insert(attempt.clone());
        Entered { known: known.clone(), attempt: attempt.clone() }
    }

    fn has(&self, attempt: &AttemptId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(attempt)
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.known.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.attempt);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(run: &str) -> AttemptId {
        AttemptId { workspace: "default".parse().expect("a name"), run: run.parse().expect("a name"), attempt: 1 }
    }

    #[test]
    fn a_machine_that_starts_nothing_rests_longer_each_time_and_at_last_says_that_it_failed() {
        let returns = Returns::default();
        assert_eq!(returns.rest(), None);
        let events: Vec<_> = (0..5).map(|_| returns.returned(&attempt("a_1_b"))).collect();
        assert_eq!(events[..4], [EngineEvent::Returned; 4]);
        assert_eq!(events[4], EngineEvent::LauncherFailed);
        assert_eq!(returns.rest(), Some(Duration::from_secs(16)));
        assert_eq!(returns.returned(&attempt("other_1_b")), EngineEvent::Returned, "each run is counted by itself");
        for _ in 0..50 {
            returns.returned(&attempt("other_2_b"));
        }
        assert_eq!(returns.rest(), Some(LONGEST_REST));
        returns.started(&attempt("a_1_b"));
        assert_eq!(returns.rest(), None);
    }
}
