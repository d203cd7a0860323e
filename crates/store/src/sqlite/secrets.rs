//! SQL of secrets and versions: everything but finding and delivering values.

use kluis_core::clock::Timestamp;
use kluis_core::id::{KeyId, PrincipalId, SecretId, VersionId, WorkspaceId};
use kluis_core::name::SecretName;
use kluis_core::sealed::{Mac, Sealed};
use kluis_core::secret::{Attributes, Secret, SecretState, SecretTransitionError, Version};
use rusqlite::{Connection, Row};

use super::sql::{self, Fields};
use super::{Unit, workspaces};
use crate::secrets::{SecretListed, SecretPurge, SecretVersionInsert};
use crate::{After, Authenticated, Error, Hint};

// Rows --------------------------------------------------------------------------------------------------------------

/// Columns: id, workspace, name, current, deleted_at, purge_at, revision, created, updated, mac.
pub(super) fn secret(f: &Fields<'_>) -> Result<Authenticated<Secret>, Error> {
    let (id, workspace) = (f.id(SecretId::from_bytes)?, f.id(WorkspaceId::from_bytes)?);
    let (name, current) = (f.parse(SecretName::parse)?, f.id(VersionId::from_bytes)?);
    let state = match (f.optional_time()?, f.optional_time()?) {
        (None, None) => SecretState::Active,
        (Some(at), Some(purge_at)) => SecretState::Deleted { at, purge_at },
        _ => return Err(f.wrong()),
    };
    let (revision, created, updated) = (f.number()?, f.time()?, f.time()?);
    let row = Secret { workspace, id, name, current, state, revision, created, updated };
    Ok(Authenticated { row, mac: f.mac()? })
}

/// Columns: id, workspace, secret, enabled, content_type, tags, not_before, expires, revision, created, updated,
/// created_by, mac.
pub(super) fn version(f: &Fields<'_>) -> Result<Authenticated<Version>, Error> {
    let id = f.id(VersionId::from_bytes)?;
    let (workspace, secret) = (f.id(WorkspaceId::from_bytes)?, f.id(SecretId::from_bytes)?);
    let attributes = Attributes {
        enabled: f.flag()?,
        content_type: f.get()?,
        tags: f.json()?,
        not_before: f.optional_time()?,
        expires: f.optional_time()?,
    };
    let (revision, created, updated) = (f.number()?, f.time()?, f.time()?);
    let created_by = f.id(PrincipalId::from_bytes)?;
    let row = Version { workspace, secret, id, attributes, revision, created, updated, created_by };
    Ok(Authenticated { row, mac: f.mac()? })
}

/// Columns: those of the secret, then those of its current version.
fn listed(row: &Row<'_>) -> Result<SecretListed, Error> {
    let secret = secret(&Fields::new(row, "secret"))?;
    if row.get_ref(10)? == rusqlite::types::ValueRef::Null {
        return Err(Fields::new(row, "secret").wrong());
    }
    Ok(SecretListed { secret, version: version(&Fields::at(row, "version", 10))? })
}

// Setting -----------------------------------------------------------------------------------------------------------

pub(crate) fn version_insert(unit: &Unit<'_>, batch: Vec<SecretVersionInsert>) -> Result<(), Error> {
    for (index, insert) in batch.into_iter().enumerate() {
        insert_one(unit, insert).map_err(|error| Error::Entry { index, error: Box::new(error) })?;
    }
    Ok(())
}

/// The row of a new secret; how many were made: none when the name is taken, by a deleted secret too.
pub(super) fn secret_row_insert(unit: &Unit<'_>, secret: &Secret, mac: Mac) -> Result<usize, Error> {
    sql::run(
        unit,
        "INSERT INTO secret (id, workspace, name, name_key, current, revision, created, updated, mac)
         VALUES (?1, ?2, ?3, ?4, ?5, 1, ?6, ?7, ?8)
         ON CONFLICT (workspace, name_key) DO NOTHING",
        (
            secret.id.as_bytes(),
            secret.workspace.as_bytes(),
            secret.name.as_str(),
            secret.name.key(),
            secret.current.as_bytes(),
            secret.created.millis(),
            secret.updated.millis(),
            mac.0,
        ),
    )
}

