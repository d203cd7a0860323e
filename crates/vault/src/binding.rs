//! Where a sealed thing lives, as bytes that its seal covers. Each part is preceded by its length, so that no two
//! places give the same bytes; moved anywhere else, a sealed thing does not open.

use kluis_core::id::{BlobId, InstallationId, KeyId, SecretId, VersionId, WorkspaceId};
use kluis_core::sealed::Canonical;

/// The first byte of everything sealed, and the first field of everything bound.
pub(crate) const FORMAT: u8 = 1;

/// The place of one version of a secret. Random ids, known before the write; names are not part of it, so a
/// rename moves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Binding {
    /// The workspace that holds the secret.
    pub workspace: WorkspaceId,
    /// The secret.
    pub secret: SecretId,
    /// The version.
    pub version: VersionId,
}

impl Binding {
    /// The data key's name. A data key seals one value, so the value's version names it.
    pub(crate) fn data_key(&self) -> KeyId {
        KeyId::from_bytes(*self.version.as_bytes())
    }

    /// What the value's seal covers. No wrapping key in it: rotation leaves values alone.
    pub(crate) fn value(&self) -> Vec<u8> {
        self.place("kluis/value").finish()
    }

    /// What the wrapped data key's seal covers.
    pub(crate) fn wrap(&self, wrapping: KeyId) -> Vec<u8> {
        self.place("kluis/data-key").bytes(wrapping.as_bytes()).finish()
    }

    fn place(&self, purpose: &str) -> Canonical {
        associated(purpose)
            .bytes(self.workspace.as_bytes())
            .bytes(self.secret.as_bytes())
            .bytes(self.version.as_bytes())
    }
}

/// The start of every binding: format and purpose.
pub(crate) fn associated(purpose: &str) -> Canonical {
    Canonical::default().bytes(&[FORMAT]).text(purpose)
}

/// What the seal of something of the installation's own covers.
pub(crate) fn installation(purpose: &str, installation: InstallationId, wrapping: KeyId) -> Vec<u8> {
    associated(purpose).bytes(installation.as_bytes()).bytes(wrapping.as_bytes()).finish()
}

/// What a wrapped workspace key's seal covers.
pub(crate) fn workspace_key(
    installation: InstallationId,
    workspace: WorkspaceId,
    key: KeyId,
    wrapping: KeyId,
) -> Vec<u8> {
    associated("kluis/workspace-key")
        .bytes(installation.as_bytes())
        .bytes(workspace.as_bytes())
        .bytes(key.as_bytes())
        .bytes(wrapping.as_bytes())
        .finish()
}

/// What the seal of a small secret of the server's own covers.
pub(crate) fn small(installation: InstallationId, purpose: &str, wrapping: KeyId) -> Vec<u8> {
    associated("kluis/small").bytes(installation.as_bytes()).text(purpose).bytes(wrapping.as_bytes()).finish()
}

/// What a wrapped blob key's seal covers.
pub(crate) fn blob_key(workspace: WorkspaceId, blob: BlobId, wrapping: KeyId) -> Vec<u8> {
    associated("kluis/blob-key").bytes(workspace.as_bytes()).bytes(blob.as_bytes()).bytes(wrapping.as_bytes()).finish()
}

/// What the seal of a blob's segment covers.
pub(crate) fn blob_segment(workspace: WorkspaceId, blob: BlobId) -> Vec<u8> {
    associated("kluis/blob").bytes(workspace.as_bytes()).bytes(blob.as_bytes()).finish()
}

/// What the seal of a backup covers.
pub(crate) fn backup(installation: InstallationId, workspace: WorkspaceId, backup: &[u8], wrapping: KeyId) -> Vec<u8> {
    associated("kluis/backup")
        .bytes(installation.as_bytes())
        .bytes(workspace.as_bytes())
        .bytes(backup)
        .bytes(wrapping.as_bytes())
        .finish()
}
