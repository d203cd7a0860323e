//! SQL of finding values and delivering them, and of pins. This is the hot path: one statement finds a secret, and one
//! re-checks it in the unit of work that records the delivery.

use kluis_core::clock::Timestamp;
use kluis_core::id::{KeyId, PrincipalId, SecretId, VersionId, WorkspaceId};
use kluis_core::name::{RunId, SecretName};
use kluis_core::sealed::Sealed;
use kluis_core::secret::SecretTransitionError;
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Row};

use super::Unit;
use super::admit::{self, InName, Session};
use super::secrets::{secret, version};
use super::sql::{self, Fields};
use crate::secrets::{Found, Pin, PinState, RunUsing, SecretFind, SecretRead};
use crate::{Authority, Error};

/// Columns: those of the secret, those of the version, then key_id, wrapped_key, value.
fn found(row: &Row<'_>) -> Result<Found, Error> {
    let secret = secret(&Fields::new(row, "secret"))?;
    if row.get_ref(10)? == ValueRef::Null {
        // The pointer points nowhere.
        return Err(Fields::new(row, "secret").wrong());
    }
    let f = Fields::at(row, "version", 10);
    let version = version(&f)?;
    let sealed = Sealed { key_id: f.id(KeyId::from_bytes)?, wrapped_key: f.get()?, value: f.get()? };
    Ok(Found { secret, version, sealed })
}

/// The current version; or, with a run's row and attempt (?3, ?4), the pinned one where there is a pin.
pub(crate) fn find(c: &Connection, authority: &Authority, find: &SecretFind) -> Result<Vec<Option<Found>>, Error> {
    let (run, attempt) = match admit::admit(c, authority)? {
        InName::Reader(session) if !find.refresh => (Value::Integer(session.run), session.attempt),
        InName::Reader(_) | InName::Own => (Value::Null, 0),
        InName::Reporter(_) => return Err(Error::NotFound),
    };
    let one = |name: &SecretName| {
        let found = sql::one(
            c,
            "SELECT s.id, s.workspace, s.name, s.current, s.deleted_at, s.purge_at, s.revision, s.created, s.updated,
                    s.mac, v.id, v.workspace, v.secret, v.enabled, v.content_type, v.tags, v.not_before, v.expires,
                    v.revision, v.created, v.updated, v.created_by, v.mac, v.key_id, v.wrapped_key, v.value
             FROM secret s JOIN workspace w ON w.id = s.workspace
             LEFT JOIN pin p ON p.run = ?3 AND p.attempt = ?4 AND p.secret = s.id
             LEFT JOIN version v ON v.id = coalesce(p.version, s.current) AND v.secret = s.id
             WHERE s.workspace = ?1 AND s.name_key = ?2 AND w.deleted IS NULL",
            (find.workspace.as_bytes(), name.key(), &run, attempt),
            found,
        )?;
        asked(found, find.workspace, name.key())
    };
    find.names.iter().map(one).collect()
}

pub(crate) fn find_version(
    c: &Connection,
    authority: &Authority,
    workspace: WorkspaceId,
    name_key: &str,
    id: VersionId,
) -> Result<Option<Found>, Error> {
    if let InName::Reporter(_) = admit::admit(c, authority)? {
        return Err(Error::NotFound);
    }
    let found = sql::one(
        c,
        "SELECT s.id, s.workspace, s.name, s.current, s.deleted_at, s.purge_at, s.revision, s.created, s.updated,
                s.mac, v.id, v.workspace, v.secret, v.enabled, v.content_type, v.tags, v.not_before, v.expires,
                v.revision, v.created, v.updated, v.created_by, v.mac, v.key_id, v.wrapped_key, v.value
         FROM secret s JOIN workspace w ON w.id = s.workspace
         JOIN version v ON v.id = ?3 AND v.secret = s.id
         WHERE s.workspace = ?1 AND s.name_key = ?2 AND w.deleted IS NULL",
        (workspace.as_bytes(), name_key, id.as_bytes()),
        found,
    )?;
    asked(found, workspace, name_key)
}

/// What was looked up by a key must be what the row itself, and with it the MAC, says: an index, or the column that is
/// looked up by, may lie.
fn asked(found: Option<Found>, workspace: WorkspaceId, name_key: &str) -> Result<Option<Found>, Error> {
    match &found {
        Some(Found { secret, version, .. })
            if secret.row.name.key() != name_key
                || secret.row.workspace != workspace
                || version.row.secret != secret.row.id
                || version.row.workspace != workspace =>
        {
            Err(Error::Inconsistent { table: "secret", row: secret.row.id.to_string() })
        }
        _ => Ok(found),
    }
}

/// Checks everything first; only then, and only for a run's first read of a secret or a refresh, a row changes.
pub(crate) fn read(unit: &Unit<'_>, reads: Vec<SecretRead>) -> Result<(), Error> {
    let session = unit.reader_if_any();
    let mut pins = Vec::new();
    for (index, read) in reads.iter().enumerate() {
        let entry = |error| Error::Entry { index, error: Box::new(error) };
        require_unchanged(unit, read).map_err(entry)?;
        if let Some(session) = &session {
            match pinned(unit, session, read.secret).map_err(entry)? {
                Some(version) if version == read.version => {}
                Some(version) if !read.refresh => return Err(entry(Error::Pinned { version })),
                _ => pins.push((session, read)),
            }
        }
    }
    for (session, read) in pins {
        pin(unit, session, read)?;
    }
    Ok(())
}

