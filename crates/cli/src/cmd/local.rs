//! The compute target `local`: this machine serves the run, by an agent of its own that is started beside the command and
//! outlives it. Each such agent has a state folder of its own: an agent takes everything in its folder for its jobs.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use kluis_client::config::{Login, Resolved};
use kluis_core::name::{RunId, WorkspaceName};

use crate::context::Context;
use crate::failure::{Failure, NOT_ALLOWED, Outcome};

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

/// Starts the agent for one run, and leaves it.
pub(super) fn start(context: &Context<'_>, resolved: &Resolved, workspace: &WorkspaceName, run: &RunId) -> Outcome<()> {
    let program = check()?;
    let state = state_folder(context, workspace, run)?;
    let fail = |e: std::io::Error| Failure::failed(format!("the local agent: {e}"));
    let folder = state.parent().expect("the folder was joined to one");
    {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(fail)?;
    }
    let log = {
        use std::os::unix::fs::OpenOptionsExt;
        let path = state.with_extension("log");
        std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path).map_err(fail)?
    };
    let mut command = Command::new(program);
    command
        .args(["agent", "--compute", "local", "--detached", "--run", &format!("{workspace}/{run}")])
        .arg("--state")
        .arg(&state)
        .env("KLUIS_ADDR", resolved.server.origin.to_string())
        .env("KLUIS_CA_SHA256", resolved.server.ca_sha256.to_string())
        .env("KLUIS_CONFIG_DIR", context.config_folder()?)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
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
    command.spawn().map_err(fail)?;
    Ok(())
}

/// A run in the environment would make the agent's jobs part of it.
pub(super) fn refuse_in_run(context: &Context<'_>) -> Outcome<()> {
    if context.environment.run_socket.is_none() {
        return Ok(());
    }
    Err(Failure::new(NOT_ALLOWED, "in_run", "this is a run: it holds no login, and submits nothing"))
}
