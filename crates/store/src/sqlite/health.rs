//! What the store knows about its own condition: a background check of the whole file, and every row that turned out
//! to be inconsistent on the way. Findings name tables and keys, never content.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rusqlite::{Connection, ErrorCode, InterruptHandle};

use super::readers;
use crate::Error;

/// The most findings that are kept.
const MOST: usize = 1000;

/// Something that is not as it should be. The rest of the store works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The table, or what else is damaged.
    pub table: String,
    /// The row's key, or what SQLite's check said.
    pub row: String,
}

/// How the check of the whole file went. It runs in the background after every opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Integrity {
    /// Not finished.
    Checking,
    /// Nothing found.
    Sound,
    /// Something found: see [`Health::findings`].
    Damaged,
    /// It could not be carried out, or was cut short by closing.
    Unchecked,
}

/// The store's condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The check of the whole file.
    pub integrity: Integrity,
    /// What was found by it and since, oldest first.
    pub findings: Vec<Finding>,
    /// Committed audit records that can not be searched for yet.
    pub audit_behind: u64,
}

pub(super) struct Watch {
    state: Mutex<(Integrity, Vec<Finding>)>,
}

impl Watch {
    pub(super) fn new() -> Self {
        Self { state: Mutex::new((Integrity::Checking, Vec::new())) }
    }

    pub(super) fn state(&self) -> (Integrity, Vec<Finding>) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn find(&self, table: impl Into<String>, row: impl Into<String>) {
        let finding = Finding { table: table.into(), row: row.into() };
        let (_, findings) = &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if findings.len() < MOST && !findings.contains(&finding) {
            tracing::error!(table = finding.table, row = finding.row, "a row is inconsistent and is left out");
            findings.push(finding);
        }
    }

    /// Keeps an inconsistency that a command or a list came upon.
    pub(super) fn notice(&self, error: &Error) {
        if let (_, Error::Inconsistent { table, row }) = error.entry() {
            self.find(*table, row.clone());
        }
    }

    fn checked(&self, integrity: Integrity) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0 = integrity;
    }
}

/// The check, on a thread and a connection of its own.
pub(super) struct Check {
    interrupt: InterruptHandle,
    thread: JoinHandle<()>,
}

impl Check {
    pub(super) fn start(database: &Path, watch: Arc<Watch>) -> Result<Self, std::io::Error> {
        let connection = readers::connect(database).map_err(std::io::Error::other)?;
        let interrupt = connection.get_interrupt_handle();
        let thread = std::thread::Builder::new().name("store-check".into()).spawn(move || {
            watch.checked(check(&connection, &watch).unwrap_or_else(|error| cut_short(&error, &watch)));
        })?;
        Ok(Self { interrupt, thread })
    }

    pub(super) fn stop(self) {
        self.interrupt.interrupt();
        if self.thread.join().is_err() {
            tracing::error!("the store's check ended by a panic");
        }
    }
}

/// What a check that could not go on has shown.
fn cut_short(error: &rusqlite::Error, watch: &Watch) -> Integrity {
    match error.sqlite_error_code() {
        Some(code @ (ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)) => {
            watch.find("the database file", format!("the check could not go on: {code:?}"));
            Integrity::Damaged
        }
        _ => Integrity::Unchecked,
    }
}

fn check(connection: &Connection, watch: &Watch) -> rusqlite::Result<Integrity> {
    let mut damaged = false;
    let mut integrity = connection.prepare("PRAGMA integrity_check(100)")?;
    let mut rows = integrity.query([])?;
    while let Some(row) = rows.next()? {
        let said: String = row.get(0)?;
        if said != "ok" {
            damaged = true;
            watch.find("the database file", said);
        }
    }
    let mut references = connection.prepare("PRAGMA foreign_key_check")?;
    let mut rows = references.query([])?;
    while let Some(row) = rows.next()? {
        let (table, rowid): (String, Option<i64>) = (row.get(0)?, row.get(1)?);
        damaged = true;
        watch.find(table, rowid.map_or_else(|| "a reference".to_owned(), |id| format!("row {id}: a reference")));
    }
    Ok(if damaged { Integrity::Damaged } else { Integrity::Sound })
}
