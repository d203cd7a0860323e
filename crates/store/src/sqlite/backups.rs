//! SQL of taking one secret with all its versions out, and of putting it back.

use kluis_core::id::{KeyId, WorkspaceId};
use kluis_core::sealed::Sealed;
use kluis_core::secret::{SecretState, SecretTransitionError};
use rusqlite::Connection;

use super::secrets::{secret, secret_get, secret_row_insert, version, version_row_insert};
use super::sql::{self, Fields};
use super::{Unit, workspaces};
use crate::secrets::{SecretBackup, SecretRestore, SecretWhole};
use crate::{Error, Hint};

pub(crate) fn whole(
    c: &Connection,
    workspace: WorkspaceId,
    name_key: &str,
    most: u32,
) -> Result<Option<SecretWhole>, Error> {
    let Some(listed) = secret_get(c, workspace, name_key)? else { return Ok(None) };
    let mut statement = c.prepare_cached(
        "SELECT id, workspace, secret, enabled, content_type, tags, not_before, expires, revision, created, updated,
                created_by, mac, key_id, wrapped_key, value
         FROM version WHERE secret = ?1 ORDER BY seq LIMIT ?2",
    )?;
    let mut rows = statement.query((listed.secret.row.id.as_bytes(), i64::from(most) + 1))?;
    let mut versions = Vec::new();
    while let Some(row) = rows.next()? {
        let f = Fields::new(row, "version");
        let version = version(&f)?;
        versions.push((version, Sealed { key_id: f.id(KeyId::from_bytes)?, wrapped_key: f.get()?, value: f.get()? }));
    }
    Ok(Some(SecretWhole { secret: listed.secret, versions }))
}

pub(crate) fn backup(unit: &Unit<'_>, backup: SecretBackup) -> Result<(), Error> {
    workspaces::require(unit, backup.workspace)?;
    let found = sql::one(
        unit,
        "SELECT id, workspace, name, current, deleted_at, purge_at, revision, created, updated, mac
         FROM secret WHERE id = ?1 AND workspace = ?2",
        (backup.secret.as_bytes(), backup.workspace.as_bytes()),
        |row| secret(&Fields::new(row, "secret")),
    )?;
    let row = found.ok_or(Error::NotFound)?.row;
    row.state.require_active()?;
    if row.revision == backup.revision { Ok(()) } else { Err(Error::Revision { current: row.revision }) }
}

pub(crate) fn restore(unit: &Unit<'_>, restore: SecretRestore) -> Result<(), Error> {
    let SecretRestore { secret, versions } = restore;
    let row = &secret.row;
    let fits = versions.iter().all(|(v, _)| v.row.secret == row.id && v.row.workspace == row.workspace)
        && versions.iter().any(|(v, _)| v.row.id == row.current)
        && (row.state, row.revision) == (SecretState::Active, 1);
    if !fits {
        return Err(Error::Conflict("secret and versions do not belong together"));
    }
    workspaces::require(unit, row.workspace)?;
    let made = secret_row_insert(unit, row, secret.mac)?;
    if made == 0 {
        let there = secret_get(unit, row.workspace, row.name.key())?;
        return Err(match there.map(|there| there.secret.row.state) {
            Some(SecretState::Deleted { purge_at, .. }) => SecretTransitionError::Deleted { purge_at }.into(),
            _ => Error::Conflict("a secret of this name is there"),
        });
    }
    for (version, sealed) in versions {
        version_row_insert(unit, version, sealed)?;
    }
    unit.hint(Hint::SecretChanged { workspace: row.workspace, secret: row.id });
    Ok(())
}
