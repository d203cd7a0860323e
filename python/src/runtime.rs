//! The asynchronous runtime behind the laptop's calls: made when it is first needed, one for each process, and waited on
//! with the interpreter free and Ctrl-C heard.

use std::cell::RefCell;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pyo3::prelude::*;

use crate::failure::Failure;
use crate::process::PerProcess;

/// How long Ctrl-C, or a caller who gives a call up, may go unheard.
pub(crate) const HEARING: Duration = Duration::from_millis(100);

static RUNTIME: PerProcess<Arc<tokio::runtime::Runtime>> = PerProcess::new();

thread_local! {
    /// The call that this thread makes for somebody who may give it up.
    static CALL: RefCell<Option<Arc<AtomicBool>>> = const { RefCell::new(None) };
}

/// A call on a thread of its own, for a caller who may lose interest: once given up, its waiting ends.
#[pyclass(module = "kluis._native", frozen)]
#[derive(Debug, Default)]
pub(crate) struct Call {
    given_up: Arc<AtomicBool>,
}

#[pymethods]
impl Call {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Calls `work` here. Whatever of ours it waits for can be given up from another thread.
    fn run<'py>(&self, work: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let outer = CALL.replace(Some(self.given_up.clone()));
        let result = work.call0();
        CALL.set(outer);
        result
    }

    /// Nobody waits for it any more.
    fn give_up(&self) {
        self.given_up.store(true, Ordering::SeqCst);
    }
}

/// Whether to go on waiting: neither a signal's handler nor the caller has ended it.
fn go_on(py: Python<'_>) -> PyResult<()> {
    if CALL.with_borrow(|call| call.as_ref().is_some_and(|given_up| given_up.load(Ordering::SeqCst))) {
        return Err(Failure::here("the call was given up by its caller").into());
    }
    py.check_signals()
}

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

/// Waits for `future` with the interpreter free. A signal whose handler raises ends the waiting, and the future with it; so
/// does giving the call up.
pub(crate) fn wait<T: Send>(py: Python<'_>, future: impl Future<Output = Result<T, Failure>> + Send) -> PyResult<T> {
    let runtime = current(py)?;
    let mut future = pin!(future);
    loop {
        let step = py.detach(|| runtime.block_on(async { tokio::time::timeout(HEARING, future.as_mut()).await }));
        match step {
            Ok(result) => return Ok(result?),
            Err(_) => go_on(py)?,
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
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => go_on(py)?,
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => {
                return Err(Failure::here("the call was given up".to_owned()).into());
            }
        }
    }
}
