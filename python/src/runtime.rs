//! The asynchronous runtime behind the laptop's calls: made when it is first needed, one for each process, and waited on
//! with the interpreter free and Ctrl-C heard.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use pyo3::prelude::*;

use crate::failure::Failure;
use crate::process::PerProcess;

/// How long Ctrl-C may go unheard.
pub(crate) const HEARING: Duration = Duration::from_millis(100);

static RUNTIME: PerProcess<Arc<tokio::runtime::Runtime>> = PerProcess::new();

/// This process's runtime.
pub(crate) fn current(py: Python<'_>) -> PyResult<Arc<tokio::runtime::Runtime>> {
    let make = || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("kluis")
            .enable_all()
            .build()
            .map(Arc::new)
            .map_err(|error| Failure::here(format!("no thread could be started: {error}")))
    };
    Ok(RUNTIME.with(py, make, |runtime| runtime.clone())?)
}

/// Waits for `future` with the interpreter free. A signal whose handler raises ends the waiting, and the future with it.
pub(crate) fn wait<T: Send>(py: Python<'_>, future: impl Future<Output = Result<T, Failure>> + Send) -> PyResult<T> {
    let runtime = current(py)?;
    let mut future = pin!(future);
    loop {
        let step = py.detach(|| runtime.block_on(async { tokio::time::timeout(HEARING, future.as_mut()).await }));
        match step {
            Ok(result) => return Ok(result?),
            Err(_) => py.check_signals()?,
        }
    }
}

/// Does blocking `work` on a thread of its own, so that Ctrl-C is heard. When it is, the thread is left to its end.
pub(crate) fn wait_blocking<T: Send + 'static>(
    py: Python<'_>,
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> PyResult<T> {
    let (answer, mut answered) = std::sync::mpsc::sync_channel(1);
    let deliver = move || drop(answer.send(work()));
    std::thread::Builder::new()
        .name("kluis".to_owned())
        .spawn(deliver)
        .map_err(|error| Failure::here(format!("no thread could be started: {error}")))?;
    loop {
        let (step, receiver) = py.detach(move || (answered.recv_timeout(HEARING), answered));
        answered = receiver;
        match step {
            Ok(result) => return Ok(result?),
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => py.check_signals()?,
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => {
                return Err(Failure::here("the call was given up".to_owned()).into());
            }
        }
    }
}
