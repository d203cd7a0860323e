//! The audit log: committed records in order, their Merkle root, and a search over them.
//!
//! Every command appends its records in its own unit of work. What is searched is an index that is built right after
//! the commit; a query first waits until the index has reached what was committed when it was asked.

use kluis_core::audit::{AuditEntry, Checkpoint, Hash, SignedCheckpoint};
use kluis_core::id::{PrincipalId, SecretId, WorkspaceId};
use kluis_core::name::RunId;

use crate::sqlite::{audit as sqlite, audit_search};
use crate::{Error, Listed, Store, Write};

/// Which records. Every condition narrows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Only this workspace's.
    pub workspace: Option<WorkspaceId>,
    /// Only this run's; needs `workspace`, for a run's id means something in its workspace only.
    pub run: Option<RunId>,
    /// Only what this principal did.
    pub principal: Option<PrincipalId>,
    /// Only what concerns this secret.
    pub secret: Option<SecretId>,
    /// Only records from this number on.
    pub from: u64,
    /// The last ones instead of the first ones. They come in the log's order all the same.
    pub newest: bool,
    /// At most this many.
    pub limit: u32,
}

/// The log at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditHead {
    /// How many records are committed.
    pub size: u64,
    /// The Merkle root over them.
    pub root: Hash,
}

/// What recomputing the log from its pages found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditProof {
    /// As the store remembers it.
    pub stored: AuditHead,
    /// As the pages say.
    pub recomputed: AuditHead,
    /// As the pages say it was at the sizes asked for, in their order; a size that the log never had is left out.
    pub at: Vec<AuditHead>,
}

impl AuditProof {
    /// Whether both are the same.
    pub fn holds(&self) -> bool {
        self.stored == self.recomputed
    }

    /// Whether a checkpoint says what the pages say. Its size must have been asked for.
    pub fn fits(&self, checkpoint: &Checkpoint) -> bool {
        self.at.iter().any(|head| head.size == checkpoint.size && head.root == checkpoint.root)
    }
}

impl Store {
    /// A unit of work that leaves only its records: the server's start, a refusal.
    pub async fn audit_append(&self, write: Write<()>) -> Result<(), Error> {
        match self {
            Self::Sqlite(s) => s.deliver(write, |_, ()| Ok(())).await,
        }
    }

    /// Records with their numbers, in the log's order, and the number after which the next page starts. At least
    /// everything that was committed when this was called. A record that can not be read is `None` and stands in
    /// `health()`.
    pub async fn audit_query(&self, filter: AuditFilter) -> Result<Listed<(u64, Option<AuditEntry>), u64>, Error> {
        match self {
            Self::Sqlite(s) => audit_search::query(s, filter).await,
        }
    }

    /// The committed log's size and root.
    pub async fn audit_head(&self) -> Result<AuditHead, Error> {
        match self {
            Self::Sqlite(s) => s.read(sqlite::head).await,
        }
    }

    /// Waits until more than `after` records are committed; how many are. Ends with [`Error::Unavailable`] when the
    /// store closes.
    pub async fn audit_wait(&self, after: u64) -> Result<u64, Error> {
        match self {
            Self::Sqlite(s) => s.projector().wait_committed(after).await,
        }
    }

    /// Leaves as they were hashed, with their numbers, from this number on: for export and for verifying elsewhere. At
    /// most `limit`, rounded up to a whole page.
    pub async fn audit_leaves(&self, from: u64, limit: u32) -> Result<Vec<(u64, Vec<u8>)>, Error> {
        match self {
            Self::Sqlite(s) => s.read(move |c| sqlite::leaves(c, from, limit)).await,
        }
    }

    /// Recomputes the Merkle log from its pages, and what its root was at these sizes. Reads the whole log, in one read
    /// transaction.
    pub async fn audit_prove(&self, at: Vec<u64>) -> Result<AuditProof, Error> {
        match self {
            Self::Sqlite(s) => s.read(move |c| sqlite::prove(c, at)).await,
        }
    }

    /// Keeps a signed checkpoint. All of one hour but the last are forgotten; the last of all never is.
    /// [`Error::Moved`] when it says less than the last one.
    pub async fn checkpoint_insert(&self, write: Write<SignedCheckpoint>) -> Result<(), Error> {
        match self {
            Self::Sqlite(s) => s.write(write, sqlite::checkpoint_insert).await,
        }
    }

    /// Every checkpoint that is kept, oldest first.
    pub async fn checkpoints(&self) -> Result<Vec<SignedCheckpoint>, Error> {
        match self {
            Self::Sqlite(s) => s.read(sqlite::checkpoints).await,
        }
    }

    /// The last checkpoint.
    pub async fn checkpoint_last(&self) -> Result<Option<SignedCheckpoint>, Error> {
        match self {
            Self::Sqlite(s) => s.read(sqlite::checkpoint_last).await,
        }
    }
}
