//! The pieces of an upload that goes on over many requests, and over restarts of the server. Each piece is a sealed
//! object of its own; where an upload stands is read from the folder once and then remembered, so nothing is lost with
//! the process. The last piece puts them together into one blob.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::TryStreamExt;
use kluis_core::id::{BlobId, WorkspaceId};
use object_store::path::Path as ObjectPath;

use super::{BlobError, Blobs, plain_bytes};

/// Below this folder lie the pieces. No workspace's id reads like it.
const FOLDER: &str = "uploads";
/// How many uploads are remembered; the others are looked up again.
const MOST_REMEMBERED: usize = 10_000;

/// One upload: a file of one run, in one session. Its key is a keyed hash of that, made by [`Blobs::upload`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Upload {
    workspace: WorkspaceId,
    key: BlobId,
}

/// What is known of the uploads that go on.
#[derive(Debug, Default)]
pub(super) struct Uploads(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// The bytes that have arrived, in order, without a hole.
    arrived: HashMap<Upload, u64>,
    /// The sealed bytes of all pieces of a workspace: they count towards its quota.
    pending: HashMap<WorkspaceId, u64>,
}

impl Uploads {
    /// Looks everything up again.
    pub(super) fn forget(&self) {
        *self.lock() = Known::default();
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Blobs {
    /// Names an upload by what it is for.
    pub fn upload(&self, workspace: WorkspaceId, what: &[u8]) -> Upload {
        let mut hasher = self.vault.blob_hasher(workspace);
        hasher.update(b"kluis/upload/1");
        hasher.update(what);
        Upload { workspace, key: hasher.finish() }
    }

    /// Where the upload stands: the bytes that have arrived so far.
    pub async fn arrived(&self, upload: Upload) -> Result<u64, BlobError> {
        if let Some(arrived) = self.uploads.lock().arrived.get(&upload) {
            return Ok(*arrived);
        }
        let arrived = self.pieces(upload).await?.last().map_or(0, |(offset, bytes)| offset + bytes);
        self.remember(upload, arrived);
        Ok(arrived)
    }

    /// Stores the piece that starts at `offset`. The caller has checked that this is where the upload stands.
    pub async fn piece_put(&self, upload: Upload, offset: u64, used: u64, bytes: &[u8]) -> Result<(), BlobError> {
        let blob = self.piece(upload, offset);
        let used = used.saturating_add(self.pending(upload.workspace).await?);
        let mut writer = self.write_at(&piece_place(upload, offset), upload.workspace, blob, used)?;
        writer.write(bytes).await?;
        let sealed = writer.finish_piece().await?;
        if let Some(pending) = self.uploads.lock().pending.get_mut(&upload.workspace) {
            *pending += sealed;
        }
        self.remember(upload, offset + bytes.len() as u64);
        Ok(())
    }

    /// Puts the pieces together, with `tail` at the end, into one blob. Gives its bytes in the clear and sealed.
    pub async fn assemble(
        &self,
        upload: Upload,
        blob: BlobId,
        used: u64,
        tail: &[u8],
    ) -> Result<(u64, u64), BlobError> {
        let mut writer = self.writer(upload.workspace, blob, used)?;
        let mut length = 0;
        for (offset, _) in self.pieces(upload).await? {
            let place = piece_place(upload, offset);
            let mut piece = self.open_at(&place, upload.workspace, self.piece(upload, offset)).await?;
            while let Some(bytes) = piece.next().await {
                let bytes = bytes?;
                length += bytes.len() as u64;
                writer.write(&bytes).await?;
            }
        }
        writer.write(tail).await?;
        let sealed = writer.finish().await?;
        Ok((length + tail.len() as u64, sealed))
    }

    /// Forgets what has arrived.
    pub async fn discard(&self, upload: Upload) -> Result<(), BlobError> {
        let folder = upload_place(upload);
        let objects: Vec<_> = self.objects.list(Some(&folder)).try_collect().await.map_err(|e| self.failed(e))?;
        for object in objects {
            self.remove(&object.location).await?;
        }
        let mut known = self.uploads.lock();
        known.arrived.remove(&upload);
        // Counted anew when it is asked for.
        known.pending.remove(&upload.workspace);
        Ok(())
    }

    fn remember(&self, upload: Upload, arrived: u64) {
        let mut known = self.uploads.lock();
        if known.arrived.len() >= MOST_REMEMBERED {
            known.arrived.clear();
        }
        known.arrived.insert(upload, arrived);
    }

    /// The sealed bytes of all pieces of a workspace.
    async fn pending(&self, workspace: WorkspaceId) -> Result<u64, BlobError> {
        if let Some(pending) = self.uploads.lock().pending.get(&workspace) {
            return Ok(*pending);
        }
        let folder = ObjectPath::from_iter([FOLDER, &workspace.to_string()]);
        let objects = self.objects.list(Some(&folder));
        let pending = objects.try_fold(0, async |sum, object| Ok(sum + object.size)).await;
        let pending = pending.map_err(|e| self.failed(e))?;
        self.uploads.lock().pending.insert(workspace, pending);
        Ok(pending)
    }

    /// Offset and length of the pieces in order, up to the first hole.
    async fn pieces(&self, upload: Upload) -> Result<Vec<(u64, u64)>, BlobError> {
        let folder = upload_place(upload);
        let objects: Vec<_> = self.objects.list(Some(&folder)).try_collect().await.map_err(|e| self.failed(e))?;
        let mut pieces: Vec<(u64, u64)> =
            objects.iter().filter_map(|o| Some((o.location.filename()?.parse().ok()?, plain_bytes(o.size)))).collect();
        pieces.sort_unstable();
        let mut next = 0;
        let whole = pieces.iter().take_while(|(offset, bytes)| {
            let fits = *offset == next;
            next = offset + bytes;
            fits
        });
        let whole = whole.count();
        pieces.truncate(whole);
        Ok(pieces)
    }

    /// What a piece's seal is bound to: its upload and its place in it.
    fn piece(&self, upload: Upload, offset: u64) -> BlobId {
        let mut hasher = self.vault.blob_hasher(upload.workspace);
        hasher.update(b"kluis/piece/1");
        hasher.update(upload.key.as_bytes());
        hasher.update(&offset.to_be_bytes());
        hasher.finish()
    }
}

/// Whether a piece of an upload lies here.
pub(super) fn is_piece(place: &ObjectPath) -> bool {
    place.parts().next().is_some_and(|first| first.as_ref() == FOLDER)
}

fn upload_place(upload: Upload) -> ObjectPath {
    ObjectPath::from_iter([FOLDER, &upload.workspace.to_string(), &upload.key.to_string()])
}

fn piece_place(upload: Upload, offset: u64) -> ObjectPath {
    upload_place(upload).join(format!("{offset:020}"))
}

#[cfg(test)]
mod tests {
    use super::super::BlobLimits;
    use super::super::tests::{W, blobs};
    use super::*;

    #[tokio::test]
    async fn pieces_survive_the_process_and_become_one_blob() {
        let folder = tempfile::tempdir().unwrap();
        let blob = BlobId::from_bytes([9; 16]);
        let first = blobs(folder.path(), BlobLimits::default());
        let upload = first.upload(W, b"run 1 attempt 1 outputs/model.pkl");
        first.piece_put(upload, 0, 0, &[1; 100]).await.unwrap();
        assert_eq!(first.arrived(upload).await.unwrap(), 100);
        drop(first);

        let second = blobs(folder.path(), BlobLimits::default());
        assert_eq!(second.arrived(upload).await.unwrap(), 100);
        second.piece_put(upload, 100, 0, &[2; 50]).await.unwrap();
        let (length, _) = second.assemble(upload, blob, 0, &[3; 7]).await.unwrap();
        assert_eq!(length, 157);
        second.discard(upload).await.unwrap();
        assert_eq!(second.arrived(upload).await.unwrap(), 0);
        assert_eq!(second.get(W, blob).await.unwrap(), [vec![1; 100], vec![2; 50], vec![3; 7]].concat());
    }

    #[tokio::test]
    async fn a_piece_after_a_hole_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let first = blobs(folder.path(), BlobLimits::default());
        let upload = first.upload(W, b"x");
        first.piece_put(upload, 0, 0, &[1; 10]).await.unwrap();
        first.piece_put(upload, 20, 0, &[1; 10]).await.unwrap();
        let second = blobs(folder.path(), BlobLimits::default());
        assert_eq!(second.arrived(upload).await.unwrap(), 10);
        second.discard(upload).await.unwrap();
        second.piece_put(upload, 0, 0, &[1; 20]).await.unwrap();
        assert_eq!(second.pieces(upload).await.unwrap(), [(0, 20)], "what stood after the hole is gone too");
    }

    #[tokio::test]
    async fn uploads_of_two_things_are_apart() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = blobs(folder.path(), BlobLimits::default());
        let (a, b) = (blobs.upload(W, b"a"), blobs.upload(W, b"b"));
        blobs.piece_put(a, 0, 0, &[1; 10]).await.unwrap();
        assert_eq!(blobs.arrived(b).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn pieces_that_never_become_a_file_count_towards_the_quota() {
        let folder = tempfile::tempdir().unwrap();
        let limits = BlobLimits { quota_bytes: 1_000_000, ..BlobLimits::default() };
        let blobs = blobs(folder.path(), limits);
        for n in 0..3_u8 {
            let upload = blobs.upload(W, &[n]);
            let put = blobs.piece_put(upload, 0, 0, &vec![0; 400_000]).await;
            assert_eq!(put.is_ok(), n < 2, "{put:?}");
        }
    }
}
