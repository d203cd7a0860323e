//! SQL of what ends a run or an attempt. Whatever does also lets go of what the attempt held, here and nowhere else:
//! tickets are void, sessions dead, pins released.

use kluis_core::clock::Timestamp;
use kluis_core::id::{PrincipalId, WorkspaceId};
use kluis_core::run::{Blame, RunEvent, RunStatus, TransitionError};
use rusqlite::Connection;

use super::run_row::{self, blame_text, by_id, by_seq};
use super::sql::{self, Fields};
use super::{Unit, identity, sessions, workspaces};
use crate::Error;
use crate::attempts::{AttemptReport, SessionEnd};
use crate::runs::{ChildEnd, RunCancel, RunRow};

/// What becomes of the run's sessions.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Sessions {
    /// They may still report: the run was canceled, its launcher has yet to say how it ended.
    Drain,
    /// They are over.
    Kill,
}

/// Lets go of everything the run's attempts hold.
pub(super) fn release(unit: &Unit<'_>, run: i64, sessions: Sessions) -> Result<(), Error> {
    sql::run(unit, "UPDATE ticket SET void = 1 WHERE run = ?1 AND void = 0", [run])?;
    sql::run(unit, "UPDATE pin SET live = 0 WHERE run = ?1 AND live = 1", [run])?;
    if sessions == Sessions::Kill {
        sql::run(unit, "UPDATE session SET alive = 0 WHERE run = ?1 AND alive = 1", [run])?;
    }
    Ok(())
}

/// Children that still run end as their parent does.
pub(super) fn end_children(unit: &Unit<'_>, run: i64, event: RunEvent, now: Timestamp) -> Result<(), Error> {
    let event = if event == RunEvent::Retry { RunEvent::Lost } else { event };
    let status = RunStatus::Running.advance(event)?;
    sql::run(
        unit,
        "UPDATE run SET status = ?2, ended = ?3, phase = 'ended', reason = 'its parent ended', revision = revision + 1
         WHERE parent = ?1 AND status = 'running'",
        (run, status.as_str(), now.millis()),
    )?;
    Ok(())
}

fn end_attempt(unit: &Unit<'_>, run: i64, attempt: u32, now: Timestamp) -> Result<(), Error> {
    sql::run(
        unit,
        "UPDATE attempt SET ended = ?3 WHERE run = ?1 AND attempt = ?2 AND ended IS NULL",
        (run, attempt, now.millis()),
    )?;
    Ok(())
}

/// The run's row after the change, told to whoever waits.
fn told(unit: &Unit<'_>, run: i64) -> Result<RunRow, Error> {
    let run = by_seq(unit, run)?;
    run_row::tell(unit, &run);
    Ok(run)
}

pub(crate) fn run_cancel(unit: &Unit<'_>, cancel: RunCancel) -> Result<RunRow, Error> {
    workspaces::require(unit, cancel.workspace)?;
    let run = by_id(unit, cancel.workspace, cancel.run.key())?.ok_or(Error::NotFound)?;
    let status = run.status.advance(RunEvent::Cancel)?;
    let seq = sql::int(run.seq);
    end_by_request(unit, seq, status, &cancel.reason, cancel.now)?;
    told(unit, seq)
}

/// No read is answered from now on. The launcher is told, and may still say how the process ended.
fn end_by_request(unit: &Unit<'_>, run: i64, status: RunStatus, reason: &str, now: Timestamp) -> Result<(), Error> {
    sql::run(
        unit,
        "UPDATE run SET status = ?2, cancel_requested = 1, ended = ?3, blame = ?4, reason = ?5, phase = 'ended',
                        notices = notices + 1, revision = revision + 1
         WHERE seq = ?1",
        (run, status.as_str(), now.millis(), blame_text(Blame::User), reason),
    )?;
    release(unit, run, Sessions::Drain)?;
    end_children(unit, run, RunEvent::Cancel, now)
}

