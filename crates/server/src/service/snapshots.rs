//! Snapshots: packed source trees, named by a keyed hash of their content, so that the same tree is stored once in a
//! workspace and its name tells nothing outside.

use axum::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt;
use kluis_core::access::Action;
use kluis_core::api::runs::{MAX_SNAPSHOT_BYTES, SnapshotStored};
use kluis_core::audit::{AuditAction, AuditRecord};
use kluis_core::id::{BlobId, WorkspaceId};
use kluis_core::name::WorkspaceName;
use kluis_store::Write;
use kluis_store::logs::SnapshotPut;

use crate::app::App;
use crate::blobs::{BlobStream, BlobWriter};
use crate::caller::Caller;
use crate::error::{Error, Result};

mod zipped;

/// A tree up to this size is held in memory until its name is known; a larger one is first written, sealed, under
/// another name.
const IN_MEMORY: usize = 8 * 1024 * 1024;
/// How long the next bytes of an upload may take.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// Snapshots.
#[derive(Clone, Copy, Debug)]
pub struct Snapshots<'a> {
    app: &'a App,
}

impl App {
    /// Snapshots.
    pub fn snapshots(&self) -> Snapshots<'_> {
        Snapshots { app: self }
    }

    /// How many bytes of blobs a workspace has. Counted at most once a minute: counting looks at every blob's row.
    pub(super) async fn blob_usage(&self, workspace: WorkspaceId) -> Result<u64> {
        if let Some(used) = self.blobs.usage(workspace) {
            return Ok(used);
        }
        let used = self.store.blob_usage(workspace).await?;
        self.blobs.learn_usage(workspace, used);
        Ok(used)
    }
}

impl Snapshots<'_> {
    /// Stores a packed tree, at most [`MAX_SNAPSHOT_BYTES`] long, unless it is there already.
    pub async fn store(&self, caller: &Caller, workspace: &WorkspaceName, body: Body) -> Result<SnapshotStored> {
        let workspace = self.app.workspace_for(caller, workspace, Action::RunSubmit).await?.id;
        let used = self.app.blob_usage(workspace).await?;
        let mut hasher = self.app.vault.blob_hasher(workspace);
        let mut incoming = Incoming { app: self.app, workspace, used, memory: Vec::new(), spilled: None, bytes: 0 };
        let mut body = body;
        while let Some(data) = next(&mut body).await? {
            hasher.update(&data);
            incoming.add(&data).await?;
        }
        let snapshot = hasher.finish();
        let bytes = incoming.bytes;
        let known = self.app.store.snapshot_get(workspace, snapshot).await?.is_some();
        if !(known && self.app.blobs.exists(workspace, snapshot).await?) {
            incoming.keep(snapshot).await?;
        }
        let now = self.app.now();
        let record = AuditRecord {
            workspace: Some(workspace),
            snapshot: Some(snapshot),
            count: Some(bytes),
            ..caller.record(now, AuditAction::SnapshotStored)
        };
        let change = SnapshotPut { workspace, blob: snapshot, bytes, now };
        let write = Write::new(caller.authority(), self.app.vault.audit_entry(record), change);
        self.app.store.snapshot_put(write).await?;
        Ok(SnapshotStored { snapshot, bytes })
    }

    /// A packed tree, for members who may see runs.
    pub async fn open(&self, caller: &Caller, workspace: &WorkspaceName, snapshot: BlobId) -> Result<BlobStream> {
        let workspace = self.app.workspace_for(caller, workspace, Action::RunRead).await?.id;
        let found = self.app.store.snapshot_get(workspace, snapshot).await?;
        found.ok_or(Error::NotFound("snapshot"))?;
        Ok(self.app.blobs.open(workspace, snapshot).await?)
    }
}

/// The next bytes of an upload.
async fn next(body: &mut Body) -> Result<Option<Bytes>> {
    loop {
        let frame = tokio::time::timeout(PATIENCE, body.frame())
            .await
            .map_err(|_| Error::bad_request("nothing of the body arrived for 30 s"))?;
        let Some(frame) = frame else { return Ok(None) };
        let frame = frame.map_err(|_| Error::bad_request("the body was cut off"))?;
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        }
    }
}

/// A tree whose name is not known before its last byte.
struct Incoming<'a> {
    app: &'a App,
    workspace: WorkspaceId,
    used: u64,
    memory: Vec<u8>,
    spilled: Option<(BlobId, BlobWriter)>,
    bytes: u64,
}

impl Incoming<'_> {
    async fn add(&mut self, data: &[u8]) -> Result<()> {
        self.bytes += data.len() as u64;
        if self.bytes > MAX_SNAPSHOT_BYTES {
            return Err(Error::TooLarge { limit: MAX_SNAPSHOT_BYTES });
        }
        if self.spilled.is_none() && self.memory.len() + data.len() > IN_MEMORY {
            let id = BlobId::generate(&*self.app.rng);
            let mut writer = self.app.blobs.writer(self.workspace, id, self.used)?;
            writer.write(&std::mem::take(&mut self.memory)).await?;
            self.spilled = Some((id, writer));
        }
        match &mut self.spilled {
            Some((_, writer)) => writer.write(data).await?,
            None => self.memory.extend_from_slice(data),
        }
        Ok(())
    }

    /// Stores it under its name. A seal covers the name, so what was written under another one is sealed anew.
    async fn keep(self, snapshot: BlobId) -> Result<()> {
        let blobs = &self.app.blobs;
        let Some((id, writer)) = self.spilled else {
            blobs.put(self.workspace, snapshot, self.used, &self.memory).await?;
            return Ok(());
        };
        writer.finish().await?;
        let copied = async {
            let mut from = blobs.open(self.workspace, id).await?;
            let mut to = blobs.writer(self.workspace, snapshot, self.used)?;
            while let Some(bytes) = from.next().await {
                to.write(&bytes?).await?;
            }
            to.finish().await
        };
        let copied = copied.await;
        blobs.delete(self.workspace, id).await?;
        copied?;
        Ok(())
    }
}
