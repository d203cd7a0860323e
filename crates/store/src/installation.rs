//! The installation: its id, its epoch, and what the vault needs to open anything, all of it wrapped or sealed. First
//! start is one unit of work, so there is no half-made installation.

use std::collections::BTreeMap;

use kluis_core::access::{Grant, Principal};
use kluis_core::clock::Timestamp;
use kluis_core::id::{InstallationId, KeyId};

use crate::identity::TokenRow;
use crate::sqlite::installation as sqlite;
use crate::workspaces::{ComputeRow, WorkspaceInsert};
use crate::{Authenticated, Error, Store, Write};

/// What the root key wraps, and where the root key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstallationKeys {
    /// The wrapped installation key.
    pub installation_key: Vec<u8>,
    /// The wrapped checkpoint-signing key.
    pub signing_key: Vec<u8>,
    /// The key canary: opens under the right root key only.
    pub canary: Vec<u8>,
    /// Where the root key comes from, as the server's configuration writes it. Never the key.
    pub root_source: String,
}

/// The installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstallationRow {
    /// Its id.
    pub id: InstallationId,
    /// Moves when a backup is restored.
    pub epoch: u64,
    /// When it was created.
    pub created: Timestamp,
    /// Its wrapped keys.
    pub keys: InstallationKeys,
    /// Small sealed things by name: the CA, the server's TLS key.
    pub sealed: BTreeMap<String, Vec<u8>>,
}

/// First start: the installation, its owner with a login, the first workspace, the built-in compute target.
#[derive(Clone, Debug)]
pub struct InstallationCreate {
    /// A new id.
    pub id: InstallationId,
    /// Now.
    pub created: Timestamp,
    /// The wrapped keys.
    pub keys: InstallationKeys,
    /// The first sealed blobs.
    pub sealed: BTreeMap<String, Vec<u8>>,
    /// The owner.
    pub owner: Authenticated<Principal>,
    /// The owner's grant on the installation.
    pub owner_grant: Authenticated<Grant>,
    /// The owner's login.
    pub owner_token: Authenticated<TokenRow>,
    /// The first workspace, with its key and its owner's grant.
    pub workspace: WorkspaceInsert,
    /// The built-in compute target.
    pub compute: Authenticated<ComputeRow>,
}

/// A small sealed thing, replaced as a whole.
#[derive(Clone, Debug)]
pub struct SealedBlob {
    /// Its name.
    pub name: String,
    /// Its sealed bytes.
    pub bytes: Vec<u8>,
}

/// Everything the old root key wrapped, under the new one.
#[derive(Clone, Debug)]
pub struct RootRotate {
    /// The installation's keys.
    pub keys: InstallationKeys,
    /// Every workspace key of every workspace.
    pub workspace_keys: Vec<(KeyId, Vec<u8>)>,
}

impl Store {
    /// The installation, or `None` before first start.
    pub async fn installation_load(&self) -> Result<Option<InstallationRow>, Error> {
        match self {
            Self::Sqlite(s) => s.read(sqlite::load).await,
        }
    }

    /// First start. [`Error::Conflict`] when there is an installation already.
    pub async fn installation_create(&self, write: Write<InstallationCreate>) -> Result<(), Error> {
        match self {
            Self::Sqlite(s) => s.write(write, sqlite::create).await,
        }
    }

    /// Stores a small sealed blob under its name, in place of an older one.
    pub async fn sealed_blob_set(&self, write: Write<SealedBlob>) -> Result<(), Error> {
        match self {
            Self::Sqlite(s) => s.write(write, sqlite::sealed_blob_set).await,
        }
    }

    /// Puts everything under a new root key. [`Error::Moved`] when the workspace keys given are not all there are.
    pub async fn root_rotate(&self, write: Write<RootRotate>) -> Result<(), Error> {
        match self {
            Self::Sqlite(s) => s.write(write, sqlite::root_rotate).await,
        }
    }
}
