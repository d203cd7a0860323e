//! Audit pages, the Merkle frontier, checkpoints. A page holds the records of a committed batch, in order: each a
//! length of four bytes, most significant first, then the leaf. A batch with much to say fills several pages.

use kluis_core::audit::{Checkpoint, Frontier, SignedCheckpoint, leaf_hash};
use kluis_core::clock::Timestamp;
use kluis_core::id::InstallationId;
use rusqlite::{Connection, Row};

use super::Unit;
use super::sql::{self, Fields};
use super::writer::Leaf;
use crate::Error;
use crate::audit::{AuditHead, AuditProof};

/// A page is closed when it has so many bytes: reading one record reads at most this much before it.
const PAGE_BYTES: usize = 64 * 1024;
const HOUR: i64 = 3_600_000;

/// Appends a batch's records to pages and frontier. Part of the batch's transaction.
pub(super) fn append(c: &Connection, frontier: &mut Frontier, leaves: &[Leaf]) -> Result<(), Error> {
    if leaves.is_empty() {
        return Ok(());
    }
    let mut rest = leaves;
    while !rest.is_empty() {
        let (first_seq, mut entries, mut count) = (frontier.size(), Vec::new(), 0);
        while let Some(leaf) = rest.get(count).filter(|_| entries.len() < PAGE_BYTES) {
            entries.extend_from_slice(&(leaf.bytes.len() as u32).to_be_bytes());
            entries.extend_from_slice(&leaf.bytes);
            frontier.append(leaf.hash);
            count += 1;
        }
        rest = &rest[count..];
        sql::run(
            c,
            "INSERT INTO audit_page (first_seq, count, entries) VALUES (?1, ?2, ?3)",
            (sql::int(first_seq), count as i64, entries),
        )?;
    }
    sql::run(c, "UPDATE audit_head SET frontier = ?1 WHERE one = 1", [frontier.to_bytes()])?;
    Ok(())
}

/// One page, taken apart: each leaf with its offset in the page.
pub(super) fn leaves_of(page: &[u8]) -> Option<Vec<(usize, &[u8])>> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < page.len() {
        let length = page.get(at..at + 4)?;
        let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize;
        out.push((at + 4, page.get(at + 4..at + 4 + length)?));
        at += 4 + length;
    }
    Some(out)
}

fn broken(first_seq: i64) -> Error {
    Error::Inconsistent { table: "audit_page", row: first_seq.to_string() }
}

/// The frontier as stored. Its size must be where the last page ends: appending elsewhere would fork the log.
pub(super) fn frontier(c: &Connection) -> Result<Frontier, Error> {
    let frontier = stored(c)?;
    let end = sql::one(c, "SELECT first_seq, count FROM audit_page ORDER BY first_seq DESC LIMIT 1", [], |row| {
        let f = Fields::new(row, "audit_page");
        Ok(f.number::<u64>()? + f.number::<u64>()?)
    })?;
    if end.unwrap_or(0) == frontier.size() {
        Ok(frontier)
    } else {
        Err(Error::Inconsistent { table: "audit_head", row: "1".into() })
    }
}

fn stored(c: &Connection) -> Result<Frontier, Error> {
    sql::one(c, "SELECT one, frontier FROM audit_head WHERE one = 1", [], |row| {
        let f = Fields::new(row, "audit_head");
        f.skip();
        Frontier::from_bytes(&f.get::<Vec<u8>>()?).ok_or_else(|| f.wrong())
    })?
    .ok_or(Error::Inconsistent { table: "audit_head", row: "1".into() })
}

pub(crate) fn head(c: &Connection) -> Result<AuditHead, Error> {
    let frontier = stored(c)?;
    Ok(AuditHead { size: frontier.size(), root: frontier.root() })
}

