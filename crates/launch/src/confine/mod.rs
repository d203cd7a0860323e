//! Starting a process of the run: in namespaces of its own (bubblewrap), else under Landlock, else not at all.
//!
//! The launcher starts its own program again as a [`stage`], behind bubblewrap or directly, and gives it a [`Plan`] over
//! its standard input. The stage confines itself, says that it is ready, and becomes the user's program. So the user's
//! environment (a preloaded library, a value) meets no process before that process is confined, and stands in no
//! command line.

mod bwrap;
mod landlock;
pub(crate) mod stage;

use std::ffi::OsString;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use kluis_core::api::agents::Confine;
use rustix::process::Rlimit;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::pipe;

use crate::reaper::Reaper;

/// How long a stage may take to become the program: namespaces are quick, a disk may not be.
const PATIENCE: std::time::Duration = std::time::Duration::from_mins(1);

/// What stands between the user's process and the rest of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Wall {
    /// A user and a mount namespace, made by bubblewrap.
    Bwrap,
    /// A Landlock domain.
    Landlock,
    /// Nothing.
    None,
}

/// What may not be seen, and what may be seen all the same.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Covers {
    /// Existing, canonical paths that are hidden.
    pub(crate) covered: Vec<PathBuf>,
    /// The parent of all runs' private folders. Hidden by namespaces only: under Landlock that would close `/dev/shm`,
    /// which programs need.
    pub(crate) neighbours: Option<PathBuf>,
    /// Existing, canonical paths that stay, even inside a covered one.
    pub(crate) kept: Vec<PathBuf>,
    /// Existing, canonical paths that can be read and not changed, for their programs are started outside the walls.
    /// Kept so by namespaces only: under Landlock nothing new could be made in any folder on the way to them.
    pub(crate) frozen: Vec<PathBuf>,
    /// A file of the run's own, and the machine's hosts file that it stands over. In namespaces only.
    pub(crate) hosts: Option<(PathBuf, PathBuf)>,
}

/// A program to become.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Program {
    /// The program, looked for on the environment's `PATH`, and its arguments.
    pub(crate) argv: Vec<OsString>,
    /// Its whole environment.
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// Where it starts.
    pub(crate) folder: PathBuf,
}

/// What a program reads.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Input<'i> {
    /// Nothing.
    Empty,
    /// This end of a pipe.
    Pipe(BorrowedFd<'i>),
    /// This terminal, where it also writes.
    Terminal(BorrowedFd<'i>),
}

/// Everything that a stage is told.
#[derive(Debug, Serialize, Deserialize)]
struct Plan {
    launcher: i32,
    wall: Wall,
    covers: Covers,
    /// Whether the input that was sent ahead is the program's terminal.
    terminal: bool,
    /// The limits of open files and of locked memory: soft and hard.
    files: (Option<u64>, Option<u64>),
    locked: (Option<u64>, Option<u64>),
    program: Program,
}

/// What a stage answers before it becomes the program; after `Ready`, the end of the stream says that it has.
#[derive(Debug, Serialize, Deserialize)]
enum Report {
    Ready { pid: i32, scoped: bool },
    Failed { step: Step, reason: String },
}

/// Where a start can fail, apart by who is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Step {
    /// The walls could not be put up.
    Confine,
    /// The program is not there or cannot be executed.
    Execute,
}

/// A start that failed.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct StartError {
    pub(crate) step: Step,
    pub(crate) reason: String,
}

impl Covers {
    /// `covered` as the operator named it. A path that could not be hidden is an error and not left out: the one that is
    /// missing now may be made while the run runs.
    pub(crate) fn new(covered: &[PathBuf], neighbours: Option<PathBuf>, kept: Vec<PathBuf>) -> Result<Self, String> {
        let real = |path: &PathBuf| {
            if !path.is_absolute() {
                return Err(format!("{} is to be hidden from the run and is not an absolute path", path.display()));
            }
            path.canonicalize().map_err(|e| format!("{} is to be hidden from the run: {e}", path.display()))
        };
        let mut covers = Self { covered: Vec::new(), neighbours, kept, frozen: Vec::new(), hosts: None };
        covers.hide(covered.iter().map(real).collect::<Result<Vec<_>, _>>()?);
        Ok(covers)
    }

