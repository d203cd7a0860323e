//! Waiting for a run, following its log, and the exit code that its end stands for.

use std::io::Write;
use std::time::Duration;

use kluis_client::{Client, Error};
use kluis_core::api::runs::{LogRecord, LogsQuery, RunView};
use kluis_core::name::{RunId, WorkspaceName};
use kluis_core::run::{Blame, RunStatus};
use tokio::time::Instant;

use crate::failure::{CANCELED, LOST, NOT_THE_SCRIPT, Outcome};
use crate::output::Output;

/// How often a run is looked at.
const LOOK: Duration = Duration::from_millis(300);

/// How long a server may be away while it is waited for.
const AWAY: Duration = Duration::from_mins(2);

/// The run when it has ended. A server that is away for a while is waited for.
pub(super) async fn ended(client: &Client, workspace: &WorkspaceName, run: &RunId) -> Result<RunView, Error> {
    let mut heard = Instant::now();
    loop {
        match client.run(workspace, run).await {
            Ok(view) if view.status.is_terminal() => return Ok(view),
            Ok(_) => heard = Instant::now(),
            Err(error) if error.is_transient() && heard.elapsed() < AWAY => {}
            Err(error) => return Err(error),
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What a shell would say of the run's end.
pub(super) fn exit_code(run: &RunView) -> u8 {
    match run.status {
        RunStatus::Completed => 0,
        RunStatus::Canceled => CANCELED,
        RunStatus::Lost => LOST,
        RunStatus::Failed => match (run.blame, run.exit) {
            (Some(Blame::Engine | Blame::Kluis), _) | (_, None) => NOT_THE_SCRIPT,
            (_, Some(exit)) => u8::try_from(exit.shell_code()).unwrap_or(1).max(1),
        },
        _ => NOT_THE_SCRIPT,
    }
}

/// Says how the run ended, on standard error.
pub(super) fn say_end(out: &Output, run: &RunView) {
    match &run.reason {
        Some(reason) => out.note(format_args!("run {} {}: {reason}", run.id, run.status)),
        None => out.note(format_args!("run {} {}", run.id, run.status)),
    }
}

/// Prints a log as bare bytes, in order of arrival.
pub(super) async fn print_log(
    client: &Client,
    workspace: &WorkspaceName,
    run: &RunId,
    query: LogsQuery,
    timestamps: bool,
    out: &Output,
) -> Outcome<()> {
    let mut stream = client.run_logs(workspace, run, query).await?;
    let mut at_start = true;
    while let Some(record) = stream.next().await? {
        if out.is_json() {
            out.json(&record);
        } else if timestamps {
            print_stamped(out, &record, &mut at_start)?;
        } else {
            out.bytes(&record.data)?;
        }
    }
    let _closed = std::io::stdout().flush();
    Ok(())
}

fn print_stamped(out: &Output, record: &LogRecord, at_start: &mut bool) -> Outcome<()> {
    let mut text = Vec::with_capacity(record.data.len() + 32);
    for byte in &record.data {
        if *at_start {
            text.extend_from_slice(record.time.to_string().as_bytes());
            text.push(b' ');
        }
        text.push(*byte);
        *at_start = *byte == b'\n';
    }
    out.bytes(&text)
}
