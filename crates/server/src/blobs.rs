//! Snapshots, logs and outputs as sealed objects: a local folder by default, behind `object_store` so that replicas can
//! share a bucket. Everything is sealed before it is written, segment by segment; no plaintext file ever exists, not
//! even a temporary one. Which object belongs to whom is the store's knowledge, not this file's.
//!
//! | task | where |
//! |---|---|
//! | write what arrives | [`Blobs::writer`], [`Blobs::put`] |
//! | read as a stream | [`Blobs::open`] |
//! | the pieces of an upload that goes on | [`Blobs::piece_put`], [`Blobs::assemble`] |
//! | what a crash has left behind | [`Blobs::older_than`] |
//! | who may still write | [`space`] |

use std::fmt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kluis_core::id::{BlobId, WorkspaceId};
use kluis_vault::{BLOB_HEADER_BYTES, BLOB_SEGMENT_BYTES, BLOB_SEGMENT_OVERHEAD, Vault};
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt};

mod pieces;
mod reader;
mod search;
pub mod space;
mod writer;

pub use pieces::Upload;
pub use reader::BlobStream;
pub use search::Stored;
pub use space::BlobLimits;
use space::Space;
pub use writer::BlobWriter;

/// Why a blob was not written or read.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The disk is nearly full; nothing but blobs is refused.
    #[error(
        "the server's disk has less than {0} % left, so no snapshot, log, output or metric is taken; free some space"
    )]
    DiskFull(u8),
    /// The workspace has used what it may.
    #[error("the workspace's snapshots, logs and outputs have reached its quota of {0} bytes")]
    Quota(u64),
    /// There is no such object.
    #[error("the stored data is gone")]
    NotFound,
    /// It is there, but it is not what was written.
    #[error("the stored data does not open: {0}")]
    Damaged(kluis_vault::Error),
    /// The vault could not seal.
    #[error("the data could not be sealed: {0}")]
    Seal(kluis_vault::Error),
    /// The folder or bucket failed.
    #[error("the blob folder failed: {0}")]
    Objects(object_store::Error),
    /// The file system failed.
    #[error("the blob folder failed: {0}")]
    Folder(std::io::Error),
}

impl BlobError {
    /// The disk ran full under the write.
    fn of_objects(error: object_store::Error, least: u8) -> Self {
        if matches!(error, object_store::Error::NotFound { .. }) {
            return Self::NotFound;
        }
        let mut cause: Option<&dyn std::error::Error> = Some(&error);
        while let Some(current) = cause {
            let io = current.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
            if matches!(io, Some(std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)) {
                return Self::DiskFull(least);
            }
            cause = current.source();
        }
        Self::Objects(error)
    }
}

/// The blob store of one installation. Cheap to clone.
#[derive(Clone)]
pub struct Blobs {
    objects: Arc<dyn ObjectStore>,
    /// Where the objects lie, for file modes and for the free space.
    folder: PathBuf,
    vault: Arc<Vault>,
    space: Arc<Space>,
    uploads: Arc<pieces::Uploads>,
}

