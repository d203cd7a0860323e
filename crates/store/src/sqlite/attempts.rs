//! SQL of leases and of an agent's word about them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use kluis_core::clock::Timestamp;
use kluis_core::id::{PrincipalId, WorkspaceId};
use kluis_core::name::{ComputeName, RunId, WorkspaceName};
use kluis_core::run::{RunEvent, RunStatus, TransitionError};
use rusqlite::{Connection, Row};

use super::run_row::{self, by_seq};
use super::runs_end::{Sessions, current_attempt, release};
use super::sql::{self, Fields};
use super::{Unit, identity};
use crate::attempts::{AttemptConfirm, AttemptRow, LeaseFilter, LeaseTake, Leased};
use crate::{After, Error, Listed};

/// The first run of the queue that may be leased. One that can not be read must not hold up the queue behind it, nor must
/// those of somebody who may no longer submit runs: they are passed over.
pub(crate) fn lease_next(c: &Connection, filter: &LeaseFilter) -> Result<sql::Page<Leased, i64>, Error> {
    let (workspace, run) = filter.only.as_ref().map(|(w, r)| (w.as_bytes(), r.key())).unzip();
    let mut statement = c.prepare_cached(
        "SELECT r.seq, r.submitted_by, r.workspace FROM run r JOIN workspace w ON w.id = r.workspace
         WHERE r.compute_key = ?1 AND r.status = 'queued' AND w.deleted IS NULL AND r.seq > ?5
           AND (?2 IS NULL OR r.submitted_by = ?2) AND (?3 IS NULL OR (r.workspace = ?3 AND r.id_key = ?4))
         ORDER BY r.seq",
    )?;
    let mut rows = statement.query((
        filter.compute.key(),
        sql::maybe(filter.submitter.as_ref().map(PrincipalId::as_bytes)),
        sql::maybe(workspace),
        run,
        sql::int(filter.after),
    ))?;
    let (mut may, mut skipped) = (HashMap::new(), Vec::new());
    while let Some(row) = rows.next()? {
        match candidate(c, row, &mut may) {
            Ok(None) => {}
            Ok(Some(leased)) => return Ok((Listed { items: vec![leased], next: None }, skipped)),
            Err(error @ Error::Inconsistent { .. }) => skipped.push(error),
            Err(error) => return Err(error),
        }
    }
    Ok((Listed { items: Vec::new(), next: None }, skipped))
}

/// A queued run, if its submitter may submit runs in its workspace. Each submitter is looked up once.
fn candidate(
    c: &Connection,
    row: &Row<'_>,
    may: &mut HashMap<(PrincipalId, WorkspaceId), bool>,
) -> Result<Option<Leased>, Error> {
    let f = Fields::new(row, "run");
    let seq = f.get()?;
    let (submitter, workspace) = (f.id(PrincipalId::from_bytes)?, f.id(WorkspaceId::from_bytes)?);
    let may = match may.entry((submitter, workspace)) {
        Entry::Occupied(known) => *known.get(),
        Entry::Vacant(new) => *new.insert(identity::may_submit(c, submitter, workspace)?),
    };
    if may { run_row::with_workspace(c, by_seq(c, seq)?).map(Some) } else { Ok(None) }
}

pub(crate) fn lease_take(unit: &Unit<'_>, take: LeaseTake) -> Result<Leased, Error> {
    let status = RunStatus::Queued.advance(RunEvent::Leased)?;
    let taken = sql::one(
        unit,
        "UPDATE run SET status = ?4, attempt = ?3, phase = 'handed over', reason = NULL, engine_job = NULL,
                        revision = revision + 1
         WHERE workspace = ?1 AND id_key = ?2 AND status = 'queued' AND attempt = ?3 - 1
         RETURNING seq, compute_key, submitted_by",
        (take.workspace.as_bytes(), take.run.key(), take.attempt, status.as_str()),
        |row| {
            let f = Fields::new(row, "run");
            Ok((f.get::<i64>()?, f.get::<String>()?, f.id(PrincipalId::from_bytes)?))
        },
    )?;
    let Some((run, compute_key, submitter)) = taken else { return Err(Error::Moved("the queue")) };
    if !identity::may_submit(unit, submitter, take.workspace)? {
        return Err(Error::Moved("the submitter's rights"));
    }
    release(unit, run, Sessions::Kill)?;
    sql::run(
        unit,
        "INSERT INTO attempt (run, attempt, compute_key, agent, nodes, leased, expires)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        (
            run,
            take.attempt,
            compute_key,
            take.agent.as_bytes(),
            take.tickets.len() as i64,
            take.now.millis(),
            take.expires.millis(),
        ),
    )?;
    for (node, ticket) in take.tickets.iter().enumerate() {
        sql::run(
            unit,
            "INSERT INTO ticket (id, run, attempt, node, hash, void) VALUES (?1, ?2, ?3, ?4, ?5, 0)",
            (ticket.id.as_bytes(), run, take.attempt, node as i64, ticket.hash.0),
        )?;
    }
    let run = by_seq(unit, run)?;
    run_row::tell(unit, &run);
    run_row::with_workspace(unit, run)
}