    /// Hides more: existing, canonical paths.
    pub(crate) fn hide(&mut self, more: Vec<PathBuf>) {
        let all: Vec<PathBuf> = self.covered.drain(..).chain(more).collect();
        let inside_another = |path: &PathBuf| all.iter().any(|other| path != other && path.starts_with(other));
        for path in all.iter().filter(|path| !inside_another(path)) {
            if !self.covered.contains(path) {
                self.covered.push(path.clone());
            }
        }
    }

    /// Whether a path is hidden whichever wall stands.
    pub(crate) fn hides(&self, path: &Path) -> bool {
        self.covered.iter().any(|covered| path.starts_with(covered))
    }
}

impl StartError {
    fn confine(reason: impl Into<String>) -> Self {
        Self { step: Step::Confine, reason: reason.into() }
    }
}

/// A started process of the run: child of the launcher, leader of its own process group.
#[derive(Debug)]
pub(crate) struct Started {
    /// Its id, also of its process group.
    pub(crate) pid: i32,
    /// What it writes.
    pub(crate) stdout: pipe::Receiver,
    /// What it writes when it complains.
    pub(crate) stderr: pipe::Receiver,
    /// What it is confined by.
    pub(crate) wall: Wall,
}

/// Starts processes of one run, all behind the same wall.
#[derive(Debug)]
pub(crate) struct Starter {
    /// How the launcher's own program is started as a stage.
    pub(crate) stage: Vec<OsString>,
    /// What the operator asked for.
    pub(crate) confine: Confine,
    pub(crate) covers: Covers,
    /// The launcher's `PATH`, where bubblewrap is looked for.
    pub(crate) path: OsString,
    /// How many files a process of the run may have open: the launcher's own limit is higher.
    pub(crate) files: Rlimit,
    /// How much memory a process of the run may lock.
    pub(crate) locked: Rlimit,
    /// What held at the first start, and is used from then on.
    pub(crate) settled: OnceLock<Settled>,
}

/// The wall behind which a run's processes are started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settled {
    pub(crate) wall: Wall,
    /// Whether the kernel also keeps the run from signalling processes outside, and from their abstract sockets.
    pub(crate) scoped: bool,
}

impl Starter {
    /// The wall that holds here, tried with a program that does nothing; `None` when none does.
    pub(crate) async fn settle(&self, reaper: &Reaper) -> Option<Settled> {
        if self.settled.get().is_none() {
            let nothing = Program {
                argv: vec!["true".into()],
                environment: vec![("PATH".into(), "/usr/bin:/bin".into())],
                folder: "/".into(),
            };
            let started = self.start(&nothing, Input::Empty, reaper).await.ok()?;
            reaper.wait(started.pid).await;
        }
        self.settled.get().copied()
    }

    /// Starts a program. With [`Confine::Auto`] the first wall that holds is taken, and trying it is the probe.
    pub(crate) async fn start(
        &self,
        program: &Program,
        input: Input<'_>,
        reaper: &Reaper,
    ) -> Result<Started, StartError> {
        let walls: &[Wall] = match self.confine {
            Confine::Auto => &[Wall::Bwrap, Wall::Landlock],
            Confine::Bwrap => &[Wall::Bwrap],
            Confine::Landlock => &[Wall::Landlock],
            Confine::None => &[Wall::None],
        };
        let settled = self.settled.get().map(|settled| [settled.wall]);
        let walls = settled.as_ref().map_or(walls, |wall| &wall[..]);
        let mut reasons = Vec::new();
        for wall in walls {
            match self.start_behind(*wall, program, input, reaper).await {
                Err(StartError { step: Step::Confine, reason }) => reasons.push(reason),
                outcome => return outcome,
            }
        }
        Err(StartError::confine(format!(
            "the run can not be confined on this machine ({}); open user namespaces for bubblewrap, or let the agent's \
             operator say that runs may go without",
            reasons.join("; ")
        )))
    }

