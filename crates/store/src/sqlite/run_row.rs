//! A run's row: the one place where its columns are listed and read.

use kluis_core::clock::Timestamp;
use kluis_core::id::{PrincipalId, WorkspaceId};
use kluis_core::name::{ComputeName, ExperimentName, PrincipalName, RunId, WorkspaceName};
use kluis_core::run::{Blame, RunStatus};
use kluis_core::sealed::sha256;
use rusqlite::{Connection, Row};

use super::Unit;
use super::sql::{self, Fields};
use crate::attempts::Leased;
use crate::runs::RunRow;
use crate::{Error, Hint};

/// Selects runs as [`run`] reads them; what follows the tables is given.
macro_rules! select_run {
    ($rest:literal) => {
        concat!(
            "SELECT r.seq, r.workspace, r.id, e.name, r.number,
                    (SELECT id FROM run parent WHERE parent.seq = r.parent),
                    r.status, r.cancel_requested, r.submitted_by, p.name, r.compute, r.max_attempts, r.retries, r.attempt,
                    r.created, r.started, r.ended, r.last_contact, r.exit, r.blame, r.reason, r.phase,
                    r.engine_job, r.tags, r.properties, r.display_name, r.leaks, r.notices, r.revision, r.mac, r.spec
             FROM run r JOIN experiment e ON e.seq = r.experiment JOIN principal p ON p.id = r.submitted_by ",
            $rest
        )
    };
}
pub(super) use select_run;

pub(super) fn run(row: &Row<'_>) -> Result<RunRow, Error> {
    let f = Fields::new(row, "run");
    let mut run = RunRow {
        seq: f.number()?,
        workspace: f.id(WorkspaceId::from_bytes)?,
        id: f.parse(RunId::parse)?,
        experiment: f.parse(ExperimentName::parse)?,
        number: f.number()?,
        parent: f.parse_optional(RunId::parse)?,
        status: f.word(RunStatus::parse)?,
        cancel_requested: f.flag()?,
        submitted_by: f.id(PrincipalId::from_bytes)?,
        submitter: f.parse(PrincipalName::parse)?,
        compute: f.parse(ComputeName::parse)?,
        spec: None,
        spec_hash: None,
        mac: None,
        max_attempts: f.number()?,
        retries: f.number()?,
        attempt: f.number()?,
        created: f.time()?,
        started: f.optional_time()?,
        ended: f.optional_time()?,
        last_contact: f.optional_time()?,
        exit: f.optional_json()?,
        blame: f.parse_optional(|text| blame(text).ok_or(()))?,
        reason: f.get()?,
        phase: f.get()?,
        engine_job: f.get()?,
        tags: f.json()?,
        properties: f.json()?,
        display_name: f.get()?,
        leaks: f.json()?,
        notices: f.number()?,
        revision: f.number()?,
    };
    run.mac = f.optional_mac()?;
    if let Some(text) = f.get::<Option<String>>()? {
        run.spec = Some(serde_json::from_str(&text).map_err(|_| f.wrong())?);
        run.spec_hash = Some(sha256(text.as_bytes()));
    }
    Ok(run)
}

pub(super) const fn blame_text(blame: Blame) -> &'static str {
    match blame {
        Blame::Script => "script",
        Blame::Engine => "engine",
        Blame::Kluis => "kluis",
        Blame::User => "user",
    }
}

fn blame(text: &str) -> Option<Blame> {
    [Blame::Script, Blame::Engine, Blame::Kluis, Blame::User].into_iter().find(|blame| blame_text(*blame) == text)
}

/// One run, by its place in the store.
pub(super) fn by_seq(c: &Connection, seq: i64) -> Result<RunRow, Error> {
    sql::one(c, select_run!("WHERE r.seq = ?1"), [seq], run)?
        .ok_or_else(|| Error::Inconsistent { table: "run", row: seq.to_string() })
}

/// One run, by id.
pub(super) fn by_id(c: &Connection, workspace: WorkspaceId, key: &str) -> Result<Option<RunRow>, Error> {
    let found = sql::one(c, select_run!("WHERE r.workspace = ?1 AND r.id_key = ?2"), (workspace.as_bytes(), key), run)?;
    // The column that is looked up by, or its index, may lie.
    match &found {
        Some(run) if run.id.key() != key || run.workspace != workspace => {
            Err(Error::Inconsistent { table: "run", row: run.seq.to_string() })
        }
        _ => Ok(found),
    }
}

/// A run with its workspace's name.
pub(super) fn with_workspace(c: &Connection, run: RunRow) -> Result<Leased, Error> {
    let name = sql::one(c, "SELECT id, name FROM workspace WHERE id = ?1", [run.workspace.as_bytes()], |row| {
        let f = Fields::new(row, "workspace");
        f.skip();
        f.parse(WorkspaceName::parse)
    })?;
    let workspace_name = name.ok_or_else(|| Error::Inconsistent { table: "run", row: run.seq.to_string() })?;
    Ok(Leased { run, workspace_name })
}

/// Tells whoever waits for this run.
pub(super) fn tell(unit: &Unit<'_>, run: &RunRow) {
    unit.hint(Hint::RunChanged { workspace: run.workspace, run: run.id.clone() });
    if run.status == RunStatus::Queued {
        unit.hint(Hint::RunQueued { compute: run.compute.clone() });
    }
}

pub(super) fn millis(time: Option<Timestamp>) -> Option<i64> {
    time.map(Timestamp::millis)
}
