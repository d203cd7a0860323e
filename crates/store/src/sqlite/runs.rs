//! SQL of experiments and runs: submitting, listing, tagging. What ends a run is in `runs_end`.

use std::collections::BTreeMap;

use kluis_core::api::runs::SubmitRun;
use kluis_core::clock::Timestamp;
use kluis_core::id::{PrincipalId, WorkspaceId};
use kluis_core::name::{ComputeName, ExperimentName, RunId};
use kluis_core::run::RunStatus;
use kluis_core::sealed::Mac;
use rusqlite::Connection;

use super::run_row::{self, by_id, by_seq, select_run};
use super::sql::{self, Fields};
use super::usage::{self, Made};
use super::{Unit, workspaces};
use crate::runs::{ChildInsert, ExperimentRow, RunChange, RunFilter, RunInsert, RunInserted, RunRow};
use crate::{After, Authenticated, Error};

const ID_TAKEN: &str = "the run's id is taken by another run";
const TOO_MANY: &str = "too many runs are waiting or running; wait for some to end, or cancel some";

pub(crate) fn run_insert(unit: &Unit<'_>, new: Authenticated<RunInsert>) -> Result<RunInserted, Error> {
    let Authenticated { row: insert, mac } = new;
    workspaces::require(unit, insert.workspace)?;
    if let Some(existing) = by_id(unit, insert.workspace, insert.id.key())? {
        let same = sql::exists(
            unit,
            "SELECT 1 FROM run WHERE seq = ?1 AND request_hash = ?2 AND submitted_by = ?3",
            (sql::int(existing.seq), insert.request_hash, insert.submitted_by.as_bytes()),
        )?;
        if !same {
            return Err(Error::Conflict(ID_TAKEN));
        }
        unit.record_instead(Vec::new());
        return Ok(RunInserted { run: existing, existed: true });
    }
    if workspaces::revision(unit, insert.workspace)? != insert.workspace_revision {
        return Err(Error::Moved("the workspace"));
    }
    require_room(unit, &insert)?;
    let compute = &insert.spec.compute;
    if !compute.is_local() && !sql::exists(unit, "SELECT 1 FROM compute WHERE name_key = ?1", [compute.key()])? {
        return Err(Error::Moved("the compute target"));
    }
    let place = sql::one(
        unit,
        "INSERT INTO experiment (workspace, name, name_key, created, last_number, runs) VALUES (?1, ?2, ?3, ?4, 1, 1)
         ON CONFLICT (workspace, name_key) DO UPDATE SET last_number = last_number + 1, runs = runs + 1
         RETURNING seq, last_number",
        (
            insert.workspace.as_bytes(),
            insert.spec.experiment.as_str(),
            insert.spec.experiment.key(),
            insert.now.millis(),
        ),
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let new = NewRun {
        workspace: insert.workspace,
        id: &insert.id,
        place: place.expect("the statement returns the row it wrote"),
        parent: None,
        status: RunStatus::Queued,
        submitted_by: insert.submitted_by,
        compute,
        spec: Some(&insert.spec),
        request_hash: Some(insert.request_hash),
        mac: Some(mac),
        max_attempts: insert.max_attempts,
        attempt: 0,
        created: insert.now,
        phase: "queued",
        tags: &insert.spec.tags,
        display_name: None,
    };
    let run = new.insert(unit)?;
    Ok(RunInserted { run, existed: false })
}

/// A child is born running, under its parent's submitter, compute target and attempt.
pub(crate) fn child_insert(unit: &Unit<'_>, insert: ChildInsert) -> Result<RunInserted, Error> {
    let session = unit.reporter()?;
    if session.status.is_terminal() {
        return Err(Error::RunEnded { status: session.status });
    }
    if let Some(existing) = by_id(unit, session.workspace, insert.id.key())? {
        if existing.parent.as_ref() != Some(&session.run_id) {
            return Err(Error::Conflict(ID_TAKEN));
        }
        unit.record_instead(Vec::new());
        return Ok(RunInserted { run: existing, existed: true });
    }
    let made = Made { children: 1, bytes: text_bytes(&insert.tags), ..Made::default() };
    usage::count(unit, session.run, made, insert.limits)?;
    let parent = by_seq(unit, session.run)?;
    let place = sql::one(
        unit,
        "UPDATE experiment SET last_number = last_number + 1
         WHERE seq = (SELECT experiment FROM run WHERE seq = ?1) RETURNING seq, last_number",
        [session.run],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let new = NewRun {
        workspace: session.workspace,
        id: &insert.id,
        place: place.expect("a run's experiment exists: a foreign key says so"),
        parent: Some(session.run),
        status: RunStatus::Running,
        submitted_by: parent.submitted_by,
        compute: &parent.compute,
        spec: None,
        request_hash: None,
        mac: None,
        max_attempts: 1,
        attempt: session.attempt,
        created: insert.now,
        phase: "running",
        tags: &insert.tags,
        display_name: insert.display_name.as_deref(),
    };
    let run = new.insert(unit)?;
    Ok(RunInserted { run, existed: false })
}

fn text_bytes(texts: &BTreeMap<String, String>) -> u64 {
    texts.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum()
}

struct NewRun<'a> {
    workspace: WorkspaceId,
    id: &'a RunId,
    /// The experiment's row and the run's number in it.
    place: (i64, i64),
    parent: Option<i64>,
    status: RunStatus,
    submitted_by: PrincipalId,
    compute: &'a ComputeName,
    spec: Option<&'a SubmitRun>,
    request_hash: Option<[u8; 32]>,
    mac: Option<Mac>,
    max_attempts: u32,
    attempt: u32,
    created: Timestamp,
    phase: &'a str,
    tags: &'a BTreeMap<String, String>,
    display_name: Option<&'a str>,
}

impl NewRun<'_> {
    fn insert(self, unit: &Unit<'_>) -> Result<RunRow, Error> {
        let started = (self.status == RunStatus::Running).then_some(self.created);
        sql::run(
            unit,
            "INSERT INTO run (workspace, id, id_key, experiment, number, parent, status, cancel_requested, submitted_by,
                              compute, compute_key, secrets, request_hash, max_attempts, retries, attempt,
                              created, started, phase, tags, properties, display_name, leaks, notices, revision, mac,
                              spec)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0, ?8, ?9, ?10, ?11, ?12, ?13, 0, ?14, ?15, ?16, ?17, ?18, '{}', ?19,
                     '[]', 0, 1, ?20, ?21)",
            rusqlite::params![
                self.workspace.as_bytes(),
                self.id.as_str(),
                self.id.key(),
                self.place.0,
                self.place.1,
                self.parent,
                self.status.as_str(),
                self.submitted_by.as_bytes(),
                self.compute.as_str(),
                self.compute.key(),
                self.spec.and_then(|spec| spec.secrets.as_ref()).map(sql::json),
                self.request_hash,
                self.max_attempts,
                self.attempt,
                self.created.millis(),
                run_row::millis(started),
                self.phase,
                sql::json(self.tags),
                self.display_name,
                self.mac.map(|mac| mac.0),
                self.spec.map(sql::json),
            ],
        )?;
        let run = by_seq(unit, unit.last_insert_rowid())?;
        run_row::tell(unit, &run);
        Ok(run)
    }
}