    async fn start_behind(
        &self,
        wall: Wall,
        program: &Program,
        input: Input<'_>,
        reaper: &Reaper,
    ) -> Result<Started, StartError> {
        let system = |what: &'static str| move |e: std::io::Error| StartError::confine(format!("{what}: {e}"));
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(system("a socket pair"))?;
        send_input(&ours, input).map_err(|e| StartError::confine(format!("a socket pair: {e}")))?;
        let (stdout, child_stdout) = capture_pipe().map_err(system("a pipe"))?;
        let (stderr, child_stderr) = capture_pipe().map_err(system("a pipe"))?;
        let mut argv = match wall {
            Wall::Bwrap => bwrap::command(&self.covers, &self.stage, &self.path)?,
            Wall::Landlock | Wall::None => Vec::new(),
        };
        argv.extend(self.stage.iter().cloned());
        // Nothing of the user's is in this command line or environment. No `pre_exec`: the standard library then
        // starts the process without copying this one.
        let child = Command::new(&argv[0])
            .args(&argv[1..])
            .env_clear()
            .current_dir("/")
            .stdin(OwnedFd::from(theirs))
            .stdout(child_stdout)
            .stderr(child_stderr)
            .process_group(0)
            .spawn()
            .map_err(|e| StartError::confine(format!("{} could not be started: {e}", argv[0].to_string_lossy())))?;
        let first = child.id().cast_signed();
        let plan = Plan {
            launcher: std::process::id().cast_signed(),
            wall,
            covers: self.covers.clone(),
            terminal: matches!(input, Input::Terminal(_)),
            files: (self.files.current, self.files.maximum),
            locked: (self.locked.current, self.locked.maximum),
            program: program.clone(),
        };
        ours.set_nonblocking(true).map_err(system("a socket pair"))?;
        let mut stream = UnixStream::from_std(ours).map_err(system("a socket pair"))?;
        let outcome = tokio::time::timeout(PATIENCE, handshake(&mut stream, &plan)).await.unwrap_or(Err(None));
        match outcome {
            Ok((pid, scoped)) => {
                self.settled.get_or_init(|| Settled { wall, scoped });
                Ok(Started { pid, stdout, stderr, wall })
            }
            Err(Some(error)) => {
                reaper.wait(first).await;
                Err(error)
            }
            Err(None) => {
                crate::child::kill(first);
                reaper.wait(first).await;
                let said = bwrap::what_it_said(&stderr).await;
                Err(StartError::confine(format!("{} did not get as far as the run: {said}", argv[0].to_string_lossy())))
            }
        }
    }
}

/// The first byte to a stage, and with it what the program will read.
fn send_input(stage: &std::os::unix::net::UnixStream, input: Input<'_>) -> rustix::io::Result<()> {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    let sent;
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut with = SendAncillaryBuffer::new(&mut space);
    if let Input::Pipe(input) | Input::Terminal(input) = input {
        sent = [input];
        with.push(SendAncillaryMessage::ScmRights(&sent));
    }
    sendmsg(stage, &[std::io::IoSlice::new(&[0])], &mut with, SendFlags::empty()).map(drop)
}

/// Sends the plan and hears the stage out. `Err(None)`: whatever was started ended before it had anything to say.
async fn handshake(stream: &mut UnixStream, plan: &Plan) -> Result<(i32, bool), Option<StartError>> {
    use tokio::io::AsyncReadExt;
    let json = zeroize::Zeroizing::new(serde_json::to_vec(plan).expect("a plan is JSON"));
    let length = u32::try_from(json.len()).map_err(|_| Some(StartError::confine("the environment is too large")))?;
    let sent = async {
        stream.write_all(&length.to_be_bytes()).await?;
        stream.write_all(&json).await?;
        stream.shutdown().await
    };
    sent.await.map_err(|_| None)?;
    let mut said = Vec::new();
    stream.read_to_end(&mut said).await.map_err(|_| None)?;
    let mut ready = None;
    for report in serde_json::Deserializer::from_slice(&said).into_iter() {
        match report.map_err(|_| None)? {
            Report::Ready { pid, scoped } => ready = Some((pid, scoped)),
            Report::Failed { step, reason } => return Err(Some(StartError { step, reason })),
        }
    }
    ready.ok_or(None)
}

/// A pipe whose reading end is ours and whose writing end is the process's.
fn capture_pipe() -> std::io::Result<(pipe::Receiver, Stdio)> {
    let (reader, writer) = std::io::pipe()?;
    Ok((pipe::Receiver::from_owned_fd(reader.into())?, writer.into()))
}
