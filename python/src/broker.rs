//! The run side: a process of a run and its launcher. No runtime and no network stack are touched on this path; connections
//! are kept for the next call, shared by threads one call at a time, and never by processes.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kluis_client::broker::{Broker as Connection, Error};
use kluis_core::api::broker::{Answer, Request};
use kluis_core::api::code;
use kluis_core::api::runs::{Metric, MetricKind};
use kluis_core::api::session::{CreateChild, EndChild, SecretsRead};
use kluis_core::clock::{Clock, SystemClock};
use kluis_core::name::{RunId, SecretName};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::convert::{from_python, to_python, value_from_python};
use crate::failure::Failure;
use crate::process::PerProcess;
use crate::runtime::wait_blocking;

/// More threads than this at once make a new connection each time.
const MAX_IDLE: usize = 8;

/// A run's launcher, found by the socket that `KLUIS_RUN_SOCKET` names.
#[pyclass(module = "kluis._native", frozen)]
#[derive(Debug)]
pub(crate) struct Broker {
    socket: PathBuf,
    idle: PerProcess<Vec<Connection>>,
}

impl Broker {
    fn call(&self, py: Python<'_>, request: Request) -> PyResult<Answer> {
        let idle = self.take(py);
        let socket = self.socket.clone();
        let (result, connection) = match request {
            // These last as long as the server or the file does, so Ctrl-C must be heard.
            Request::GetSecrets { .. } | Request::Upload { .. } | Request::Flush {} => {
                wait_blocking(py, move || Ok(ask(idle, &socket, &request)))?
            }
            _ => py.detach(move || ask(idle, &socket, &request)),
        };
        if let Some(connection) = connection {
            self.give_back(py, connection);
        }
        Ok(result.map_err(Failure::from)?)
    }

    fn done(&self, py: Python<'_>, request: Request) -> PyResult<()> {
        match self.call(py, request)? {
            Answer::Done {} => Ok(()),
            _ => Err(misunderstood()),
        }
    }

    fn secrets(
        &self,
        py: Python<'_>,
        names: Vec<SecretName>,
        refresh: bool,
        rank: u32,
        timeout_ms: Option<u64>,
    ) -> PyResult<SecretsRead> {
        match self.call(py, Request::GetSecrets { names, refresh, rank, timeout_ms })? {
            Answer::Secrets(read) => Ok(read),
            _ => Err(misunderstood()),
        }
    }

    fn take(&self, py: Python<'_>) -> Option<Connection> {
        self.with_idle(py, Vec::pop)
    }

    fn give_back(&self, py: Python<'_>, connection: Connection) {
        self.with_idle(py, |idle| {
            if idle.len() < MAX_IDLE {
                idle.push(connection);
            }
        });
    }

    fn with_idle<R>(&self, py: Python<'_>, work: impl FnOnce(&mut Vec<Connection>) -> R) -> R {
        match self.idle.with(py, || Ok::<_, std::convert::Infallible>(Vec::new()), work) {
            Ok(result) => result,
        }
    }
}

/// Asks over the idle connection if there is one, else over a new one. Gives the connection back unless it broke.
fn ask(
    idle: Option<Connection>,
    socket: &std::path::Path,
    request: &Request,
) -> (Result<Answer, Error>, Option<Connection>) {
    if let Some(mut connection) = idle {
        match connection.call(request) {
            Err(Error::Gone(error)) if may_ask_again(&error, request) => {}
            result => return keep(result, connection),
        }
    }
    match Connection::connect(socket) {
        Ok(mut connection) => keep(connection.call(request), connection),
        Err(error) => (Err(error), None),
    }
}

fn keep(result: Result<Answer, Error>, connection: Connection) -> (Result<Answer, Error>, Option<Connection>) {
    let whole = matches!(result, Ok(_) | Err(Error::Refused(_)));
    (result, whole.then_some(connection))
}