pub(crate) fn run_get(c: &Connection, workspace: WorkspaceId, key: &str) -> Result<Option<RunRow>, Error> {
    by_id(c, workspace, key)
}

pub(crate) fn run_list(
    c: &Connection,
    workspace: WorkspaceId,
    filter: &RunFilter,
    page: &After<u64>,
) -> Result<sql::Page<RunRow, u64>, Error> {
    workspaces::require(c, workspace)?;
    let statement = match (&filter.parent, &filter.experiment) {
        (Some(_), _) => {
            select_run!(
                "WHERE r.parent = (SELECT seq FROM run WHERE workspace = ?1 AND id_key = ?3)
                   AND (?4 IS NULL OR e.name_key = ?4) AND (?5 IS NULL OR r.status = ?5)
                   AND r.workspace = ?1 AND r.seq < ?2
                 ORDER BY r.seq DESC LIMIT ?6"
            )
        }
        (None, Some(_)) => {
            select_run!(
                "WHERE r.experiment = (SELECT seq FROM experiment WHERE workspace = ?1 AND name_key = ?4)
                   AND r.parent IS NULL AND ?3 IS NULL AND (?5 IS NULL OR r.status = ?5)
                   AND r.workspace = ?1 AND r.seq < ?2
                 ORDER BY r.seq DESC LIMIT ?6"
            )
        }
        (None, None) => {
            select_run!(
                "WHERE r.workspace = ?1 AND r.parent IS NULL AND ?3 IS NULL AND ?4 IS NULL
                   AND (?5 IS NULL OR r.status = ?5) AND r.seq < ?2
                 ORDER BY r.seq DESC LIMIT ?6"
            )
        }
    };
    sql::page(
        c,
        statement,
        (
            workspace.as_bytes(),
            page.after.map_or(i64::MAX, sql::int),
            filter.parent.as_ref().map(RunId::key),
            filter.experiment.as_ref().map(ExperimentName::key),
            filter.status.map(RunStatus::as_str),
            sql::more(page),
        ),
        page.limit,
        |row| row.get::<_, i64>(0).map(|seq| seq as u64),
        run_row::run,
    )
}

