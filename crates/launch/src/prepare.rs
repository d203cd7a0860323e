//! From an open session to a program that can be started: the snapshot, the interpreter, the declared secrets.

use std::io::Seek;
use std::path::{Component, Path};
use std::sync::Arc;
use std::time::Duration;

use kluis_client::snapshot;
use kluis_core::api::{code, runs};
use kluis_core::name::SecretName;
use kluis_core::plaintext::Plaintext;
use kluis_core::run::Blame;

use crate::broker::Desk;
use crate::confine::{Program, Wall};
use crate::ending::Ending;
use crate::environment::Environment;
use crate::place::PlaceError;
use crate::python;
use crate::retry;
use crate::run::Attempt;
use crate::secrets::PATIENCE;

/// How long the declared secrets hold up the start when the server is away; they are tried further beside the run.
const PRELOAD_PATIENCE: Duration = Duration::from_mins(10);
/// Between two such tries.
const PRELOAD_PAUSE: Duration = Duration::from_secs(10);

impl From<PlaceError> for Ending {
    fn from(error: PlaceError) -> Self {
        let blame = if error.is_of_a_name() { Blame::Script } else { Blame::Kluis };
        Self::not_started(blame, error.to_string())
    }
}

/// Everything that must be there before the user's program starts.
pub(crate) async fn prepare(attempt: &Attempt) -> Result<Program, Ending> {
    attempt.phase.set("fetching the snapshot");
    fetch_snapshot(attempt).await?;
    attempt.work.make_collected()?;
    attempt.phase.set("preparing");
    let mut environment = Environment::of_node(&attempt.environment);
    if attempt.on_a_terminal {
        environment.add_terminal(&attempt.environment);
    }
    environment.add_run(&attempt.desk.context);
    environment.add_kluis(
        &attempt.desk.context,
        &attempt.work.root,
        &attempt.work.temporary,
        &attempt.private.socket(),
    );
    if let Some(azure) = &attempt.azure {
        azure.add_to(&mut environment, &attempt.desk.context, &attempt.private, &attempt.work, &attempt.desk.covers);
    }
    let argv = command(attempt, &mut environment).await?;
    deliver_secrets(attempt, &mut environment).await?;
    Ok(Program {
        argv: argv.into_iter().map(Into::into).collect(),
        environment: environment.to_vec(),
        folder: attempt.work.tree.clone(),
    })
}

async fn fetch_snapshot(attempt: &Attempt) -> Result<(), Ending> {
    if attempt.desk.context.snapshot.is_none() {
        return Ok(());
    }
    let here = |error: std::io::Error| {
        Ending::not_started(Blame::Kluis, format!("the snapshot could not be stored on this machine: {error}"))
    };
    let session = &attempt.desk.session;
    let packed = retry::persist(async || {
        let file = tempfile::tempfile_in(&attempt.work.root);
        let io = |source| kluis_client::Error::Io { action: "storing the snapshot".to_owned(), source };
        let mut file = tokio::fs::File::from_std(file.map_err(io)?);
        session.snapshot().await?.write_to(&mut file).await?;
        Ok(file.into_std().await)
    });
    let mut packed = packed
        .await
        .map_err(|error| Ending::not_started(Blame::Kluis, format!("the snapshot could not be fetched: {error}")))?;
    packed.rewind().map_err(here)?;
    let tree = attempt.work.tree.clone();
    let unpacked = tokio::task::spawn_blocking(move || snapshot::unpack(std::io::BufReader::new(packed), &tree)).await;
    let contents = unpacked
        .map_err(std::io::Error::other)
        .map_err(here)?
        .map_err(|error| Ending::not_started(Blame::Kluis, format!("the snapshot could not be unpacked: {error}")))?;
    tracing::info!(files = contents.files, bytes = contents.bytes, "the snapshot is unpacked");
    Ok(())
}

/// The command line. The first line of our log says which Python it is.
async fn command(attempt: &Attempt, environment: &mut Environment) -> Result<Vec<String>, Ending> {
    let sdk = &attempt.work.sdk;
    let unusable = |e: std::io::Error| Ending::not_started(Blame::Kluis, format!("the run's folder: {e}"));
    python::write_client(sdk).map_err(unusable)?;
    match &attempt.desk.context.program {
        runs::Program::Script { path, arguments } => {
            check_script(&attempt.work.tree, path)?;
            let wanted = attempt.python.as_deref().or(attempt.desk.context.python.as_deref()).unwrap_or("python3");
            let folder = &attempt.work.tree;
            let interpreter =
                python::probe(wanted, sdk, folder, environment, &attempt.starter, &attempt.reaper).await?;
            attempt.desk.logs.system(&format!("Python {} at {}", interpreter.version, interpreter.executable));
            if !interpreter.installed {
                environment.append_python_path(sdk);
            }
            // A name that begins with `-` would be an option of the interpreter.
            let script = if path.starts_with('-') { format!("./{path}") } else { path.clone() };
            Ok([vec![wanted.to_owned(), script], arguments.clone()].concat())
        }
        runs::Program::Command { argv } => {
            // It gives way to an installed one by itself.
            environment.append_python_path(sdk);
            if argv.is_empty() {
                return Err(Ending::not_started(Blame::Script, "the run names no program"));
            }
            Ok(argv.clone())
        }
    }
}