impl Blobs {
    /// Opens a local folder; makes it, for this user alone, when it is not there.
    pub fn local(folder: &Path, vault: Arc<Vault>, limits: BlobLimits) -> Result<Self, BlobError> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(BlobError::Folder)?;
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).map_err(BlobError::Folder)?;
        let folder = folder.canonicalize().map_err(BlobError::Folder)?;
        let objects = LocalFileSystem::new_with_prefix(&folder)
            .map_err(BlobError::Objects)?
            .with_fsync(true)
            .with_automatic_cleanup(true);
        let space = Arc::new(Space::new(&folder, limits));
        Ok(Self { objects: Arc::new(objects), folder, vault, space, uploads: Arc::default() })
    }

    /// Stores a whole blob that is in memory. `used` is what the store says the workspace uses. Gives the bytes it
    /// takes, sealed.
    pub async fn put(&self, workspace: WorkspaceId, blob: BlobId, used: u64, bytes: &[u8]) -> Result<u64, BlobError> {
        let mut writer = self.writer(workspace, blob, used)?;
        writer.write(bytes).await?;
        writer.finish().await
    }

    /// How many bytes a workspace uses, if that was counted within the last minute.
    pub fn usage(&self, workspace: WorkspaceId) -> Option<u64> {
        self.space.usage(workspace)
    }

    /// Remembers a count; what is written from now on is added to it.
    pub fn learn_usage(&self, workspace: WorkspaceId, used: u64) {
        self.space.learn(workspace, used);
    }

    /// Refuses when the disk is nearly full: for rows of which a run can make many, too.
    pub fn room(&self) -> Result<(), BlobError> {
        self.space.check_disk()
    }

    /// Starts a blob of unknown length. It appears when [`BlobWriter::finish`] has answered; dropped before, nothing
    /// stays.
    pub fn writer(&self, workspace: WorkspaceId, blob: BlobId, used: u64) -> Result<BlobWriter, BlobError> {
        self.write_at(&place(workspace, blob), workspace, blob, used)
    }

    /// Opens a blob as a stream of its bytes in the clear.
    pub async fn open(&self, workspace: WorkspaceId, blob: BlobId) -> Result<BlobStream, BlobError> {
        self.open_at(&place(workspace, blob), workspace, blob).await
    }

    /// A whole blob that is small enough to be in memory, such as a chunk of a log.
    pub async fn get(&self, workspace: WorkspaceId, blob: BlobId) -> Result<Vec<u8>, BlobError> {
        self.open(workspace, blob).await?.collect().await
    }

    /// Whether the object is there.
    pub async fn exists(&self, workspace: WorkspaceId, blob: BlobId) -> Result<bool, BlobError> {
        match self.objects.head(&place(workspace, blob)).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Removes a blob. Removing what is not there is no error.
    pub async fn delete(&self, workspace: WorkspaceId, blob: BlobId) -> Result<(), BlobError> {
        self.remove(&place(workspace, blob)).await
    }

    fn write_at(
        &self,
        place: &ObjectPath,
        workspace: WorkspaceId,
        blob: BlobId,
        used: u64,
    ) -> Result<BlobWriter, BlobError> {
        let reservation = self.space.reserve(workspace, used)?;
        let sealer = self.vault.blob_sealer(workspace, blob).map_err(BlobError::Seal)?;
        Ok(BlobWriter::new(self.clone(), place.clone(), sealer, reservation))
    }

    async fn open_at(&self, place: &ObjectPath, workspace: WorkspaceId, blob: BlobId) -> Result<BlobStream, BlobError> {
        let object = self.objects.get(place).await.map_err(|e| self.failed(e))?;
        BlobStream::start(self.vault.clone(), workspace, blob, object).await
    }

    async fn remove(&self, place: &ObjectPath) -> Result<(), BlobError> {
        match self.objects.delete(place).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// The object's file for this user alone. The folder above it is closed already; this is the second door.
    fn close_file(&self, place: &ObjectPath) -> Result<(), BlobError> {
        let file = self.folder.join(place.as_ref());
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).map_err(BlobError::Folder)
    }

    fn failed(&self, error: object_store::Error) -> BlobError {
        BlobError::of_objects(error, self.space.least_free())
    }
}

impl fmt::Debug for Blobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blobs").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// Where a blob lies: ids only, so nothing that came in from outside is part of a path.
fn place(workspace: WorkspaceId, blob: BlobId) -> ObjectPath {
    let id = blob.to_string();
    ObjectPath::from_iter([workspace.to_string().as_str(), &id[..2], &id])
}

/// How many bytes in the clear a sealed object of this size holds.
fn plain_bytes(sealed: u64) -> u64 {
    let body = sealed.saturating_sub(BLOB_HEADER_BYTES as u64);
    let segment = (BLOB_SEGMENT_BYTES + BLOB_SEGMENT_OVERHEAD) as u64;
    body.saturating_sub(body.div_ceil(segment) * BLOB_SEGMENT_OVERHEAD as u64)
}

#[cfg(test)]
mod tests {
    use kluis_core::id::InstallationId;
    use kluis_core::rng::{CountingRng, Rng};
    use kluis_vault::RootKey;

    use super::*;

    pub(super) const W: WorkspaceId = WorkspaceId::from_bytes([7; 16]);
    const B: BlobId = BlobId::from_bytes([9; 16]);
    const CANARY: &[u8] = b"kluis-canary-7f3a9c";

    pub(super) fn vault() -> Arc<Vault> {
        let rng: Arc<dyn Rng> = Arc::new(CountingRng::new(1));
        let root = RootKey::generate(&*rng);
        let (vault, _) = Vault::create(root, InstallationId::from_bytes([1; 16]), rng).unwrap();
        let key = vault.workspace_key_create(W).unwrap();
        vault.workspace_key_load(&key, true).unwrap();
        Arc::new(vault)
    }

    pub(super) fn blobs(folder: &Path, limits: BlobLimits) -> Blobs {
        Blobs::local(folder, vault(), limits).unwrap()
    }

