//! SQL of putting data keys under another workspace key, a batch at a time, resumable: what is left to do is what is
//! not yet under the current key.

use kluis_core::id::{KeyId, SecretId, VersionId, WorkspaceId};
use rusqlite::Connection;

use super::Unit;
use super::sql::{self, Fields};
use crate::Error;
use crate::secrets::{Rewrap, RewrapStore};

pub(crate) fn next(
    c: &Connection,
    workspace: WorkspaceId,
    current: KeyId,
    limit: u32,
) -> Result<sql::Page<Rewrap, i64>, Error> {
    sql::page(
        c,
        "SELECT id, secret, key_id, wrapped_key, seq FROM version
         WHERE key_id IN (SELECT id FROM workspace_key WHERE workspace = ?1 AND id <> ?2) AND workspace = ?1 LIMIT ?3",
        (workspace.as_bytes(), current.as_bytes(), i64::from(limit)),
        limit,
        |row| row.get(4),
        |row| {
            let f = Fields::new(row, "version");
            let version = f.id(VersionId::from_bytes)?;
            Ok(Rewrap {
                secret: f.id(SecretId::from_bytes)?,
                version,
                key_id: f.id(KeyId::from_bytes)?,
                wrapped_key: f.get()?,
            })
        },
    )
}

pub(crate) fn store(unit: &Unit<'_>, batch: RewrapStore) -> Result<u64, Error> {
    let mut stored = 0;
    for item in batch.items {
        stored += sql::run(
            unit,
            "UPDATE version SET key_id = ?4, wrapped_key = ?5 WHERE id = ?1 AND workspace = ?2 AND key_id = ?3",
            (
                item.version.as_bytes(),
                batch.workspace.as_bytes(),
                item.from.as_bytes(),
                item.to.as_bytes(),
                item.wrapped_key,
            ),
        )?;
    }
    Ok(stored as u64)
}

pub(crate) fn versions_using_key(c: &Connection, workspace: WorkspaceId, key: KeyId) -> Result<u64, Error> {
    let count = sql::one(
        c,
        "SELECT count(*) FROM version WHERE key_id = ?1 AND workspace = ?2",
        (key.as_bytes(), workspace.as_bytes()),
        |row| Fields::new(row, "version").number(),
    )?;
    Ok(count.unwrap_or(0))
}
