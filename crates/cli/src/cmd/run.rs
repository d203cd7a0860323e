//! Runs: what was submitted, where it stands, what it wrote.

use std::io::{Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use kluis_client::Client;
use kluis_core::api::runs::{LogsQuery, Program, RunView, RunsQuery};
use kluis_core::name::{RunId, WorkspaceName};
use kluis_core::run::ExitStatus;

use super::{pages, submit, wait};
use crate::args::Run;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::values;

pub(super) async fn run(context: &Context<'_>, command: Run) -> Outcome<u8> {
    if let Run::Submit(options) = command {
        return submit::submit(context, *options).await;
    }
    let out = context.out;
    let (client, workspace) = context.in_workspace(None).await?;
    match command {
        Run::Submit(_) => {}
        Run::List { experiment, status, parent, limit } => {
            let query = RunsQuery { limit: Some(limit.min(200)), after: None, experiment, parent, status };
            let items = pages::all(limit as usize, |after| {
                let query = RunsQuery { after, ..query.clone() };
                let (client, workspace) = (&client, &workspace);
                async move { client.runs(workspace, &query).await }
            })
            .await?;
            out.list(&items, &["run", "status", "compute", "submitted", "by"], |run| {
                vec![
                    run.id.to_string(),
                    run.status.to_string(),
                    run.compute.to_string(),
                    run.created.to_string(),
                    run.submitter.to_string(),
                ]
            });
        }
        Run::Show { run } => {
            let view = client.run(&workspace, &run).await?;
            if out.is_json() {
                out.json(&view);
            } else {
                show(out, &view);
                if view.blame.is_some() {
                    out.line("last lines:");
                    let query = LogsQuery { tail: Some(20), ..LogsQuery::default() };
                    wait::print_log(&client, &workspace, &run, query, false, out).await?;
                }
            }
        }
        Run::Logs { run, follow, system, timestamps, tail, attempt } => {
            let query = LogsQuery { follow, system, attempt, from: None, tail };
            wait::print_log(&client, &workspace, &run, query, timestamps, out).await?;
        }
        Run::Wait { run } => {
            let view = wait::ended(&client, &workspace, &run).await?;
            if out.is_json() {
                out.json(&view);
            } else {
                wait::say_end(out, &view);
            }
            return Ok(wait::exit_code(&view));
        }
        Run::Cancel { run } => {
            let view = client.run_cancel(&workspace, &run).await?;
            out.show(&view, |out, view| out.note(format_args!("run {} {}", view.id, view.status)));
        }
        Run::Secrets { run } => {
            let items = Client::all(|page| client.run_secrets(&workspace, &run, page)).await?;
            out.list(&items, &["secret", "version", "attempt", "first given"], |s| {
                vec![s.name.to_string(), s.version.to_string(), s.attempt.to_string(), s.first.to_string()]
            });
        }
        Run::Metrics { run } => {
            let items = Client::all(|page| client.run_metrics(&workspace, &run, page)).await?;
            out.list(&items, &["metric", "value", "step"], |m| {
                vec![m.name.clone(), m.value.to_string(), m.step.map_or_else(String::new, |s| s.to_string())]
            });
        }
        Run::Outputs { run } => {
            let items = Client::all(|page| client.run_outputs(&workspace, &run, page)).await?;
            out.list(&items, &["file", "size", "uploaded"], |f| {
                vec![f.path.clone(), values::human(f.bytes), f.time.to_string()]
            });
        }
        Run::Download { run, outputs, snapshot, to } => {
            let to = submit::folder(&to.unwrap_or_else(|| PathBuf::from(run.as_str())))?;
            if snapshot {
                download_snapshot(&client, &workspace, &run, &to).await?;
            } else {
                download_outputs(context, &client, &workspace, &run, &to).await?;
                if !outputs {
                    download_log(&client, &workspace, &run, &to).await?;
                }
            }
            let fields = serde_json::json!({ "run": run, "folder": to });
            out.done("downloaded", fields, format_args!("downloaded to {}", to.display()));
        }
    }
    Ok(0)
}

fn show(out: &Output, run: &RunView) {
    let line = |name: &str, value: String| {
        if !value.is_empty() {
            out.line(format_args!("{name:<12} {value}"));
        }
    };
    let time = |t: Option<kluis_core::clock::Timestamp>| t.map_or_else(String::new, |t| t.to_string());
    line("run", run.id.to_string());
    line("status", run.status.to_string());
    line("reason", run.reason.clone().unwrap_or_default());
    line("to blame", run.blame.map(|b| format!("{b:?}").to_lowercase()).unwrap_or_default());
    line(
        "exit",
        match run.exit {
            None => String::new(),
            Some(ExitStatus::Code(code)) => format!("code {code}"),
            Some(ExitStatus::Signal(signal)) => format!("signal {signal}"),
        },
    );
    line("phase", run.phase.clone());
    line("experiment", format!("{} #{}", run.experiment, run.number));
    line("workspace", run.workspace.to_string());
    line("compute", run.compute.to_string());
    line("job", run.engine_job.clone().unwrap_or_default());
    line("attempt", run.attempt.to_string());
    line("submitted", format!("{} by {}", run.created, run.submitter));
    line("started", time(run.started));
    line("ended", time(run.ended));
    line(
        "program",
        match &run.program {
            None => String::new(),
            Some(Program::Script { path, arguments }) => format!("{path} {}", arguments.join(" ")),
            Some(Program::Command { argv }) => argv.join(" "),
        },
    );
    if let Some(secrets) = &run.secrets {
        line("secrets", secrets.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "));
    }
    for (key, value) in &run.tags {
        line("tag", format!("{key}={value}"));
    }
    for leak in &run.leaks {
        line("masked", format!("{} {} times, as {}: rotate it", leak.secret, leak.count, leak.encoding));
    }
}

async fn download_outputs(
    context: &Context<'_>,
    client: &Client,
    workspace: &WorkspaceName,
    run: &RunId,
    to: &Path,
) -> Outcome<()> {
    let files = Client::all(|page| client.run_outputs(workspace, run, page)).await?;
    let bar = submit::progress(context, files.iter().map(|f| f.bytes).sum(), "downloading");
    for file in &files {
        let path = below(to, &file.path)?;
        let io = |e: std::io::Error| Failure::failed(format!("{}: {e}", path.display()));
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(io)?;
        }
        let download = client.run_output(workspace, run, &file.path).await?;
        let mut target = tokio::fs::File::create(&path).await.map_err(io)?;
        bar.inc(download.write_to(&mut target).await?);
    }
    bar.finish_and_clear();
    Ok(())
}

/// The run's log, as Azure ML names it.
async fn download_log(client: &Client, workspace: &WorkspaceName, run: &RunId, to: &Path) -> Outcome<()> {
    let path = to.join("user_logs/std_log.txt");
    let io = |e: std::io::Error| Failure::failed(format!("{}: {e}", path.display()));
    std::fs::create_dir_all(path.parent().expect("the file was joined to a folder")).map_err(io)?;
    let mut file = std::io::BufWriter::new(std::fs::File::create(&path).map_err(io)?);
    let mut log = client.run_logs(workspace, run, LogsQuery::default()).await?;
    while let Some(record) = log.next().await? {
        file.write_all(&record.data).map_err(io)?;
    }
    file.flush().map_err(io)
}

/// Paths are chosen by the run's script: only plain ones lead below the folder.
fn below(folder: &Path, path: &str) -> Outcome<PathBuf> {
    let relative = Path::new(path);
    if path.is_empty() || !relative.components().all(|c| matches!(c, Component::Normal(_))) {
        return Err(Failure::failed("the run has a file whose path leads out of the folder; it was not downloaded"));
    }
    Ok(folder.join(relative))
}

async fn download_snapshot(client: &Client, workspace: &WorkspaceName, run: &RunId, to: &Path) -> Outcome<()> {
    let view = client.run(workspace, run).await?;
    let Some(snapshot) = view.snapshot else {
        return Err(Failure::failed("this run has no tree of its own"));
    };
    // Beside the folder, which has to be empty, and without a name as soon as it is open.
    let mut scratch = to.as_os_str().to_owned();
    scratch.push(".packed");
    let scratch = PathBuf::from(scratch);
    let io = |e: std::io::Error| Failure::failed(format!("{}: {e}", scratch.display()));
    let mut open = std::fs::OpenOptions::new();
    let file = open.read(true).write(true).create_new(true).mode(0o600).open(&scratch).map_err(io)?;
    std::fs::remove_file(&scratch).map_err(io)?;
    let mut file = tokio::fs::File::from_std(file);
    client.snapshot_download(workspace, snapshot).await?.write_to(&mut file).await?;
    let mut packed = file.into_std().await;
    packed.rewind().map_err(io)?;
    let target = to.to_owned();
    let unpack = move || kluis_client::snapshot::unpack(std::io::BufReader::new(packed), &target);
    tokio::task::spawn_blocking(unpack).await.map_err(|_| Failure::failed("unpacking failed"))??;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_a_run_stays_below_the_folder() {
        let to = Path::new("/to");
        assert_eq!(below(to, "outputs/model.pkl").expect("plain"), Path::new("/to/outputs/model.pkl"));
        for bad in ["", "/etc/passwd", "../a", "a/../../b", "./a/.."] {
            assert!(below(to, bad).is_err(), "{bad}");
        }
    }
}
