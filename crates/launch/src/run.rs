//! One attempt of one run, from its ticket to its end.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use kluis_client::Error;
use kluis_client::session::{Redeemer, Session, SessionKey, Ticket};
use kluis_client::trust::{CaPin, Origin, Server};
use kluis_core::api::agents::HandOver;
use kluis_core::api::code;
use kluis_core::api::runs::Stream;
use kluis_core::api::session::SessionOpened;
use kluis_core::run::{Blame, ExitStatus};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::azure::Azure;
use crate::broker::{Broker, Desk, News};
use crate::clock::SteadyClock;
use crate::collected::{self, Uploaded};
use crate::confine::{Covers, Input, Program, Started, Starter, Wall};
use crate::console::{Front, Line};
use crate::ending::Ending;
use crate::harden::Limits;
use crate::heartbeat::{Phase, Stop, Stopper, beat};
use crate::logs::Logs;
use crate::masking::Masking;
use crate::metrics::Metrics;
use crate::place::{PlaceError, PrivateFolder, WorkFolder, runtime_folders};
use crate::reaper::Reaper;
use crate::retry::{Backoff, is_definite};
use crate::secrets::Secrets;
use crate::{LaunchError, Start, child, finish, harden, prepare};

/// How long a ticket is tried for: it works for 120 s from its confirmation.
const REDEEM_PATIENCE: Duration = Duration::from_mins(2);
/// Between tries while the agent has not confirmed the job yet: the usual case in the first moments.
const UNCONFIRMED_PAUSE: Duration = Duration::from_millis(100);
/// What a run leaves running gets at most this long to end by itself.
const LEFTOVER_GRACE: Duration = Duration::from_secs(5);
/// How long the pipes of an ended run are read on, should somebody outside hold them open.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);

impl From<PlaceError> for LaunchError {
    fn from(error: PlaceError) -> Self {
        Self::Machine(error.to_string())
    }
}

/// Everything that an attempt consists of while it runs.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) desk: Arc<Desk>,
    pub(crate) work: WorkFolder,
    pub(crate) private: PrivateFolder,
    pub(crate) starter: Starter,
    pub(crate) reaper: Reaper,
    pub(crate) phase: Phase,
    pub(crate) stopper: Stopper,
    /// The launcher's own environment.
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// The interpreter that this machine uses.
    pub(crate) python: Option<String>,
    /// Whether the program gets a terminal.
    pub(crate) on_a_terminal: bool,
    pub(crate) grace: Duration,
    /// What of `./logs` the server has.
    pub(crate) uploaded: Uploaded,
    /// What Azure clients in the run find; `None` where it could not be had.
    pub(crate) azure: Option<Azure>,
}

/// Runs the attempt to its reported end.
pub(crate) async fn run(
    hand_over: HandOver,
    connection: Option<OwnedFd>,
    start: Start,
    limits: Limits,
) -> Result<(), LaunchError> {
    let front = hand_over.console.zip(connection).map(|(console, connection)| Front::new(connection, console));
    let front = front.transpose().map_err(|e| LaunchError::Machine(format!("the console: {e}")))?;
    let stopper = Stopper::new();
    let abandoned = listen_to_signals(stopper.clone()).map_err(|e| LaunchError::Machine(format!("signals: {e}")))?;
    tokio::select! {
        outcome = attempt(hand_over, front, start, limits, stopper) => outcome,
        _ = abandoned => {
            child::end_leftovers(Duration::ZERO).await;
            Err(LaunchError::Abandoned)
        }
    }
}

