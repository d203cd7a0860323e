//! The compute target `local`: this machine serves the run, by an agent of its own that is started beside the command and
//! outlives it. Each such agent has a state folder of its own: an agent takes everything in its folder for its jobs.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use kluis_client::Client;
use kluis_client::config::{Login, Resolved};
use kluis_core::api::runs::RunView;
use kluis_core::name::{RunId, WorkspaceName};
use kluis_core::run::RunStatus;
use tokio::process::{Child, Command};

use crate::context::Context;
use crate::failure::{Failure, NOT_ALLOWED, NOT_THE_SCRIPT, Outcome};

/// How long a submission watches whether its agent takes the run.
const TAKING: Duration = Duration::from_secs(2);
/// How often it looks.
const LOOK: Duration = Duration::from_millis(50);
/// The most bytes of an agent's last words.
const WORDS: usize = 2000;

/// Checks that a launcher can be had, before anything is submitted.
pub(super) fn check() -> Outcome<PathBuf> {
    let program = std::env::current_exe().map_err(|e| Failure::failed(format!("this program's own path: {e}")))?;
    kluis_runner::engine::find_launcher(None, &program).map_err(|e| Failure::failed(e.to_string()))?;
    Ok(program)
}

/// Where agents for single runs keep their state.
pub(super) fn state_folder(context: &Context<'_>, workspace: &WorkspaceName, run: &RunId) -> Outcome<PathBuf> {
    Ok(context.state_folder()?.join("local").join(format!("{workspace}.{run}")))
}

/// What such an agent says, beside its state. The whole name counts: run and workspace stand in it.
pub(super) fn log_of(state: &Path) -> PathBuf {
    let mut name = OsString::from(state);
    name.push(".log");
    name.into()
}

/// Removes what such an agent leaves when its run has ended.
pub(super) fn remove_state(state: &Path) {
    let _left = std::fs::remove_dir(state.join("runs")).and_then(|()| std::fs::remove_dir(state));
    let _left = std::fs::remove_file(log_of(state));
}

/// The agent of one run: a process that goes on when this one ends.
pub(super) struct LocalAgent {
    child: Child,
    log: PathBuf,
}

/// Starts the agent for one run.
pub(super) fn start(
    context: &Context<'_>,
    resolved: &Resolved,
    workspace: &WorkspaceName,
    run: &RunId,
) -> Outcome<LocalAgent> {
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    let program = check()?;
    let state = state_folder(context, workspace, run)?;
    let fail = |e: std::io::Error| Failure::failed(format!("the local agent: {e}"));
    let folder = state.parent().expect("the folder was joined to one");
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(fail)?;
    let log = log_of(&state);
    let said = std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(&log).map_err(fail)?;
    let mut command = Command::new(program);
    command
        .args(["agent", "--compute", "local", "--detached", "--run", &format!("{workspace}/{run}")])
        .arg("--state")
        .arg(&state)
        .env("KLUIS_ADDR", resolved.server.origin.to_string())
        .env("KLUIS_CA_SHA256", resolved.server.ca_sha256.to_string())
        .env("KLUIS_CONFIG_DIR", context.config_folder()?)
        .current_dir("/")
        // Ctrl-C before it has left the terminal's session is not meant for it.
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(said);
    // A login from the environment was meant for this server, or it was not used: then it goes nowhere.
    let from_environment = match &resolved.login {
        Login::Token(credential) => context.credentials()?.find(&resolved.server) != Some(credential),
        Login::Client { .. } => true,
        Login::None { .. } => false,
    };
    if !from_environment {
        for name in ["KLUIS_TOKEN", "KLUIS_CLIENT_ID", "KLUIS_CLIENT_SECRET"] {
            command.env_remove(name);
        }
    }
    Ok(LocalAgent { child: command.spawn().map_err(fail)?, log })
}

impl LocalAgent {
    /// Fails when the agent ends while its run still waits for it: nobody else will ever serve the run, which is canceled
    /// then. An agent that ends later is not missed: the run's launcher goes on by itself.
    pub(super) async fn died(&mut self, client: &Client, workspace: &WorkspaceName, run: &RunId) -> Failure {
        let ended = self.child.wait().await;
        let waits = client.run(workspace, run).await.is_ok_and(|view| view.status == RunStatus::Queued);
        match ended {
            Ok(status) if waits => {
                let canceled = client.run_cancel(workspace, run).await;
                self.failure(status, canceled.is_ok())
            }
            _ => std::future::pending().await,
        }
    }

    /// Waits until the run is taken, for a moment: an agent that fails does so at once.
    pub(super) async fn takes(&mut self, client: &Client, workspace: &WorkspaceName, run: &RunView) -> Outcome<()> {
        let taken = async {
            while client.run(workspace, &run.id).await.is_ok_and(|view| view.status == RunStatus::Queued) {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::select! {
            biased;
            _in_time = tokio::time::timeout(TAKING, taken) => Ok(()),
            failure = self.died(client, workspace, &run.id) => Err(failure),
        }
    }

    fn failure(&self, status: ExitStatus, canceled: bool) -> Failure {
        let said = std::fs::read(&self.log).unwrap_or_default();
        let said = String::from_utf8_lossy(&said[said.len().saturating_sub(WORDS)..]).trim().to_owned();
        let said = if said.is_empty() { "it said nothing".to_owned() } else { said };
        let run = if canceled { "the run was canceled" } else { "the run still waits" };
        let log = self.log.display();
        let message =
            format!("the agent on this machine ended ({status}) before it took the run: {said} ({log}); {run}");
        Failure::new(NOT_THE_SCRIPT, "local_agent", message)
    }
}

/// A run in the environment would make the agent's jobs part of it.
pub(super) fn refuse_in_run(context: &Context<'_>) -> Outcome<()> {
    if context.environment.run_socket.is_none() {
        return Ok(());
    }
    Err(Failure::new(NOT_ALLOWED, "in_run", "this is a run: it holds no login, and submits nothing"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_run_of_a_workspace_has_a_log_of_its_own() {
        let log = log_of(Path::new("/state/local/default.churn_1_ab"));
        assert_eq!(log, Path::new("/state/local/default.churn_1_ab.log"));
        assert_ne!(log, log_of(Path::new("/state/local/default.churn_2_cd")));
    }
}
