//! The stage: the launcher's own program, started once more, on its way to becoming a program of the run.
//!
//! In order: receive what the program will read, and the plan; behind bubblewrap, end bubblewrap's process and wait until
//! the launcher has adopted this one; lead a session, so that no terminal but the program's own is within reach; die with
//! the launcher; restrict itself; report; become the program. The connection closes
//! itself when the program takes over, which is how the launcher knows that it has.

use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{
    Pid, Resource, Rlimit, Signal, getpgid, getppid, ioctl_tiocsctty, kill_process, set_parent_process_death_signal,
    setpgid, setrlimit, setsid,
};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::{Plan, Report, Step, Wall, landlock};

/// The largest plan, in bytes: room for the largest environment that Linux allows.
const MAX_PLAN: u32 = 64 * 1024 * 1024;

/// Runs the stage on the connection that standard input is. Returns only when it could not become the program.
pub(crate) fn run() -> u8 {
    let Ok(mut launcher) = take_standard_input() else { return 126 };
    let Ok(input) = receive_input(&launcher) else { return 126 };
    let Some(plan) = read_plan(&mut launcher) else { return 126 };
    let (step, reason) = become_program(&plan, input, &mut launcher);
    report(&mut launcher, &Report::Failed { step, reason });
    126
}

fn report(launcher: &mut UnixStream, report: &Report) {
    let json = serde_json::to_vec(report).expect("a report is JSON");
    // A launcher that is gone has nobody to tell.
    let _gone = launcher.write_all(&json);
}

/// The connection, under a number that the program will not inherit; standard input is empty from here on.
fn take_standard_input() -> std::io::Result<UnixStream> {
    let connection: OwnedFd = rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), 3)?;
    let empty = std::fs::File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&empty)?;
    Ok(connection.into())
}

/// What comes with the first byte.
fn receive_input(launcher: &UnixStream) -> std::io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut with = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let received = recvmsg(launcher, &mut [IoSliceMut::new(&mut byte)], &mut with, RecvFlags::CMSG_CLOEXEC)?;
    if received.bytes != 1 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    let mut input = None;
    for message in with.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            input = descriptors.last();
        }
    }
    Ok(input)
}

/// Leads a session of its own, and with it a process group. Whoever leads a group already joins the launcher's first.
fn lead_a_session(launcher: Pid) -> rustix::io::Result<()> {
    if setsid().is_ok() {
        return Ok(());
    }
    setpgid(None, Some(getpgid(Some(launcher))?))?;
    setsid().map(drop)
}

/// Puts the program's input, and its terminal, in their places.
fn connect(input: &OwnedFd, terminal: bool) -> rustix::io::Result<()> {
    rustix::stdio::dup2_stdin(input)?;
    if terminal {
        ioctl_tiocsctty(input)?;
        rustix::stdio::dup2_stdout(input)?;
        rustix::stdio::dup2_stderr(input)?;
    }
    Ok(())
}

fn read_plan(launcher: &mut UnixStream) -> Option<Plan> {
    let mut length = [0; 4];
    launcher.read_exact(&mut length).ok()?;
    let length = u32::from_be_bytes(length);
    if length > MAX_PLAN {
        return None;
    }
    let mut json = zeroize::Zeroizing::new(vec![0; length as usize]);
    launcher.read_exact(&mut json).ok()?;
    serde_json::from_slice(&json).ok()
}

fn become_program(plan: &Plan, input: Option<OwnedFd>, launcher: &mut UnixStream) -> (Step, String) {
    let system = |what: &str, e: rustix::io::Errno| (Step::Confine, format!("{what}: {e}"));
    let Some(parent) = Pid::from_raw(plan.launcher) else { return (Step::Confine, "no launcher".to_owned()) };
    if plan.wall == Wall::Bwrap
        && let Some(bwrap) = getppid().filter(|p| *p != parent)
    {
        if let Err(e) = kill_process(bwrap, Signal::KILL) {
            return system("ending bubblewrap's process", e);
        }
        while getppid() == Some(bwrap) {
            std::thread::yield_now();
        }
    }
    if let Err(e) = lead_a_session(parent) {
        return system("a session", e);
    }
    if let Err(e) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return system("dying with the launcher", e);
    }
    // Asked after the signal is armed: a launcher that has died in between is not missed.
    if getppid() != Some(parent) {
        return (Step::Confine, "the launcher is not this process's parent".to_owned());
    }
    if let Some(input) = &input
        && let Err(e) = connect(input, plan.terminal)
    {
        return system("the program's standard streams", e);
    }
    let (current, maximum) = plan.files;
    if let Err(e) = setrlimit(Resource::Nofile, Rlimit { current, maximum }) {
        return system("the limit of open files", e);
    }
    let (current, maximum) = plan.locked;
    if let Err(e) = setrlimit(Resource::Memlock, Rlimit { current, maximum }) {
        return system("the limit of locked memory", e);
    }
    if plan.wall == Wall::Landlock {
        if let Err(reason) = landlock::restrict(&plan.covers) {
            return (Step::Confine, reason);
        }
        // Root's powers would see over the wall. As with bubblewrap, none are left, and none come back: Landlock has
        // set no_new_privs.
        let none = CapabilitySet::empty();
        let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
        if let Err(e) = rustix::thread::set_capabilities(None, none) {
            return system("laying down capabilities", e);
        }
    }
    if let Err(e) = std::env::set_current_dir(&plan.program.folder) {
        return (Step::Confine, format!("the run's folder cannot be entered: {e}"));
    }
    // Behind both walls: neither of them by itself stands in the way of a signal to another process of the same user.
    let scoped = plan.wall != Wall::None && landlock::scope();
    report(launcher, &Report::Ready { pid: std::process::id().cast_signed(), scoped });
    let Some((program, arguments)) = plan.program.argv.split_first() else {
        return (Step::Execute, "no program was named".to_owned());
    };
    let environment = plan.program.environment.iter().map(|(k, v)| (k, v));
    let error = Command::new(program).args(arguments).env_clear().envs(environment).exec();
    (Step::Execute, format!("{} cannot be executed: {error}", program.to_string_lossy()))
}