fn insert_one(unit: &Unit<'_>, insert: SecretVersionInsert) -> Result<(), Error> {
    let SecretVersionInsert { secret: Authenticated { row: secret, mac }, version, sealed } = insert;
    let fits = version.row.id == secret.current
        && version.row.secret == secret.id
        && version.row.workspace == secret.workspace
        && secret.state == SecretState::Active;
    if !fits {
        return Err(Error::Conflict("secret and version do not belong together"));
    }
    workspaces::require(unit, secret.workspace)?;
    let changed = if secret.revision == 1 {
        secret_row_insert(unit, &secret, mac)?
    } else {
        sql::run(
            unit,
            "UPDATE secret SET current = ?5, revision = ?4, updated = ?6, mac = ?7
             WHERE id = ?1 AND workspace = ?2 AND name_key = ?3 AND revision = ?4 - 1 AND deleted_at IS NULL",
            (
                secret.id.as_bytes(),
                secret.workspace.as_bytes(),
                secret.name.key(),
                sql::int(secret.revision),
                secret.current.as_bytes(),
                secret.updated.millis(),
                mac.0,
            ),
        )?
    };
    if changed == 0 {
        return Err(why_not(unit, secret.workspace, secret.name.key())?);
    }
    version_row_insert(unit, version, sealed)?;
    if secret.revision == 1 {
        unit.hint(Hint::SecretChanged { workspace: secret.workspace, secret: secret.id });
        return Ok(());
    }
    tell_holders(unit, secret.workspace, secret.id)
}

/// The row of a new version.
pub(super) fn version_row_insert(
    unit: &Unit<'_>,
    version: Authenticated<Version>,
    sealed: Sealed,
) -> Result<(), Error> {
    let there = sql::exists(
        unit,
        "SELECT 1 FROM workspace_key WHERE id = ?1 AND workspace = ?2",
        (sealed.key_id.as_bytes(), version.row.workspace.as_bytes()),
    )?;
    if !there {
        return Err(Error::Moved("the workspace's key"));
    }
    let Authenticated { row: version, mac } = version;
    let attributes = version.attributes;
    sql::run(
        unit,
        "INSERT INTO version (id, workspace, secret, enabled, content_type, tags, not_before, expires, revision,
                              created, updated, created_by, mac, key_id, wrapped_key, value)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
        rusqlite::params![
            version.id.as_bytes(),
            version.workspace.as_bytes(),
            version.secret.as_bytes(),
            attributes.enabled,
            attributes.content_type,
            sql::json(&attributes.tags),
            attributes.not_before.map(Timestamp::millis),
            attributes.expires.map(Timestamp::millis),
            sql::int(version.revision),
            version.created.millis(),
            version.updated.millis(),
            version.created_by.as_bytes(),
            mac.0,
            sealed.key_id.as_bytes(),
            sealed.wrapped_key,
            sealed.value,
        ],
    )?;
    Ok(())
}

/// Why a row of this name could not be changed: it is deleted, it has another revision, or it is not there.
fn why_not(c: &Connection, workspace: WorkspaceId, name_key: &str) -> Result<Error, Error> {
    let found = sql::one(
        c,
        "SELECT id, workspace, name, current, deleted_at, purge_at, revision, created, updated, mac
         FROM secret WHERE workspace = ?1 AND name_key = ?2",
        (workspace.as_bytes(), name_key),
        |row| secret(&Fields::new(row, "secret")),
    )?;
    Ok(match found.map(|found| (found.row.state, found.row.revision)) {
        None => Error::Revision { current: 0 },
        Some((SecretState::Deleted { purge_at, .. }, _)) => SecretTransitionError::Deleted { purge_at }.into(),
        Some((SecretState::Active, current)) => Error::Revision { current },
    })
}

