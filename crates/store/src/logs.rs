//! What a run leaves behind: log chunks, metrics, outputs, and the blobs they and the snapshots lie in. The bytes are
//! elsewhere, sealed; here is which blob holds what. Everything a launcher sends is numbered, so sending it again is
//! harmless.

use kluis_core::api::runs::Metric;
use kluis_core::clock::Timestamp;
use kluis_core::id::{BlobId, WorkspaceId};
use kluis_core::name::RunId;

use crate::runs::RunLimits;
use crate::sqlite::{blobs, logs as sqlite, metrics};
use crate::{After, Error, Listed, Store, Write};

/// A piece of a run's log, in the name of the session that sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogAppend {
    /// The number of its first record. Numbers count the records of the attempt's node, from 0.
    pub first: u64,
    /// The number after its last record.
    pub next: u64,
    /// The blob that holds it.
    pub blob: BlobId,
    /// The blob's size in bytes.
    pub bytes: u64,
    /// How many lines it holds.
    pub lines: u64,
    /// Now.
    pub now: Timestamp,
}

/// What has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// The number to send from.
    pub next: u64,
    /// Whether anything was stored; if not, a blob that was written for it belongs to nobody.
    pub stored: bool,
}

/// Which part of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter {
    /// The run's workspace.
    pub workspace: WorkspaceId,
    /// The run.
    pub run: RunId,
    /// The attempt.
    pub attempt: u32,
    /// Only chunks with a record of at least this number.
    pub from: u64,
    /// Last chunks first.
    pub newest: bool,
}

/// A chunk of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogChunk {
    /// Its place in the order of arrival; pages go by it.
    pub seq: u64,
    /// The node it comes from.
    pub node: u32,
    /// The number of its first record.
    pub first: u64,
    /// The number after its last record.
    pub next: u64,
    /// The blob that holds it.
    pub blob: BlobId,
    /// The blob's size in bytes.
    pub bytes: u64,
    /// How many lines it holds.
    pub lines: u64,
    /// When it arrived.
    pub received: Timestamp,
}

/// Metrics, in the name of the session that sends them.
#[derive(Clone, Debug)]
pub struct MetricAppend {
    /// The number of the first. Numbers count the metrics of the attempt's node, from 0.
    pub first: u64,
    /// Each with the child run it belongs to; `None`: the session's own run.
    pub metrics: Vec<(Option<RunId>, Metric)>,
    /// How much the code in the run may make in all.
    pub limits: RunLimits,
}

/// A file of a run's outputs, in the name of the session that sends it.
#[derive(Clone, Debug)]
pub struct OutputPut {
    /// The child run it belongs to; `None`: the session's own run.
    pub run: Option<RunId>,
    /// Its path, such as `outputs/model.pkl`.
    pub path: String,
    /// The blob that holds it.
    pub blob: BlobId,
    /// Its size in bytes.
    pub bytes: u64,
    /// Now.
    pub now: Timestamp,
}

/// A file of a run's outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputRow {
    /// Its path.
    pub path: String,
    /// The blob that holds it.
    pub blob: BlobId,
    /// Its size in bytes.
    pub bytes: u64,
    /// When it was uploaded.
    pub time: Timestamp,
}

/// A packed source tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotPut {
    /// Its workspace.
    pub workspace: WorkspaceId,
    /// Its content address.
    pub blob: BlobId,
    /// Its packed size in bytes.
    pub bytes: u64,
    /// Now.
    pub now: Timestamp,
}

/// A stored snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotRow {
    /// Its content address.
    pub blob: BlobId,
    /// Its packed size in bytes.
    pub bytes: u64,
    /// When it was first stored.
    pub created: Timestamp,
}

/// Blobs that are gone from the blob store.
#[derive(Clone, Debug)]
pub struct BlobsForget {
    /// Which.
    pub blobs: Vec<(WorkspaceId, BlobId)>,
}

impl Store {
    /// Adds a chunk to the log of the session's node. One that is there already, or that leaves a gap, is not stored;
    /// the answer says where to go on.
    pub async fn log_append(&self, write: Write<LogAppend>) -> Result<Arrived, Error> {
        match self {
            Self::Sqlite(s) => s.write(write, sqlite::log_append).await,
        }
    }

    /// Chunks of a log, in the order of arrival.
    pub async fn log_chunks(&self, filter: LogFilter, page: After<u64>) -> Result<Listed<LogChunk, u64>, Error> {
        match self {
            Self::Sqlite(s) => s.list(move |c| sqlite::log_chunks(c, &filter, &page)).await,
        }
    }