pub(crate) fn leaves(c: &Connection, from: u64, limit: u32) -> Result<Vec<(u64, Vec<u8>)>, Error> {
    let mut statement = c.prepare_cached(
        "SELECT first_seq, entries FROM audit_page
         WHERE first_seq >= (SELECT coalesce(max(first_seq), 0) FROM audit_page WHERE first_seq <= ?1)
         ORDER BY first_seq",
    )?;
    let mut rows = statement.query([sql::int(from)])?;
    let mut out = Vec::new();
    while let Some(row) = rows.next()? {
        if out.len() >= limit as usize {
            break;
        }
        let (first, entries): (i64, Vec<u8>) = (row.get(0)?, row.get(1)?);
        let page = leaves_of(&entries).ok_or_else(|| broken(first))?;
        let numbered = (first as u64..).zip(page).map(|(seq, (_, leaf))| (seq, leaf.to_vec()));
        out.extend(numbered.filter(|(seq, _)| *seq >= from));
    }
    Ok(out)
}

pub(crate) fn prove(c: &Connection, mut sizes: Vec<u64>) -> Result<AuditProof, Error> {
    let stored = head(c)?;
    sizes.sort_unstable();
    sizes.dedup();
    let mut sizes = sizes.into_iter().peekable();
    let (mut frontier, mut at) = (Frontier::default(), Vec::new());
    let mut reach = |frontier: &Frontier| {
        if sizes.next_if_eq(&frontier.size()).is_some() {
            at.push(AuditHead { size: frontier.size(), root: frontier.root() });
        }
    };
    reach(&frontier);
    let mut statement = c.prepare_cached("SELECT first_seq, count, entries FROM audit_page ORDER BY first_seq")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (first, count, entries): (i64, i64, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let page = leaves_of(&entries).ok_or_else(|| broken(first))?;
        if first as u64 != frontier.size() || count as usize != page.len() {
            return Err(broken(first));
        }
        for (_, leaf) in page {
            frontier.append(leaf_hash(leaf));
            reach(&frontier);
        }
    }
    Ok(AuditProof { stored, recomputed: AuditHead { size: frontier.size(), root: frontier.root() }, at })
}

pub(crate) fn checkpoint_insert(unit: &Unit<'_>, signed: SignedCheckpoint) -> Result<(), Error> {
    let last = checkpoint_last(unit)?;
    let checkpoint = &signed.checkpoint;
    if let Some(last) = &last {
        if (checkpoint.epoch, checkpoint.size) < (last.checkpoint.epoch, last.checkpoint.size) {
            return Err(Error::Moved("the last checkpoint"));
        }
        if last.checkpoint.time.millis().div_euclid(HOUR) == checkpoint.time.millis().div_euclid(HOUR) {
            sql::run(unit, "DELETE FROM checkpoint WHERE seq = (SELECT max(seq) FROM checkpoint)", [])?;
        }
    }
    sql::run(
        unit,
        "INSERT INTO checkpoint (installation, epoch, size, root, time, signature, public_key)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        (
            checkpoint.installation.as_bytes(),
            sql::int(checkpoint.epoch),
            sql::int(checkpoint.size),
            checkpoint.root,
            checkpoint.time.millis(),
            &signed.signature,
            &signed.public_key,
        ),
    )?;
    Ok(())
}

/// Columns: seq, installation, epoch, size, root, time, signature, public_key.
fn checkpoint(row: &Row<'_>) -> Result<SignedCheckpoint, Error> {
    let f = Fields::new(row, "checkpoint");
    f.skip();
    Ok(SignedCheckpoint {
        checkpoint: Checkpoint {
            installation: f.id(InstallationId::from_bytes)?,
            epoch: f.number()?,
            size: f.number()?,
            root: f.get()?,
            time: Timestamp::from_millis(f.get()?),
        },
        signature: f.get()?,
        public_key: f.get()?,
    })
}

pub(crate) fn checkpoints(c: &Connection) -> Result<Vec<SignedCheckpoint>, Error> {
    sql::all(
        c,
        "SELECT seq, installation, epoch, size, root, time, signature, public_key FROM checkpoint ORDER BY seq",
        [],
        checkpoint,
    )
}

pub(crate) fn checkpoint_last(c: &Connection) -> Result<Option<SignedCheckpoint>, Error> {
    sql::one(
        c,
        "SELECT seq, installation, epoch, size, root, time, signature, public_key
         FROM checkpoint ORDER BY seq DESC LIMIT 1",
        [],
        checkpoint,
    )
}
