//! SQL of logins that wait for a person.

use kluis_core::clock::Timestamp;
use kluis_core::id::{DeviceId, PrincipalId, TokenId};
use kluis_core::sealed::LookupHash;
use rusqlite::{Connection, Row};

use super::Unit;
use super::failure;
use super::sql::{self, Fields};
use crate::devices::{DeviceDecide, DeviceInsert, DeviceRedeem, DeviceRow, DeviceState};
use crate::{Authenticated, Error};

const CROWDED: &str = "logins that wait for somebody";
const CODE_TAKEN: &str = "a login with this code waits already";

/// Columns: id, hash, user_hash, audience, label, source, created, expires, state, approved_by, approved_with, mac.
fn device(row: &Row<'_>) -> Result<Authenticated<DeviceRow>, Error> {
    let f = Fields::new(row, "device");
    let (id, hash, user_hash) = (f.id(DeviceId::from_bytes)?, f.hash()?, f.hash()?);
    let (audience, label, source) = (f.get()?, f.get()?, f.get()?);
    let (created, expires, state): (_, _, String) = (f.time()?, f.time()?, f.get()?);
    let by = f.optional_id(PrincipalId::from_bytes)?;
    let with = f.optional_id(TokenId::from_bytes)?;
    let state = match (state.as_str(), by, with) {
        ("waiting", None, None) => DeviceState::Waiting,
        ("denied", None, None) => DeviceState::Denied,
        ("approved", Some(by), Some(with)) => DeviceState::Approved { by, with },
        _ => return Err(f.wrong()),
    };
    let row = DeviceRow { id, hash, user_hash, audience, label, source, created, expires, state };
    Ok(Authenticated { row, mac: f.mac()? })
}

fn count(c: &Connection, sql: &str, params: impl rusqlite::Params) -> Result<u32, Error> {
    Ok(sql::one(c, sql, params, |row| Fields::new(row, "device").number())?.unwrap_or(0))
}

pub(crate) fn insert(unit: &Unit<'_>, insert: DeviceInsert) -> Result<(), Error> {
    let DeviceInsert { device: Authenticated { row, mac }, network, now, most, most_of_network } = insert;
    let all = count(unit, "SELECT count(*) FROM device WHERE expires > ?1", [now.millis()])?;
    let here = count(
        unit,
        "SELECT count(*) FROM device WHERE network = ?1 AND expires > ?2",
        (network.as_str(), now.millis()),
    )?;
    if all >= most || here >= most_of_network {
        return Err(Error::Crowded(CROWDED));
    }
    sql::run(
        unit,
        "INSERT INTO device (id, hash, user_hash, audience, label, source, network, created, expires, state, mac)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 'waiting', ?10)",
        (
            row.id.as_bytes(),
            row.hash.0,
            row.user_hash.0,
            row.audience,
            row.label,
            row.source,
            network,
            row.created.millis(),
            row.expires.millis(),
            mac.0,
        ),
    )
    .map_err(failure::taken(CODE_TAKEN))?;
    Ok(())
}

pub(crate) fn by_hash(c: &Connection, hash: LookupHash) -> Result<Option<Authenticated<DeviceRow>>, Error> {
    sql::one(
        c,
        "SELECT id, hash, user_hash, audience, label, source, created, expires, state, approved_by, approved_with, mac
         FROM device WHERE hash = ?1",
        [hash.0],
        device,
    )
}

pub(crate) fn by_user_hash(c: &Connection, hash: LookupHash) -> Result<Option<Authenticated<DeviceRow>>, Error> {
    sql::one(
        c,
        "SELECT id, hash, user_hash, audience, label, source, created, expires, state, approved_by, approved_with, mac
         FROM device WHERE user_hash = ?1",
        [hash.0],
        device,
    )
}

pub(crate) fn decide(unit: &Unit<'_>, decide: DeviceDecide) -> Result<(), Error> {
    let DeviceDecide { device: Authenticated { row, mac }, now } = decide;
    let (by, with) = match row.state {
        DeviceState::Approved { by, with } => (Some(*by.as_bytes()), Some(*with.as_bytes())),
        DeviceState::Waiting | DeviceState::Denied => (None, None),
    };
    let decided = sql::run(
        unit,
        "UPDATE device SET state = ?2, approved_by = ?3, approved_with = ?4, mac = ?5
         WHERE id = ?1 AND state = 'waiting' AND expires > ?6",
        (row.id.as_bytes(), row.state.as_str(), by, with, mac.0, now.millis()),
    )?;
    if decided == 0 { Err(Error::NotFound) } else { Ok(()) }
}

pub(crate) fn redeem(unit: &Unit<'_>, redeem: DeviceRedeem) -> Result<(), Error> {
    let DeviceRedeem { device, now, token } = redeem;
    let taken = sql::run(
        unit,
        "DELETE FROM device WHERE id = ?1 AND state = 'approved' AND approved_by = ?2 AND expires > ?3",
        (device.as_bytes(), token.row.principal.as_bytes(), now.millis()),
    )?;
    if taken == 0 {
        return Err(Error::NotFound);
    }
    super::identity::token_insert(unit, token)
}

/// Forgets what has expired; how many.
pub(super) fn expired_remove(unit: &Unit<'_>, before: Timestamp) -> Result<usize, Error> {
    sql::run(unit, "DELETE FROM device WHERE expires < ?1", [before.millis()])
}
