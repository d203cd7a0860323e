//! SQL of erasing a deleted workspace: a batch at a time, so that nobody waits long behind one, and resumable: what is
//! left to do is what is still there. Its own row stays, for its name is taken for good and records name it.

use kluis_core::clock::Timestamp;
use kluis_core::id::{KeyId, WorkspaceId};
use rusqlite::Connection;

use super::Unit;
use super::sql::{self, Fields};
use crate::Error;
use crate::workspaces::{Purged, WorkspacePurge};

/// Each deletes at most so many rows of a workspace. In this order: a row goes before what it refers to.
const STEPS: [&str; 13] = [
    "DELETE FROM version WHERE seq IN
        (SELECT v.seq FROM secret s JOIN version v ON v.secret = s.id WHERE s.workspace = ?1 LIMIT ?2)",
    "DELETE FROM secret WHERE id IN (SELECT id FROM secret WHERE workspace = ?1 LIMIT ?2)",
    "DELETE FROM metric WHERE seq IN
        (SELECT m.seq FROM run r JOIN metric m ON m.run = r.seq WHERE r.workspace = ?1 LIMIT ?2)",
    "DELETE FROM log_chunk WHERE seq IN
        (SELECT l.seq FROM run r JOIN log_chunk l ON l.run = r.seq WHERE r.workspace = ?1 LIMIT ?2)",
    "DELETE FROM output WHERE (run, path) IN
        (SELECT o.run, o.path FROM run r JOIN output o ON o.run = r.seq WHERE r.workspace = ?1 LIMIT ?2)",
    "DELETE FROM pin WHERE (run, attempt, secret) IN
        (SELECT p.run, p.attempt, p.secret FROM run r JOIN pin p ON p.run = r.seq WHERE r.workspace = ?1 LIMIT ?2)",
    "DELETE FROM ticket WHERE id IN
        (SELECT t.id FROM run r JOIN ticket t ON t.run = r.seq WHERE r.workspace = ?1 LIMIT ?2)",
    "DELETE FROM session WHERE id IN
        (SELECT s.id FROM run r JOIN session s ON s.run = r.seq WHERE r.workspace = ?1 LIMIT ?2)",
    "DELETE FROM attempt WHERE (run, attempt) IN
        (SELECT a.run, a.attempt FROM run r JOIN attempt a ON a.run = r.seq WHERE r.workspace = ?1 LIMIT ?2)",
    "DELETE FROM run_usage WHERE run IN
        (SELECT u.run FROM run r JOIN run_usage u ON u.run = r.seq WHERE r.workspace = ?1 LIMIT ?2)",
    "DELETE FROM run WHERE seq IN (SELECT seq FROM run WHERE workspace = ?1 AND parent IS NOT NULL LIMIT ?2)",
    "DELETE FROM run WHERE seq IN (SELECT seq FROM run WHERE workspace = ?1 LIMIT ?2)",
    "DELETE FROM experiment WHERE seq IN (SELECT seq FROM experiment WHERE workspace = ?1 LIMIT ?2)",
];

pub(crate) fn due(c: &Connection, now: Timestamp) -> Result<Vec<WorkspaceId>, Error> {
    sql::all(
        c,
        "SELECT id FROM workspace
         WHERE deleted IS NOT NULL AND deleted + retention_days * 86400000 <= ?1
           AND EXISTS (SELECT 1 FROM workspace_key WHERE workspace_key.workspace = workspace.id)",
        [now.millis()],
        |row| Fields::new(row, "workspace").id(WorkspaceId::from_bytes),
    )
}

pub(crate) fn purge(unit: &Unit<'_>, purge: WorkspacePurge) -> Result<Purged, Error> {
    let WorkspacePurge { workspace, now, limit } = purge;
    let id = workspace.as_bytes();
    if !sql::exists(unit, "SELECT 1 FROM workspace WHERE id = ?1 AND deleted IS NOT NULL", [id])? {
        return Err(Error::NotFound);
    }
    for step in STEPS {
        if sql::run(unit, step, (id, limit))? > 0 {
            return Ok(more(unit));
        }
    }
    sql::run(unit, "DELETE FROM invite WHERE workspace = ?1", [id])?;
    let orphaned = sql::run(
        unit,
        "UPDATE blob SET orphaned = ?2 WHERE (workspace, id) IN
            (SELECT workspace, id FROM blob WHERE workspace = ?1 AND orphaned IS NULL LIMIT ?3)",
        (id, now.millis(), limit),
    )?;
    if orphaned > 0 {
        return Ok(more(unit));
    }
    if sql::exists(unit, "SELECT 1 FROM blob WHERE workspace = ?1", [id])? {
        unit.record_instead(Vec::new());
        return Ok(Purged::Waiting);
    }
    let keys = sql::all(unit, "DELETE FROM workspace_key WHERE workspace = ?1 RETURNING id", [id], |row| {
        Fields::new(row, "workspace_key").id(KeyId::from_bytes)
    })?;
    Ok(Purged::Done(keys))
}

/// The record belongs to the end of it.
fn more(unit: &Unit<'_>) -> Purged {
    unit.record_instead(Vec::new());
    Purged::More
}
