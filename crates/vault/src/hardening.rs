//! What a process that holds keys does to itself before it loads one: no core dump, no tracing by its own user. What
//! the system refuses is reported, for the caller to log; it never stops the start.

use rustix::process::{DumpableBehavior, Resource, Rlimit};

use crate::memory::{self, Key};
use crate::rng::SystemRng;

/// A protection that is not in force, in words for an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Weakness {
    /// `PR_SET_DUMPABLE` was refused.
    #[error("this process can be traced and dumped by its own user: {0}")]
    Dumpable(std::io::ErrorKind),
    /// `RLIMIT_CORE` could not be set to 0.
    #[error("core dumps are not off: {0}")]
    CoreLimit(std::io::ErrorKind),
    /// Key pages that the system would not lock.
    #[error(
        "{unlocked} of {pages} key pages are not locked and may be swapped out; raise RLIMIT_MEMLOCK (LimitMEMLOCK=64M), or turn swap off"
    )]
    Swappable {
        /// How many.
        unlocked: usize,
        /// Of how many.
        pages: usize,
    },
    /// Key pages that the system would not leave out of core dumps.
    #[error("{dumpable} of {pages} key pages would be part of a core dump")]
    CoreDump {
        /// How many.
        dumpable: usize,
        /// Of how many.
        pages: usize,
    },
}

/// Makes this process undumpable and turns its core dumps off, then tries out a key page. Call it first thing; log
/// what it returns.
pub fn harden_process() -> Vec<Weakness> {
    let dumpable = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|e| Weakness::Dumpable(std::io::Error::from(e).kind()));
    let core = rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
        .map_err(|e| Weakness::CoreLimit(std::io::Error::from(e).kind()));
    drop(Key::generate(&SystemRng));
    dumpable.err().into_iter().chain(core.err()).chain(memory_weaknesses()).collect()
}

/// How the memory of the keys loaded so far falls short; empty when it does not. Worth asking again after many keys
/// were loaded: the lock limit may have been reached since.
pub fn memory_weaknesses() -> Vec<Weakness> {
    let memory::Protection { pages, unlocked, dumpable } = memory::protection();
    let swappable = (unlocked > 0).then_some(Weakness::Swappable { unlocked, pages });
    let core_dump = (dumpable > 0).then_some(Weakness::CoreDump { dumpable, pages });
    swappable.into_iter().chain(core_dump).collect()
}
