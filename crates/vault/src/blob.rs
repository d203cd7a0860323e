//! Blobs (snapshots, logs, outputs): sealed in segments of 64 KiB by the STREAM construction, so that a blob of any
//! size is opened while it arrives and no segment can be cut off, repeated, moved or taken from another blob. The
//! header holds the blob's own key under the workspace's current key. docs/format.md has the layout.

use aws_lc_rs::aead::{Aad, NONCE_LEN, Nonce};
use aws_lc_rs::hmac;
use kluis_core::id::{BlobId, WorkspaceId};

use crate::authenticate;
use crate::envelope::{self, OVERHEAD, TAG_BYTES};
use crate::error::Error;
use crate::memory::{KEY_BYTES, Key};
use crate::vault::Vault;
use crate::{binding, derive};

/// Bytes in the clear of every segment but the last.
pub const BLOB_SEGMENT_BYTES: usize = 64 * 1024;
/// Bytes that sealing adds to each segment.
pub const BLOB_SEGMENT_OVERHEAD: usize = TAG_BYTES;
/// Bytes of a blob's header.
pub const BLOB_HEADER_BYTES: usize = OVERHEAD + KEY_BYTES;

impl Vault {
    /// Starts sealing a blob: store [`BlobSealer::header`], then each segment.
    pub fn blob_sealer(&self, workspace: WorkspaceId, blob: BlobId) -> Result<BlobSealer, Error> {
        let key = Key::generate(&*self.rng);
        let header = self.blob_key_wrap(workspace, blob, &key)?;
        Ok(BlobSealer { header, stream: Stream::new(key, workspace, blob) })
    }

    /// Starts opening a blob from its header.
    pub fn blob_opener(&self, workspace: WorkspaceId, blob: BlobId, header: &[u8]) -> Result<BlobOpener, Error> {
        let key = self.blob_key_unwrap(workspace, blob, header)?;
        Ok(BlobOpener { stream: Stream::new(key, workspace, blob) })
    }

    /// A blob's header under the workspace's current key; the segments stay as they are.
    pub fn blob_rewrap(&self, workspace: WorkspaceId, blob: BlobId, header: &[u8]) -> Result<Vec<u8>, Error> {
        self.blob_key_wrap(workspace, blob, &self.blob_key_unwrap(workspace, blob, header)?)
    }

    /// Seals a whole blob that is small enough to be in memory: header and segments in one.
    pub fn seal_blob(&self, workspace: WorkspaceId, blob: BlobId, bytes: &[u8]) -> Result<Vec<u8>, Error> {
        let mut sealer = self.blob_sealer(workspace, blob)?;
        let segments = bytes.len().div_ceil(BLOB_SEGMENT_BYTES).max(1);
        let mut out = Vec::with_capacity(BLOB_HEADER_BYTES + bytes.len() + segments * BLOB_SEGMENT_OVERHEAD);
        out.extend_from_slice(sealer.header());
        for segment in 0..segments {
            let start = segment * BLOB_SEGMENT_BYTES;
            let end = bytes.len().min(start + BLOB_SEGMENT_BYTES);
            out.extend(sealer.segment(&bytes[start..end], segment + 1 == segments)?);
        }
        Ok(out)
    }

    /// Opens a whole blob: header and segments in one.
    pub fn open_blob(&self, workspace: WorkspaceId, blob: BlobId, sealed: &[u8]) -> Result<Vec<u8>, Error> {
        let (header, body) = sealed.split_at_checked(BLOB_HEADER_BYTES).ok_or(DAMAGED)?;
        let mut opener = self.blob_opener(workspace, blob, header)?;
        let mut out = Vec::with_capacity(body.len());
        let mut segments = body.chunks(BLOB_SEGMENT_BYTES + BLOB_SEGMENT_OVERHEAD).peekable();
        while let Some(segment) = segments.next() {
            out.extend(opener.segment(segment, segments.peek().is_none())?);
        }
        opener.finish()?;
        Ok(out)
    }

    /// Starts the keyed hash that names a snapshot by its content. Keyed per workspace: the same tree in two
    /// workspaces has two names, and nobody outside can tell from a name what a workspace holds.
    pub fn blob_hasher(&self, workspace: WorkspaceId) -> BlobHasher {
        let place: [&[u8]; 2] = [self.installation.as_bytes(), workspace.as_bytes()];
        let key = derive::key(&self.installation_key, "kluis/blob-address", &place);
        BlobHasher(authenticate::hmac_context(&key))
    }

    fn blob_key_wrap(&self, workspace: WorkspaceId, blob: BlobId, key: &Key) -> Result<Vec<u8>, Error> {
        let current = self.keyring.current(workspace)?;
        current.wrap(&binding::blob_key(workspace, blob, current.id), key.expose(), &*self.rng)
    }

