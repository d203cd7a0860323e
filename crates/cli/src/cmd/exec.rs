//! A command here, as a run: its own identity, a clean environment, masked output. This process is the run's agent, and
//! gives it its own standard streams: on a terminal the command gets one, with this terminal's size, keys and signals;
//! elsewhere it gets pipes. The run ends with this process.
//!
//! Without `--like` the run has no tree; a shell line takes the command to the folder where it was typed.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Read, Write};
use std::os::fd::OwnedFd;

use kluis_client::{Client, SystemRng};
use kluis_core::api::agents::{Console, LocalRun, TerminalSize};
use kluis_core::api::runs::{Program, Resources, RunView, SubmitRun};
use kluis_core::clock::{Clock, SystemClock};
use kluis_core::name::{ExperimentName, RunId, SecretName, WorkspaceName};
use kluis_core::run::{Blame, RunStatus};
use kluis_launch::console::{Frame, MAX_FRAME};
use kluis_runner::{Agent, AgentOptions};
use rustix::termios::{OptionalActions, Termios};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::submit::{Declared, local_compute, note_undeclared};
use super::{agent, local, wait};
use crate::args::Exec;
use crate::context::Context;
use crate::failure::{CANCELED, Failure, Outcome};

pub(super) async fn exec(context: &Context<'_>, exec: Exec) -> Outcome<u8> {
    local::refuse_in_run(context)?;
    local::check()?;
    let (client, workspace) = context.in_workspace(None).await?;
    let declared = Declared::new(&exec.secrets, &workspace)?;
    let experiment = ExperimentName::parse("exec")?;
    let mut request = SubmitRun {
        run: Some(RunId::generate(&experiment, SystemClock.now(), &SystemRng)),
        experiment,
        snapshot: None,
        program: Program::Command { argv: Vec::new() },
        compute: local_compute(),
        secrets: declared.secrets,
        secret_env: declared.env,
        secret_files: declared.files,
        environment: exec.secrets.environment.into_iter().collect(),
        python: None,
        resources: Resources::default(),
        engine_options: BTreeMap::new(),
        tags: BTreeMap::new(),
        max_attempts: None,
    };
    match &exec.like {
        Some(run) => request = repeated(&client.run(&workspace, run).await?, request, exec.command)?,
        None => request.program = Program::Command { argv: here(exec.command)? },
    }
    if request.secrets.is_none() {
        note_undeclared(context);
    }
    let run = client.run_submit(&workspace, &request).await?;
    let ended = attend(context, &client, &workspace, &run.id).await?;
    let Some(ended) = ended else { return Ok(CANCELED) };
    if context.out.is_json() {
        // Standard output is the command's own.
        context.out.json_beside(&ended);
    } else if ended.exit.is_none() || (ended.status != RunStatus::Completed && ended.blame != Some(Blame::Script)) {
        wait::say_end(context.out, &ended);
    }
    Ok(wait::exit_code(&ended))
}

/// The command, taken to the folder where it was typed.
fn here(command: Vec<String>) -> Outcome<Vec<String>> {
    if command.is_empty() {
        return Err(Failure::usage("which command? It stands after `--`"));
    }
    let here = std::env::current_dir().map_err(|e| Failure::failed(format!("the current folder: {e}")))?;
    let here = here.to_str().ok_or_else(|| Failure::failed("the current folder's path is not text"))?;
    let mut argv: Vec<String> = ["sh", "-c", "cd \"$0\" && exec \"$@\"", here].map(str::to_owned).to_vec();
    argv.extend(command);
    Ok(argv)
}

/// Another run by hand: in its tree, with its variables and secrets; what was given here is added and comes first.
fn repeated(like: &RunView, given: SubmitRun, command: Vec<String>) -> Outcome<SubmitRun> {
    let program = match (command.is_empty(), &like.program) {
        (false, _) => Program::Command { argv: command },
        (true, Some(program)) => program.clone(),
        (true, None) => return Err(Failure::failed("that run has no program of its own: give a command after `--`")),
    };
    let mut secrets = like.secrets.clone();
    for name in given.secrets.into_iter().flatten() {
        // Without a list the run may read everything already.
        if let Some(all) = secrets.as_mut().filter(|all| !all.contains(&name)) {
            all.push(name);
        }
    }
    let merged =
        |theirs: &BTreeMap<String, SecretName>, ours: BTreeMap<_, _>| theirs.clone().into_iter().chain(ours).collect();
    Ok(SubmitRun {
        snapshot: like.snapshot,
        program,
        secrets,
        secret_env: merged(&like.secret_env, given.secret_env),
        secret_files: merged(&like.secret_files, given.secret_files),
        environment: like.environment.clone().into_iter().chain(given.environment).collect(),
        python: like.python.clone(),
        ..given
    })
}

