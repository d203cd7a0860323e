//! SQL of workspaces, their keys and members, and compute targets.

use kluis_core::api::workspaces::WorkspaceSettings;
use kluis_core::clock::Timestamp;
use kluis_core::id::{ComputeId, KeyId, PrincipalId, WorkspaceId};
use kluis_core::name::{ComputeName, PrincipalName, WorkspaceName};
use rusqlite::{Connection, Row};

use super::identity::{self, move_epoch};
use super::sql::{self, Fields};
use super::{Unit, failure};
use crate::workspaces::{
    ComputeRow, ComputeSeen, Member, Workspace, WorkspaceInsert, WorkspaceKeyRemove, WorkspaceKeyRow, WorkspaceListed,
};
use crate::{After, Authenticated, Error};

/// Columns: id, name, created, retention_days, require_declared_secrets, enforce_validity, deleted, revision, mac.
fn workspace(row: &Row<'_>) -> Result<Authenticated<Workspace>, Error> {
    let f = Fields::new(row, "workspace");
    let row = Workspace {
        id: f.id(WorkspaceId::from_bytes)?,
        name: f.parse(WorkspaceName::parse)?,
        created: f.time()?,
        settings: WorkspaceSettings {
            retention_days: f.number()?,
            require_declared_secrets: f.flag()?,
            enforce_validity: f.flag()?,
        },
        deleted: f.optional_time()?,
        revision: f.number()?,
    };
    Ok(Authenticated { row, mac: f.mac()? })
}

/// Columns: id, workspace, wrapped, current, created.
fn key(row: &Row<'_>) -> Result<WorkspaceKeyRow, Error> {
    let f = Fields::new(row, "workspace_key");
    Ok(WorkspaceKeyRow {
        id: f.id(KeyId::from_bytes)?,
        workspace: f.id(WorkspaceId::from_bytes)?,
        wrapped: f.get()?,
        current: f.flag()?,
        created: f.time()?,
    })
}

/// Columns: id, name, open, created, revision, mac, last_seen, and how many runs wait.
fn compute(row: &Row<'_>) -> Result<Authenticated<ComputeRow>, Error> {
    let f = Fields::new(row, "compute");
    let mut row = ComputeRow {
        id: f.id(ComputeId::from_bytes)?,
        name: f.parse(ComputeName::parse)?,
        open: f.flag()?,
        created: f.time()?,
        revision: f.number()?,
        last_seen: None,
        queued: 0,
    };
    let mac = f.mac()?;
    row.last_seen = f.optional_time()?;
    row.queued = f.number()?;
    Ok(Authenticated { row, mac })
}

/// What was looked up must be what the row itself, and with it the MAC, says.
fn asked<T>(
    found: Option<Authenticated<T>>,
    table: &'static str,
    fits: impl FnOnce(&T) -> bool,
    id: impl FnOnce(&T) -> String,
) -> Result<Option<Authenticated<T>>, Error> {
    match found {
        Some(found) if !fits(&found.row) => Err(Error::Inconsistent { table, row: id(&found.row) }),
        found => Ok(found),
    }
}

/// The workspace exists and is not deleted.
pub(super) fn require(c: &Connection, id: WorkspaceId) -> Result<(), Error> {
    let there = sql::exists(c, "SELECT 1 FROM workspace WHERE id = ?1 AND deleted IS NULL", [id.as_bytes()])?;
    if there { Ok(()) } else { Err(Error::NotFound) }
}

/// The revision of a workspace that is not deleted.
pub(super) fn revision(c: &Connection, id: WorkspaceId) -> Result<u64, Error> {
    let found =
        sql::one(c, "SELECT id, revision FROM workspace WHERE id = ?1 AND deleted IS NULL", [id.as_bytes()], |row| {
            let f = Fields::new(row, "workspace");
            f.skip();
            f.number()
        })?;
    found.ok_or(Error::NotFound)
}