/// Live runs that were given this secret have a notice.
fn tell_holders(unit: &Unit<'_>, workspace: WorkspaceId, secret: SecretId) -> Result<(), Error> {
    sql::run(
        unit,
        "UPDATE run SET notices = notices + 1 WHERE seq IN (SELECT run FROM pin WHERE secret = ?1 AND live = 1)",
        [secret.as_bytes()],
    )?;
    unit.hint(Hint::SecretChanged { workspace, secret });
    Ok(())
}

// Looking -----------------------------------------------------------------------------------------------------------

pub(crate) fn secret_get(
    c: &Connection,
    workspace: WorkspaceId,
    name_key: &str,
) -> Result<Option<SecretListed>, Error> {
    let found = sql::one(
        c,
        "SELECT s.id, s.workspace, s.name, s.current, s.deleted_at, s.purge_at, s.revision, s.created, s.updated, s.mac,
                v.id, v.workspace, v.secret, v.enabled, v.content_type, v.tags, v.not_before, v.expires, v.revision,
                v.created, v.updated, v.created_by, v.mac
         FROM secret s JOIN workspace w ON w.id = s.workspace
         LEFT JOIN version v ON v.id = s.current AND v.secret = s.id
         WHERE s.workspace = ?1 AND s.name_key = ?2 AND w.deleted IS NULL",
        (workspace.as_bytes(), name_key),
        listed,
    )?;
    match &found {
        Some(SecretListed { secret, .. }) if secret.row.name.key() != name_key => {
            Err(Error::Inconsistent { table: "secret", row: secret.row.id.to_string() })
        }
        _ => Ok(found),
    }
}

pub(crate) fn secret_list(
    c: &Connection,
    workspace: WorkspaceId,
    deleted: bool,
    page: &After<String>,
) -> Result<sql::Page<SecretListed, String>, Error> {
    workspaces::require(c, workspace)?;
    sql::page(
        c,
        "SELECT s.id, s.workspace, s.name, s.current, s.deleted_at, s.purge_at, s.revision, s.created, s.updated, s.mac,
                v.id, v.workspace, v.secret, v.enabled, v.content_type, v.tags, v.not_before, v.expires, v.revision,
                v.created, v.updated, v.created_by, v.mac, s.name_key
         FROM secret s LEFT JOIN version v ON v.id = s.current AND v.secret = s.id
         WHERE s.workspace = ?1 AND (s.deleted_at IS NOT NULL) = ?2 AND s.name_key > ?3
         ORDER BY s.name_key LIMIT ?4",
        (workspace.as_bytes(), deleted, page.after.as_deref().unwrap_or_default(), sql::more(page)),
        page.limit,
        |row| row.get(23),
        listed,
    )
}

pub(crate) fn version_get(
    c: &Connection,
    workspace: WorkspaceId,
    id: VersionId,
) -> Result<Option<Authenticated<Version>>, Error> {
    sql::one(
        c,
        "SELECT id, workspace, secret, enabled, content_type, tags, not_before, expires, revision, created, updated,
                created_by, mac
         FROM version WHERE id = ?1 AND workspace = ?2",
        (id.as_bytes(), workspace.as_bytes()),
        |row| version(&Fields::new(row, "version")),
    )
}

pub(crate) fn version_list(
    c: &Connection,
    workspace: WorkspaceId,
    secret: SecretId,
    page: &After<u64>,
) -> Result<sql::Page<Authenticated<Version>, u64>, Error> {
    sql::page(
        c,
        "SELECT id, workspace, secret, enabled, content_type, tags, not_before, expires, revision, created, updated,
                created_by, mac, seq
         FROM version WHERE secret = ?1 AND workspace = ?2 AND seq < ?3 ORDER BY seq DESC LIMIT ?4",
        (secret.as_bytes(), workspace.as_bytes(), page.after.map_or(i64::MAX, sql::int), sql::more(page)),
        page.limit,
        |row| row.get::<_, i64>(13).map(|seq| seq as u64),
        |row| version(&Fields::new(row, "version")),
    )
}

