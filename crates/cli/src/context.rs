//! What most commands need: the server that is meant, a client signed in to it, and the workspace. Decided by
//! `kluis_client::config` from flags, environment, project file and user file.

use std::path::{Path, PathBuf};

use kluis_client::Client;
use kluis_client::config::{Flags, Project, Resolved, UserFile, find_project, resolve};
use kluis_client::credentials::{Credentials, network_file_system};
use kluis_core::name::WorkspaceName;

use crate::args::{Environment, Global};
use crate::failure::{Failure, Outcome};
use crate::output::Output;

pub(crate) struct Context<'c> {
    pub(crate) global: &'c Global,
    pub(crate) environment: &'c Environment,
    pub(crate) out: &'c Output,
}

impl Context<'_> {
    /// The folder with logins and defaults.
    pub(crate) fn config_folder(&self) -> Outcome<PathBuf> {
        Ok(self.environment.client.config_folder()?)
    }

    pub(crate) fn credentials(&self) -> Outcome<Credentials> {
        Ok(Credentials::load(&self.config_folder()?)?)
    }

    pub(crate) fn project() -> Outcome<Option<Project>> {
        let here = std::env::current_dir().map_err(|e| Failure::failed(format!("the current folder: {e}")))?;
        Ok(find_project(&here)?)
    }

    pub(crate) fn resolved(&self) -> Outcome<Resolved> {
        let Self { global, environment, .. } = self;
        let flags = Flags {
            address: global.addr.clone(),
            ca_sha256: global.ca_sha256.clone(),
            workspace: global.workspace.clone(),
        };
        let (project, user) = (Self::project()?, UserFile::load(&self.config_folder()?)?);
        Ok(resolve(&flags, &environment.client, project.as_ref(), &user, &self.credentials()?)?)
    }

    /// Signed in, or an error that says how to.
    pub(crate) async fn client(&self) -> Outcome<Client> {
        Ok(Client::connect(&self.resolved()?).await?)
    }

    /// Signed in, and the workspace: `wanted`, or what is configured.
    pub(crate) async fn in_workspace(&self, wanted: Option<&WorkspaceName>) -> Outcome<(Client, WorkspaceName)> {
        let resolved = self.resolved()?;
        let workspace = wanted.cloned().or(resolved.workspace.clone()).ok_or_else(no_workspace)?;
        Ok((Client::connect(&resolved).await?, workspace))
    }

    /// Says so when logins are about to be written where other machines see them.
    pub(crate) fn warn_of_network_folder(&self) -> Outcome<()> {
        let folder = self.config_folder()?;
        if let Some(kind) = network_file_system(&folder) {
            self.out.note(format_args!(
                "note: {} lies on a network file system ({kind}): whoever administers it can read the logins there; \
                 KLUIS_CONFIG_DIR names another folder",
                folder.display()
            ));
        }
        Ok(())
    }

    /// The folder for what lasts between commands but is no configuration: `kluis` in the XDG state folder.
    pub(crate) fn state_folder(&self) -> Outcome<PathBuf> {
        xdg(self.environment.xdg_state_home.as_deref(), self.environment.client.home.as_deref(), ".local/state")
            .ok_or_else(|| Failure::usage("there is no state folder: set XDG_STATE_HOME or HOME"))
    }

    /// The server's data folder, unless one is named.
    pub(crate) fn data_folder(&self, wanted: Option<&Path>) -> Outcome<PathBuf> {
        let folder = match wanted {
            Some(folder) => folder.to_owned(),
            None => {
                xdg(self.environment.xdg_data_home.as_deref(), self.environment.client.home.as_deref(), ".local/share")
                    .ok_or_else(|| {
                        Failure::usage("there is no data folder: give --data, or set XDG_DATA_HOME or HOME")
                    })?
            }
        };
        std::path::absolute(&folder).map_err(|e| Failure::failed(format!("{}: {e}", folder.display())))
    }
}

fn no_workspace() -> Failure {
    Failure::usage(
        "no workspace is named: give --workspace, set KLUIS_WORKSPACE, or write it down with `kluis init` or \
         `kluis workspace use`",
    )
}

fn xdg(folder: Option<&Path>, home: Option<&Path>, below_home: &str) -> Option<PathBuf> {
    let folder = folder.filter(|p| p.is_absolute()).map(Path::to_owned);
    folder.or_else(|| home.map(|home| home.join(below_home))).map(|p| p.join("kluis"))
}