pub(crate) fn workspace_insert(unit: &Unit<'_>, insert: WorkspaceInsert) -> Result<(), Error> {
    let WorkspaceInsert { workspace, key, owner } = insert;
    let Authenticated { row: workspace, mac } = workspace;
    let settings = workspace.settings;
    sql::run(
        unit,
        "INSERT INTO workspace (id, name, name_key, created, retention_days, require_declared_secrets,
                                enforce_validity, revision, mac)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        (
            workspace.id.as_bytes(),
            workspace.name.as_str(),
            workspace.name.key(),
            workspace.created.millis(),
            settings.retention_days,
            settings.require_declared_secrets,
            settings.enforce_validity,
            sql::int(workspace.revision),
            mac.0,
        ),
    )
    .map_err(failure::taken("a workspace with this name exists or existed"))?;
    workspace_key_add(unit, key)?;
    identity::grant_set(unit, owner)?;
    Ok(())
}

pub(crate) fn workspace_by_name(c: &Connection, key: &str) -> Result<Option<Authenticated<Workspace>>, Error> {
    let found = sql::one(
        c,
        "SELECT id, name, created, retention_days, require_declared_secrets, enforce_validity, deleted, revision, mac
         FROM workspace WHERE name_key = ?1 AND deleted IS NULL",
        [key],
        workspace,
    )?;
    asked(found, "workspace", |w| w.name.key() == key, |w| w.id.to_string())
}

pub(crate) fn workspace_get(c: &Connection, id: WorkspaceId) -> Result<Option<Authenticated<Workspace>>, Error> {
    let found = sql::one(
        c,
        "SELECT id, name, created, retention_days, require_declared_secrets, enforce_validity, deleted, revision, mac
         FROM workspace WHERE id = ?1 AND deleted IS NULL",
        [id.as_bytes()],
        workspace,
    )?;
    asked(found, "workspace", |w| w.id == id, |w| w.id.to_string())
}

pub(crate) fn workspace_list(
    c: &Connection,
    of: Option<PrincipalId>,
    page: &After<String>,
) -> Result<sql::Page<WorkspaceListed, String>, Error> {
    let after = page.after.as_deref().unwrap_or_default();
    let listed = |row: &Row<'_>| {
        let workspace = workspace(row)?;
        let f = Fields::at(row, "role_grant", 9);
        let role = f.parse_optional(|text| identity::role(text).ok_or(()))?;
        Ok(WorkspaceListed { workspace, role })
    };
    match of {
        Some(principal) => sql::page(
            c,
            "SELECT w.id, w.name, w.created, w.retention_days, w.require_declared_secrets, w.enforce_validity,
                    w.deleted, w.revision, w.mac, g.role, w.name_key
             FROM workspace w JOIN role_grant g ON g.workspace = w.id
             WHERE g.principal = ?1 AND g.effect = 'allow' AND w.deleted IS NULL AND w.name_key > ?2
             ORDER BY w.name_key LIMIT ?3",
            (principal.as_bytes(), after, sql::more(page)),
            page.limit,
            |row| row.get(10),
            listed,
        ),
        None => sql::page(
            c,
            "SELECT id, name, created, retention_days, require_declared_secrets, enforce_validity,
                    deleted, revision, mac, NULL, name_key
             FROM workspace WHERE deleted IS NULL AND name_key > ?1
             ORDER BY name_key LIMIT ?2",
            (after, sql::more(page)),
            page.limit,
            |row| row.get(10),
            listed,
        ),
    }
}

pub(crate) fn workspace_change(unit: &Unit<'_>, change: Authenticated<Workspace>) -> Result<(), Error> {
    let Authenticated { row: change, mac } = change;
    let settings = change.settings;
    let changed = sql::run(
        unit,
        "UPDATE workspace
         SET retention_days = ?3, require_declared_secrets = ?4, enforce_validity = ?5, revision = ?2, mac = ?6
         WHERE id = ?1 AND revision = ?2 - 1 AND deleted IS NULL",
        (
            change.id.as_bytes(),
            sql::int(change.revision),
            settings.retention_days,
            settings.require_declared_secrets,
            settings.enforce_validity,
            mac.0,
        ),
    )?;
    if changed == 0 {
        return Err(Error::Revision { current: revision(unit, change.id)? });
    }
    Ok(())
}