fn check_script(tree: &Path, path: &str) -> Result<(), Ending> {
    let inside =
        !path.is_empty() && Path::new(path).components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    if inside && tree.join(path).is_file() {
        return Ok(());
    }
    let reason = format!(
        "the script {path} does not exist in the run's snapshot; is it in the submitted folder, and not left out by an \
         ignore file?"
    );
    Err(Ending::not_started(Blame::Script, reason))
}

/// Reads declared secrets beside the run until each is known to the masker or refused.
async fn preload(desk: Arc<Desk>, mut names: Vec<SecretName>) {
    while !names.is_empty() {
        tokio::time::sleep(PRELOAD_PAUSE).await;
        names = try_each(&desk, &names).await;
    }
}

/// What is refused is said: the script may never ask for it, and the others are masked all the same. Answers those that
/// the server was not there for.
async fn try_each(desk: &Desk, names: &[SecretName]) -> Vec<SecretName> {
    let mut away = Vec::new();
    for (name, error) in desk.secrets.preload_each(names, PATIENCE).await {
        if error.code == code::UNAVAILABLE {
            away.push(name);
        } else {
            desk.logs.system(&format!("the declared secret `{name}` can not be read: {}", error.detail));
        }
    }
    away
}

/// Under Landlock a folder in `/dev/shm` is open to other runs of the same user: no place for a secret.
fn files_are_hidden(attempt: &Attempt) -> Result<(), Ending> {
    let under_landlock = attempt.starter.settled.get().is_some_and(|settled| settled.wall == Wall::Landlock);
    let files = !attempt.desk.context.secret_files.is_empty();
    if files && under_landlock && !attempt.desk.covers.hides(attempt.private.parent()) {
        let reason = "secrets as files can not be kept from other runs on this machine: open user namespaces for \
                      bubblewrap, or give the agent an XDG_RUNTIME_DIR; or read them with get_secret";
        return Err(Ending::not_started(Blame::Kluis, reason));
    }
    Ok(())
}

/// Teaches the masker the declared secrets, and hands over those that the submission wants in variables and files.
async fn deliver_secrets(attempt: &Attempt, environment: &mut Environment) -> Result<(), Ending> {
    let context = &attempt.desk.context;
    let mut names: Vec<SecretName> = context.secrets.clone().unwrap_or_default();
    names.extend(context.secret_env.values().chain(context.secret_files.values()).cloned());
    names.sort();
    names.dedup();
    if names.is_empty() {
        return Ok(());
    }
    let handed_over = !context.secret_env.is_empty() || !context.secret_files.is_empty();
    files_are_hidden(attempt)?;
    let read = loop {
        match attempt.desk.secrets.preload(&names, PRELOAD_PATIENCE).await {
            Ok(read) => break read,
            // The program cannot start without them, and nobody is to blame: as long as it takes.
            Err(error) if handed_over && error.code == code::UNAVAILABLE => {
                attempt.desk.logs.system("the run's secrets could not be read yet: the server is away");
            }
            Err(error) if handed_over => {
                let reason = format!("the run's secrets could not be read: {}", error.detail);
                return Err(Ending::not_started(Blame::Script, reason));
            }
            Err(error) => {
                let away = if error.code == code::UNAVAILABLE { names } else { try_each(&attempt.desk, &names).await };
                if !away.is_empty() {
                    attempt.desk.logs.system("not all declared secrets could be read yet: the server is away");
                    tokio::spawn(preload(attempt.desk.clone(), away));
                }
                return Ok(());
            }
        }
    };
    for name in &read.missing {
        attempt.desk.logs.system(&format!("the declared secret `{name}` does not exist or is deleted"));
    }
    let value = |name: &SecretName, place: &str| -> Result<&Plaintext, Ending> {
        let found = read.items.iter().find(|item| item.name == *name).map(|item| &item.value);
        found.ok_or_else(|| {
            let reason = format!("the secret `{name}` for {place} does not exist or is deleted");
            Ending::not_started(Blame::Script, reason)
        })
    };
    for (variable, name) in &context.secret_env {
        environment.add_secret(variable, value(name, &format!("the variable {variable}"))?);
    }
    for (file, name) in &context.secret_files {
        attempt.private.write_secret(file, value(name, &format!("the file {file}"))?)?;
    }
    if !context.secret_files.is_empty() {
        environment.set("KLUIS_SECRETS_DIR", attempt.private.secrets());
    }
    Ok(())
}
