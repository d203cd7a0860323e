//! Submitting: pack the tree, upload it, say what is to run, and, for this machine, start the agent that runs it.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use kluis_client::config::Resolved;
use kluis_client::snapshot::{Links, PackOptions, Packed, pack};
use kluis_client::{Client, SystemRng};
use kluis_core::api::runs::{LogsQuery, Program, Resources, RunView, SubmitRun};
use kluis_core::clock::{Clock, SystemClock};
use kluis_core::name::{ComputeName, ExperimentName, RunId, SecretName, WorkspaceName};

use super::local::{self, LocalAgent};
use super::wait;
use crate::args::{LinksOption, Secrets, Submit};
use crate::context::Context;
use crate::failure::{DETACHED, Failure, Outcome};
use crate::reference::Reference;

pub(super) async fn submit(context: &Context<'_>, submit: Submit) -> Outcome<u8> {
    local::refuse_in_run(context)?;
    let source = match &submit.source {
        Some(source) => source.clone(),
        None => std::env::current_dir().map_err(|e| Failure::failed(format!("the current folder: {e}")))?,
    };
    let program = program(&submit, &source)?;
    let experiment = match &submit.experiment {
        Some(name) => name.clone(),
        None => experiment_of(&source)?,
    };
    let resolved = context.resolved()?;
    let compute = compute(context, &submit, &resolved);
    if compute.is_local() {
        local::check()?;
    }
    let (client, workspace) = context.in_workspace(None).await?;
    // Whatever can be wrong here is found before the tree is packed and sent.
    let declared = Declared::new(&submit.secrets, &workspace)?;
    let packed = {
        let links = match submit.links {
            LinksOption::Refuse => Links::Refuse,
            LinksOption::Keep => Links::Keep,
        };
        let source = source.clone();
        let pack = move || pack(&source, &PackOptions { links, scratch: std::env::temp_dir() });
        tokio::task::spawn_blocking(pack).await.map_err(|_| Failure::failed("packing the tree failed"))??
    };
    for left_out in &packed.left_out {
        context.out.note(format_args!("note: {left_out} is no file, folder or link, and was left out"));
    }
    let snapshot = upload(context, &client, &workspace, &packed).await?;
    if declared.secrets.is_none() {
        note_undeclared(context);
    }
    let request = SubmitRun {
        run: Some(submit.run_id.clone().unwrap_or_else(|| RunId::generate(&experiment, SystemClock.now(), &SystemRng))),
        experiment,
        snapshot: Some(snapshot),
        program,
        compute: compute.clone(),
        secrets: declared.secrets,
        secret_env: declared.env,
        secret_files: declared.files,
        environment: submit.secrets.environment.iter().cloned().collect(),
        python: submit.python.clone(),
        resources: Resources {
            gpus: submit.gpus,
            cpus: submit.cpus,
            memory_bytes: submit.memory,
            time_seconds: submit.time.map(|t| t.as_secs()),
        },
        engine_options: BTreeMap::new(),
        tags: submit.tags.iter().cloned().collect(),
        max_attempts: submit.max_attempts,
    };
    let run = client.run_submit(&workspace, &request).await?;
    let mut agent = None;
    if compute.is_local() {
        match local::start(context, &resolved, &workspace, &run.id) {
            Ok(started) => agent = Some(started),
            Err(failure) => {
                // Nobody else will ever serve it.
                client.run_cancel(&workspace, &run.id).await?;
                return Err(failure);
            }
        }
    }
    if !submit.wait {
        context.out.show(&run, |out, run| out.line(&run.id));
        if let Some(agent) = &mut agent {
            agent.takes(&client, &workspace, &run).await?;
        }
        return Ok(0);
    }
    context.out.note(format_args!("run {}", run.id));
    follow(context, &client, &workspace, run, agent).await
}

/// Where to run: as told, else as the project's or the user's file says, else here.
fn compute(context: &Context<'_>, submit: &Submit, resolved: &Resolved) -> ComputeName {
    match (&submit.compute, &resolved.compute) {
        (Some(told), _) => told.clone(),
        (None, Some(configured)) => {
            context.out.note(format_args!("note: on {configured}, as the configuration says"));
            configured.clone()
        }
        (None, None) => local_compute(),
    }
}

/// A run without a list of secrets is no narrower than its submitter.
pub(super) fn note_undeclared(context: &Context<'_>) {
    context.out.note("note: no secrets were declared (--secret), so the run may read whatever you may read");
}

