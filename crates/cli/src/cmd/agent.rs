//! Serving a compute target from this machine, and the launcher that an agent starts.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use kluis_client::Client;
use kluis_client::credentials::{Credential, Credentials};
use kluis_client::invite::Invitation;
use kluis_core::api::agents::{Confine, LocalRun};
use kluis_core::api::identity::RedeemInvite;
use kluis_core::name::{ComputeName, RunId, WorkspaceName};
use kluis_core::run::RunStatus;
use kluis_runner::engine::{ProcessEngine, find_launcher};
use kluis_runner::{Agent, AgentOptions};
use tokio_util::sync::CancellationToken;

use super::{local, login};
use crate::args::{self, AgentCommand};
use crate::context::Context;
use crate::covered;
use crate::failure::{Failure, Outcome};

/// Seconds between SIGTERM and SIGKILL.
const GRACE_SECONDS: u64 = 30;

pub(super) fn agent(context: &Context<'_>, agent: args::Agent) -> Outcome<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::failed(format!("a runtime: {e}")))?;
    match agent.command {
        Some(AgentCommand::Enroll { code }) => runtime.block_on(enroll(context, &code)),
        None => {
            if agent.detached {
                // The terminal that submitted the run may go; the run stays.
                let _leader_already = rustix::process::setsid();
            }
            log_to_stderr(context);
            runtime.block_on(serve(context, agent))
        }
    }
}

/// An agent's login has a folder of its own, beside the logins of people.
fn agent_folder(context: &Context<'_>) -> Outcome<PathBuf> {
    Ok(context.config_folder()?.join("agent"))
}

async fn enroll(context: &Context<'_>, code: &str) -> Outcome<u8> {
    let invitation = Invitation::parse(code).map_err(|e| Failure::usage(e.to_string()))?;
    let redeem = RedeemInvite { code: invitation.code, label: login::machine() };
    let issued = Client::anonymous(&invitation.server).login_invite(&redeem).await?;
    context.warn_of_network_folder()?;
    let mut credentials = Credentials::load(&agent_folder(context)?)?;
    let origin = invitation.server.origin.clone();
    credentials.put(Credential::new(invitation.server, issued.token, Some(issued.principal.name.clone())));
    credentials.save()?;
    let name = issued.principal.name;
    let fields = serde_json::json!({ "agent": name, "address": origin });
    context.out.done("enrolled", fields, format_args!("enrolled as {name} at {origin}"));
    Ok(0)
}

async fn serve(context: &Context<'_>, agent: args::Agent) -> Outcome<u8> {
    let compute = agent.compute.clone().ok_or_else(|| Failure::usage("which target? --compute NAME"))?;
    let only = agent.run.as_deref().map(local_run).transpose()?;
    let client = if agent.mine || only.is_some() {
        context.client().await?
    } else {
        match Credentials::load(&agent_folder(context)?)?.entries() {
            [] => context.client().await?,
            [one] => Client::signed_in(one),
            several => {
                let resolved = context.resolved()?;
                let found = several.iter().find(|c| *c.server() == resolved.server);
                Client::signed_in(found.ok_or_else(|| {
                    Failure::usage(
                        "this machine is enrolled at several servers; choose one with --addr and --ca-sha256",
                    )
                })?)
            }
        }
    };
    let state = match &agent.state {
        Some(state) => state.clone(),
        None => context.state_folder()?.join("agents").join(compute.key()),
    };
    let state = std::path::absolute(&state).map_err(|e| Failure::failed(format!("{}: {e}", state.display())))?;
    let _lock = only.is_none().then(|| lock(&state)).transpose()?;
    let options = AgentOptions {
        only: only.clone(),
        mine: agent.mine,
        slots: agent.slots,
        devices: agent.gpus.clone(),
        python: agent.python.clone(),
        confine: if agent.unsafe_local { Confine::None } else { Confine::Auto },
        ..options(context, compute, state.clone())?
    };
    let stop = stop_on_signals()?;
    loop {
        let engine = engine(context, agent.launcher.as_deref())?;
        Agent::new(client.clone(), engine, options.clone())?.run(stop.clone()).await?;
        let Some(LocalRun { workspace, run }) = &only else { return Ok(0) };
        // An attempt that the engine lost may be followed by another one, which nobody else would serve.
        let waits = client.run(workspace, run).await.is_ok_and(|view| view.status == RunStatus::Queued);
        if stop.is_cancelled() || !waits {
            // A folder for one run, and the run has ended.
            local::remove_state(&state);
            return Ok(0);
        }
    }
}