/// Serves the run and connects it with this process's streams, until both are done. `None`: interrupted before it began.
async fn attend(
    context: &Context<'_>,
    client: &Client,
    workspace: &WorkspaceName,
    run: &RunId,
) -> Outcome<Option<RunView>> {
    let on_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal() && !context.out.is_json();
    let state = local::state_folder(context, workspace, run)?;
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(broken)?;
    ours.set_nonblocking(true).map_err(broken)?;
    let stream = UnixStream::from_std(ours).map_err(broken)?;
    let agent = || -> Outcome<_> {
        let only = Some(LocalRun { workspace: workspace.clone(), run: run.clone() });
        let options = AgentOptions { only, ..agent::options(context, local_compute(), state.clone())? };
        let console = Console { terminal: on_terminal.then(size) };
        let agent = Agent::new(client.clone(), agent::engine(context, None)?, options)?;
        Ok(agent.attached(console, OwnedFd::from(theirs)))
    };
    let agent = match agent() {
        Ok(agent) => agent,
        Err(failure) => {
            // Nobody else will ever serve it.
            client.run_cancel(workspace, run).await?;
            return Err(failure);
        }
    };
    let stop = CancellationToken::new();
    let front = async {
        let begun = connect(context, stream, on_terminal).await;
        if let Ok(false) = begun {
            client.run_cancel(workspace, run).await?;
            stop.cancel();
        }
        begun
    };
    // The connection closes when the command's output is over; the agent leaves when the run's end is on record, or when
    // it could not be served.
    let (served, begun) = tokio::join!(agent.run(stop.clone()), front);
    local::remove_state(&state);
    if !begun? {
        return Ok(None);
    }
    if let Err(error) = served {
        if client.run(workspace, run).await.is_ok_and(|view| view.status == RunStatus::Queued) {
            client.run_cancel(workspace, run).await?;
        }
        return Err(error.into());
    }
    Ok(Some(wait::ended(client, workspace, run).await?))
}

fn broken(error: std::io::Error) -> Failure {
    Failure::failed(format!("the command's console: {error}"))
}

fn size() -> TerminalSize {
    let size = rustix::termios::tcgetwinsize(std::io::stdout());
    size.map_or(TerminalSize { rows: 24, columns: 80 }, |size| TerminalSize { rows: size.ws_row, columns: size.ws_col })
}

/// Passes on what is typed, written and signaled until the other end closes. `false`: interrupted before the command had
/// begun.
async fn connect(context: &Context<'_>, stream: UnixStream, on_terminal: bool) -> Outcome<bool> {
    let mut signals = signals().map_err(broken)?;
    let (reader, mut writer) = stream.into_split();
    let mut frames = frames(reader);
    let mut more = Some(std::sync::mpsc::sync_channel(4));
    let (mut typed, mut credit) = (None, None);
    let mut raw = None;
    let mut closed = false;
    loop {
        let typing = async {
            match &mut typed {
                Some(typed) => mpsc::Receiver::recv(typed).await,
                None => std::future::pending().await,
            }
        };
        let frame = tokio::select! {
            frame = frames.recv() => match frame {
                Some(Frame::More) => {
                    if let Some((sender, receiver)) = more.take() {
                        // The first one: the command has begun.
                        raw = on_terminal.then(Raw::enter).transpose().map_err(broken)?;
                        typed = Some(read_input(receiver));
                        credit = Some(sender);
                    }
                    if let Some(credit) = &credit {
                        let _input_is_over = credit.try_send(());
                    }
                    continue;
                }
                Some(Frame::Stdout(data)) => {
                    context.out.bytes(&data)?;
                    if !context.out.is_closed() || closed {
                        continue;
                    }
                    // As a shell's pipeline does it.
                    closed = true;
                    Frame::Signal(rustix::process::Signal::PIPE.as_raw())
                }
                Some(Frame::Stderr(data)) => {
                    let _closed = std::io::stderr().write_all(&data);
                    continue;
                }
                Some(_) => continue,
                None => break,
            },
            frame = typing => {
                let Some(frame) = frame else {
                    typed = None;
                    continue;
                };
                frame
            }
            Some(number) = signals.recv() => {
                if number == SignalKind::window_change().as_raw_value() {
                    Frame::Resize(size())
                } else if credit.is_none() {
                    return Ok(false);
                } else {
                    Frame::Signal(number)
                }
            }
        };
        // A launcher that is gone closes the connection, which is seen above.
        let _gone = writer.write_all(&frame.to_bytes()).await;
    }
    drop(raw);
    Ok(true)
}

