//! Why a command was not done. The variants are what a caller does differently; the texts hold no input.

use std::path::PathBuf;

use kluis_core::access::Epoch;
use kluis_core::clock::Timestamp;
use kluis_core::id::VersionId;
use kluis_core::run::{RunStatus, TransitionError};
use kluis_core::secret::SecretTransitionError;

/// A unit of work that left no trace (except for [`Error::Unknown`], where nobody can tell).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The caller was authorized under another epoch, is disabled, or its token is revoked: load it anew and try once
    /// more.
    #[error("the caller's rights have changed since they were looked up")]
    Stale {
        /// The principal's epoch now; 0 when it does not exist.
        current: Epoch,
    },
    /// The row's revision is not the one before the given row's (or, for a read, not the given one).
    #[error("the row has changed: its revision is {current}")]
    Revision {
        /// The revision now; 0 when the row does not exist.
        current: u64,
    },
    /// What the caller read before has changed in a way that has no revision: read again and decide again.
    #[error("{0} has changed since it was read")]
    Moved(&'static str),
    /// Something that exists stands in the way. Trying again will not help.
    #[error("{0}")]
    Conflict(&'static str),
    /// The code in a run has made as much as a run may; nothing it does changes that.
    #[error("the run has made as much as a run may: {0}")]
    Limit(&'static str),
    /// There are as many of these as there may be; some go by themselves with time.
    #[error("there are as many as there may be: {0}")]
    Crowded(&'static str),
    /// No such row (or it belongs to another workspace).
    #[error("not found")]
    NotFound,
    /// The attempt has read another version of this secret; read that one, or ask for a refresh.
    #[error("the run's attempt is pinned to another version of this secret")]
    Pinned {
        /// The pinned version.
        version: VersionId,
    },
    /// The version is disabled.
    #[error("the version is disabled")]
    Disabled,
    /// The session is over: the run has ended, or another attempt has taken its place.
    #[error("the session is over; the run is {status}")]
    RunEnded {
        /// The run's status.
        status: RunStatus,
    },
    /// The run has fallen silent: a sign of life comes before the next read.
    #[error("the run is unresponsive; a heartbeat comes first")]
    Unresponsive,
    /// The run's status does not take this event.
    #[error(transparent)]
    Run(#[from] TransitionError),
    /// The secret's state does not allow this.
    #[error(transparent)]
    Secret(#[from] SecretTransitionError),
    /// One entry of a batch was refused, and with it the whole batch.
    #[error("entry {index}: {error}")]
    Entry {
        /// Which, from 0.
        index: usize,
        /// Why.
        error: Box<Error>,
    },
    /// A row contradicts the schema or another row: the database was damaged or tampered with. Other rows still work.
    #[error("row {row} of {table} is inconsistent")]
    Inconsistent {
        /// The table.
        table: &'static str,
        /// The row's key: an id or a number, never content.
        row: String,
    },
    /// The disk is full. Nothing was written; reads and smaller writes may still work.
    #[error("the disk is full")]
    Full,
    /// The store can not work now, for this reason.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The store stopped between handing the work over and answering: it may or may not be committed.
    #[error("it is not known whether the work was committed")]
    Unknown,
}

impl Error {
    /// The time at which a deleted secret is purged, when that is what stands in the way.
    pub fn purge_at(&self) -> Option<Timestamp> {
        match self {
            Self::Secret(SecretTransitionError::Deleted { purge_at }) => Some(*purge_at),
            Self::Entry { error, .. } => error.purge_at(),
            _ => None,
        }
    }

    /// The refusal itself and, when it was an entry of a batch, which.
    pub fn entry(&self) -> (Option<usize>, &Self) {
        match self {
            Self::Entry { index, error } => (Some(*index), error),
            other => (None, other),
        }
    }
}

/// Why a store can not be opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{} is in use by another server; stop that one first", path.display())]
    Locked {
        /// The data folder.
        path: PathBuf,
    },
    /// The folder lies on a network or user-space file system, where locks and flushes can not be relied on.
    #[error("{} lies on a {kind} file system; the store needs a local disk", path.display())]
    NetworkFileSystem {
        /// The data folder.
        path: PathBuf,
        /// Which kind, such as `NFS`.
        kind: &'static str,
    },
    /// The folder or a file in it can not be written.
    #[error("{} can not be written: {source}", path.display())]
    ReadOnly {
        /// What can not be written.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The database was written by a newer version.
    #[error("{} has schema {found}, written by version {written_by}; this version knows schema {known}: install {written_by} or newer", path.display())]
    Newer {
        /// The database file.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// The newest schema this version knows.
        known: u32,
        /// The version that wrote it.
        written_by: String,
    },
    /// The file is a database, but not one of ours.
    #[error("{} is not a Kluis database", path.display())]
    Foreign {
        /// The database file.
        path: PathBuf,
    },
    /// The linked SQLite is too old to be trusted with this.
    #[error("SQLite {found} is linked; 3.51.3 or newer is needed")]
    Sqlite {
        /// The linked version.
        found: String,
    },
    /// The system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// On what.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
    /// The database refused, or is damaged.
    #[error("{}: {reason}", path.display())]
    Database {
        /// The database file.
        path: PathBuf,
        /// What SQLite said; names of tables and columns at most.
        reason: String,
    },
}
