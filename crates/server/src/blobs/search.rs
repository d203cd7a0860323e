//! Looking through the whole folder, for what a crash has left behind.

use std::path::{Path, PathBuf};

use futures_util::TryStreamExt;
use kluis_core::clock::Timestamp;
use kluis_core::id::{BlobId, WorkspaceId};
use object_store::path::Path as ObjectPath;

use super::{BlobError, Blobs, pieces};

/// A stored blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Whose.
    pub workspace: WorkspaceId,
    /// Which.
    pub blob: BlobId,
    /// When it was written, as the folder says.
    pub written: Timestamp,
}

impl Blobs {
    /// The blobs that were written before this moment. Pieces of uploads and half-written files of that age are deleted
    /// on the way.
    pub async fn older_than(&self, before: Timestamp) -> Result<Vec<Stored>, BlobError> {
        let mut blobs = Vec::new();
        let mut objects = self.objects.list(None);
        while let Some(object) = objects.try_next().await.map_err(|e| self.failed(e))? {
            let written = Timestamp::from_millis(object.last_modified.timestamp_millis());
            if written >= before {
                continue;
            }
            if pieces::is_piece(&object.location) {
                self.remove(&object.location).await?;
            } else if let Some((workspace, blob)) = parse(&object.location) {
                blobs.push(Stored { workspace, blob, written });
            }
        }
        self.uploads.forget();
        let folder = self.folder.clone();
        let removed = tokio::task::spawn_blocking(move || remove_half_written(&folder, before)).await;
        removed.expect("looking through a folder does not panic").map_err(BlobError::Folder)?;
        Ok(blobs)
    }
}

fn parse(place: &ObjectPath) -> Option<(WorkspaceId, BlobId)> {
    let mut parts = place.parts();
    let workspace = parts.next()?.as_ref().parse().ok()?;
    let blob = parts.nth(1)?.as_ref().parse().ok()?;
    Some((workspace, blob))
}

/// Files being written have a `#` in their name and are in no list.
fn remove_half_written(folder: &Path, before: Timestamp) -> std::io::Result<()> {
    let mut folders: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            // Gone in the meantime is as good as never there.
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                folders.push(entry.path());
            } else if entry.file_name().to_string_lossy().contains('#') && modified(&metadata) < before {
                std::fs::remove_file(entry.path())?;
            }
        }
    }
    Ok(())
}

fn modified(metadata: &std::fs::Metadata) -> Timestamp {
    let since = metadata.modified().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    Timestamp::default().plus(since.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::super::BlobLimits;
    use super::super::tests::{W, blobs};
    use super::*;

    #[tokio::test]
    async fn what_is_old_is_found_and_what_was_given_up_is_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = blobs(folder.path(), BlobLimits::default());
        let id = BlobId::from_bytes([9; 16]);
        blobs.put(W, id, 0, b"x").await.unwrap();
        let upload = blobs.upload(W, b"given up");
        blobs.piece_put(upload, 0, 0, b"x").await.unwrap();
        let half = blobs.folder.join(W.to_string()).join("aa#1");
        std::fs::write(&half, b"x").unwrap();

        assert_eq!(blobs.older_than(Timestamp::default()).await.unwrap(), []);
        assert!(half.exists());
        assert_eq!(blobs.arrived(upload).await.unwrap(), 1);

        let later = Timestamp::from_millis(i64::MAX / 2);
        let found = blobs.older_than(later).await.unwrap();
        assert_eq!(found.iter().map(|b| (b.workspace, b.blob)).collect::<Vec<_>>(), [(W, id)]);
        assert!(!half.exists());
        assert_eq!(blobs.arrived(upload).await.unwrap(), 0);
        assert_eq!(blobs.get(W, id).await.unwrap(), b"x", "finding is not deleting");
    }
}
