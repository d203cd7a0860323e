//! The laptop side: the native API as the signed-in user. Names are parsed here, so that a mistake in one is an
//! `InvalidName` before anything is sent; the rest is the server's to judge.

use std::path::PathBuf;

use kluis_client::config::{ConfigError, Login, Source};
use kluis_client::credentials::Credential;
use kluis_client::snapshot::{Links, PackOptions, SnapshotError, pack};
use kluis_client::trust::Server;
use kluis_client::{Client as Api, Error};
use kluis_core::api::code;
use kluis_core::api::identity::ClientLogin;
use kluis_core::api::runs::{ChangeRun, LogsQuery, RunsQuery, SubmitRun};
use kluis_core::api::secrets::{GetSecrets, NamedSecret, SetSecret, SetSecrets};
use kluis_core::api::workspaces::CreateWorkspace;
use kluis_core::api::{Page, PageQuery};
use kluis_core::clock::{Clock, SystemClock, Timestamp};
use kluis_core::name::{ExperimentName, InvalidName, RunId, SecretName, WorkspaceName};
use kluis_core::plaintext::Plaintext;
use kluis_core::secret::Attributes;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use serde::Serialize;

use crate::convert::{from_python, to_python};
use crate::failure::Failure;
use crate::logs::Logs;
use crate::process::PerProcess;
use crate::runtime;

/// A service principal's token is renewed this long before it ends.
const RENEW_BEFORE: std::time::Duration = std::time::Duration::from_mins(2);

/// A server, and the login for it.
#[pyclass(module = "kluis._native", frozen)]
#[derive(Debug)]
pub(crate) struct Client {
    server: Server,
    login: SignIn,
    from_environment: bool,
    session: PerProcess<Option<Session>>,
}

#[derive(Debug)]
enum SignIn {
    Token(Credential),
    Client(ClientLogin),
}

#[derive(Clone, Debug)]
struct Session {
    api: Api,
    renew: Option<Timestamp>,
}

impl Client {
    pub(crate) fn new(
        server: Server,
        source: Source,
        login: Login,
        token_in_environment: bool,
    ) -> Result<Self, ConfigError> {
        let by_caller = matches!(source, Source::Flag | Source::Environment);
        let (login, from_environment) = match login {
            Login::Token(credential) => (SignIn::Token(credential), by_caller && token_in_environment),
            Login::Client { id, secret } => {
                (SignIn::Client(ClientLogin { client_id: id, client_secret: secret }), true)
            }
            Login::None { hint } => return Err(ConfigError::NotSignedIn { origin: server.origin, hint }),
        };
        Ok(Self { server, login, from_environment, session: PerProcess::new() })
    }

    /// The client of this process, signed in.
    fn api(&self, py: Python<'_>) -> PyResult<Api> {
        let now = SystemClock.now();
        let kept = self.with_session(py, |session| session.clone().filter(|s| s.renew.is_none_or(|at| now < at)));
        if let Some(session) = kept {
            return Ok(session.api);
        }
        let session = match &self.login {
            SignIn::Token(credential) => Session { api: Api::signed_in(credential), renew: None },
            SignIn::Client(login) => {
                let anonymous = Api::anonymous(&self.server);
                let issued = runtime::wait(py, async { Ok(anonymous.login_client(login).await?) })?;
                // By how long it lives and not until when: the clocks may differ.
                let life = issued.view.expires.map(|at| at.since(issued.view.created));
                let renew = life.map(|life| now.plus(life.saturating_sub(RENEW_BEFORE)));
                let credential = Credential::new(self.server.clone(), issued.token, Some(issued.principal.name));
                Session { api: Api::signed_in(&credential), renew }
            }
        };
        self.with_session(py, |kept| *kept = Some(session.clone()));
        Ok(session.api)
    }

    fn with_session<R>(&self, py: Python<'_>, work: impl FnOnce(&mut Option<Session>) -> R) -> R {
        match self.session.with(py, || Ok::<_, std::convert::Infallible>(None), work) {
            Ok(result) => result,
        }
    }

