//! SQL of the installation.

use std::collections::BTreeMap;

use kluis_core::id::InstallationId;
use rusqlite::Connection;

use super::sql::{self, Fields};
use super::{Unit, failure, identity, workspaces};
use crate::Error;
use crate::installation::{InstallationCreate, InstallationKeys, InstallationRow, RootRotate, SealedBlob};

pub(crate) fn load(c: &Connection) -> Result<Option<InstallationRow>, Error> {
    let found = sql::one(
        c,
        "SELECT one, id, epoch, created, installation_key, signing_key, canary, root_source
         FROM installation WHERE one = 1",
        [],
        |row| {
            let f = Fields::new(row, "installation");
            f.skip();
            Ok(InstallationRow {
                id: f.id(InstallationId::from_bytes)?,
                epoch: f.number()?,
                created: f.time()?,
                keys: InstallationKeys {
                    installation_key: f.get()?,
                    signing_key: f.get()?,
                    canary: f.get()?,
                    root_source: f.get()?,
                },
                sealed: BTreeMap::new(),
            })
        },
    )?;
    let Some(mut installation) = found else { return Ok(None) };
    let sealed = sql::all(c, "SELECT name, bytes FROM sealed_blob", [], |row| {
        let f = Fields::new(row, "sealed_blob");
        Ok((f.get()?, f.get()?))
    })?;
    installation.sealed.extend(sealed);
    Ok(Some(installation))
}

pub(crate) fn create(unit: &Unit<'_>, create: InstallationCreate) -> Result<(), Error> {
    let InstallationCreate { id, created, keys, sealed, owner, owner_grant, owner_token, workspace, compute } = create;
    sql::run(
        unit,
        "INSERT INTO installation (one, id, epoch, created, installation_key, signing_key, canary, root_source)
         VALUES (1, ?1, 1, ?2, ?3, ?4, ?5, ?6)",
        (id.as_bytes(), created.millis(), keys.installation_key, keys.signing_key, keys.canary, keys.root_source),
    )
    .map_err(failure::taken("there is an installation already"))?;
    for (name, bytes) in sealed {
        sealed_blob_set(unit, SealedBlob { name, bytes })?;
    }
    identity::principal_insert(unit, owner)?;
    identity::grant_set(unit, owner_grant)?;
    identity::token_insert(unit, owner_token)?;
    workspaces::workspace_insert(unit, workspace)?;
    workspaces::compute_insert(unit, compute)
}

pub(crate) fn sealed_blob_set(unit: &Unit<'_>, blob: SealedBlob) -> Result<(), Error> {
    sql::run(
        unit,
        "INSERT INTO sealed_blob (name, bytes) VALUES (?1, ?2)
         ON CONFLICT (name) DO UPDATE SET bytes = excluded.bytes",
        (blob.name, blob.bytes),
    )?;
    Ok(())
}

pub(crate) fn root_rotate(unit: &Unit<'_>, rotate: RootRotate) -> Result<(), Error> {
    let keys = rotate.keys;
    let changed = sql::run(
        unit,
        "UPDATE installation SET installation_key = ?1, signing_key = ?2, canary = ?3, root_source = ?4
         WHERE one = 1",
        (keys.installation_key, keys.signing_key, keys.canary, keys.root_source),
    )?;
    if changed == 0 {
        return Err(Error::NotFound);
    }
    let mut rewrapped = 0;
    for (id, wrapped) in &rotate.workspace_keys {
        rewrapped += sql::run(unit, "UPDATE workspace_key SET wrapped = ?2 WHERE id = ?1", (id.as_bytes(), wrapped))?;
    }
    let there_are = sql::one(unit, "SELECT count(*) FROM workspace_key", [], |row| Ok(row.get::<_, i64>(0)?))?;
    if there_are == Some(rewrapped as i64) && rewrapped == rotate.workspace_keys.len() {
        Ok(())
    } else {
        Err(Error::Moved("the set of workspace keys"))
    }
}
