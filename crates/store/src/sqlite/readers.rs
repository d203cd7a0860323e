//! A few read-only connections. A read takes one, sees one moment of the database, and gives it back; while all are
//! taken, the next read waits.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, OpenFlags};
use tokio::sync::Semaphore;

use super::open;
use crate::Error;

#[derive(Clone)]
pub(super) struct Readers(Arc<Inner>);

struct Inner {
    free: Semaphore,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(super) fn open(database: &Path, index: &Path, count: usize) -> rusqlite::Result<Self> {
        let mut idle = Vec::with_capacity(count);
        for _ in 0..count {
            let connection = connect(database)?;
            connection.execute("ATTACH ?1 AS search", [index.to_string_lossy()])?;
            idle.push(connection);
        }
        Ok(Self(Arc::new(Inner { free: Semaphore::new(count), idle: Mutex::new(idle) })))
    }

    /// Runs a read on a thread that may block, in one read transaction.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let inner = self.0.clone();
        let permit = self.0.free.acquire().await.map_err(|_| closed())?;
        let connection = self.take().ok_or_else(closed)?;
        // From here on the connection finds its own way back, whatever becomes of the caller.
        permit.forget();
        let loan = Loan { inner, connection: Some(connection) };
        let work = tokio::task::spawn_blocking(move || loan.read(read));
        work.await.unwrap_or_else(|_| Err(Error::Unavailable("a read failed unexpectedly".into())))
    }

    fn take(&self) -> Option<Connection> {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// Refuses further reads and closes what is idle; what is taken closes when it comes back.
    pub(super) fn close(&self) {
        self.0.free.close();
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

fn closed() -> Error {
    Error::Unavailable("it is closed".into())
}

pub(super) fn connect(database: &Path) -> rusqlite::Result<Connection> {
    let connection =
        Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    open::harden(&connection)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

/// A connection that goes back to the others when the read is over, also by a panic.
struct Loan {
    inner: Arc<Inner>,
    connection: Option<Connection>,
}

impl Loan {
    fn read<T>(&self, read: impl FnOnce(&Connection) -> Result<T, Error>) -> Result<T, Error> {
        let connection = self.connection.as_ref().expect("it is taken out only when dropped");
        connection.prepare_cached("BEGIN")?.execute([])?;
        let result = read(connection);
        connection.prepare_cached("ROLLBACK")?.execute([])?;
        result
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let connection = self.connection.take().expect("it is taken out only here");
        if !connection.is_autocommit() && connection.execute_batch("ROLLBACK").is_err() {
            tracing::error!("a read transaction could not be ended");
        }
        if !self.inner.free.is_closed() {
            self.inner.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            self.inner.free.add_permits(1);
        }
    }
}
