//! A vault whose every byte is the same in each test: fixed root key, fixed ids, a counting generator.

use std::sync::Arc;

use kluis_core::id::{BlobId, InstallationId, SecretId, VersionId, WorkspaceId};
use kluis_core::plaintext::Plaintext;
use kluis_core::rng::CountingRng;
use kluis_vault::{Binding, InstallationKeys, RootKey, Vault, WorkspaceKey};

use crate::spec;

pub(crate) const ROOT: [u8; 32] = [0x11; 32];
pub(crate) const INSTALLATION: InstallationId = InstallationId::from_bytes([0x22; 16]);
pub(crate) const WORKSPACE: WorkspaceId = WorkspaceId::from_bytes([0x33; 16]);
pub(crate) const OTHER_WORKSPACE: WorkspaceId = WorkspaceId::from_bytes([0x34; 16]);
pub(crate) const BLOB: BlobId = BlobId::from_bytes([0x66; 16]);
pub(crate) const BINDING: Binding = Binding {
    workspace: WORKSPACE,
    secret: SecretId::from_bytes([0x44; 16]),
    version: VersionId::from_bytes([0x55; 16]),
};

/// An installation with one key in each of two workspaces.
pub(crate) struct Fixture {
    pub(crate) vault: Vault,
    pub(crate) keys: InstallationKeys,
    pub(crate) workspace_key: WorkspaceKey,
    pub(crate) other_key: WorkspaceKey,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let rng = Arc::new(CountingRng::new(7));
        let (vault, keys) = Vault::create(root(), INSTALLATION, rng).expect("a new vault");
        let [workspace_key, other_key] =
            [WORKSPACE, OTHER_WORKSPACE].map(|w| vault.workspace_key_create(w).expect("a new key"));
        for key in [&workspace_key, &other_key] {
            vault.workspace_key_load(key, true).expect("its own key loads");
        }
        Self { vault, keys, workspace_key, other_key }
    }

    /// The same installation, opened by the second implementation.
    pub(crate) fn by_the_page(&self) -> spec::Installation {
        let InstallationKeys { installation_key, signing_key, canary } = &self.keys;
        spec::Installation::open(ROOT, *INSTALLATION.as_bytes(), installation_key, signing_key, canary)
            .expect("the page opens it")
    }

    /// The first workspace's key, opened by the second implementation.
    pub(crate) fn workspace_key_by_the_page(&self) -> spec::Key {
        let key = &self.workspace_key;
        self.by_the_page()
            .workspace_key(key.workspace.as_bytes(), key.id.as_bytes(), &key.wrapped)
            .expect("the page opens it")
    }

    /// The same installation as after a restart, no workspace key loaded.
    pub(crate) fn reopen(&self) -> Vault {
        Vault::open(root(), INSTALLATION, &self.keys, Arc::new(CountingRng::new(8))).expect("the same root key")
    }
}

pub(crate) fn root() -> RootKey {
    RootKey::from_bytes(&ROOT)
}

pub(crate) fn text(value: &str) -> Plaintext {
    Plaintext::from_text(value).expect("a short text")
}

/// Every way to damage bytes a little: each bit flipped, each cut, one byte more.
pub(crate) fn damaged(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    let flipped = (0..bytes.len() * 8).map(|bit| {
        let mut other = bytes.to_vec();
        other[bit / 8] ^= 1 << (bit % 8);
        other
    });
    let cut = (0..bytes.len()).map(|end| bytes[..end].to_vec());
    let longer = std::iter::once([bytes, &[0]].concat());
    flipped.chain(cut).chain(longer)
}