    fn blob_key_unwrap(&self, workspace: WorkspaceId, blob: BlobId, header: &[u8]) -> Result<Key, Error> {
        let key = self.keyring.get(workspace, envelope::key_id(WHAT, header)?)?;
        key.unwrap_key(WHAT, &binding::blob_key(workspace, blob, key.id), header)
    }
}

const WHAT: &str = "blob";
const DAMAGED: Error = Error::Damaged { what: WHAT };

/// Seals one blob, segment by segment.
#[derive(Debug)]
pub struct BlobSealer {
    header: Vec<u8>,
    stream: Stream,
}

impl BlobSealer {
    /// What stands before the first segment.
    pub fn header(&self) -> &[u8] {
        &self.header
    }

    /// Seals the next segment: [`BLOB_SEGMENT_BYTES`] long, the last one up to that; the last one is empty only when
    /// the whole blob is. Anything else is [`Error::Segment`].
    pub fn segment(&mut self, plaintext: &[u8], last: bool) -> Result<Vec<u8>, Error> {
        let nonce = self.stream.next(plaintext.len(), last)?;
        let mut out = Vec::with_capacity(plaintext.len() + TAG_BYTES);
        out.extend_from_slice(plaintext);
        envelope::cipher(&self.stream.key)
            .seal_in_place_append_tag(nonce, Aad::from(&self.stream.place), &mut out)
            .expect("a segment is far below the cipher's limits");
        Ok(out)
    }
}

/// Opens one blob, segment by segment, in order.
#[derive(Debug)]
pub struct BlobOpener {
    stream: Stream,
}

impl BlobOpener {
    /// Opens the next segment. Each but the last has [`BLOB_SEGMENT_BYTES`] + [`BLOB_SEGMENT_OVERHEAD`] bytes; `last`
    /// says that nothing follows, and does not open if that is not what was sealed. After one that does not open, no other
    /// does.
    pub fn segment(&mut self, sealed: &[u8], last: bool) -> Result<Vec<u8>, Error> {
        let opened = self.open(sealed, last);
        if opened.is_err() {
            self.stream.state = State::Failed;
        }
        opened
    }

    fn open(&mut self, sealed: &[u8], last: bool) -> Result<Vec<u8>, Error> {
        let length = sealed.len().checked_sub(TAG_BYTES).ok_or(DAMAGED)?;
        let nonce = self.stream.next(length, last).map_err(|_| DAMAGED)?;
        let mut out = sealed.to_vec();
        envelope::cipher(&self.stream.key)
            .open_in_place(nonce, Aad::from(&self.stream.place), &mut out)
            .map_err(|_| DAMAGED)?;
        out.truncate(length);
        Ok(out)
    }

    /// Whether the last segment was there. A reader that runs out of input asks this: without it a cut blob would
    /// look complete.
    pub fn finish(self) -> Result<(), Error> {
        if self.stream.state == State::Ended { Ok(()) } else { Err(DAMAGED) }
    }
}

/// The nonces of the STREAM construction: a counter of 11 bytes, then 1 for the last segment and 0 for the others.
#[derive(Debug)]
struct Stream {
    key: Key,
    place: Vec<u8>,
    counter: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Ended,
    Failed,
}

impl Stream {
    fn new(key: Key, workspace: WorkspaceId, blob: BlobId) -> Self {
        Self { key, place: binding::blob_segment(workspace, blob), counter: 0, state: State::Open }
    }

    fn next(&mut self, length: usize, last: bool) -> Result<Nonce, Error> {
        let fits = match (last, length) {
            (false, n) => n == BLOB_SEGMENT_BYTES,
            (true, 0) => self.counter == 0,
            (true, n) => n <= BLOB_SEGMENT_BYTES,
        };
        if self.state != State::Open || !fits {
            return Err(Error::Segment { length });
        }
        let mut nonce = [0; NONCE_LEN];
        nonce[3..11].copy_from_slice(&self.counter.to_be_bytes());
        nonce[11] = u8::from(last);
        self.counter += 1;
        if last {
            self.state = State::Ended;
        }
        Ok(Nonce::assume_unique_for_key(nonce))
    }
}

/// Computes a snapshot's name from its bytes; see [`Vault::blob_hasher`].
pub struct BlobHasher(hmac::Context);

impl BlobHasher {
    /// Adds bytes; how they are cut into calls does not matter.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The name: the first 128 bits of the keyed hash.
    pub fn finish(self) -> BlobId {
        let hash = authenticate::finish(self.0);
        let (id, _) = hash.split_first_chunk().expect("32 bytes hold 16");
        BlobId::from_bytes(*id)
    }
}

impl std::fmt::Debug for BlobHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BlobHasher(***)")
    }
}
