//! Reading a blob while it arrives. A segment is handed on only when it has opened; a blob that was cut ends in an error
//! and never looks complete.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{BoxStream, Stream, StreamExt};
use kluis_core::id::{BlobId, WorkspaceId};
use kluis_vault::{BLOB_HEADER_BYTES, BLOB_SEGMENT_BYTES, BLOB_SEGMENT_OVERHEAD, BlobOpener, Vault};
use object_store::GetResult;

use super::{BlobError, plain_bytes};

const SEGMENT: usize = BLOB_SEGMENT_BYTES + BLOB_SEGMENT_OVERHEAD;
const CUT: BlobError = BlobError::Damaged(kluis_vault::Error::Damaged { what: "blob" });

/// A blob being read, segment by segment.
pub struct BlobStream {
    incoming: BoxStream<'static, object_store::Result<Bytes>>,
    opener: BlobOpener,
    arrived: VecDeque<u8>,
    /// Sealed bytes that belong to segments not yet opened.
    left: u64,
    length: u64,
}

impl BlobStream {
    pub(super) async fn start(
        vault: Arc<Vault>,
        workspace: WorkspaceId,
        blob: BlobId,
        object: GetResult,
    ) -> Result<Self, BlobError> {
        let size = object.meta.size;
        let mut incoming = object.into_stream();
        let mut arrived = VecDeque::new();
        let header = take(&mut incoming, &mut arrived, BLOB_HEADER_BYTES).await?;
        let opener = vault.blob_opener(workspace, blob, &header).map_err(BlobError::Damaged)?;
        // An empty blob has one empty segment, which must open like any other.
        let left = size.checked_sub(BLOB_HEADER_BYTES as u64).filter(|left| *left > 0).ok_or(CUT)?;
        Ok(Self { incoming, opener, arrived, left, length: plain_bytes(size) })
    }

    /// How many bytes it has in the clear.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The next bytes; `None` when all were read, which is known to be the real end.
    pub async fn next(&mut self) -> Option<Result<Bytes, BlobError>> {
        if self.left == 0 {
            return None;
        }
        let opened = self.segment().await;
        if opened.is_err() {
            self.left = 0;
        }
        Some(opened)
    }

    /// As a stream, for a response's body.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes, BlobError>> + Send + 'static {
        futures_util::stream::unfold(self, |mut this| async move { this.next().await.map(|item| (item, this)) })
    }

    /// All of it, in memory.
    pub async fn collect(mut self) -> Result<Vec<u8>, BlobError> {
        let mut all = Vec::with_capacity(self.length as usize);
        while let Some(bytes) = self.next().await {
            all.extend_from_slice(&bytes?);
        }
        Ok(all)
    }

    async fn segment(&mut self) -> Result<Bytes, BlobError> {
        let length = usize::try_from(self.left).unwrap_or(SEGMENT).min(SEGMENT);
        let sealed = take(&mut self.incoming, &mut self.arrived, length).await?;
        self.left -= length as u64;
        self.opener.segment(&sealed, self.left == 0).map(Bytes::from).map_err(BlobError::Damaged)
    }
}

impl std::fmt::Debug for BlobStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlobStream").field("left", &self.left).finish_non_exhaustive()
    }
}

/// Exactly so many of the incoming bytes.
async fn take(
    incoming: &mut BoxStream<'static, object_store::Result<Bytes>>,
    arrived: &mut VecDeque<u8>,
    length: usize,
) -> Result<Vec<u8>, BlobError> {
    while arrived.len() < length {
        match incoming.next().await {
            Some(bytes) => arrived.extend(bytes.map_err(BlobError::Objects)?),
            None => return Err(CUT),
        }
    }
    Ok(arrived.drain(..length).collect())
}
