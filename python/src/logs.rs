//! A run's log as an iterator. Reading goes on in the background; the iterator gives a record, or `None` after a second
//! of silence, so that its user can look around.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kluis_client::logs::LogStream;
use kluis_core::api::runs::{LogRecord, Stream};
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tokio::sync::mpsc::Receiver;

use crate::failure::Failure;
use crate::runtime;

/// After so much silence the iterator gives `None`.
const SILENCE: Duration = Duration::from_secs(1);
/// Records read ahead.
const AHEAD: usize = 64;

/// Records of one run: `(seq, rank, stream, bytes)`.
#[pyclass(module = "kluis._native", frozen)]
#[derive(Debug)]
pub(crate) struct Logs(Mutex<Option<Receiver<Result<LogRecord, Failure>>>>);

impl Logs {
    /// Must be called on the runtime.
    pub(crate) fn read(mut stream: LogStream) -> Self {
        let (send, receive) = tokio::sync::mpsc::channel(AHEAD);
        // Ends with the stream, or as soon as nobody listens.
        tokio::spawn(async move {
            loop {
                let next = tokio::select! {
                    next = stream.next() => next,
                    () = send.closed() => return,
                };
                let record = match next {
                    Ok(Some(record)) => Ok(record),
                    Ok(None) => return,
                    Err(error) => Err(error.into()),
                };
                let last = record.is_err();
                if send.send(record).await.is_err() || last {
                    return;
                }
            }
        });
        Self(Mutex::new(Some(receive)))
    }
}

#[pymethods]
impl Logs {
    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    /// No item at the end; Python's `None` after silence.
    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        // Taken out while waiting: another thread that asks meanwhile finds the log at its end.
        let Some(mut records) = self.slot().take() else { return Ok(None) };
        let mut next = None;
        runtime::wait(py, async {
            next = tokio::time::timeout(SILENCE, records.recv()).await.ok();
            Ok(())
        })?;
        match next {
            None => {
                *self.slot() = Some(records);
                Ok(Some(py.None().into_bound(py)))
            }
            Some(None) => Ok(None),
            Some(Some(record)) => {
                let record = record?;
                *self.slot() = Some(records);
                let stream = match record.stream {
                    Stream::Stdout => "stdout",
                    Stream::Stderr => "stderr",
                    Stream::System => "system",
                };
                (record.seq, record.rank, stream, PyBytes::new(py, &record.data)).into_bound_py_any(py).map(Some)
            }
        }
    }
}

impl Logs {
    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Receiver<Result<LogRecord, Failure>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