/// Ends what a principal has started in workspaces in which it may not submit runs any more. Access that comes back
/// brings none of it back. What waits in the queue stays there, and is not leased while that is so.
pub(super) fn end_disallowed(unit: &Unit<'_>, submitter: PrincipalId) -> Result<(), Error> {
    let live = sql::all(
        unit,
        "SELECT seq, workspace, status, coalesce(last_contact, created) FROM run
         WHERE submitted_by = ?1 AND status IN ('starting', 'running', 'unresponsive') AND parent IS NULL",
        [submitter.as_bytes()],
        |row| {
            let f = Fields::new(row, "run");
            Ok((f.get::<i64>()?, f.id(WorkspaceId::from_bytes)?, f.word(RunStatus::parse)?, f.time()?))
        },
    )?;
    for (seq, workspace, status, seen) in live {
        // A grant that does not read gives nothing; it must not keep anybody from taking another one.
        if matches!(identity::may_submit(unit, submitter, workspace), Ok(true)) {
            continue;
        }
        let status = status.advance(RunEvent::Cancel)?;
        end_by_request(
            unit,
            seq,
            status,
            "its submitter may not submit runs here any more",
            unit.time().unwrap_or(seen),
        )?;
        match by_seq(unit, seq) {
            Ok(run) => run_row::tell(unit, &run),
            Err(Error::Inconsistent { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

pub(crate) fn child_end(unit: &Unit<'_>, end: ChildEnd) -> Result<RunRow, Error> {
    let session = unit.reporter()?;
    let child = by_id(unit, session.workspace, end.run.key())?
        .filter(|run| run.parent.as_ref() == Some(&session.run_id))
        .ok_or(Error::NotFound)?;
    if child.status == end.status && child.status.is_terminal() {
        unit.record_instead(Vec::new());
        return Ok(child);
    }
    let event = match end.status {
        RunStatus::Completed => RunEvent::Succeeded,
        RunStatus::Failed => RunEvent::Failed,
        RunStatus::Canceled => RunEvent::Cancel,
        _ => return Err(Error::Conflict("a child ends completed, failed or canceled")),
    };
    let status = child.status.advance(event)?;
    let seq = sql::int(child.seq);
    sql::run(
        unit,
        "UPDATE run SET status = ?2, ended = ?3, reason = ?4, phase = 'ended', revision = revision + 1 WHERE seq = ?1",
        (seq, status.as_str(), end.now.millis(), end.reason),
    )?;
    told(unit, seq)
}

/// A canceled run stays canceled: its launcher only adds how its process ended.
pub(crate) fn session_end(unit: &Unit<'_>, end: SessionEnd) -> Result<RunRow, Error> {
    let session = unit.reporter()?;
    if session.status != end.seen {
        return Err(Error::Moved("the run's status"));
    }
    if !matches!(end.event, RunEvent::Succeeded | RunEvent::Failed | RunEvent::Lost) {
        return Err(TransitionError { from: session.status, event: end.event }.into());
    }
    sessions::receive_reads(unit, &session, end.reads)?;
    let ended = session.status.is_terminal();
    let status = if ended { session.status } else { session.status.advance(end.event)? };
    sql::run(
        unit,
        "UPDATE run SET status = ?2, ended = coalesce(ended, ?3), last_contact = ?3, exit = ?4,
                        blame = coalesce(blame, ?5), reason = coalesce(reason, ?6), leaks = ?7, phase = 'ended',
                        notices = notices + 1, revision = revision + 1
         WHERE seq = ?1",
        (
            session.run,
            status.as_str(),
            end.now.millis(),
            end.exit.as_ref().map(sql::json),
            end.blame.map(blame_text),
            end.reason,
            sql::json(&end.leaks),
        ),
    )?;
    release(unit, session.run, Sessions::Kill)?;
    end_attempt(unit, session.run, session.attempt, end.now)?;
    if !ended {
        end_children(unit, session.run, end.event, end.now)?;
    }
    told(unit, session.run)
}

/// The current attempt of a run on a compute target: the run's row.
pub(super) fn current_attempt(c: &Connection, report: (&WorkspaceId, &str, u32, &str)) -> Result<RunRow, Error> {
    let (workspace, run_key, attempt, compute_key) = report;
    let run = by_id(c, *workspace, run_key)?.ok_or(Error::NotFound)?;
    if run.attempt == attempt && attempt > 0 && run.compute.key() == compute_key {
        Ok(run)
    } else {
        Err(Error::NotFound)
    }
}

pub(crate) fn attempt_report(unit: &Unit<'_>, report: AttemptReport) -> Result<RunRow, Error> {
    let place = (&report.workspace, report.run.key(), report.attempt, report.compute.key());
    let run = current_attempt(unit, place)?;
    let seq = sql::int(run.seq);
    if run.status != report.seen {
        return Err(Error::Moved("the run's status"));
    }
    let Some(event) = report.event else {
        if !run.status.is_terminal() {
            return Err(Error::Conflict("the run has not ended"));
        }
        release(unit, seq, Sessions::Kill)?;
        end_attempt(unit, seq, report.attempt, report.now)?;
        return told(unit, seq);
    };
    if !matches!(event, RunEvent::LeaseReturned | RunEvent::Retry | RunEvent::Lost | RunEvent::Failed) {
        return Err(TransitionError { from: run.status, event }.into());
    }
    let status = run.status.advance(event)?;
    if event == RunEvent::Retry && run.retries + 1 >= run.max_attempts {
        return Err(Error::Conflict("the run may not be tried again"));
    }
    if status.is_terminal() {
        sql::run(
            unit,
            "UPDATE run SET status = ?2, ended = ?3, blame = ?4, reason = ?5, phase = 'ended', notices = notices + 1,
                            revision = revision + 1
             WHERE seq = ?1",
            (seq, status.as_str(), report.now.millis(), report.blame.map(blame_text), report.reason),
        )?;
    } else {
        sql::run(
            unit,
            "UPDATE run SET status = ?2, reason = ?3, phase = 'queued', engine_job = NULL, last_contact = NULL, silent_since = NULL,
                            retries = retries + ?4, notices = notices + 1, revision = revision + 1
             WHERE seq = ?1",
            (seq, status.as_str(), report.reason, event == RunEvent::Retry),
        )?;
    }
    release(unit, seq, Sessions::Kill)?;
    end_attempt(unit, seq, report.attempt, report.now)?;
    if event != RunEvent::LeaseReturned {
        end_children(unit, seq, event, report.now)?;
    }
    told(unit, seq)
}