/// Columns as `secret`.
pub(crate) fn secrets_all(
    c: &Connection,
    page: &After<SecretId>,
) -> Result<sql::Page<Authenticated<Secret>, SecretId>, Error> {
    sql::page(
        c,
        "SELECT id, workspace, name, current, deleted_at, purge_at, revision, created, updated, mac
         FROM secret WHERE id > ?1 ORDER BY id LIMIT ?2",
        (page.after.map_or_else(Vec::new, |id| id.as_bytes().to_vec()), sql::more(page)),
        page.limit,
        |row| row.get(0).map(SecretId::from_bytes),
        |row| secret(&Fields::new(row, "secret")),
    )
}

pub(crate) fn versions_all(
    c: &Connection,
    page: &After<u64>,
) -> Result<sql::Page<(Authenticated<Version>, Sealed), u64>, Error> {
    sql::page(
        c,
        "SELECT id, workspace, secret, enabled, content_type, tags, not_before, expires, revision, created, updated,
                created_by, mac, key_id, wrapped_key, value, seq
         FROM version WHERE seq > ?1 ORDER BY seq LIMIT ?2",
        (page.after.map_or(0, sql::int), sql::more(page)),
        page.limit,
        |row| row.get::<_, i64>(16).map(|seq| seq as u64),
        |row| {
            let f = Fields::new(row, "version");
            let version = version(&f)?;
            Ok((version, Sealed { key_id: f.id(KeyId::from_bytes)?, wrapped_key: f.get()?, value: f.get()? }))
        },
    )
}

// Changing ----------------------------------------------------------------------------------------------------------

pub(crate) fn version_change(unit: &Unit<'_>, change: Authenticated<Version>) -> Result<(), Error> {
    let Authenticated { row, mac } = change;
    let state = sql::one(
        unit,
        "SELECT s.id, s.deleted_at, s.purge_at FROM secret s JOIN workspace w ON w.id = s.workspace
         WHERE s.id = ?1 AND s.workspace = ?2 AND w.deleted IS NULL",
        (row.secret.as_bytes(), row.workspace.as_bytes()),
        |found| {
            let f = Fields::new(found, "secret");
            f.skip();
            Ok((f.optional_time()?, f.optional_time()?))
        },
    )?;
    if let (_, Some(purge_at)) = state.ok_or(Error::NotFound)? {
        return Err(SecretTransitionError::Deleted { purge_at }.into());
    }
    let attributes = row.attributes;
    let changed = sql::run(
        unit,
        "UPDATE version
         SET enabled = ?4, content_type = ?5, tags = ?6, not_before = ?7, expires = ?8, revision = ?3, updated = ?9,
             mac = ?10
         WHERE id = ?1 AND secret = ?2 AND revision = ?3 - 1",
        (
            row.id.as_bytes(),
            row.secret.as_bytes(),
            sql::int(row.revision),
            attributes.enabled,
            attributes.content_type,
            sql::json(&attributes.tags),
            attributes.not_before.map(Timestamp::millis),
            attributes.expires.map(Timestamp::millis),
            row.updated.millis(),
            mac.0,
        ),
    )?;
    if changed == 0 {
        let current = version_get(unit, row.workspace, row.id)?.map_or(0, |found| found.row.revision);
        return Err(Error::Revision { current });
    }
    tell_holders(unit, row.workspace, row.secret)
}