/// Neither the submitter nor the workspace has too many runs that wait or run. Counted only as far as it matters.
fn require_room(c: &Connection, insert: &RunInsert) -> Result<(), Error> {
    let full = |statement, whose: &[u8; 16], limit: u64| {
        let counted = sql::one(c, statement, (whose, sql::int(limit)), |row| Fields::new(row, "run").number::<u64>())?;
        Ok::<_, Error>(counted.unwrap_or(0) >= limit)
    };
    let of_submitter = "SELECT count(*) FROM (
         SELECT 1 FROM run WHERE submitted_by = ?1 AND status IN ('queued', 'starting', 'running', 'unresponsive')
         AND parent IS NULL LIMIT ?2)";
    let of_workspace = "SELECT count(*) FROM (
         SELECT 1 FROM run WHERE workspace = ?1 AND status IN ('queued', 'starting', 'running', 'unresponsive')
         AND parent IS NULL LIMIT ?2)";
    if full(of_submitter, insert.submitted_by.as_bytes(), insert.limits.of_submitter)?
        || full(of_workspace, insert.workspace.as_bytes(), insert.limits.of_workspace)?
    {
        return Err(Error::Conflict(TOO_MANY));
    }
    Ok(())
}

pub(crate) fn experiment_list(
    c: &Connection,
    workspace: WorkspaceId,
    page: &After<String>,
) -> Result<sql::Page<ExperimentRow, String>, Error> {
    workspaces::require(c, workspace)?;
    sql::page(
        c,
        "SELECT seq, name, created, runs, name_key FROM experiment
         WHERE workspace = ?1 AND name_key > ?2 ORDER BY name_key LIMIT ?3",
        (workspace.as_bytes(), page.after.as_deref().unwrap_or_default(), sql::more(page)),
        page.limit,
        |row| row.get(4),
        experiment,
    )
}

pub(crate) fn experiment_get(
    c: &Connection,
    workspace: WorkspaceId,
    name_key: &str,
) -> Result<Option<ExperimentRow>, Error> {
    workspaces::require(c, workspace)?;
    sql::one(
        c,
        "SELECT seq, name, created, runs FROM experiment WHERE workspace = ?1 AND name_key = ?2",
        (workspace.as_bytes(), name_key),
        experiment,
    )
}

fn experiment(row: &rusqlite::Row<'_>) -> Result<ExperimentRow, Error> {
    let f = Fields::new(row, "experiment");
    f.skip();
    Ok(ExperimentRow { name: f.parse(ExperimentName::parse)?, created: f.time()?, runs: f.number()? })
}

pub(crate) fn run_change(unit: &Unit<'_>, change: RunChange) -> Result<RunRow, Error> {
    workspaces::require(unit, change.workspace)?;
    let mut run = by_id(unit, change.workspace, change.run.key())?.ok_or(Error::NotFound)?;
    if let Some(session) = unit.reporter_if_any() {
        let own = run.seq == session.run as u64 || run.parent.as_ref() == Some(&session.run_id);
        if session.workspace != change.workspace || !own {
            return Err(Error::NotFound);
        }
        let bytes = text_bytes(&change.change.tags) + text_bytes(&change.change.properties);
        usage::count(unit, session.run, Made { changes: 1, bytes, ..Made::default() }, change.limits)?;
    }
    let edit = change.change;
    for tag in &edit.remove_tags {
        run.tags.remove(tag);
    }
    run.tags.extend(edit.tags);
    for (key, value) in edit.properties {
        match run.properties.get(&key) {
            Some(existing) if *existing == value => {}
            Some(_) => return Err(Error::Conflict("a property that is set already stays as it is")),
            None => drop(run.properties.insert(key, value)),
        }
    }
    if run.tags.len() > change.limit || run.properties.len() > change.limit {
        return Err(Error::Conflict("the run would have too many tags or properties"));
    }
    run.display_name = edit.display_name.or(run.display_name);
    sql::run(
        unit,
        "UPDATE run SET tags = ?2, properties = ?3, display_name = ?4, revision = revision + 1 WHERE seq = ?1",
        (sql::int(run.seq), sql::json(&run.tags), sql::json(&run.properties), &run.display_name),
    )?;
    run.revision += 1;
    run_row::tell(unit, &run);
    Ok(run)
}