/// A connection that the launcher had closed: nothing of the request was heard, or hearing it twice does no harm.
fn may_ask_again(error: &std::io::Error, request: &Request) -> bool {
    use std::io::ErrorKind as K;
    match error.kind() {
        K::BrokenPipe => true,
        K::ConnectionReset | K::UnexpectedEof => {
            matches!(request, Request::Context {} | Request::GetSecrets { .. } | Request::Status {} | Request::Flush {})
        }
        _ => false,
    }
}

fn misunderstood() -> PyErr {
    Failure::from(Error::Answer).into()
}

fn run_id(text: Option<String>) -> Result<Option<RunId>, Failure> {
    Ok(text.map(|text| RunId::parse(&text)).transpose()?)
}

#[pymethods]
impl Broker {
    #[new]
    fn new(socket: PathBuf) -> Self {
        Self { socket, idle: PerProcess::new() }
    }

    #[getter]
    fn socket(&self) -> &std::path::Path {
        &self.socket
    }

    fn context<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self.call(py, Request::Context {})? {
            Answer::Context(context) => to_python(py, &context),
            _ => Err(misunderstood()),
        }
    }

    #[pyo3(signature = (name, refresh, rank, timeout_ms))]
    fn get_secret<'py>(
        &self,
        py: Python<'py>,
        name: &Bound<'py, PyString>,
        refresh: bool,
        rank: u32,
        timeout_ms: Option<u64>,
    ) -> PyResult<Bound<'py, PyString>> {
        let name = secret_name(name)?;
        let read = self.secrets(py, vec![name.clone()], refresh, rank, timeout_ms)?;
        match read.items.first() {
            Some(item) => Ok(PyString::new(py, item.value.expose())),
            None => Err(Failure::new(
                code::SECRET_NOT_FOUND,
                format!("there is no secret `{name}` in the run's workspace; `kluis secret list` shows what there is"),
            )
            .into()),
        }
    }

    #[pyo3(signature = (names, refresh, rank, timeout_ms))]
    fn get_secrets<'py>(
        &self,
        py: Python<'py>,
        names: Vec<Bound<'py, PyString>>,
        refresh: bool,
        rank: u32,
        timeout_ms: Option<u64>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let answer = PyDict::new(py);
        let mut wanted = Vec::with_capacity(names.len());
        for name in &names {
            // In the order asked, spelled as asked; what does not exist stays None.
            answer.set_item(name, py.None())?;
            wanted.push(secret_name(name)?);
        }
        if wanted.is_empty() {
            return Ok(answer);
        }
        let read = self.secrets(py, wanted.clone(), refresh, rank, timeout_ms)?;
        for (name, wanted) in names.iter().zip(&wanted) {
            if let Some(item) = read.items.iter().find(|item| item.name == *wanted) {
                answer.set_item(name, item.value.expose())?;
            }
        }
        Ok(answer)
    }

    fn rotations(&self) -> Rotations {
        Rotations {
            socket: self.socket.clone(),
            counter: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            wake: Mutex::new(None),
        }
    }

    #[pyo3(signature = (run, name, value, kind, step))]
    fn log_metric(
        &self,
        py: Python<'_>,
        run: Option<String>,
        name: String,
        value: &Bound<'_, PyAny>,
        kind: &Bound<'_, PyAny>,
        step: Option<i64>,
    ) -> PyResult<()> {
        let metric = Metric {
            name,
            value: value_from_python(value)?,
            kind: from_python::<MetricKind>(kind)?,
            step,
            time: SystemClock.now(),
        };
        self.done(py, Request::LogMetrics { run: run_id(run)?, metrics: vec![metric] })
    }

    #[pyo3(signature = (run, change))]
    fn change(&self, py: Python<'_>, run: Option<String>, change: &Bound<'_, PyAny>) -> PyResult<()> {
        self.done(py, Request::Change { run: run_id(run)?, change: from_python(change)? })
    }

    #[pyo3(signature = (run, name, path))]
    fn upload(&self, py: Python<'_>, run: Option<String>, name: String, path: String) -> PyResult<()> {
        self.done(py, Request::Upload { run: run_id(run)?, name, path })
    }

    #[pyo3(signature = (run, display_name, tags))]
    fn create_child(
        &self,
        py: Python<'_>,
        run: Option<String>,
        display_name: Option<String>,
        tags: &Bound<'_, PyAny>,
    ) -> PyResult<(String, u64)> {
        let create = CreateChild { run: run_id(run)?, display_name, tags: from_python(tags)? };
        match self.call(py, Request::CreateChild(create))? {
            Answer::Child(child) => Ok((child.run.to_string(), child.number)),
            _ => Err(misunderstood()),
        }
    }

    #[pyo3(signature = (run, status, reason))]
    fn end_child(
        &self,
        py: Python<'_>,
        run: String,
        status: &Bound<'_, PyAny>,
        reason: Option<String>,
    ) -> PyResult<()> {
        let run = RunId::parse(&run).map_err(Failure::from)?;
        self.done(py, Request::EndChild { run, end: EndChild { status: from_python(status)?, reason } })
    }

    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        self.done(py, Request::Flush {})
    }

    fn status<'py>(&self, py: Python<'py>) -> PyResult<(&'static str, Bound<'py, PyAny>)> {
        match self.call(py, Request::Status {})? {
            Answer::Status { status, tags } => Ok((status.as_str(), to_python(py, &tags)?)),
            _ => Err(misunderstood()),
        }
    }
}

