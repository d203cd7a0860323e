//! The embedded store: one SQLite file behind one writing thread and a few readers, and beside it a second file with
//! the searchable index of the audit log, which can be made anew from the first.
//!
//! | | |
//! |---|---|
//! | `open` | refusing, locking, migrating |
//! | `writer` | the writing thread: batches, savepoints, the commit |
//! | `readers` | the reading connections |
//! | `admit` | the authority check |
//! | `index` | the audit index and the thread that builds it |
//! | `health` | the integrity check and what it found |
//! | `sql`, `failure` | how statements are sent, rows read and errors told |
//! | the rest | one file per noun |

use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::broadcast;

use crate::{Error, Hint, Listed, OpenError, Write};

mod admit;
mod failure;
mod health;
mod index;
mod open;
mod readers;
pub(crate) mod sql;
mod writer;

mod run_row;
mod usage;

pub(crate) mod attempts;
pub(crate) mod audit;
pub(crate) mod audit_search;
pub(crate) mod backups;
pub(crate) mod blobs;
pub(crate) mod deliveries;
pub(crate) mod devices;
pub(crate) mod identity;
pub(crate) mod installation;
pub(crate) mod logs;
pub(crate) mod metrics;
pub(crate) mod purge;
pub(crate) mod rewrap;
pub(crate) mod runs;
pub(crate) mod runs_end;
pub(crate) mod secrets;
pub(crate) mod sessions;
pub(crate) mod tickets;
pub(crate) mod workspaces;

pub use health::{Finding, Health, Integrity};
pub use open::Options;
pub(crate) use writer::Unit;

/// The embedded store. Cheap to clone; the files close with the last clone, or by `close`.
#[derive(Clone)]
pub struct Sqlite(Arc<Inner>);

struct Inner {
    writer: writer::Writer,
    readers: readers::Readers,
    projector: Arc<index::Projector>,
    hints: broadcast::Sender<Hint>,
    watch: Arc<health::Watch>,
    check: Mutex<Option<health::Check>>,
    lock: Mutex<Option<File>>,
}

impl std::fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sqlite")
    }
}

impl Sqlite {
    /// Opens the store; see [`Store::open`](crate::Store::open).
    pub(crate) fn open(options: Options) -> Result<Self, OpenError> {
        let opened = open::open(&options)?;
        let wrong = |e: rusqlite::Error| open::wrong(&opened.database, &e);
        let io = |source| OpenError::Io { path: opened.database.clone(), source };
        let watch = Arc::new(health::Watch::new());
        let frontier = audit::frontier(&opened.connection)
            .map_err(|e| OpenError::Database { path: opened.database.clone(), reason: e.to_string() })?;
        let projector = index::Projector::start(&opened.database, &opened.index, frontier.size(), watch.clone())?;
        let readers = readers::Readers::open(&opened.database, &opened.index, options.readers.max(1)).map_err(wrong)?;
        let (hints, _) = broadcast::channel(1024);
        let check = health::Check::start(&opened.database, watch.clone()).map_err(io)?;
        let desk = writer::Desk {
            connection: opened.connection,
            frontier,
            hints: hints.clone(),
            projector: projector.clone(),
            on_fatal: options.on_fatal,
        };
        let writer =
            writer::Writer::start(desk).map_err(|source| OpenError::Io { path: opened.database.clone(), source })?;
        Ok(Self(Arc::new(Inner {
            writer,
            readers,
            projector,
            hints,
            watch,
            check: Mutex::new(Some(check)),
            lock: Mutex::new(Some(opened.lock)),
        })))
    }

    pub(crate) fn health(&self) -> Health {
        let (integrity, findings) = self.0.watch.state();
        Health { integrity, findings, audit_behind: self.0.projector.behind() }
    }

    pub(crate) fn note_damage(&self, table: &'static str, row: String) {
        self.0.watch.find(table, row);
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Hint> {
        self.0.hints.subscribe()
    }

    pub(crate) fn close(&self) {
        self.0.close();
    }

    /// A command that changes rows.
    pub(crate) async fn write<C: Send + 'static, T: Send + 'static>(
        &self,
        write: Write<C>,
        command: impl FnOnce(&Unit<'_>, C) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.noticed(self.0.writer.write(write, true, command).await)
    }

    /// A command that leaves nothing but its audit records, unless it says otherwise by `Unit::save`.
    pub(crate) async fn deliver<C: Send + 'static, T: Send + 'static>(
        &self,
        write: Write<C>,
        command: impl FnOnce(&Unit<'_>, C) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.noticed(self.0.writer.write(write, false, command).await)
    }

    /// A read of one moment.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.noticed(self.0.readers.read(read).await)
    }

    /// A page of a list, without the rows that can not be read.
    pub(crate) async fn list<T: Send + 'static, K: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<sql::Page<T, K>, Error> + Send + 'static,
    ) -> Result<Listed<T, K>, Error> {
        let (listed, skipped) = self.read(read).await?;
        for error in &skipped {
            self.0.watch.notice(error);
        }
        Ok(listed)
    }

    /// The audit index.
    pub(crate) fn projector(&self) -> &index::Projector {
        &self.0.projector
    }

    fn noticed<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        if let Err(error) = &result {
            self.0.watch.notice(error);
        }
        result
    }
}

impl Inner {
    /// The writer last: its connection is the one that may copy the write-ahead log when the last one closes.
    fn close(&self) {
        if let Some(check) = self.check.lock().unwrap_or_else(PoisonError::into_inner).take() {
            check.stop();
        }
        self.readers.close();
        self.projector.stop();
        self.writer.stop();
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}
