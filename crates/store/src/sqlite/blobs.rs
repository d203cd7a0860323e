//! SQL of blobs: which ones the rows refer to, how large they are, and which ones nothing refers to any more.

use kluis_core::clock::Timestamp;
use kluis_core::id::{BlobId, WorkspaceId};
use rusqlite::Connection;

use super::sql::{self, Fields};
use super::{Unit, workspaces};
use crate::Error;
use crate::logs::{BlobsForget, SnapshotPut, SnapshotRow};

pub(super) fn insert(
    unit: &Unit<'_>,
    workspace: WorkspaceId,
    blob: BlobId,
    kind: &str,
    bytes: u64,
    now: Timestamp,
) -> Result<bool, Error> {
    let inserted = sql::run(
        unit,
        "INSERT INTO blob (workspace, id, kind, bytes, created) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (workspace, id) DO NOTHING",
        (workspace.as_bytes(), blob.as_bytes(), kind, sql::int(bytes), now.millis()),
    )?;
    Ok(inserted == 1)
}

pub(super) fn orphan(unit: &Unit<'_>, workspace: WorkspaceId, blob: BlobId, now: Timestamp) -> Result<(), Error> {
    sql::run(
        unit,
        "UPDATE blob SET orphaned = ?3 WHERE workspace = ?1 AND id = ?2",
        (workspace.as_bytes(), blob.as_bytes(), now.millis()),
    )?;
    Ok(())
}

pub(crate) fn snapshot_put(unit: &Unit<'_>, put: SnapshotPut) -> Result<bool, Error> {
    workspaces::require(unit, put.workspace)?;
    let new = insert(unit, put.workspace, put.blob, "snapshot", put.bytes, put.now)?;
    if !new {
        unit.record_instead(Vec::new());
    }
    Ok(new)
}

pub(crate) fn snapshot_get(c: &Connection, workspace: WorkspaceId, blob: BlobId) -> Result<Option<SnapshotRow>, Error> {
    sql::one(
        c,
        "SELECT id, bytes, created FROM blob WHERE workspace = ?1 AND id = ?2 AND kind = 'snapshot'",
        (workspace.as_bytes(), blob.as_bytes()),
        |row| {
            let f = Fields::new(row, "blob");
            Ok(SnapshotRow { blob: f.id(BlobId::from_bytes)?, bytes: f.number()?, created: f.time()? })
        },
    )
}

pub(crate) fn usage(c: &Connection, workspace: WorkspaceId) -> Result<u64, Error> {
    let bytes =
        sql::one(c, "SELECT coalesce(sum(bytes), 0) FROM blob WHERE workspace = ?1", [workspace.as_bytes()], |row| {
            Fields::new(row, "blob").number()
        })?;
    Ok(bytes.unwrap_or(0))
}

pub(crate) fn count(c: &Connection, workspace: WorkspaceId) -> Result<u64, Error> {
    let count = sql::one(c, "SELECT count(*) FROM blob WHERE workspace = ?1", [workspace.as_bytes()], |row| {
        Fields::new(row, "blob").number()
    })?;
    Ok(count.unwrap_or(0))
}

pub(crate) fn known(c: &Connection, blobs: &[(WorkspaceId, BlobId)]) -> Result<Vec<bool>, Error> {
    blobs
        .iter()
        .map(|(workspace, blob)| {
            sql::exists(
                c,
                "SELECT 1 FROM blob WHERE workspace = ?1 AND id = ?2",
                (workspace.as_bytes(), blob.as_bytes()),
            )
        })
        .collect()
}

pub(crate) fn orphaned(c: &Connection, before: Timestamp, limit: u32) -> Result<Vec<(WorkspaceId, BlobId)>, Error> {
    sql::all(
        c,
        "SELECT workspace, id FROM blob WHERE orphaned IS NOT NULL AND orphaned < ?1 ORDER BY orphaned LIMIT ?2",
        (before.millis(), limit),
        |row| {
            let f = Fields::new(row, "blob");
            Ok((f.id(WorkspaceId::from_bytes)?, f.id(BlobId::from_bytes)?))
        },
    )
}

pub(crate) fn forget(unit: &Unit<'_>, forget: BlobsForget) -> Result<(), Error> {
    for (workspace, blob) in forget.blobs {
        sql::run(
            unit,
            "DELETE FROM blob WHERE workspace = ?1 AND id = ?2 AND orphaned IS NOT NULL",
            (workspace.as_bytes(), blob.as_bytes()),
        )?;
    }
    Ok(())
}