fn secret_name(name: &Bound<'_, PyString>) -> PyResult<SecretName> {
    // A name that is no UTF-8 is no name either.
    let text = name.to_cow().unwrap_or_default();
    Ok(SecretName::parse(&text).map_err(Failure::from)?)
}

/// The launcher's answer; nothing when told to stop.
type Heard = Option<Result<Answer, Error>>;

/// Word of rotations, over a connection of its own.
#[pyclass(module = "kluis._native", frozen)]
#[derive(Debug)]
pub(crate) struct Rotations {
    socket: PathBuf,
    counter: AtomicU64,
    stopped: AtomicBool,
    /// Ends a wait from another thread.
    wake: Mutex<Option<Sender<Heard>>>,
}

#[pymethods]
impl Rotations {
    /// The names that have a newer version; none when the time is over or it was stopped.
    fn wait(&self, py: Python<'_>, timeout_ms: u64) -> PyResult<Vec<String>> {
        let (answer, answered) = std::sync::mpsc::channel();
        *self.wake.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer.clone());
        if self.stopped.load(Ordering::SeqCst) {
            return Ok(Vec::new());
        }
        let request = Request::WaitRotation { timeout_ms, after: self.counter.load(Ordering::SeqCst) };
        let socket = self.socket.clone();
        let ask = move || {
            let result = Connection::connect(&socket).and_then(|mut connection| connection.call(&request));
            drop(answer.send(Some(result)));
        };
        std::thread::Builder::new()
            .name("kluis".to_owned())
            .spawn(ask)
            .map_err(|error| Failure::here(format!("no thread could be started: {error}")))?;
        // The answer, or a stop; the sender in `wake` keeps the channel open.
        let result =
            py.detach(move || answered.recv_timeout(Duration::from_millis(timeout_ms) + Duration::from_secs(15)));
        match result {
            Ok(Some(Ok(Answer::Rotation { counter, names }))) => {
                self.counter.store(counter, Ordering::SeqCst);
                Ok(names.iter().map(ToString::to_string).collect())
            }
            Ok(Some(Ok(_))) => Err(misunderstood()),
            Ok(Some(Err(error))) => Err(Failure::from(error).into()),
            Ok(None) | Err(_) => Ok(Vec::new()),
        }
    }

    /// Ends a wait that is going on, and every later one at once.
    fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        if let Some(wake) = &*self.wake.lock().unwrap_or_else(PoisonError::into_inner) {
            drop(wake.send(None));
        }
    }
}