    /// Adds metrics of the session's node; those that are there already are passed over. A gap stores nothing.
    /// [`Error::NotFound`] when a run is not the session's or a child of it; [`Error::Limit`] when the run has made as
    /// many as it may.
    pub async fn metric_append(&self, write: Write<MetricAppend>) -> Result<Arrived, Error> {
        match self {
            Self::Sqlite(s) => s.write(write, metrics::metric_append).await,
        }
    }

    /// A run's metrics, in the order in which they were stored.
    pub async fn metric_list(
        &self,
        workspace: WorkspaceId,
        run: &RunId,
        page: After<u64>,
    ) -> Result<Listed<Metric, u64>, Error> {
        let key = run.key().to_owned();
        match self {
            Self::Sqlite(s) => s.list(move |c| metrics::metric_list(c, workspace, &key, &page)).await,
        }
    }

    /// The same of one name.
    pub async fn metric_named(
        &self,
        workspace: WorkspaceId,
        run: &RunId,
        name: &str,
        page: After<u64>,
    ) -> Result<Listed<Metric, u64>, Error> {
        let (key, name) = (run.key().to_owned(), name.to_owned());
        match self {
            Self::Sqlite(s) => s.list(move |c| metrics::metric_named(c, workspace, &key, &name, &page)).await,
        }
    }

    /// The names of a run's metrics, in the order in which they first were stored.
    pub async fn metric_names(
        &self,
        workspace: WorkspaceId,
        run: &RunId,
        page: After<u64>,
    ) -> Result<Listed<String, u64>, Error> {
        let key = run.key().to_owned();
        match self {
            Self::Sqlite(s) => s.list(move |c| metrics::metric_names(c, workspace, &key, &page)).await,
        }
    }

    /// Stores a file of a run's outputs, in place of an older one of this path, whose blob belongs to nobody then.
    pub async fn output_put(&self, write: Write<OutputPut>) -> Result<(), Error> {
        match self {
            Self::Sqlite(s) => s.write(write, sqlite::output_put).await,
        }
    }

    /// A run's outputs, by path.
    pub async fn output_list(
        &self,
        workspace: WorkspaceId,
        run: &RunId,
        page: After<String>,
    ) -> Result<Listed<OutputRow>, Error> {
        let key = run.key().to_owned();
        match self {
            Self::Sqlite(s) => s.list(move |c| sqlite::output_list(c, workspace, &key, &page)).await,
        }
    }

    /// One file of a run's outputs.
    pub async fn output_get(
        &self,
        workspace: WorkspaceId,
        run: &RunId,
        path: &str,
    ) -> Result<Option<OutputRow>, Error> {
        let (key, path) = (run.key().to_owned(), path.to_owned());
        match self {
            Self::Sqlite(s) => s.read(move |c| sqlite::output_get(c, workspace, &key, &path)).await,
        }
    }

    /// Notes a stored snapshot; `false` when it was there already.
    pub async fn snapshot_put(&self, write: Write<SnapshotPut>) -> Result<bool, Error> {
        match self {
            Self::Sqlite(s) => s.write(write, blobs::snapshot_put).await,
        }
    }

    /// A snapshot of this workspace.
    pub async fn snapshot_get(&self, workspace: WorkspaceId, blob: BlobId) -> Result<Option<SnapshotRow>, Error> {
        match self {
            Self::Sqlite(s) => s.read(move |c| blobs::snapshot_get(c, workspace, blob)).await,
        }
    }

    /// How many blobs a workspace has.
    pub async fn blob_count(&self, workspace: WorkspaceId) -> Result<u64, Error> {
        match self {
            Self::Sqlite(s) => s.read(move |c| blobs::count(c, workspace)).await,
        }
    }

    /// How many bytes of blobs a workspace has.
    pub async fn blob_usage(&self, workspace: WorkspaceId) -> Result<u64, Error> {
        match self {
            Self::Sqlite(s) => s.read(move |c| blobs::usage(c, workspace)).await,
        }
    }

    /// Which of these blobs the store knows of. What it does not know belongs to nobody.
    pub async fn blobs_known(&self, blobs: Vec<(WorkspaceId, BlobId)>) -> Result<Vec<bool>, Error> {
        match self {
            Self::Sqlite(s) => s.read(move |c| blobs::known(c, &blobs)).await,
        }
    }

    /// Blobs that nothing refers to any more since before this moment, at most `limit`: delete them, then forget them.
    pub async fn blobs_orphaned(&self, before: Timestamp, limit: u32) -> Result<Vec<(WorkspaceId, BlobId)>, Error> {
        match self {
            Self::Sqlite(s) => s.read(move |c| blobs::orphaned(c, before, limit)).await,
        }
    }

    /// Forgets orphaned blobs that were deleted.
    pub async fn blobs_forget(&self, write: Write<BlobsForget>) -> Result<(), Error> {
        match self {
            Self::Sqlite(s) => s.write(write, blobs::forget).await,
        }
    }
}