/// The terminal as it was, which it is again when this is dropped.
struct Raw(Termios);

impl Raw {
    fn enter() -> std::io::Result<Self> {
        let before = rustix::termios::tcgetattr(std::io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(std::io::stdin(), OptionalActions::Drain, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs no settings.
        let _gone = rustix::termios::tcsetattr(std::io::stdin(), OptionalActions::Drain, &self.0);
    }
}

/// What the other end says. A task of its own: reading half a frame can not be broken off.
fn frames(mut reader: OwnedReadHalf) -> mpsc::Receiver<Frame> {
    let (sender, receiver) = mpsc::channel(16);
    tokio::spawn(async move {
        while let Ok(Some(frame)) = Frame::read(&mut reader).await {
            if sender.send(frame).await.is_err() {
                break;
            }
        }
    });
    receiver
}

/// Standard input, a piece for each word that comes over `more`. A thread of its own, which nobody waits for: reading a
/// terminal can not be broken off either.
fn read_input(more: std::sync::mpsc::Receiver<()>) -> mpsc::Receiver<Frame> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut buffer = Zeroizing::new(vec![0; MAX_FRAME]);
        while more.recv().is_ok() {
            let length = loop {
                match stdin.read(&mut buffer) {
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    read => break read.unwrap_or(0),
                }
            };
            let frame = if length == 0 { Frame::End } else { Frame::Input(buffer[..length].to_vec().into()) };
            if sender.blocking_send(frame).is_err() || length == 0 {
                break;
            }
        }
    });
    receiver
}

/// The signals that are the command's.
fn signals() -> std::io::Result<mpsc::Receiver<i32>> {
    let (sender, receiver) = mpsc::channel(16);
    for kind in [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
        SignalKind::quit(),
        SignalKind::user_defined1(),
        SignalKind::user_defined2(),
        SignalKind::window_change(),
    ] {
        let (mut signal, sender) = (signal(kind)?, sender.clone());
        tokio::spawn(async move {
            while signal.recv().await.is_some() && sender.send(kind.as_raw_value()).await.is_ok() {}
        });
    }
    Ok(receiver)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn like() -> RunView {
        serde_json::from_value(serde_json::json!({
            "id": "churn_1_a", "number": 1, "workspace": "default", "experiment": "churn", "status": "failed",
            "cancel_requested": false, "submitted_by": "00000000000000000000000000000001", "submitter": "ann",
            "program": {"script": {"path": "train.py", "arguments": ["--fast"]}}, "compute": "gpu-box",
            "snapshot": "000000000000000000000000000000aa", "secrets": ["db", "key"], "secret_env": {"A": "db"},
            "secret_files": {"k": "key"}, "environment": {"E": "1", "F": "2"}, "python": "/opt/python", "attempt": 1,
            "created": "2026-11-28T00:00:00Z", "phase": "ended", "revision": 3,
        }))
        .expect("a run")
    }

    fn given() -> SubmitRun {
        serde_json::from_value(serde_json::json!({
            "experiment": "exec", "program": {"command": {"argv": []}}, "compute": "local", "secrets": ["other"],
            "secret_env": {"B": "other"}, "environment": {"F": "3"},
        }))
        .expect("a submission")
    }

    #[test]
    fn a_run_is_repeated_with_its_tree_variables_secrets_and_python() {
        let request = repeated(&like(), given(), vec!["bash".into()]).expect("repeated");
        let json = serde_json::to_value(&request).expect("a submission is JSON");
        assert_eq!(json["snapshot"], "000000000000000000000000000000aa");
        assert_eq!(json["program"], serde_json::json!({"command": {"argv": ["bash"]}}));
        assert_eq!(json["secrets"], serde_json::json!(["db", "key", "other"]));
        assert_eq!(json["secret_env"], serde_json::json!({"A": "db", "B": "other"}));
        assert_eq!(json["secret_files"], serde_json::json!({"k": "key"}));
        assert_eq!(json["environment"], serde_json::json!({"E": "1", "F": "3"}));
        assert_eq!((&json["python"], &json["compute"]), (&"/opt/python".into(), &"local".into()));
    }

    #[test]
    fn without_a_command_the_runs_own_program_is_repeated() {
        let like = like();
        let request = repeated(&like, given(), Vec::new()).expect("repeated");
        assert_eq!(Some(request.program), like.program);
        assert!(repeated(&RunView { program: None, ..like }, given(), Vec::new()).is_err());
    }

    #[test]
    fn a_run_that_may_read_everything_still_may_when_repeated() {
        let like = RunView { secrets: None, ..like() };
        assert_eq!(repeated(&like, given(), Vec::new()).expect("repeated").secrets, None);
    }
}
