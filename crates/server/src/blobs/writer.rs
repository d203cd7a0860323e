//! Writing a blob of unknown length: plaintext is held for at most one segment, sealed bytes for at most one part.

use kluis_vault::{BLOB_SEGMENT_BYTES, BlobSealer};
use object_store::path::Path as ObjectPath;
use object_store::{MultipartUpload, ObjectStoreExt, PutPayload};

use super::space::Reservation;
use super::{BlobError, Blobs};

/// Sealed bytes that are written in one go. Above the least that bucket stores accept for a part.
const PART_BYTES: usize = 8 * 1024 * 1024;

/// A blob on its way. Give it bytes, then [`finish`](Self::finish); dropped before that, nothing stays.
pub struct BlobWriter {
    blobs: Blobs,
    place: ObjectPath,
    sealer: BlobSealer,
    reservation: Reservation,
    /// In the clear, not yet a full segment (or one full segment that may be the last).
    open: Vec<u8>,
    /// Sealed, not yet written.
    sealed: Vec<u8>,
    written: u64,
    upload: Option<Box<dyn MultipartUpload>>,
}

impl BlobWriter {
    pub(super) fn new(blobs: Blobs, place: ObjectPath, sealer: BlobSealer, reservation: Reservation) -> Self {
        let sealed = sealer.header().to_vec();
        Self { blobs, place, sealer, reservation, open: Vec::new(), sealed, written: 0, upload: None }
    }

    /// Adds bytes.
    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<(), BlobError> {
        while !bytes.is_empty() {
            // Only now is it known that the segment is not the last one.
            if self.open.len() == BLOB_SEGMENT_BYTES {
                self.seal(false)?;
            }
            let (now, later) = bytes.split_at(bytes.len().min(BLOB_SEGMENT_BYTES - self.open.len()));
            self.open.extend_from_slice(now);
            bytes = later;
            if self.sealed.len() >= PART_BYTES {
                self.write_part().await?;
            }
        }
        Ok(())
    }

    /// Seals the rest and makes the blob appear, durably. Gives the bytes it takes, sealed.
    pub async fn finish(self) -> Result<u64, BlobError> {
        let (written, reservation) = self.end().await?;
        reservation.stored();
        Ok(written)
    }

    /// The same for a piece of an upload, which is counted elsewhere.
    pub(super) async fn finish_piece(self) -> Result<u64, BlobError> {
        self.end().await.map(|(written, _)| written)
    }

    async fn end(mut self) -> Result<(u64, Reservation), BlobError> {
        self.seal(true)?;
        let rest = PutPayload::from(std::mem::take(&mut self.sealed));
        self.written += rest.content_length() as u64;
        match &mut self.upload {
            None => self.blobs.objects.put(&self.place, rest).await.map(drop),
            Some(upload) => match upload.put_part(rest).await {
                Ok(()) => upload.complete().await.map(drop),
                Err(error) => Err(error),
            },
        }
        .map_err(|e| self.blobs.failed(e))?;
        self.blobs.close_file(&self.place)?;
        Ok((self.written, self.reservation))
    }

    fn seal(&mut self, last: bool) -> Result<(), BlobError> {
        let segment = self.sealer.segment(&self.open, last).map_err(BlobError::Seal)?;
        self.open.clear();
        self.reservation.grow(segment.len() as u64)?;
        self.sealed.extend(segment);
        Ok(())
    }

    async fn write_part(&mut self) -> Result<(), BlobError> {
        let part: PutPayload = std::mem::take(&mut self.sealed).into();
        self.written += part.content_length() as u64;
        if self.upload.is_none() {
            let started = self.blobs.objects.put_multipart(&self.place).await;
            self.upload = Some(started.map_err(|e| self.blobs.failed(e))?);
        }
        let upload = self.upload.as_mut().expect("started just above");
        upload.put_part(part).await.map_err(|e| self.blobs.failed(e))
    }
}

impl std::fmt::Debug for BlobWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlobWriter").field("place", &self.place).field("written", &self.written).finish_non_exhaustive()
    }
}
