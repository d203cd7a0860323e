//! SQL of sessions: signs of life, silence, and the reads a launcher reports.

use kluis_core::access::Epoch;
use kluis_core::clock::Timestamp;
use kluis_core::id::{PrincipalId, SessionId, WorkspaceId};
use kluis_core::name::{PrincipalName, RunId, WorkspaceName};
use kluis_core::run::{RunEvent, RunStatus};
use rusqlite::Connection;

use super::Unit;
use super::admit::Session;
use super::run_row::{self, by_id, by_seq, select_run};
use super::sql::{self, Fields};
use crate::attempts::{HeartbeatState, Leased, Listening, RunSilent, SessionHeartbeat, SessionRow, SessionsDrain};
use crate::runs::RunRow;
use crate::{Error, Hint};

pub(crate) fn session_get(c: &Connection, id: SessionId) -> Result<Option<SessionRow>, Error> {
    sql::one(
        c,
        "SELECT s.id, r.workspace, w.name, r.id, s.attempt, s.node, a.nodes, s.public_key,
                s.alive = 1 AND r.attempt = s.attempt, r.status, r.cancel_requested, r.submitted_by, p.name, p.epoch,
                r.secrets, s.reads_received, r.notices, r.reason
         FROM session s JOIN run r ON r.seq = s.run JOIN workspace w ON w.id = r.workspace
         JOIN attempt a ON a.run = s.run AND a.attempt = s.attempt JOIN principal p ON p.id = r.submitted_by
         WHERE s.id = ?1",
        [id.as_bytes()],
        |row| {
            let f = Fields::new(row, "session");
            Ok(SessionRow {
                id: f.id(SessionId::from_bytes)?,
                workspace: f.id(WorkspaceId::from_bytes)?,
                workspace_name: f.parse(WorkspaceName::parse)?,
                run: f.parse(RunId::parse)?,
                attempt: f.number()?,
                node: f.number()?,
                nodes: f.number()?,
                public_key: f.get()?,
                alive: f.flag()?,
                status: f.word(RunStatus::parse)?,
                cancel_requested: f.flag()?,
                submitted_by: f.id(PrincipalId::from_bytes)?,
                submitter: f.parse(PrincipalName::parse)?,
                epoch: Epoch(f.number()?),
                secrets: f.optional_json()?,
                reads_received: f.number()?,
                notices: f.number()?,
                reason: f.get()?,
            })
        },
    )
}

/// Moves the session's mark from the last read known to the last read sent.
pub(super) fn receive_reads(unit: &Unit<'_>, session: &Session, reads: (u64, u64)) -> Result<(), Error> {
    let (known, sent) = reads;
    let moved = sql::run(
        unit,
        "UPDATE session SET reads_received = max(?3, reads_received) WHERE id = ?1 AND reads_received = ?2",
        (session.id.as_bytes(), sql::int(known), sql::int(sent)),
    )?;
    if moved == 0 { Err(Error::Moved("the reads received")) } else { Ok(()) }
}

pub(crate) fn session_heartbeat(unit: &Unit<'_>, beat: SessionHeartbeat) -> Result<HeartbeatState, Error> {
    let session = unit.reporter()?;
    if session.status != beat.seen {
        return Err(Error::Moved("the run's status"));
    }
    receive_reads(unit, &session, beat.reads)?;
    let status =
        if session.status.is_terminal() { session.status } else { session.status.advance(RunEvent::Contact)? };
    let phase = beat.phase.filter(|_| !status.is_terminal());
    let changed = sql::exists(
        unit,
        "SELECT 1 FROM run WHERE seq = ?1 AND (status <> ?2 OR phase <> coalesce(?3, phase))",
        (session.run, status.as_str(), &phase),
    )?;
    let state = sql::one(
        unit,
        "UPDATE run SET last_contact = ?2, silent_since = ?2, status = ?3, phase = coalesce(?4, phase),
                        revision = revision + ?5
         WHERE seq = ?1 RETURNING seq, cancel_requested, reason, notices",
        (session.run, beat.now.millis(), status.as_str(), phase, changed),
        |row| {
            let f = Fields::new(row, "run");
            f.skip();
            let (cancel_requested, reason) = (f.flag()?, f.get::<Option<String>>()?);
            Ok(HeartbeatState {
                status,
                cancel_requested,
                reason: reason.filter(|_| status.is_terminal()),
                reads_received: beat.reads.0.max(beat.reads.1),
                notices: f.number()?,
            })
        },
    )?;
    if changed {
        unit.hint(Hint::RunChanged { workspace: session.workspace, run: session.run_id });
    }
    state.ok_or(Error::NotFound)
}

pub(crate) fn runs_silent(
    c: &Connection,
    status: RunStatus,
    before: Timestamp,
    limit: u32,
) -> Result<sql::Page<Leased, i64>, Error> {
    sql::page(
        c,
        select_run!(
            "WHERE r.status = ?1 AND r.status IN ('running', 'unresponsive') AND r.silent_since < ?2
               AND r.parent IS NULL
             ORDER BY r.silent_since LIMIT ?3"
        ),
        (status.as_str(), before.millis(), i64::from(limit)),
        limit,
        |row| row.get(0),
        |row| run_row::with_workspace(c, run_row::run(row)?),
    )
}

pub(crate) fn run_silent(unit: &Unit<'_>, silent: RunSilent) -> Result<RunRow, Error> {
    let run = by_id(unit, silent.workspace, silent.run.key())?.ok_or(Error::NotFound)?;
    if run.last_contact != Some(silent.last_contact) {
        return Err(Error::Moved("the run's last sign of life"));
    }
    let status = run.status.advance(RunEvent::Silent)?;
    let seq = sql::int(run.seq);
    sql::run(unit, "UPDATE run SET status = ?2, revision = revision + 1 WHERE seq = ?1", (seq, status.as_str()))?;
    let run = by_seq(unit, seq)?;
    run_row::tell(unit, &run);
    Ok(run)
}

pub(crate) fn listening_until(c: &Connection) -> Result<Option<Timestamp>, Error> {
    sql::one(c, "SELECT one, until FROM listening WHERE one = 1", [], |row| {
        let f = Fields::new(row, "listening");
        f.skip();
        f.time()
    })
}

pub(crate) fn listening_note(unit: &Unit<'_>, listening: Listening) -> Result<(), Error> {
    sql::run(
        unit,
        "INSERT INTO listening (one, until) VALUES (1, ?1) ON CONFLICT (one) DO UPDATE SET until = excluded.until",
        [listening.until.millis()],
    )?;
    if listening.deaf_millis != 0 {
        sql::run(
            unit,
            "UPDATE run SET silent_since = silent_since + ?1
             WHERE status IN ('running', 'unresponsive') AND silent_since IS NOT NULL",
            [listening.deaf_millis],
        )?;
    }
    Ok(())
}

pub(crate) fn drain(unit: &Unit<'_>, drain: SessionsDrain) -> Result<u64, Error> {
    let closed = sql::run(
        unit,
        "UPDATE session SET alive = 0
         WHERE alive = 1 AND run IN (
             SELECT r.seq FROM session s JOIN run r ON r.seq = s.run WHERE s.alive = 1 AND r.ended < ?1)",
        [drain.ended_before.millis()],
    )?;
    Ok(closed as u64)
}
