//! SQL of log chunks and outputs.

use kluis_core::clock::Timestamp;
use kluis_core::id::{BlobId, WorkspaceId};
use rusqlite::{Connection, Row};

use super::admit::Session;
use super::sql::{self, Fields};
use super::{Unit, blobs};
use crate::logs::{Arrived, LogAppend, LogChunk, LogFilter, OutputPut, OutputRow};
use crate::{After, Error, Hint};

/// The run a launcher writes to: its own, or a child of it.
pub(super) fn own_run(
    unit: &Unit<'_>,
    session: &Session,
    child: Option<&kluis_core::name::RunId>,
) -> Result<i64, Error> {
    let Some(child) = child.filter(|child| **child != session.run_id) else { return Ok(session.run) };
    sql::one(
        unit,
        "SELECT seq FROM run WHERE workspace = ?1 AND id_key = ?2 AND parent = ?3",
        (session.workspace.as_bytes(), child.key(), session.run),
        |row| Fields::new(row, "run").get(),
    )?
    .ok_or(Error::NotFound)
}

pub(crate) fn log_append(unit: &Unit<'_>, append: LogAppend) -> Result<Arrived, Error> {
    let session = unit.reporter()?;
    let next = sql::one(
        unit,
        "SELECT coalesce(max(next), 0) FROM log_chunk WHERE run = ?1 AND attempt = ?2 AND node = ?3",
        (session.run, session.attempt, session.node),
        |row| Fields::new(row, "log_chunk").number::<u64>(),
    )?
    .unwrap_or(0);
    if append.first != next || append.next <= append.first {
        unit.record_instead(Vec::new());
        return Ok(Arrived { next, stored: false });
    }
    blobs::insert(unit, session.workspace, append.blob, "log", append.bytes, append.now)?;
    sql::run(
        unit,
        "INSERT INTO log_chunk (run, attempt, node, first, next, blob, bytes, lines, received)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        (
            session.run,
            session.attempt,
            session.node,
            sql::int(append.first),
            sql::int(append.next),
            append.blob.as_bytes(),
            sql::int(append.bytes),
            sql::int(append.lines),
            append.now.millis(),
        ),
    )?;
    unit.hint(Hint::LogAppended { workspace: session.workspace, run: session.run_id });
    Ok(Arrived { next: append.next, stored: true })
}

/// Columns: seq, node, first, next, blob, bytes, lines, received.
fn chunk(row: &Row<'_>) -> Result<LogChunk, Error> {
    let f = Fields::new(row, "log_chunk");
    Ok(LogChunk {
        seq: f.number()?,
        node: f.number()?,
        first: f.number()?,
        next: f.number()?,
        blob: f.id(BlobId::from_bytes)?,
        bytes: f.number()?,
        lines: f.number()?,
        received: f.time()?,
    })
}

pub(crate) fn log_chunks(
    c: &Connection,
    filter: &LogFilter,
    page: &After<u64>,
) -> Result<sql::Page<LogChunk, u64>, Error> {
    let (statement, start) = if filter.newest {
        (
            "SELECT seq, node, first, next, blob, bytes, lines, received FROM log_chunk
             WHERE run = (SELECT seq FROM run WHERE workspace = ?1 AND id_key = ?2) AND attempt = ?3 AND next > ?4
               AND seq < ?5
             ORDER BY seq DESC LIMIT ?6",
            i64::MAX,
        )
    } else {
        (
            "SELECT seq, node, first, next, blob, bytes, lines, received FROM log_chunk
             WHERE run = (SELECT seq FROM run WHERE workspace = ?1 AND id_key = ?2) AND attempt = ?3 AND next > ?4
               AND seq > ?5
             ORDER BY seq LIMIT ?6",
            0,
        )
    };
    sql::page(
        c,
        statement,
        (
            filter.workspace.as_bytes(),
            filter.run.key(),
            filter.attempt,
            sql::int(filter.from),
            page.after.map_or(start, sql::int),
            sql::more(page),
        ),
        page.limit,
        |row| row.get::<_, i64>(0).map(|seq| seq as u64),
        chunk,
    )
}

pub(crate) fn output_put(unit: &Unit<'_>, put: OutputPut) -> Result<(), Error> {
    let session = unit.reporter()?;
    let run = own_run(unit, &session, put.run.as_ref())?;
    let old = sql::one(unit, "SELECT run, blob FROM output WHERE run = ?1 AND path = ?2", (run, &put.path), |row| {
        let f = Fields::new(row, "output");
        f.skip();
        f.id(BlobId::from_bytes)
    })?;
    if let Some(old) = old.filter(|old| *old != put.blob) {
        blobs::orphan(unit, session.workspace, old, put.now)?;
    }
    blobs::insert(unit, session.workspace, put.blob, "output", put.bytes, put.now)?;
    sql::run(
        unit,
        "INSERT INTO output (run, path, blob, bytes, time) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (run, path) DO UPDATE SET blob = excluded.blob, bytes = excluded.bytes, time = excluded.time",
        (run, put.path, put.blob.as_bytes(), sql::int(put.bytes), put.now.millis()),
    )?;
    Ok(())
}

/// Columns: run, path, blob, bytes, time.
fn output(row: &Row<'_>) -> Result<OutputRow, Error> {
    let f = Fields::new(row, "output");
    f.skip();
    Ok(OutputRow {
        path: f.get()?,
        blob: f.id(BlobId::from_bytes)?,
        bytes: f.number()?,
        time: Timestamp::from_millis(f.get()?),
    })
}

pub(crate) fn output_list(
    c: &Connection,
    workspace: WorkspaceId,
    run_key: &str,
    page: &After<String>,
) -> Result<sql::Page<OutputRow, String>, Error> {
    sql::page(
        c,
        "SELECT run, path, blob, bytes, time FROM output
         WHERE run = (SELECT seq FROM run WHERE workspace = ?1 AND id_key = ?2) AND path > ?3
         ORDER BY path LIMIT ?4",
        (workspace.as_bytes(), run_key, page.after.as_deref().unwrap_or_default(), sql::more(page)),
        page.limit,
        |row| row.get(1),
        output,
    )
}

pub(crate) fn output_get(
    c: &Connection,
    workspace: WorkspaceId,
    run_key: &str,
    path: &str,
) -> Result<Option<OutputRow>, Error> {
    sql::one(
        c,
        "SELECT run, path, blob, bytes, time FROM output
         WHERE run = (SELECT seq FROM run WHERE workspace = ?1 AND id_key = ?2) AND path = ?3",
        (workspace.as_bytes(), run_key, path),
        output,
    )
}