pub(crate) fn secret_delete(unit: &Unit<'_>, change: Authenticated<Secret>) -> Result<(), Error> {
    let Authenticated { row, mac } = change;
    let SecretState::Deleted { at, purge_at } = row.state else {
        return Err(Error::Conflict("the row given is not a deleted one"));
    };
    workspaces::require(unit, row.workspace)?;
    let changed = sql::run(
        unit,
        "UPDATE secret SET deleted_at = ?4, purge_at = ?5, revision = ?3, updated = ?6, mac = ?7
         WHERE id = ?1 AND workspace = ?2 AND revision = ?3 - 1 AND deleted_at IS NULL",
        (
            row.id.as_bytes(),
            row.workspace.as_bytes(),
            sql::int(row.revision),
            at.millis(),
            purge_at.millis(),
            row.updated.millis(),
            mac.0,
        ),
    )?;
    if changed == 0 {
        return Err(why_not(unit, row.workspace, row.name.key())?);
    }
    tell_holders(unit, row.workspace, row.id)
}

pub(crate) fn secret_recover(unit: &Unit<'_>, change: Authenticated<Secret>) -> Result<(), Error> {
    let Authenticated { row, mac } = change;
    if row.state != SecretState::Active {
        return Err(Error::Conflict("the row given is not an active one"));
    }
    workspaces::require(unit, row.workspace)?;
    let changed = sql::run(
        unit,
        "UPDATE secret SET deleted_at = NULL, purge_at = NULL, revision = ?3, updated = ?4, mac = ?5
         WHERE id = ?1 AND workspace = ?2 AND revision = ?3 - 1 AND deleted_at IS NOT NULL",
        (row.id.as_bytes(), row.workspace.as_bytes(), sql::int(row.revision), row.updated.millis(), mac.0),
    )?;
    if changed == 0 {
        require_deleted(unit, row.workspace, row.id)?;
        return Err(Error::Revision { current: secret_revision(unit, row.workspace, row.id)? });
    }
    tell_holders(unit, row.workspace, row.id)
}

fn secret_revision(c: &Connection, workspace: WorkspaceId, id: SecretId) -> Result<u64, Error> {
    let found = sql::one(
        c,
        "SELECT id, revision FROM secret WHERE id = ?1 AND workspace = ?2",
        (id.as_bytes(), workspace.as_bytes()),
        |row| {
            let f = Fields::new(row, "secret");
            f.skip();
            f.number()
        },
    )?;
    Ok(found.unwrap_or(0))
}

fn require_deleted(c: &Connection, workspace: WorkspaceId, id: SecretId) -> Result<(), Error> {
    let active = sql::exists(
        c,
        "SELECT 1 FROM secret WHERE id = ?1 AND workspace = ?2 AND deleted_at IS NULL",
        (id.as_bytes(), workspace.as_bytes()),
    )?;
    if active { Err(SecretTransitionError::NotDeleted.into()) } else { Ok(()) }
}

pub(crate) fn secret_purge(unit: &Unit<'_>, purge: SecretPurge) -> Result<(), Error> {
    let current = secret_revision(unit, purge.workspace, purge.secret)?;
    if current == 0 {
        return Err(Error::NotFound);
    }
    require_deleted(unit, purge.workspace, purge.secret)?;
    if current != purge.revision {
        return Err(Error::Revision { current });
    }
    tell_holders(unit, purge.workspace, purge.secret)?;
    sql::run(unit, "DELETE FROM version WHERE secret = ?1", [purge.secret.as_bytes()])?;
    sql::run(unit, "DELETE FROM secret WHERE id = ?1", [purge.secret.as_bytes()])?;
    Ok(())
}

pub(crate) fn purge_due(
    c: &Connection,
    now: Timestamp,
    limit: u32,
) -> Result<sql::Page<Authenticated<Secret>, i64>, Error> {
    sql::page(
        c,
        "SELECT id, workspace, name, current, deleted_at, purge_at, revision, created, updated, mac
         FROM secret WHERE purge_at IS NOT NULL AND purge_at <= ?1 ORDER BY purge_at LIMIT ?2",
        (now.millis(), i64::from(limit)),
        limit,
        |row| row.get(5),
        |row| secret(&Fields::new(row, "secret")),
    )
}