/// Follows the log to the run's end; the exit code is the run's. Ctrl-C detaches, twice cancels.
async fn follow(
    context: &Context<'_>,
    client: &Client,
    workspace: &WorkspaceName,
    run: RunView,
    agent: Option<LocalAgent>,
) -> Outcome<u8> {
    let died = async {
        match agent {
            Some(mut agent) => agent.died(client, workspace, &run.id).await,
            None => std::future::pending().await,
        }
    };
    let query = LogsQuery { follow: true, ..LogsQuery::default() };
    let followed = async {
        wait::print_log(client, workspace, &run.id, query, false, context.out).await?;
        Ok(wait::ended(client, workspace, &run.id).await?)
    };
    let ended: Outcome<RunView> = tokio::select! {
        ended = followed => ended,
        failure = died => Err(failure),
        _ = tokio::signal::ctrl_c() => {
            context.out.note("detaching; the run goes on. Ctrl-C again within 2 s cancels it");
            let again = tokio::time::timeout(Duration::from_secs(2), tokio::signal::ctrl_c()).await;
            if again.is_ok() {
                client.run_cancel(workspace, &run.id).await?;
                context.out.note("canceled");
                return Ok(crate::failure::CANCELED);
            }
            context.out.note(format_args!("`kluis run logs --follow {}` attaches again", run.id));
            return Ok(DETACHED);
        }
    };
    let ended = ended?;
    if context.out.is_json() {
        context.out.json(&ended);
    } else {
        wait::say_end(context.out, &ended);
    }
    Ok(wait::exit_code(&ended))
}

fn program(submit: &Submit, source: &Path) -> Outcome<Program> {
    if submit.is_command {
        return Ok(Program::Command { argv: submit.program.clone() });
    }
    let (script, arguments) = submit.program.split_first().ok_or_else(|| Failure::usage("which script?"))?;
    let path = script.strip_prefix("./").unwrap_or(script);
    if !source.join(path).is_file() {
        return Err(Failure::usage(format!(
            "there is no script {script} in {}; a command of the machine stands after `--`",
            source.display()
        )));
    }
    Ok(Program::Script { path: path.to_owned(), arguments: arguments.to_vec() })
}

/// The tree's name, made a valid one.
fn experiment_of(source: &Path) -> Outcome<ExperimentName> {
    let full = source.canonicalize().map_err(|e| Failure::failed(format!("{}: {e}", source.display())))?;
    let name = full.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let valid: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
    let valid = valid.trim_start_matches(['_', '-']);
    let valid: String = valid.chars().take(200).collect();
    Ok(ExperimentName::parse(if valid.is_empty() { "experiment" } else { &valid })?)
}

/// What the run may read, with what the other options imply.
pub(super) struct Declared {
    pub(super) secrets: Option<Vec<SecretName>>,
    pub(super) env: BTreeMap<String, SecretName>,
    pub(super) files: BTreeMap<String, SecretName>,
}

impl Declared {
    pub(super) fn new(wanted: &Secrets, workspace: &WorkspaceName) -> Outcome<Self> {
        let name = |reference: &Reference| reference.name_in(workspace).cloned().map_err(Failure::usage);
        let named = |pairs: &[(String, Reference)]| -> Outcome<BTreeMap<String, SecretName>> {
            pairs.iter().map(|(place, reference)| Ok((place.clone(), name(reference)?))).collect()
        };
        let (env, files) = (named(&wanted.secret_env)?, named(&wanted.secret_files)?);
        let mut secrets: Vec<SecretName> = wanted.secrets.iter().map(name).collect::<Outcome<_>>()?;
        for implied in env.values().chain(files.values()) {
            if !secrets.contains(implied) {
                secrets.push(implied.clone());
            }
        }
        Ok(Self { secrets: (!secrets.is_empty()).then_some(secrets), env, files })
    }
}

async fn upload(
    context: &Context<'_>,
    client: &Client,
    workspace: &WorkspaceName,
    packed: &Packed,
) -> Outcome<kluis_core::id::BlobId> {
    let bar = progress(context, packed.bytes, "uploading");
    let moving = bar.clone();
    let stored = client.snapshot_upload(workspace, packed.path(), move |sent| moving.set_position(sent)).await;
    bar.finish_and_clear();
    Ok(stored?.snapshot)
}

/// A bar on a terminal, for work that takes longer than a blink.
pub(super) fn progress(context: &Context<'_>, bytes: u64, what: &'static str) -> ProgressBar {
    if context.out.is_json() || !std::io::stderr().is_terminal() || bytes < 1 << 20 {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {eta}");
    let bar = ProgressBar::new(bytes).with_message(what);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// The target for this machine.
pub(super) fn local_compute() -> ComputeName {
    ComputeName::parse("local").expect("`local` is a compute target's name")
}

/// A folder that a download can be put into.
pub(super) fn folder(path: &Path) -> Outcome<PathBuf> {
    std::fs::create_dir_all(path).map_err(|e| Failure::failed(format!("{}: {e}", path.display())))?;
    Ok(path.to_owned())
}
