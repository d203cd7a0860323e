//! What can go wrong with sealed things. No variant holds a key, a value, or bytes that came in.

use kluis_core::id::{KeyId, WorkspaceId};

/// Why the vault did not do what it was asked to. The caller's choices: stop (wrong root key), load a key
/// generation, rotate, or report damaged data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The root key is not the one that this data was sealed under. Nothing was changed.
    #[error(
        "this is not the root key of this data (the data asks for key {wanted}, this one is {given}); nothing was changed; give the right root key, or restore the backup that goes with this one"
    )]
    WrongRootKey {
        /// The key that the data names.
        wanted: KeyId,
        /// The key that was given.
        given: KeyId,
    },
    /// The key generation is not in the keyring.
    #[error("key {key} of workspace {workspace} is not loaded")]
    UnknownKey {
        /// Whose key.
        workspace: WorkspaceId,
        /// Which generation.
        key: KeyId,
    },
    /// The workspace has no current key, so nothing can be sealed in it.
    #[error("workspace {workspace} has no current key")]
    NoCurrentKey {
        /// Which workspace.
        workspace: WorkspaceId,
    },
    /// The key has wrapped [`MAX_WRAPS`](crate::MAX_WRAPS) keys and must not wrap another.
    #[error("key {key} is worn out (2^31 uses); rotate it")]
    KeyWorn {
        /// Which generation.
        key: KeyId,
    },
    /// A sealed thing does not open: it was changed, cut short, or moved here from another place.
    #[error("the sealed {what} does not open: it was changed, cut short, or belongs somewhere else")]
    Damaged {
        /// What kind of thing.
        what: &'static str,
    },
    /// Sealed by a newer Kluis.
    #[error("the sealed {what} has format {format}, which this version does not know; use the version that wrote it")]
    UnknownFormat {
        /// What kind of thing.
        what: &'static str,
        /// Its first byte.
        format: u8,
    },
    /// A blob's segments were handed over in a way that the format does not have: each segment but the last has
    /// [`BLOB_SEGMENT_BYTES`](crate::BLOB_SEGMENT_BYTES), the last one has fewer or as many and is empty only in an
    /// empty blob, and nothing follows it.
    #[error("a blob segment of {length} bytes can not stand here")]
    Segment {
        /// Its length in the clear.
        length: usize,
    },
}