async fn attempt(
    hand_over: HandOver,
    front: Option<Front>,
    start: Start,
    limits: Limits,
    stopper: Stopper,
) -> Result<(), LaunchError> {
    // What can fail on this machine fails before the ticket is used.
    let work = WorkFolder::prepare(&hand_over.work_dir)?;
    let runtime = start.variable("XDG_RUNTIME_DIR").map(PathBuf::from);
    let mut covers = Covers::new(&hand_over.covered, None, Vec::new()).map_err(LaunchError::HandOver)?;
    covers.hide(runtime_folders(runtime.as_deref()));
    let home = start.variable("HOME").unwrap_or_default();
    covers.frozen = programs(&start.stage, hand_over.python.as_deref(), &[Path::new(home), &work.root]);
    let reaper = Reaper::start().map_err(|e| LaunchError::Machine(format!("signals: {e}")))?;
    let path = start.variable("PATH").unwrap_or_default().to_owned();
    let mut starter = Starter {
        stage: start.stage,
        confine: hand_over.confine,
        covers: covers.clone(),
        path,
        files: limits.files,
        locked: limits.locked,
        settled: OnceLock::new(),
    };
    // Where no wall holds, the run's own start says so.
    let wall = starter.settle(&reaper).await.map(|settled| settled.wall);
    let landlock = wall == Some(Wall::Landlock);
    let private = PrivateFolder::make(runtime.as_deref(), landlock)?;
    covers.neighbours = Some(private.parent().to_owned());
    covers.kept = vec![work.root.clone(), private.path().to_owned()];

    let server = server(&hand_over)?;
    // Beside each other: one waits for the server, the other computes.
    let azure = Azure::prepare(&hand_over.attempt, &server.origin, &private, &work, wall);
    let (redeemed, azure) = tokio::join!(redeem(&server, &hand_over, &stopper), azure);
    let (session, opened) = redeemed?;
    let azure = azure.inspect_err(|error| tracing::warn!(%error, "Azure clients will find nothing in this run")).ok();
    starter.covers = Covers { hosts: azure.as_ref().and_then(Azure::hosts), ..covers.clone() };
    harden::lock_heap();
    let masking = Arc::new(Masking::new(Arc::new(SteadyClock::start())));
    let keep = Duration::from_secs(opened.cache_without_contact_seconds);
    let logs = Arc::new(Logs::new(session.clone(), masking.clone(), opened.context.node));
    let desk = Arc::new(Desk {
        news: News::new(&opened.context),
        secrets: Arc::new(Secrets::new(session.clone(), masking.clone(), logs.clone(), keep)),
        metrics: Arc::new(Metrics::new(session.clone(), masking.clone())),
        logs,
        context: opened.context,
        session: session.clone(),
        masking,
        covers,
    });
    let phase = Phase::new("starting");
    let heart = tokio::spawn(beat(session, desk.clone(), phase.clone(), stopper.clone()));
    let senders = [
        tokio::spawn({
            let logs = desk.logs.clone();
            async move { logs.send_all().await }
        }),
        tokio::spawn({
            let metrics = desk.metrics.clone();
            async move { metrics.send_all().await }
        }),
    ];
    let attempt = Attempt {
        desk,
        work,
        private,
        starter,
        reaper,
        phase,
        stopper,
        environment: start.environment,
        python: hand_over.python,
        on_a_terminal: front.as_ref().is_some_and(Front::is_terminal),
        grace: Duration::from_secs(hand_over.grace_seconds),
        uploaded: Uploaded::default(),
        azure,
    };
    let ending = attempt.execute(front).await;
    let reported = finish::finish(&attempt, ending, senders).await;
    heart.abort();
    reported
}

/// Where programs lie that are started outside the walls: the launcher, `kluis` beside it, the machine's interpreter. Their
/// folders, or, where a folder holds more than programs (a home, the run itself), the programs alone.
fn programs(stage: &[OsString], python: Option<&str>, not_above: &[&Path]) -> Vec<PathBuf> {
    let own = stage.first().map(PathBuf::from);
    let library =
        own.as_deref().and_then(Path::parent).filter(|folder| folder.file_name() == Some(OsStr::new("kluis")));
    let beside = library.map(|folder| folder.join("../../bin/kluis"));
    let python = python.map(PathBuf::from);
    let mut found = Vec::new();
    for program in [own, beside, python].into_iter().flatten().filter(|program| program.is_absolute()) {
        // Not its target: `bin/python3` of an environment is a link, and it is the link that must not be replaced.
        let Some(folder) = program.parent().and_then(|folder| folder.canonicalize().ok()) else { continue };
        if not_above.iter().any(|path| path.starts_with(&folder)) {
            found.extend(program.canonicalize());
        } else {
            found.push(folder);
        }
    }
    found.sort();
    found.dedup();
    found
}

/// SIGTERM and SIGINT ask the run to end; asked twice, the launcher leaves at once. The future is ready then.
fn listen_to_signals(stopper: Stopper) -> std::io::Result<JoinHandle<()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // The agent's terminal may close; the run goes on. (Ignoring it instead would be inherited by the run.)
    let mut hang_up = signal(SignalKind::hangup())?;
    tokio::spawn(async move { while hang_up.recv().await.is_some() {} });
    Ok(tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => stopper.stop(Blame::Engine, "the run's launcher was asked to end (SIGTERM)"),
            _ = interrupt.recv() => stopper.stop(Blame::User, "the run was interrupted"),
        }
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }))
}

fn server(hand_over: &HandOver) -> Result<Server, LaunchError> {
    let not_an = |what: &str| LaunchError::HandOver(format!("its {what} cannot be read"));
    Ok(Server {
        origin: hand_over.address.parse::<Origin>().map_err(|_| not_an("address"))?,
        ca_sha256: hand_over.ca_sha256.parse::<CaPin>().map_err(|_| not_an("CA pin"))?,
    })
}

async fn redeem(
    server: &Server,
    hand_over: &HandOver,
    stopper: &Stopper,
) -> Result<(Session, SessionOpened), LaunchError> {
    let ticket = Ticket { attempt: hand_over.attempt.clone(), ticket: hand_over.ticket.clone() };
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let clock = Arc::new(SteadyClock::start());
    let redeemer = Redeemer::new(server, ticket, SessionKey::generate(), host, version, clock);
    let deadline = Instant::now() + REDEEM_PATIENCE;
    let mut backoff = Backoff::new();
    loop {
        let outcome = tokio::select! {
            outcome = redeemer.redeem() => outcome,
            stop = stopper.wanted() => return Err(LaunchError::Stopped(stop.reason)),
        };
        let error: Error = match outcome {
            Ok(opened) => return Ok(opened),
            Err(error) => error,
        };
        let unconfirmed = error.code() == Some(code::TICKET_NOT_CONFIRMED);
        if (is_definite(&error) && !unconfirmed) || Instant::now() >= deadline {
            return Err(LaunchError::Redeem(error.to_string()));
        }
        if unconfirmed {
            tokio::time::sleep(UNCONFIRMED_PAUSE).await;
        } else {
            backoff.pause(&error).await;
        }
    }
}

