//! The audit log: its newest records, new ones as they come, and the checkpoint that shows a rewrite of the older ones.

use std::path::Path;
use std::time::Duration;

use kluis_client::{Client, Error};
use kluis_core::api::audit::{AuditPage, AuditQuery, AuditView};
use kluis_core::name::{RunId, WorkspaceName};

use crate::args::Audit;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::output::Output;

/// How long the server is asked to hold a question for new records.
const WAIT_SECONDS: u32 = 20;
/// The largest page that the server gives.
const PAGE: u32 = 200;
/// Before the server is asked again after it could not be reached.
const PAUSE: Duration = Duration::from_secs(2);

pub(super) async fn run(context: &Context<'_>, command: Audit) -> Outcome<u8> {
    match command {
        Audit::Tail { run, all, last, no_follow } => {
            let log = if all {
                Log { client: context.client().await?, workspace: None, run }
            } else {
                let (client, workspace) = context.in_workspace(None).await?;
                Log { client, workspace: Some(workspace), run }
            };
            tail(context.out, &log, last, !no_follow).await
        }
        Audit::Checkpoint { out } => checkpoint(context, out.as_deref()).await,
    }
}

/// Which records.
struct Log {
    client: Client,
    /// The whole installation's when there is none.
    workspace: Option<WorkspaceName>,
    run: Option<RunId>,
}

impl Log {
    async fn page(&self, query: AuditQuery) -> Result<AuditPage, Error> {
        let query = AuditQuery { run: self.run.clone(), ..query };
        match &self.workspace {
            Some(workspace) => self.client.workspace_audit(workspace, &query).await,
            None => self.client.audit(&query).await,
        }
    }
}

async fn tail(out: &Output, log: &Log, last: u32, follow: bool) -> Outcome<u8> {
    let mut seen = match &log.run {
        Some(_) => whole(out, log).await?,
        None => print(out, &log.page(AuditQuery { last: Some(last), ..AuditQuery::default() }).await?),
    };
    while follow && !out.is_closed() {
        let wait_seconds = Some(WAIT_SECONDS);
        let query = AuditQuery { limit: Some(PAGE), after: after(seen), wait_seconds, ..AuditQuery::default() };
        match log.page(query).await {
            Ok(page) => seen = print(out, &page).or(seen),
            // A server that is started again goes on where it was.
            Err(error) if error.is_transient() => tokio::time::sleep(PAUSE).await,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(0)
}

/// Everything of a run, page by page.
async fn whole(out: &Output, log: &Log) -> Outcome<Option<u64>> {
    let mut seen = None;
    loop {
        let page = log.page(AuditQuery { limit: Some(PAGE), after: after(seen), ..AuditQuery::default() }).await?;
        seen = print(out, &page).or(seen);
        if page.next.is_none() || out.is_closed() {
            return Ok(seen);
        }
    }
}

fn after(seen: Option<u64>) -> Option<String> {
    seen.map(|seq| seq.to_string())
}

/// Prints records; the number of the last one that is there, damaged or not.
fn print(out: &Output, page: &AuditPage) -> Option<u64> {
    for record in &page.items {
        if out.is_json() { out.json(record) } else { out.line(line(record)) }
    }
    for seq in &page.damaged {
        out.note(format_args!("record {seq} of the audit log is damaged and is not shown"));
    }
    page.items.last().map(|record| record.seq).max(page.damaged.last().copied())
}

/// `time  action  name  run  principal`, then what else is known.
fn line(record: &AuditView) -> String {
    let word = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let principal = record.principal_name.clone().or(record.principal.map(|p| p.to_string()));
    let mut line = format!(
        "{}  {}  {}  {}  {}",
        record.time,
        record.action.as_str(),
        word(record.name.clone()),
        word(record.run.as_ref().map(ToString::to_string)),
        word(principal)
    );
    let mut more = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            line.extend(["  ", key, "=", &value]);
        }
    };
    more("version", record.version.map(|v| v.to_string()));
    more("attempt", record.attempt.map(|n| n.to_string()));
    more("node", record.node.map(|n| n.to_string()));
    more("rank", record.rank.map(|n| n.to_string()));
    more("subject", record.subject.map(|p| p.to_string()));
    more("count", record.count.map(|n| n.to_string()));
    more("from", record.source.clone());
    line
}

async fn checkpoint(context: &Context<'_>, file: Option<&Path>) -> Outcome<u8> {
    let signed = context.client().await?.audit_checkpoint().await?;
    let Some(file) = file else {
        context.out.json(&signed);
        return Ok(0);
    };
    let mut json = serde_json::to_vec(&signed).expect("a checkpoint is JSON");
    json.push(b'\n');
    std::fs::write(file, json).map_err(|e| Failure::failed(format!("{}: {e}", file.display())))?;
    let size = signed.checkpoint.size;
    let note = format_args!("wrote the checkpoint over {size} records to {}", file.display());
    context.out.done("written", serde_json::json!({ "file": file, "records": size }), note);
    Ok(0)
}

#[cfg(test)]
mod tests {
    use kluis_core::audit::{AuditAction, AuditRecord};
    use kluis_core::clock::Timestamp;

    use super::*;

    #[test]
    fn a_record_is_one_line_with_a_dash_for_what_is_unknown() {
        let time: Timestamp = "2027-01-31T00:00:00Z".parse().expect("a time");
        let mut record = AuditView::new(7, AuditRecord::new(time, AuditAction::OwnerReset));
        assert_eq!(line(&record), format!("{time}  {}  -  -  -", AuditAction::OwnerReset.as_str()));
        record.principal_name = Some("ann".to_owned());
        record.name = Some("db-password".to_owned());
        record.attempt = Some(2);
        let whole = format!("{time}  {}  db-password  -  ann  attempt=2", AuditAction::OwnerReset.as_str());
        assert_eq!(line(&record), whole);
    }
}