fn require_unchanged(c: &Connection, read: &SecretRead) -> Result<(), Error> {
    let found = sql::one(
        c,
        "SELECT s.id, s.revision, s.purge_at, v.revision, v.enabled
         FROM secret s JOIN workspace w ON w.id = s.workspace
         LEFT JOIN version v ON v.id = ?3 AND v.secret = s.id
         WHERE s.id = ?1 AND s.workspace = ?2 AND w.deleted IS NULL",
        (read.secret.as_bytes(), read.workspace.as_bytes(), read.version.as_bytes()),
        |row| {
            let f = Fields::new(row, "secret");
            f.skip();
            Ok((f.number::<u64>()?, f.optional_time()?, f.get::<Option<i64>>()?, f.get::<Option<i64>>()?))
        },
    )?;
    match found.ok_or(Error::NotFound)? {
        (_, Some(purge_at), ..) => Err(SecretTransitionError::Deleted { purge_at }.into()),
        (_, None, None, _) => Err(Error::NotFound),
        (current, ..) if current != read.secret_revision => Err(Error::Revision { current }),
        (_, _, Some(current), _) if current as u64 != read.version_revision => {
            Err(Error::Revision { current: current as u64 })
        }
        (_, _, Some(_), Some(1)) => Ok(()),
        (_, _, Some(_), Some(0)) => Err(Error::Disabled),
        _ => Err(Error::Inconsistent { table: "version", row: read.version.to_string() }),
    }
}

fn pinned(c: &Connection, session: &Session, secret: SecretId) -> Result<Option<VersionId>, Error> {
    sql::one(
        c,
        "SELECT run, version FROM pin WHERE run = ?1 AND attempt = ?2 AND secret = ?3",
        (session.run, session.attempt, secret.as_bytes()),
        |row| {
            let f = Fields::new(row, "pin");
            f.skip();
            f.id(VersionId::from_bytes)
        },
    )
}

fn pin(unit: &Unit<'_>, session: &Session, read: &SecretRead) -> Result<(), Error> {
    unit.save()?;
    sql::run(
        unit,
        "INSERT INTO pin (run, attempt, secret, version, name, first, live) VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1)
         ON CONFLICT (run, attempt, secret) DO UPDATE SET version = excluded.version",
        (
            session.run,
            session.attempt,
            read.secret.as_bytes(),
            read.version.as_bytes(),
            read.name.as_str(),
            read.now.millis(),
        ),
    )?;
    Ok(())
}

pub(crate) fn pins(c: &Connection, workspace: WorkspaceId, run_key: &str) -> Result<Vec<Pin>, Error> {
    sql::all(
        c,
        "SELECT p.run, p.attempt, p.secret, p.name, p.version, p.first,
                CASE WHEN s.id IS NULL OR s.deleted_at IS NOT NULL OR v.id IS NULL OR v.enabled = 0 THEN 'revoked'
                     WHEN s.current <> p.version THEN 'rotated'
                     ELSE 'same' END
         FROM run r JOIN pin p ON p.run = r.seq
         LEFT JOIN secret s ON s.id = p.secret
         LEFT JOIN version v ON v.id = p.version
         WHERE r.workspace = ?1 AND r.id_key = ?2 ORDER BY p.attempt, p.first, p.name",
        (workspace.as_bytes(), run_key),
        |row| {
            let f = Fields::new(row, "pin");
            f.skip();
            Ok(Pin {
                attempt: f.number()?,
                secret: f.id(SecretId::from_bytes)?,
                name: f.parse(SecretName::parse)?,
                version: f.id(VersionId::from_bytes)?,
                first: Timestamp::from_millis(f.get()?),
                now: f.word(|text| match text {
                    "same" => Some(PinState::Same),
                    "rotated" => Some(PinState::Rotated),
                    "revoked" => Some(PinState::Revoked),
                    _ => None,
                })?,
            })
        },
    )
}

pub(crate) fn live_runs_using(
    c: &Connection,
    workspace: WorkspaceId,
    secret: SecretId,
    version: Option<VersionId>,
) -> Result<Vec<RunUsing>, Error> {
    sql::all(
        c,
        "SELECT r.seq, r.id, p.attempt, p.version, r.submitted_by
         FROM pin p JOIN run r ON r.seq = p.run
         WHERE p.secret = ?1 AND p.live = 1 AND r.workspace = ?2 AND (?3 IS NULL OR p.version = ?3)
         ORDER BY r.seq",
        (secret.as_bytes(), workspace.as_bytes(), sql::maybe(version.as_ref().map(VersionId::as_bytes))),
        |row| {
            let f = Fields::new(row, "run");
            f.skip();
            Ok(RunUsing {
                run: f.parse(RunId::parse)?,
                attempt: f.number()?,
                version: f.id(VersionId::from_bytes)?,
                submitted_by: f.id(PrincipalId::from_bytes)?,
            })
        },
    )
}
