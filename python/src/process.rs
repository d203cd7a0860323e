//! Things that belong to one process. A forked child inherits the memory and must neither use nor tear down what its
//! parent still uses: dropping an inherited connection's runtime would take the parent's sockets out of the poll set that
//! both share. So what was inherited is left alone, for ever.

use std::sync::{Mutex, PoisonError};

use pyo3::Python;

/// A value of this process; made anew in a process that was forked off.
#[derive(Debug)]
pub(crate) struct PerProcess<T>(Mutex<Option<(u32, T)>>);

impl<T> PerProcess<T> {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Works on this process's value, made by `make` when there is none yet. Asks for the token to show that the lock
    /// is taken while attached; `work` must not detach.
    pub(crate) fn with<R, E>(
        &self,
        _attached: Python<'_>,
        make: impl FnOnce() -> Result<T, E>,
        work: impl FnOnce(&mut T) -> R,
    ) -> Result<R, E> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let process = std::process::id();
        if slot.as_ref().is_some_and(|(owner, _)| *owner != process) {
            std::mem::forget(slot.take());
        }
        let (_, value) = match &mut *slot {
            Some(entry) => entry,
            empty => empty.insert((process, make()?)),
        };
        Ok(work(value))
    }
}