pub(crate) fn workspace_delete(unit: &Unit<'_>, delete: Authenticated<Workspace>) -> Result<(), Error> {
    let Authenticated { row: delete, mac } = delete;
    let id = delete.id;
    let alive = sql::exists(
        unit,
        "SELECT 1 FROM run
         WHERE workspace = ?1 AND status IN ('queued', 'starting', 'running', 'unresponsive')",
        [id.as_bytes()],
    )?;
    if alive {
        return Err(Error::Conflict("runs of the workspace are still alive"));
    }
    let deleted = sql::run(
        unit,
        "UPDATE workspace SET deleted = ?3, revision = ?2, mac = ?4
         WHERE id = ?1 AND revision = ?2 - 1 AND deleted IS NULL AND ?3 IS NOT NULL",
        (id.as_bytes(), sql::int(delete.revision), delete.deleted.map(Timestamp::millis), mac.0),
    )?;
    if deleted == 0 {
        return Err(Error::Revision { current: revision(unit, id)? });
    }
    remove_grants(unit, "DELETE FROM role_grant WHERE workspace = ?1 RETURNING principal", id.as_bytes())
}

fn remove_grants(unit: &Unit<'_>, statement: &str, place: &[u8; 16]) -> Result<(), Error> {
    let principals =
        sql::all(unit, statement, [place], |row| Fields::new(row, "role_grant").id(PrincipalId::from_bytes))?;
    for principal in principals {
        move_epoch(unit, principal)?;
    }
    Ok(())
}

/// The page's key is the name's key and the effect, parted by a space, which sorts before everything in a name.
pub(crate) fn members(
    c: &Connection,
    workspace: WorkspaceId,
    page: &After<String>,
) -> Result<sql::Page<Member, String>, Error> {
    let after = page.after.as_deref().unwrap_or_default();
    let (name, effect) = after.split_once(' ').unwrap_or((after, ""));
    sql::page(
        c,
        "SELECT g.principal, g.scope, g.workspace, g.compute, g.effect, g.role, g.revision, g.mac, p.name,
                p.name_key || ' ' || g.effect
         FROM role_grant g JOIN principal p ON p.id = g.principal
         WHERE g.workspace = ?1 AND (p.name_key, g.effect) > (?2, ?3)
         ORDER BY p.name_key, g.effect LIMIT ?4",
        (workspace.as_bytes(), name, effect, sql::more(page)),
        page.limit,
        |row| row.get(9),
        |row| {
            let f = Fields::new(row, "role_grant");
            let grant = identity::grant(&f)?;
            Ok(Member { name: f.parse(PrincipalName::parse)?, grant })
        },
    )
}

// Keys --------------------------------------------------------------------------------------------------------------

pub(crate) fn workspace_keys(c: &Connection, workspace: WorkspaceId) -> Result<Vec<WorkspaceKeyRow>, Error> {
    sql::all(
        c,
        "SELECT id, workspace, wrapped, current, created FROM workspace_key
         WHERE workspace = ?1 ORDER BY created, current",
        [workspace.as_bytes()],
        key,
    )
}

pub(crate) fn workspace_keys_all(c: &Connection) -> Result<Vec<WorkspaceKeyRow>, Error> {
    sql::all(
        c,
        "SELECT id, workspace, wrapped, current, created FROM workspace_key ORDER BY workspace, created, current",
        [],
        key,
    )
}

pub(crate) fn workspace_key_add(unit: &Unit<'_>, key: WorkspaceKeyRow) -> Result<(), Error> {
    require(unit, key.workspace)?;
    sql::run(
        unit,
        "UPDATE workspace_key SET current = 0 WHERE workspace = ?1 AND current = 1",
        [key.workspace.as_bytes()],
    )?;
    sql::run(
        unit,
        "INSERT INTO workspace_key (id, workspace, wrapped, current, created) VALUES (?1, ?2, ?3, 1, ?4)",
        (key.id.as_bytes(), key.workspace.as_bytes(), key.wrapped, key.created.millis()),
    )?;
    Ok(())
}

