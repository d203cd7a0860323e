//! From what the package read (the call, the environment, files) to a signed-in client. The decision is kluis-client's;
//! a login is only ever sent to the server that it was made for.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use kluis_client::config::{ConfigError, Environment, Flags, Project, Resolved, UserFile, find_project, resolve};
use kluis_client::credentials::Credentials;
use kluis_client::trust::{CaPin, Origin};
use kluis_core::api::code;
use kluis_core::name::WorkspaceName;
use kluis_core::plaintext::Plaintext;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::client::Client;
use crate::failure::{Failure, UNTRUSTED};

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let message = error.to_string();
        match error {
            ConfigError::NotSignedIn { .. } => Self::new(code::UNAUTHENTICATED, message),
            ConfigError::OtherPin { .. } => Self::new(UNTRUSTED, message),
            _ => Self::here(message),
        }
    }
}

/// Finds server, login and workspace. `start` is where a project file is looked for, or the file itself; with a
/// workspace given it is the one that is meant. The second part echoes what was found, for people.
#[pyfunction]
#[pyo3(signature = (start, environment, *, address=None, workspace=None, ca_sha256=None))]
pub(crate) fn connect<'py>(
    py: Python<'py>,
    start: PathBuf,
    environment: HashMap<String, Bound<'py, PyString>>,
    address: Option<String>,
    workspace: Option<String>,
    ca_sha256: Option<String>,
) -> PyResult<(Client, Bound<'py, PyDict>)> {
    if let Some(workspace) = &workspace {
        WorkspaceName::parse(workspace).map_err(Failure::from)?;
    }
    let flags = Flags { address, ca_sha256, workspace };
    let environment = environment_from(&environment)?;
    let (client, found) = py.detach(|| find(&start, environment, &flags))?;
    let echo = PyDict::new(py);
    echo.set_item("workspace", found.workspace)?;
    echo.set_item("compute", found.compute)?;
    echo.set_item("file", found.file)?;
    echo.set_item("subscription_id", found.subscription_id)?;
    echo.set_item("resource_group", found.resource_group)?;
    Ok((client, echo))
}

/// Writes a project file and says where. It holds no secret.
#[pyfunction]
#[pyo3(signature = (directory, address, ca_sha256, workspace))]
pub(crate) fn write_config(directory: PathBuf, address: &str, ca_sha256: &str, workspace: &str) -> PyResult<PathBuf> {
    let address = Origin::parse(address).map_err(|error| Failure::here(error.to_string()))?;
    let pin: CaPin =
        ca_sha256.parse().map_err(|error: kluis_client::trust::InvalidPin| Failure::here(error.to_string()))?;
    let workspace = WorkspaceName::parse(workspace).map_err(Failure::from)?;
    Ok(Project::write(&directory, &address, &workspace, Some(pin)).map_err(Failure::from)?)
}

#[derive(Default)]
struct Found {
    workspace: Option<String>,
    compute: Option<String>,
    file: Option<PathBuf>,
    subscription_id: Option<String>,
    resource_group: Option<String>,
}

fn find(start: &Path, environment: Environment, flags: &Flags) -> Result<(Client, Found), Failure> {
    let folder = environment.config_folder()?;
    let project = project_at(start)?;
    let user = UserFile::load(&folder)?;
    let credentials = Credentials::load(&folder).map_err(ConfigError::from)?;
    let Resolved { server, source, login, workspace, compute } =
        resolve(flags, &environment, project.as_ref(), &user, &credentials)?;
    let client = Client::new(server, source, login, environment.token.is_some_and(|t| !t.is_empty()))?;
    let azure = project.as_ref().and_then(|p| p.azure.clone()).unwrap_or_default();
    let found = Found {
        workspace: workspace.map(|w| w.to_string()),
        compute: compute.map(|c| c.to_string()),
        file: project.map(|p| p.path),
        subscription_id: azure.subscription_id,
        resource_group: azure.resource_group,
    };
    Ok((client, found))
}

fn project_at(start: &Path) -> Result<Option<Project>, Failure> {
    if start.is_file() {
        return Ok(Some(Project::read(start)?));
    }
    if !start.is_dir() {
        return Err(Failure::here(format!("{} is neither a folder nor a configuration file", start.display())));
    }
    Ok(find_project(start)?)
}

/// A variable that is not UTF-8 is refused by its name: Python's own error would hold its value. A path may be any bytes.
fn environment_from(variables: &HashMap<String, Bound<'_, PyString>>) -> PyResult<Environment> {
    let text = |name: &str| {
        let Some(value) = variables.get(name) else { return Ok(None) };
        match value.to_cow() {
            Ok(text) => Ok(Some(text.into_owned())),
            Err(_) => Err(Failure::here(format!("the environment variable {name} is not UTF-8 text"))),
        }
    };
    let value = |name: &str| {
        text(name)?
            .map(|text| Plaintext::from_bytes(text.into_bytes()))
            .transpose()
            .map_err(|error| Failure::here(format!("{name}: {error}")))
    };
    let path = |name: &str| variables.get(name).map(|value| value.extract::<PathBuf>()).transpose();
    Ok(Environment {
        address: text("KLUIS_ADDR")?,
        ca_sha256: text("KLUIS_CA_SHA256")?,
        workspace: text("KLUIS_WORKSPACE")?,
        token: value("KLUIS_TOKEN")?,
        client_id: text("KLUIS_CLIENT_ID")?,
        client_secret: value("KLUIS_CLIENT_SECRET")?,
        config_dir: path("KLUIS_CONFIG_DIR")?,
        xdg_config_home: path("XDG_CONFIG_HOME")?,
        home: path("HOME")?,
    })
}