    /// One call, awaited.
    fn call<T, Answer>(&self, py: Python<'_>, ask: impl FnOnce(Api) -> Answer + Send) -> PyResult<T>
    where
        T: Send,
        Answer: Future<Output = Result<T, Error>> + Send,
    {
        let api = self.api(py)?;
        let mut dead = false;
        let result = runtime::wait(py, async {
            let answer = ask(api).await;
            dead = matches!(&answer, Err(Error::Api(refusal)) if refusal.code == code::UNAUTHENTICATED);
            Ok(answer?)
        });
        if dead {
            // Revoked, or renewed too late because a clock was set. A service principal signs in anew next time.
            self.with_session(py, |kept| *kept = None);
        }
        result
    }

    /// One call, its answer as Python's objects.
    fn show<'py, T, Answer>(
        &self,
        py: Python<'py>,
        ask: impl FnOnce(Api) -> Answer + Send,
    ) -> PyResult<Bound<'py, PyAny>>
    where
        T: Serialize + Send,
        Answer: Future<Output = Result<T, Error>> + Send,
    {
        let answer = self.call(py, ask)?;
        to_python(py, &answer)
    }

    /// All pages of a list.
    fn list<'py, T, Answer>(
        &self,
        py: Python<'py>,
        fetch: impl Fn(Api, PageQuery) -> Answer + Send + Sync,
    ) -> PyResult<Bound<'py, PyAny>>
    where
        T: Serialize + Send,
        Answer: Future<Output = Result<Page<T>, Error>> + Send,
    {
        self.show(py, |api| Api::all(move |page| fetch(api.clone(), page)))
    }
}

fn named<T>(parse: impl FnOnce(&str) -> Result<T, InvalidName>, text: &str) -> PyResult<T> {
    Ok(parse(text).map_err(Failure::from)?)
}

fn in_workspace(workspace: &str) -> PyResult<WorkspaceName> {
    named(WorkspaceName::parse, workspace)
}

fn of_run(workspace: &str, run: &str) -> PyResult<(WorkspaceName, RunId)> {
    Ok((in_workspace(workspace)?, named(RunId::parse, run)?))
}

fn of_secret(workspace: &str, name: &str) -> PyResult<(WorkspaceName, SecretName)> {
    Ok((in_workspace(workspace)?, named(SecretName::parse, name)?))
}

/// A value. A text that UTF-8 can not carry is refused here: Python's own error would hold it.
fn plaintext(value: &Bound<'_, PyString>) -> PyResult<Plaintext> {
    let text = value.to_cow().map_err(|_| {
        Failure::new(
            code::INVALID_VALUE,
            "the value is not text that UTF-8 can carry; encode binary values, for example as base64",
        )
    })?;
    Ok(Plaintext::from_text(&text).map_err(Failure::from)?)
}

/// Raises `InvalidName` for what can not be an experiment's name.
#[pyfunction]
pub(crate) fn check_experiment_name(name: &str) -> PyResult<()> {
    named(ExperimentName::parse, name).map(drop)
}

#[pymethods]
impl Client {
    #[getter]
    fn address(&self) -> String {
        self.server.origin.to_string()
    }

    #[getter]
    fn ca_sha256(&self) -> String {
        self.server.ca_sha256.to_string()
    }

    /// Whether the login came from the environment, and not from this machine's stored ones.
    #[getter]
    fn credential_from_environment(&self) -> bool {
        self.from_environment
    }

    // ---- workspaces and compute targets