impl Attempt {
    /// Prepares, starts and watches the user's process, until nothing of the run is left but its log.
    async fn execute(&self, front: Option<Front>) -> Ending {
        let prepared = tokio::select! {
            prepared = prepare::prepare(self) => prepared,
            stop = self.stopper.wanted() => Err(stop.into()),
        };
        match prepared {
            Ok(program) => self.supervise(program, front).await.unwrap_or_else(|ending| ending),
            Err(ending) => {
                child::end_leftovers(Duration::ZERO).await;
                ending
            }
        }
    }

    async fn supervise(&self, program: Program, front: Option<Front>) -> Result<Ending, Ending> {
        let socket = self.private.socket();
        let broker = Broker::listen(&socket, self.desk.clone())
            .map_err(|e| Ending::not_started(Blame::Kluis, format!("the run's socket could not be made: {e}")))?;
        let azure = self.azure.as_ref().map(|azure| azure.serve(&self.desk));
        let line = front.map(Front::open).transpose();
        let line = line.map_err(|e| Ending::not_started(Blame::Kluis, format!("the command's console: {e}")))?;
        let input = line.as_ref().map_or(Input::Empty, Line::input);
        let started = self.starter.start(&program, input, &self.reaper).await?;
        drop(program);
        self.reaper.keep_only(started.pid);
        self.desk.logs.system(match started.wall {
            Wall::Bwrap => "started in namespaces of its own (bubblewrap)",
            Wall::Landlock => "started under Landlock",
            Wall::None => "started without confinement, as this machine's operator allows",
        });
        self.phase.set("running");
        let Started { pid, stdout, stderr, .. } = started;
        let mut written = vec![(stdout, Stream::Stdout), (stderr, Stream::Stderr)];
        let mut waiting = None;
        let screen = line.map(|line| {
            let (keys, screen, terminal) = line.split();
            written.extend(terminal.map(|terminal| (terminal, Stream::Stdout)));
            waiting = Some(tokio::spawn(keys.pass_on(pid, screen.clone(), self.stopper.clone())));
            screen
        });
        let capture = |(pipe, stream)| {
            let (logs, screen) = (self.desk.logs.clone(), screen.clone());
            tokio::spawn(async move { logs.capture(pipe, stream, screen.as_deref()).await })
        };
        let captures: Vec<_> = written.into_iter().map(capture).collect();
        if let Some(false) = self.starter.settled.get().map(|settled| settled.scoped || settled.wall == Wall::None) {
            self.desk
                .logs
                .system("this kernel can not keep the run from signalling other processes (before Linux 6.12)");
        }
        if rustix::process::geteuid().is_root() {
            self.desk
                .logs
                .system("the run runs as root: its walls keep it from less; let the agent run as another user");
        }
        let (exit, asked) = tokio::select! {
            ended = self.watch(pid) => ended,
            never = collected::follow_logs(self) => match never {},
        };
        let leftovers = child::end_leftovers(LEFTOVER_GRACE.min(self.grace)).await;
        if leftovers > 0 {
            self.desk.logs.system(&format!("{leftovers} processes that the run left behind were ended"));
        }
        drop((broker, azure));
        for mut capture in captures {
            if tokio::time::timeout(DRAIN_PATIENCE, &mut capture).await.is_err() {
                capture.abort();
            }
        }
        // Whoever waits has seen everything; their connection closes here.
        if let Some(waiting) = waiting {
            waiting.abort();
        }
        self.desk.secrets.wipe();
        // One that ended badly may have had the same signal as the launcher, and first. One that ended well, did.
        let asked = asked.or_else(|| self.stopper.now().filter(|_| !exit.is_success()));
        Ok(Ending::of_process(exit, asked))
    }

    /// Waits for the process; asks it to end, and then makes it, when somebody wants that or its time is over. Says also
    /// who had it asked.
    async fn watch(&self, pid: i32) -> (ExitStatus, Option<Stop>) {
        let limit = self.desk.context.resources.time_seconds;
        let time_is_over = async {
            match limit {
                Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            exit = self.reaper.wait(pid) => return (exit, None),
            _ = self.stopper.wanted() => {}
            () = time_is_over => {
                let reason = format!("the run took longer than the {} s that it may", limit.unwrap_or_default());
                self.stopper.stop(Blame::Script, reason);
            }
        }
        self.phase.set("ending");
        child::ask(pid);
        let exit = match tokio::time::timeout(self.grace, self.reaper.wait(pid)).await {
            Ok(exit) => exit,
            Err(_elapsed) => {
                self.desk.logs.system("the program did not end when asked (SIGTERM) and is killed (SIGKILL)");
                child::kill(pid);
                self.reaper.wait(pid).await
            }
        };
        (exit, self.stopper.now())
    }
}