pub(crate) fn attempt_confirm(unit: &Unit<'_>, confirm: AttemptConfirm) -> Result<(), Error> {
    let place = (&confirm.workspace, confirm.run.key(), confirm.attempt, confirm.compute.key());
    let run = current_attempt(unit, place)?;
    let seq = sql::int(run.seq);
    let confirmed = sql::one(
        unit,
        "SELECT run, confirmed, handle FROM attempt WHERE run = ?1 AND attempt = ?2",
        (seq, confirm.attempt),
        |row| {
            let f = Fields::new(row, "attempt");
            f.skip();
            Ok((f.optional_time()?, f.get::<Option<String>>()?))
        },
    )?;
    match confirmed {
        Some((Some(_), Some(handle))) if handle == confirm.handle => {
            unit.record_instead(Vec::new());
            return Ok(());
        }
        Some((Some(_), _)) => return Err(Error::Conflict("the attempt was confirmed with another handle")),
        Some((None, _)) => {}
        None => return Err(Error::Inconsistent { table: "run", row: run.seq.to_string() }),
    }
    if run.status != RunStatus::Starting {
        return Err(TransitionError { from: run.status, event: RunEvent::Redeemed }.into());
    }
    sql::run(
        unit,
        "UPDATE attempt SET confirmed = ?3, handle = ?4 WHERE run = ?1 AND attempt = ?2",
        (seq, confirm.attempt, confirm.now.millis(), confirm.handle),
    )?;
    sql::run(
        unit,
        "UPDATE run SET engine_job = ?2, revision = revision + 1 WHERE seq = ?1",
        (seq, confirm.engine_job),
    )?;
    run_row::tell(unit, &run);
    Ok(())
}

/// Columns: run, workspace, its name, id, attempt, compute, agent, leased, expires, confirmed, handle, ended, status, the
/// run's attempt, max_attempts, retries, cancel_requested, last_contact.
fn attempt(row: &Row<'_>) -> Result<AttemptRow, Error> {
    let f = Fields::new(row, "attempt");
    f.skip();
    Ok(AttemptRow {
        workspace: f.id(WorkspaceId::from_bytes)?,
        workspace_name: f.parse(WorkspaceName::parse)?,
        run: f.parse(RunId::parse)?,
        attempt: f.number()?,
        compute: f.parse(ComputeName::parse)?,
        agent: f.id(PrincipalId::from_bytes)?,
        leased: f.time()?,
        expires: f.time()?,
        confirmed: f.optional_time()?,
        handle: f.get()?,
        ended: f.optional_time()?,
        status: f.word(RunStatus::parse)?,
        current: f.number()?,
        max_attempts: f.number()?,
        retries: f.number()?,
        cancel_requested: f.flag()?,
        last_contact: f.optional_time()?,
    })
}

/// Selects attempts as [`attempt`] reads them; what follows the tables is given.
macro_rules! select_attempt {
    ($rest:literal) => {
        concat!(
            "SELECT a.run, r.workspace, w.name, r.id, a.attempt, r.compute, a.agent, a.leased, a.expires, a.confirmed,
                    a.handle, a.ended, r.status, r.attempt, r.max_attempts, r.retries, r.cancel_requested,
                    r.last_contact
             FROM attempt a JOIN run r ON r.seq = a.run JOIN workspace w ON w.id = r.workspace ",
            $rest
        )
    };
}

pub(crate) fn attempt_get(
    c: &Connection,
    workspace: WorkspaceId,
    run_key: &str,
    number: u32,
) -> Result<Option<AttemptRow>, Error> {
    sql::one(
        c,
        select_attempt!("WHERE r.workspace = ?1 AND r.id_key = ?2 AND a.attempt = ?3"),
        (workspace.as_bytes(), run_key, number),
        attempt,
    )
}

pub(crate) fn attempts_active(
    c: &Connection,
    compute_key: &str,
    submitter: Option<PrincipalId>,
    page: &After<u64>,
) -> Result<sql::Page<AttemptRow, u64>, Error> {
    sql::page(
        c,
        select_attempt!(
            "WHERE a.compute_key = ?1 AND a.ended IS NULL AND a.run > ?2 AND (?3 IS NULL OR r.submitted_by = ?3)
             ORDER BY a.run LIMIT ?4"
        ),
        (
            compute_key,
            page.after.map_or(0, sql::int),
            sql::maybe(submitter.as_ref().map(PrincipalId::as_bytes)),
            sql::more(page),
        ),
        page.limit,
        |row| row.get::<_, i64>(0).map(|run| run as u64),
        attempt,
    )
}

pub(crate) fn attempts_overdue(
    c: &Connection,
    now: Timestamp,
    confirmed_before: Timestamp,
    limit: u32,
) -> Result<sql::Page<AttemptRow, i64>, Error> {
    sql::page(
        c,
        select_attempt!(
            "WHERE a.ended IS NULL AND r.status = 'starting' AND r.attempt = a.attempt
               AND ((a.confirmed IS NULL AND a.expires <= ?1) OR a.confirmed < ?2)
             ORDER BY a.run LIMIT ?3"
        ),
        (now.millis(), confirmed_before.millis(), i64::from(limit)),
        limit,
        |row| row.get(0),
        attempt,
    )
}
