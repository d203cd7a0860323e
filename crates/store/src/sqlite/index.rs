//! The searchable index of the audit log, in a file of its own, and the thread that builds it from committed pages. The
//! index is never the truth: it carries a mark of how far it has come, and is made anew when the mark does not fit.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use kluis_core::audit::{AuditEntry, leaf_hash};
use kluis_core::id::{PrincipalId, SecretId, WorkspaceId};
use kluis_core::name::RunId;
use rusqlite::Connection;
use tokio::sync::watch;

use super::audit::leaves_of;
use super::health::Watch;
use super::sql::{self, Fields};
use super::{open, readers};
use crate::{Error, OpenError};

/// How long commits are gathered before they are indexed, unless somebody waits for them.
const GATHER: Duration = Duration::from_millis(20);
/// How long a search waits for the index.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pages indexed in one transaction.
const PAGES: i64 = 256;
/// Changes when the index gets another shape; an older one is made anew.
const SHAPE: i32 = 1;

const SCHEMA: &str = "
CREATE TABLE audit_index (
    seq       INTEGER PRIMARY KEY,
    page      INTEGER NOT NULL,
    start     INTEGER NOT NULL,
    length    INTEGER NOT NULL,
    workspace BLOB,
    time      INTEGER NOT NULL,
    action    INTEGER NOT NULL,
    principal BLOB,
    run       TEXT,
    secret    BLOB
) STRICT;
CREATE INDEX audit_index_workspace ON audit_index (workspace, seq);
CREATE INDEX audit_index_run ON audit_index (workspace, run, seq) WHERE run IS NOT NULL;
CREATE TABLE mark (
    one  INTEGER PRIMARY KEY CHECK (one = 1),
    next INTEGER NOT NULL,
    page INTEGER,
    hash BLOB
) STRICT;
INSERT INTO mark (one, next, page, hash) VALUES (1, 0, NULL, NULL);
";

/// The handle: how far the log and the index have come.
pub(crate) struct Projector {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    committed: watch::Sender<u64>,
    projected: watch::Sender<u64>,
}

struct State {
    urgent: bool,
    stop: bool,
}

impl Projector {
    pub(super) fn start(
        database: &Path,
        index: &Path,
        committed: u64,
        watch: Arc<Watch>,
    ) -> Result<Arc<Self>, OpenError> {
        let wrong = |e: rusqlite::Error| open::wrong(index, &e);
        let pages = readers::connect(database).map_err(wrong)?;
        let (connection, next) = prepare(index, &pages, committed)?;
        let shared = Arc::new(Shared {
            state: Mutex::new(State { urgent: false, stop: false }),
            wake: Condvar::new(),
            committed: watch::Sender::new(committed),
            projected: watch::Sender::new(next),
        });
        let work = Builder { connection, pages, next, shared: shared.clone(), watch };
        let thread = std::thread::Builder::new()
            .name("store-index".into())
            .spawn(move || work.run())
            .map_err(|source| OpenError::Io { path: index.to_owned(), source })?;
        Ok(Arc::new(Self { shared, thread: Mutex::new(Some(thread)) }))
    }

    /// The writer committed: the log has this size now.
    pub(super) fn committed(&self, size: u64) {
        let grew =
            self.shared.committed.send_if_modified(|known| *known != CLOSED && std::mem::replace(known, size) != size);
        if grew {
            // The lock orders this with the thread's look at the size before it sleeps.
            drop(self.shared.lock());
            self.shared.wake.notify_one();
        }
    }

    /// Waits until the log has more than `after` records.
    pub(crate) async fn wait_committed(&self, after: u64) -> Result<u64, Error> {
        reached(self.shared.committed.subscribe(), after.saturating_add(1)).await
    }

    /// Waits until everything committed by now can be searched for.
    pub(crate) async fn catch_up(&self) -> Result<(), Error> {
        let target = *self.shared.committed.borrow();
        if *self.shared.projected.borrow() < target {
            self.shared.lock().urgent = true;
            self.shared.wake.notify_one();
            let reached = reached(self.shared.projected.subscribe(), target);
            let in_time = tokio::time::timeout(PATIENCE, reached).await;
            in_time.unwrap_or_else(|_| Err(Error::Unavailable("the audit index is behind".into())))?;
        }
        Ok(())
    }

    pub(super) fn behind(&self) -> u64 {
        self.shared.committed.borrow().saturating_sub(*self.shared.projected.borrow())
    }

    pub(super) fn stop(&self) {
        self.shared.lock().stop = true;
        self.shared.wake.notify_one();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|t| t.join().is_err()) {
            tracing::error!("the audit index's thread ended by a panic");
        }
        self.shared.committed.send_replace(CLOSED);
        self.shared.projected.send_replace(CLOSED);
    }
}

/// No log gets this long: it ends every wait when the store closes.
const CLOSED: u64 = u64::MAX;

async fn reached(mut size: watch::Receiver<u64>, target: u64) -> Result<u64, Error> {
    let size = size.wait_for(|size| *size >= target).await.map(|size| *size);
    match size {
        Ok(size) if size != CLOSED => Ok(size),
        _ => Err(Error::Unavailable("it is closed".into())),
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens the index, making it anew unless its mark fits the log: not beyond its end, and the last page it has seen is
/// still the same.
fn prepare(index: &Path, pages: &Connection, committed: u64) -> Result<(Connection, u64), OpenError> {
    if let Ok((connection, next)) = existing(index, pages, committed) {
        return Ok((connection, next));
    }
    for side in ["", "-wal", "-shm"] {
        let mut path = index.as_os_str().to_owned();
        path.push(side);
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(OpenError::Io { path: index.to_owned(), source });
            }
            _ => {}
        }
    }
    open::private_file(index)?;
    let make = || -> rusqlite::Result<Connection> {
        let connection = connect(index)?;
        connection.execute_batch(SCHEMA)?;
        connection.pragma_update(None, "user_version", SHAPE)?;
        Ok(connection)
    };
    make().map(|connection| (connection, 0)).map_err(|e| open::wrong(index, &e))
}