    fn workspace_create<'py>(&self, py: Python<'py>, body: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let create: CreateWorkspace = from_python(body)?;
        self.show(py, |api| async move { api.workspace_create(&create).await })
    }

    fn workspace_list<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.list(py, |api, page| async move { api.workspaces(page).await })
    }

    fn workspace_show<'py>(&self, py: Python<'py>, workspace: &str) -> PyResult<Bound<'py, PyAny>> {
        let workspace = in_workspace(workspace)?;
        self.show(py, |api| async move { api.workspace(&workspace).await })
    }

    fn compute_list<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.list(py, |api, page| async move { api.computes(page).await })
    }

    // ---- secrets

    fn secret_set<'py>(
        &self,
        py: Python<'py>,
        workspace: &str,
        name: &str,
        value: &Bound<'py, PyString>,
        attributes: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (workspace, name) = of_secret(workspace, name)?;
        let attributes: Attributes = from_python(attributes)?;
        let set = SetSecret { value: plaintext(value)?, attributes, if_revision: None };
        self.show(py, |api| async move { api.secret_set(&workspace, &name, &set).await })
    }

    fn secrets_set(&self, py: Python<'_>, workspace: &str, items: Vec<(String, Bound<'_, PyString>)>) -> PyResult<()> {
        let workspace = in_workspace(workspace)?;
        let items = items
            .iter()
            .map(|(name, value)| {
                let name = named(SecretName::parse, name)?;
                Ok(NamedSecret { name, value: plaintext(value)?, attributes: Attributes::default() })
            })
            .collect::<PyResult<Vec<_>>>()?;
        if items.is_empty() {
            return Ok(());
        }
        let set = SetSecrets { items };
        self.call(py, |api| async move { api.secrets_set(&workspace, &set).await.map(drop) })
    }

    #[pyo3(signature = (workspace, name, version))]
    fn secret_get<'py>(
        &self,
        py: Python<'py>,
        workspace: &str,
        name: &str,
        version: Option<&str>,
    ) -> PyResult<Bound<'py, PyString>> {
        let (workspace, name) = of_secret(workspace, name)?;
        let version = version
            .map(|text| {
                text.parse().map_err(|_| Failure::new(code::BAD_REQUEST, "a version is 32 lower-case hex digits"))
            })
            .transpose()?;
        let secret = self.call(py, |api| async move { api.secret_get(&workspace, &name, version).await })?;
        Ok(PyString::new(py, secret.value.expose()))
    }

    fn secrets_get<'py>(&self, py: Python<'py>, workspace: &str, names: Vec<String>) -> PyResult<Bound<'py, PyDict>> {
        let workspace = in_workspace(workspace)?;
        let answer = PyDict::new(py);
        let mut wanted = Vec::with_capacity(names.len());
        for name in &names {
            // In the order asked, spelled as asked; what does not exist stays None.
            answer.set_item(name, py.None())?;
            wanted.push(named(SecretName::parse, name)?);
        }
        if wanted.is_empty() {
            return Ok(answer);
        }
        let get = GetSecrets { names: wanted.clone() };
        let values = self.call(py, |api| async move { api.secrets_get(&workspace, &get).await })?;
        for (name, wanted) in names.iter().zip(&wanted) {
            if let Some(item) = values.items.iter().find(|item| item.secret.name == *wanted) {
                answer.set_item(name, item.value.expose())?;
            }
        }
        Ok(answer)
    }

    fn secret_list<'py>(&self, py: Python<'py>, workspace: &str) -> PyResult<Bound<'py, PyAny>> {
        let workspace = &in_workspace(workspace)?;
        self.list(py, |api, page| async move { api.secrets(workspace, page).await })
    }

    fn secret_versions<'py>(&self, py: Python<'py>, workspace: &str, name: &str) -> PyResult<Bound<'py, PyAny>> {
        let (workspace, name) = &of_secret(workspace, name)?;
        self.list(py, |api, page| async move { api.secret_versions(workspace, name, page).await })
    }

    fn secret_delete<'py>(&self, py: Python<'py>, workspace: &str, name: &str) -> PyResult<Bound<'py, PyAny>> {
        let (workspace, name) = of_secret(workspace, name)?;
        self.show(py, |api| async move { api.secret_delete(&workspace, &name).await })
    }

    fn secret_recover<'py>(&self, py: Python<'py>, workspace: &str, name: &str) -> PyResult<Bound<'py, PyAny>> {
        let (workspace, name) = of_secret(workspace, name)?;
        self.show(py, |api| async move { api.secret_recover(&workspace, &name).await })
    }

    fn secret_purge(&self, py: Python<'_>, workspace: &str, name: &str) -> PyResult<()> {
        let (workspace, name) = of_secret(workspace, name)?;
        self.call(py, |api| async move { api.secret_purge(&workspace, &name).await })
    }

    // ---- experiments and runs

    fn experiment_list<'py>(&self, py: Python<'py>, workspace: &str) -> PyResult<Bound<'py, PyAny>> {
        let workspace = &in_workspace(workspace)?;
        self.list(py, |api, page| async move { api.experiments(workspace, page).await })
    }

    /// Packs the tree into a private file in `scratch`, uploads it, and says where it is kept.
    fn snapshot_upload(
        &self,
        py: Python<'_>,
        workspace: &str,
        directory: PathBuf,
        keep_links: bool,
        scratch: PathBuf,
    ) -> PyResult<String> {
        let workspace = in_workspace(workspace)?;
        let links = if keep_links { Links::Keep } else { Links::Refuse };
        let options = PackOptions { links, scratch };
        let packed = runtime::wait_blocking(py, move || pack(&directory, &options).map_err(Failure::from))?;
        let path = packed.path();
        let stored = self.call(py, |api| async move { api.snapshot_upload(&workspace, path, |_| ()).await })?;
        Ok(stored.snapshot.to_string())
    }

    fn run_submit<'py>(
        &self,
        py: Python<'py>,
        workspace: &str,
        body: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let workspace = in_workspace(workspace)?;
        let submit: SubmitRun = from_python(body)?;
        self.show(py, |api| async move { api.run_submit(&workspace, &submit).await })
    }

    fn run_show<'py>(&self, py: Python<'py>, workspace: &str, run: &str) -> PyResult<Bound<'py, PyAny>> {
        let (workspace, run) = of_run(workspace, run)?;
        self.show(py, |api| async move { api.run(&workspace, &run).await })
    }

    #[pyo3(signature = (workspace, experiment, parent))]
    fn run_list<'py>(
        &self,
        py: Python<'py>,
        workspace: &str,
        experiment: Option<&str>,
        parent: Option<&str>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let workspace = &in_workspace(workspace)?;
        let query = &RunsQuery {
            experiment: experiment.map(|e| named(ExperimentName::parse, e)).transpose()?,
            parent: parent.map(|p| named(RunId::parse, p)).transpose()?,
            ..RunsQuery::default()
        };
        self.list(py, |api, page| async move {
            let query = RunsQuery { limit: page.limit, after: page.after, ..query.clone() };
            api.runs(workspace, &query).await
        })
    }

    fn run_change<'py>(
        &self,
        py: Python<'py>,
        workspace: &str,
        run: &str,
        change: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (workspace, run) = of_run(workspace, run)?;
        let change: ChangeRun = from_python(change)?;
        self.show(py, |api| async move { api.run_change(&workspace, &run, &change).await })
    }

    fn run_cancel<'py>(&self, py: Python<'py>, workspace: &str, run: &str) -> PyResult<Bound<'py, PyAny>> {
        let (workspace, run) = of_run(workspace, run)?;
        self.show(py, |api| async move { api.run_cancel(&workspace, &run).await })
    }

    fn run_logs(&self, py: Python<'_>, workspace: &str, run: &str, follow: bool, system: bool) -> PyResult<Logs> {
        let (workspace, run) = of_run(workspace, run)?;
        let query = LogsQuery { follow, system, ..LogsQuery::default() };
        self.call(py, |api| async move { api.run_logs(&workspace, &run, query).await.map(Logs::read) })
    }

    fn run_metrics<'py>(&self, py: Python<'py>, workspace: &str, run: &str) -> PyResult<Bound<'py, PyAny>> {
        let (workspace, run) = &of_run(workspace, run)?;
        self.list(py, |api, page| async move { api.run_metrics(workspace, run, page).await })
    }

    fn run_outputs<'py>(&self, py: Python<'py>, workspace: &str, run: &str) -> PyResult<Bound<'py, PyAny>> {
        let (workspace, run) = &of_run(workspace, run)?;
        self.list(py, |api, page| async move { api.run_outputs(workspace, run, page).await })
    }

    fn run_secrets<'py>(&self, py: Python<'py>, workspace: &str, run: &str) -> PyResult<Bound<'py, PyAny>> {
        let (workspace, run) = &of_run(workspace, run)?;
        self.list(py, |api, page| async move { api.run_secrets(workspace, run, page).await })
    }

    /// Downloads to a file beside `destination` that takes its place when it is whole.
    fn run_output_download(
        &self,
        py: Python<'_>,
        workspace: &str,
        run: &str,
        path: &str,
        destination: PathBuf,
    ) -> PyResult<()> {
        let (workspace, run) = of_run(workspace, run)?;
        let io =
            |error: std::io::Error| Error::Io { action: format!("write {}", destination.display()), source: error };
        let mut name = destination.file_name().unwrap_or_default().to_owned();
        name.push(".part");
        let part = &destination.with_file_name(name);
        let destination = &destination;
        self.call(py, |api| async move {
            let download = api.run_output(&workspace, &run, path).await?;
            let mut file = tokio::fs::File::create(part).await.map_err(io)?;
            download.write_to(&mut file).await?;
            tokio::fs::rename(part, destination).await.map_err(io)
        })
    }
}

impl From<SnapshotError> for Failure {
    fn from(error: SnapshotError) -> Self {
        let code = match error {
            SnapshotError::TooLarge { .. } | SnapshotError::TooMany => code::TOO_LARGE,
            _ => crate::failure::USER_ERROR,
        };
        Self::new(code, error.to_string())
    }
}
