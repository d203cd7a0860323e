//! The launcher makes itself hard to look into before it holds anything: not dumpable (so no other process of its user
//! can trace it or read its memory), no core file, a session of its own, and parent of whatever its run leaves behind.
//! Started as root it lays down root's powers (all but ending processes): it opens files that its run names.

use std::sync::atomic::{AtomicBool, Ordering};

use rustix::mm::{MlockAllFlags, MlockFlags};
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};

/// A step that failed.
#[derive(Debug, thiserror::Error)]
#[error("the launcher could not {step}: {source}")]
pub struct HardenError {
    step: &'static str,
    source: rustix::io::Errno,
}

/// The limits that the run is to have: the launcher raises its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Of open files: each of a node's processes may hold a connection to the launcher.
    pub(crate) files: Rlimit,
    /// Of locked memory.
    pub(crate) locked: Rlimit,
}

/// Whether every page of this process is locked, also those to come.
static ALL_LOCKED: AtomicBool = AtomicBool::new(false);

/// Keeps the session's key and the values out of swap: everything, where the system lets a process lock all that it will
/// ever need. Under a limit (often 8 MiB) that would make later allocations fail; then [`lock_heap`] locks what it can.
///
/// While the powers to raise the limit are still there. Answers the limit as it was.
fn lock_memory() -> Rlimit {
    let before = rustix::process::getrlimit(Resource::Memlock);
    let none = Rlimit { current: None, maximum: None };
    if rustix::process::setrlimit(Resource::Memlock, none).is_err() {
        // Without root's powers up to the hard limit; at worst it stays as it was.
        let _as_it_was = rustix::process::setrlimit(Resource::Memlock, Rlimit { current: before.maximum, ..before });
    }
    let unlimited = rustix::process::getrlimit(Resource::Memlock).current.is_none();
    let all = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    if unlimited && rustix::mm::mlockall(all).is_ok() {
        ALL_LOCKED.store(true, Ordering::Relaxed);
    } else {
        tracing::info!("only a part of the memory can be locked here (ulimit -l): use encrypted swap, or none");
    }
    before
}

/// Locks the heap as it is now, as far as the limit allows, unless everything is locked: the session's key lies there, and
/// the values that were just received. Called after each of them.
#[expect(unsafe_code, reason = "mlock takes an address; the kernel checks it")]
pub(crate) fn lock_heap() {
    if ALL_LOCKED.load(Ordering::Relaxed) {
        return;
    }
    let Some((start, end)) = heap() else { return };
    let start_of_heap = std::ptr::with_exposed_provenance_mut(start);
    // SAFETY: locking reads and writes no memory, and what is not mapped (any more) is an error and nothing else.
    let locked = unsafe { rustix::mm::mlock_with(start_of_heap, end - start, MlockFlags::ONFAULT) };
    if let Err(error) = locked {
        tracing::debug!(%error, "the heap could not be locked");
    }
}

/// Where the heap begins and ends, see proc_pid_maps(5).
fn heap() -> Option<(usize, usize)> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps.lines().find(|line| line.ends_with("[heap]"))?;
    let (start, end) = line.split_once(' ')?.0.split_once('-')?;
    Some((usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?))
}

/// Whatever an engine left open by mistake ends here: the run inherits its three standard streams and nothing else.
#[expect(unsafe_code, reason = "close_range has no safe wrapper, and an inherited descriptor has no owner here")]
fn keep_descriptors_to_ourselves() {
    // SAFETY: marks descriptors close-on-exec and closes none, so no owner of one can notice before an exec.
    let marked = unsafe { libc::close_range(3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC as libc::c_int) };
    if marked == 0 {
        return;
    }
    // Before Linux 5.11, one by one.
    for entry in std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten() {
        if let Some(fd) = entry.file_name().to_str().and_then(|name| name.parse().ok()).filter(|fd| *fd > 2) {
            // SAFETY: as above; a descriptor that is closed already makes the call fail and nothing else.
            unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
}

/// All of it, or an error: a launcher that can be looked into must not redeem a ticket.
///
/// Answers the limits that the run is to have.
pub(crate) fn harden() -> Result<Limits, HardenError> {
    let failed = |step| move |source| HardenError { step, source };
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(failed("forbid tracing"))?;
    // The hard limit too: inherited, so the user's process leaves no core file with values in it either.
    rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
        .map_err(failed("forbid core files"))?;
    keep_descriptors_to_ourselves();
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).map_err(failed("adopt orphans"))?;
    // Before root's powers are gone.
    let locked = lock_memory();
    // Of this thread; the others come later and inherit it.
    let held = rustix::thread::capabilities(None).map_err(failed("read its capabilities"))?;
    let kept = CapabilitySets {
        effective: held.effective & CapabilitySet::KILL,
        permitted: held.permitted & CapabilitySet::KILL,
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, kept).map_err(failed("lay down its capabilities"))?;
    match rustix::process::setsid() {
        // Already the leader of a session, or of a group: an engine gave it one.
        Ok(_) | Err(rustix::io::Errno::PERM) => {}
        Err(source) => return Err(HardenError { step: "make a session of its own", source }),
    }
    let files = rustix::process::getrlimit(Resource::Nofile);
    // Without it fewer processes are served at once, and nothing else.
    let _as_it_was = rustix::process::setrlimit(Resource::Nofile, Rlimit { current: files.maximum, ..files });
    Ok(Limits { files, locked })
}