pub(crate) fn workspace_key_remove(unit: &Unit<'_>, remove: WorkspaceKeyRemove) -> Result<(), Error> {
    let used = sql::exists(unit, "SELECT 1 FROM version WHERE key_id = ?1", [remove.key.as_bytes()])?;
    if used {
        return Err(Error::Conflict("versions still use this key"));
    }
    let found = sql::one(
        unit,
        "SELECT id, workspace, wrapped, current, created FROM workspace_key WHERE id = ?1 AND workspace = ?2",
        (remove.key.as_bytes(), remove.workspace.as_bytes()),
        key,
    )?;
    if found.ok_or(Error::NotFound)?.current {
        return Err(Error::Conflict("this is the workspace's current key"));
    }
    sql::run(unit, "DELETE FROM workspace_key WHERE id = ?1", [remove.key.as_bytes()])?;
    Ok(())
}

// Compute targets ---------------------------------------------------------------------------------------------------

pub(crate) fn compute_insert(unit: &Unit<'_>, new: Authenticated<ComputeRow>) -> Result<(), Error> {
    let Authenticated { row, mac } = new;
    if row.name.is_local() {
        return Err(Error::Conflict("the name `local` means the submitter's own machine"));
    }
    sql::run(
        unit,
        "INSERT INTO compute (id, name, name_key, open, created, revision, mac, last_seen)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        (
            row.id.as_bytes(),
            row.name.as_str(),
            row.name.key(),
            row.open,
            row.created.millis(),
            sql::int(row.revision),
            mac.0,
            row.last_seen.map(Timestamp::millis),
        ),
    )
    .map_err(failure::taken("a compute target with this name exists"))?;
    Ok(())
}

pub(crate) fn compute_by_name(c: &Connection, key: &str) -> Result<Option<Authenticated<ComputeRow>>, Error> {
    let found = sql::one(
        c,
        "SELECT id, name, open, created, revision, mac, last_seen,
                (SELECT count(*) FROM run WHERE compute_key = compute.name_key AND status = 'queued')
         FROM compute WHERE name_key = ?1",
        [key],
        compute,
    )?;
    asked(found, "compute", |row| row.name.key() == key, |row| row.id.to_string())
}

pub(crate) fn compute_list(
    c: &Connection,
    page: &After<String>,
) -> Result<sql::Page<Authenticated<ComputeRow>, String>, Error> {
    sql::page(
        c,
        "SELECT id, name, open, created, revision, mac, last_seen,
                (SELECT count(*) FROM run WHERE compute_key = compute.name_key AND status = 'queued'), name_key
         FROM compute WHERE name_key > ?1 ORDER BY name_key LIMIT ?2",
        (page.after.as_deref().unwrap_or_default(), sql::more(page)),
        page.limit,
        |row| row.get(8),
        compute,
    )
}

pub(crate) fn compute_delete(unit: &Unit<'_>, id: ComputeId) -> Result<(), Error> {
    let used = sql::exists(
        unit,
        "SELECT 1 FROM run JOIN compute ON compute.name_key = run.compute_key
         WHERE compute.id = ?1 AND run.status IN ('queued', 'starting', 'running', 'unresponsive')",
        [id.as_bytes()],
    )?;
    if used {
        return Err(Error::Conflict("runs wait for this compute target or run on it"));
    }
    remove_grants(unit, "DELETE FROM role_grant WHERE compute = ?1 RETURNING principal", id.as_bytes())?;
    let deleted = sql::run(unit, "DELETE FROM compute WHERE id = ?1", [id.as_bytes()])?;
    if deleted == 0 { Err(Error::NotFound) } else { Ok(()) }
}

pub(crate) fn compute_seen(unit: &Unit<'_>, seen: ComputeSeen) -> Result<(), Error> {
    let noted = sql::run(
        unit,
        "UPDATE compute SET last_seen = ?2 WHERE id = ?1",
        (seen.compute.as_bytes(), seen.now.millis()),
    )?;
    if noted == 0 { Err(Error::NotFound) } else { Ok(()) }
}