    fn files(folder: &Path) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
        }
        found
    }

    #[tokio::test]
    async fn every_length_around_a_segment_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = blobs(folder.path(), BlobLimits::default());
        let s = BLOB_SEGMENT_BYTES;
        for length in [0, 1, s - 1, s, s + 1, 3 * s, 3 * s + 5] {
            let bytes: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
            let sealed = blobs.put(W, B, 0, &bytes).await.unwrap();
            assert_eq!(plain_bytes(sealed), length as u64);
            assert_eq!(blobs.get(W, B).await.unwrap(), bytes, "{length}");
        }
    }

    #[tokio::test]
    async fn how_a_body_is_cut_into_calls_does_not_matter() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = blobs(folder.path(), BlobLimits::default());
        // Above the part size, so that the object is written in parts.
        let bytes: Vec<u8> = (0..20_000_003_u32).map(|i| (i % 249) as u8).collect();
        let mut writer = blobs.writer(W, B, 0).unwrap();
        for piece in bytes.chunks(70_001) {
            writer.write(piece).await.unwrap();
        }
        writer.finish().await.unwrap();
        assert_eq!(blobs.get(W, B).await.unwrap(), bytes);
    }

    #[tokio::test]
    async fn no_plaintext_is_written_and_files_are_for_this_user_alone() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = blobs(folder.path(), BlobLimits::default());
        let mut writer = blobs.writer(W, B, 0).unwrap();
        for _ in 0..600_000 {
            writer.write(CANARY).await.unwrap();
        }
        // While it goes on, the parts that are on disk are sealed too.
        for file in files(folder.path()) {
            assert!(!std::fs::read(&file).unwrap().windows(CANARY.len()).any(|w| w == CANARY), "{file:?}");
        }
        writer.finish().await.unwrap();
        let files = files(folder.path());
        assert_eq!(files.len(), 1);
        assert!(!std::fs::read(&files[0]).unwrap().windows(CANARY.len()).any(|w| w == CANARY));
        assert_eq!(std::fs::metadata(&files[0]).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::metadata(folder.path()).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[tokio::test]
    async fn a_blob_that_was_not_finished_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = blobs(folder.path(), BlobLimits::default());
        let mut writer = blobs.writer(W, B, 0).unwrap();
        writer.write(&vec![1; 20_000_000]).await.unwrap();
        drop(writer);
        assert!(matches!(blobs.get(W, B).await, Err(BlobError::NotFound)));
        assert!(!blobs.exists(W, B).await.unwrap());
    }

    #[tokio::test]
    async fn a_cut_or_exchanged_file_is_damaged_and_not_short() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = blobs(folder.path(), BlobLimits::default());
        let other = BlobId::from_bytes([10; 16]);
        blobs.put(W, B, 0, &vec![1; 3 * BLOB_SEGMENT_BYTES]).await.unwrap();
        blobs.put(W, other, 0, &vec![2; 3 * BLOB_SEGMENT_BYTES]).await.unwrap();
        let file = blobs.folder.join(place(W, B).as_ref());
        let whole = std::fs::read(&file).unwrap();
        for length in
            [0, 10, BLOB_HEADER_BYTES, whole.len() - 1, whole.len() - BLOB_SEGMENT_BYTES - BLOB_SEGMENT_OVERHEAD]
        {
            std::fs::write(&file, &whole[..length]).unwrap();
            assert!(matches!(blobs.get(W, B).await, Err(BlobError::Damaged(_))), "cut at {length}");
        }
        std::fs::copy(blobs.folder.join(place(W, other).as_ref()), &file).unwrap();
        assert!(matches!(blobs.get(W, B).await, Err(BlobError::Damaged(_))));
    }

    #[tokio::test]
    async fn a_nearly_full_disk_refuses_blobs() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = blobs(folder.path(), BlobLimits { least_free_percent: 100, ..BlobLimits::default() });
        assert!(matches!(blobs.put(W, B, 0, b"x").await, Err(BlobError::DiskFull(100))));
        assert!(files(folder.path()).is_empty());
    }

    #[tokio::test]
    async fn the_quota_counts_what_is_stored_and_what_is_on_its_way() {
        let folder = tempfile::tempdir().unwrap();
        let limits = BlobLimits { quota_bytes: 1_000_000, ..BlobLimits::default() };
        let blobs = blobs(folder.path(), limits);
        assert!(matches!(blobs.put(W, B, 1_000_000, b"x").await, Err(BlobError::Quota(1_000_000))));
        let mut first = blobs.writer(W, B, 0).unwrap();
        first.write(&vec![0; 700_000]).await.unwrap();
        let mut second = blobs.writer(W, BlobId::from_bytes([3; 16]), 0).unwrap();
        assert!(matches!(second.write(&vec![0; 700_000]).await, Err(BlobError::Quota(_))));
        drop((first, second));
        assert!(blobs.put(W, B, 0, &vec![0; 900_000]).await.is_ok(), "what was given up is free again");
    }
}