/// An agent for one job at a time, with nothing of this user's and of this machine's servers in its runs' sight.
pub(super) fn options(context: &Context<'_>, compute: ComputeName, state: PathBuf) -> Outcome<AgentOptions> {
    Ok(AgentOptions {
        compute,
        only: None,
        mine: false,
        slots: 1,
        devices: Vec::new(),
        state,
        covered: covered::all(context)?,
        python: None,
        confine: Confine::Auto,
        grace_seconds: GRACE_SECONDS,
    })
}

fn local_run(text: &str) -> Outcome<LocalRun> {
    let (workspace, run) = text.split_once('/').ok_or_else(|| Failure::usage("--run: expected WORKSPACE/RUN"))?;
    Ok(LocalRun { workspace: WorkspaceName::parse(workspace)?, run: RunId::parse(run)? })
}

/// One agent per state folder: it takes everything there for its own.
fn lock(state: &Path) -> Outcome<std::fs::File> {
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    let fail = |e: std::io::Error| Failure::failed(format!("{}: {e}", state.display()));
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(state).map_err(fail)?;
    let path = state.join("agent.lock");
    let file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).map_err(fail)?;
    file.try_lock().map_err(|_| {
        Failure::failed(format!("another agent works in {}; give this one another --state", state.display()))
    })?;
    Ok(file)
}

/// The process engine, with the launcher found and this process's environment passed on.
pub(super) fn engine(context: &Context<'_>, launcher: Option<&Path>) -> Outcome<ProcessEngine> {
    let program = std::env::current_exe().map_err(|e| Failure::failed(format!("this program's own path: {e}")))?;
    let launcher = find_launcher(launcher, &program).map_err(|e| Failure::failed(e.to_string()))?;
    Ok(ProcessEngine::new(launcher, context.environment.all.iter().cloned()))
}

/// Cancelled by SIGTERM or SIGINT.
pub(super) fn stop_on_signals() -> Outcome<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let fail = |e: std::io::Error| Failure::failed(format!("signals: {e}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(fail)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(fail)?;
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stopping.cancel();
    });
    Ok(stop)
}

/// Logs of servers and agents go to standard error; `KLUIS_LOG` says how much.
pub(super) fn log_to_stderr(context: &Context<'_>) {
    use std::io::IsTerminal;
    let wanted = context.environment.log.as_deref().unwrap_or("info");
    let filter = tracing_subscriber::EnvFilter::try_new(wanted).unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(filter)
        .init();
}

/// `kluis launch`: the same as the program `kluis-launch`.
pub(super) fn launch(context: &Context<'_>, is_stage: bool) -> u8 {
    if is_stage {
        return kluis_launch::confine();
    }
    log_to_stderr(context);
    let stage = match std::env::current_exe() {
        Ok(program) => vec![program.into_os_string(), OsString::from("launch"), OsString::from("confine")],
        Err(error) => {
            tracing::error!(%error, "this program's own path is not known");
            return 1;
        }
    };
    let start = kluis_launch::Start { environment: context.environment.all.clone(), stage };
    match kluis_launch::launch(std::io::stdin().lock(), start) {
        Ok(()) => 0,
        Err(error) => {
            tracing::error!(%error, "the launcher leaves");
            1
        }
    }
}