fn existing(index: &Path, pages: &Connection, committed: u64) -> Result<(Connection, u64), Error> {
    let connection = connect(index)?;
    let shape: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let (next, page, hash): (i64, Option<i64>, Option<[u8; 32]>) =
        connection.query_row("SELECT next, page, hash FROM mark WHERE one = 1", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?;
    let fits = match page {
        None => next == 0,
        Some(page) => {
            let entries = sql::one(pages, "SELECT entries FROM audit_page WHERE first_seq = ?1", [page], |row| {
                Ok(row.get::<_, Vec<u8>>(0)?)
            })?;
            entries.map(|e| leaf_hash(&e)) == hash
        }
    };
    if shape == SHAPE && fits && next as u64 <= committed {
        Ok((connection, next as u64))
    } else {
        Err(Error::Moved("the audit log"))
    }
}

/// Losing the index's last commits in a power cut is harmless, so they are not flushed one by one.
fn connect(index: &Path) -> rusqlite::Result<Connection> {
    let connection = open::connect(index)?;
    open::use_wal(&connection)?;
    connection.pragma_update(None, "synchronous", "normal")?;
    Ok(connection)
}

struct Builder {
    connection: Connection,
    pages: Connection,
    next: u64,
    shared: Arc<Shared>,
    watch: Arc<Watch>,
}

impl Builder {
    fn run(mut self) {
        while self.wait() {
            match self.project() {
                Ok(()) => {
                    self.shared.projected.send_replace(self.next);
                }
                Err(error) => {
                    // A full disk passes, and until then the index is behind; only what contradicts itself stays found.
                    tracing::warn!(%error, "the audit index is behind");
                    self.watch.notice(&error);
                    let state = self.shared.lock();
                    let pause = Duration::from_secs(1);
                    drop(self.shared.wake.wait_timeout_while(state, pause, |state| !state.stop));
                }
            }
        }
    }

    /// Sleeps until there is something to index; whether to go on.
    fn wait(&self) -> bool {
        let mut state = self.shared.lock();
        while !state.stop && *self.shared.committed.borrow() <= self.next {
            state.urgent = false;
            state = self.shared.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let gathered = self.shared.wake.wait_timeout_while(state, GATHER, |state| !state.urgent && !state.stop);
        let (state, _) = gathered.unwrap_or_else(PoisonError::into_inner);
        !state.stop
    }

    fn project(&mut self) -> Result<(), Error> {
        let mut statement = self.pages.prepare_cached(
            "SELECT first_seq, count, entries FROM audit_page WHERE first_seq >= ?1 ORDER BY first_seq LIMIT ?2",
        )?;
        let mut rows = statement.query([sql::int(self.next), PAGES])?;
        let transaction = self.connection.unchecked_transaction()?;
        let (mut next, mut last) = (self.next, None);
        while let Some(row) = rows.next()? {
            let f = Fields::new(row, "audit_page");
            let (first, count, entries) = (f.number::<u64>()?, f.number::<u64>()?, f.get::<Vec<u8>>()?);
            if first != next {
                // A page that was committed is not there.
                self.watch.find("audit_page", next.to_string());
            }
            match leaves_of(&entries) {
                Some(leaves) => {
                    for (seq, (start, leaf)) in (first..).zip(leaves) {
                        insert(&transaction, seq, first, start, leaf, &self.watch)?;
                    }
                }
                None => self.watch.find("audit_page", first.to_string()),
            }
            next = first + count;
            last = Some((first, leaf_hash(&entries)));
        }
        let Some((page, hash)) = last else {
            self.watch.find("audit_page", self.next.to_string());
            self.next = *self.shared.committed.borrow();
            return Ok(());
        };
        sql::run(
            &transaction,
            "UPDATE mark SET next = ?1, page = ?2, hash = ?3 WHERE one = 1",
            (sql::int(next), sql::int(page), hash),
        )?;
        transaction.commit()?;
        self.next = next;
        Ok(())
    }
}

/// One row. A leaf that can not be read gets one too, so that a search without conditions comes upon it.
fn insert(c: &Connection, seq: u64, page: u64, start: usize, leaf: &[u8], watch: &Watch) -> Result<(), Error> {
    let record = AuditEntry::from_leaf(leaf).map(|entry| entry.record);
    if record.is_err() {
        watch.find("audit_page", page.to_string());
    }
    let record = record.ok();
    let record = record.as_ref();
    sql::run(
        c,
        "INSERT INTO audit_index (seq, page, start, length, workspace, time, action, principal, run, secret)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        (
            sql::int(seq),
            sql::int(page),
            start as i64,
            leaf.len() as i64,
            record.and_then(|r| r.workspace.as_ref()).map(WorkspaceId::as_bytes),
            record.map_or(0, |r| r.time.millis()),
            record.map_or(0, |r| r.action.code()),
            record.and_then(|r| r.principal.as_ref()).map(PrincipalId::as_bytes),
            record.and_then(|r| r.run.as_ref()).map(RunId::key),
            record.and_then(|r| r.secret.as_ref()).map(SecretId::as_bytes),
        ),
    )?;
    Ok(())
}
