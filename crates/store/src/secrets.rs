//! Secrets and versions: set, find, deliver, change, delete, purge, rewrap; and pins, the versions a run's attempt was
//! given.
//!
//! A delivery has two halves. [`Store::secrets_find`] reads the rows and their sealed bytes; the caller verifies MACs and
//! decides. [`Store::secret_read`] then checks, in the unit of work that records the delivery, that nothing it decided by
//! has changed. Only after that is committed may the bytes be opened.

use kluis_core::clock::Timestamp;
use kluis_core::id::{KeyId, PrincipalId, SecretId, VersionId, WorkspaceId};
use kluis_core::name::{RunId, SecretName};
use kluis_core::sealed::Sealed;
use kluis_core::secret::{Secret, Version};

use crate::sqlite::{backups, deliveries, rewrap, secrets as sqlite};
use crate::{After, Authenticated, Authority, Error, Listed, Store, Write};

/// A new version of a secret, and with revision 1 the secret itself.
#[derive(Clone, Debug)]
pub struct SecretVersionInsert {
    /// The secret as it will be: `current` is the new version, the revision the stored one plus 1. With revision 1 it
    /// is made and its name must be free; otherwise id, name and creation stay what they were.
    pub secret: Authenticated<Secret>,
    /// The new version.
    pub version: Authenticated<Version>,
    /// Its sealed value.
    pub sealed: Sealed,
}

/// Which secrets to find.
#[derive(Clone, Debug)]
pub struct SecretFind {
    /// Where.
    pub workspace: WorkspaceId,
    /// Their names.
    pub names: Vec<SecretName>,
    /// For a run: the current versions, whatever its attempt is pinned to.
    pub refresh: bool,
}

/// A secret, one of its versions, and that version's sealed value, read at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The secret, active or deleted: see its state.
    pub secret: Authenticated<Secret>,
    /// The version: the one asked for; or, for a run's authority, the one its attempt is pinned to; or the current one.
    pub version: Authenticated<Version>,
    /// Its sealed value.
    pub sealed: Sealed,
}

/// One delivery: what was found, which must still be so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretRead {
    /// Where.
    pub workspace: WorkspaceId,
    /// Which secret.
    pub secret: SecretId,
    /// Which version will leave.
    pub version: VersionId,
    /// The secret's revision, as found.
    pub secret_revision: u64,
    /// The version's revision, as found.
    pub version_revision: u64,
    /// The secret's name, kept with a run's pin.
    pub name: SecretName,
    /// For a run: move the attempt's pin to this version.
    pub refresh: bool,
    /// Now, kept with a run's pin.
    pub now: Timestamp,
}

/// A secret and its current version without the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretListed {
    /// The secret.
    pub secret: Authenticated<Secret>,
    /// Its current version.
    pub version: Authenticated<Version>,
}

/// Which secret to purge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecretPurge {
    /// Where.
    pub workspace: WorkspaceId,
    /// Which; it must be deleted.
    pub secret: SecretId,
    /// Its revision.
    pub revision: u64,
}

/// A secret with all its versions and their sealed values, read at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretWhole {
    /// The secret, active or deleted.
    pub secret: Authenticated<Secret>,
    /// Its versions, oldest first.
    pub versions: Vec<(Authenticated<Version>, Sealed)>,
}

/// Which secret a backup was made of, as it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecretBackup {
    /// Where.
    pub workspace: WorkspaceId,
    /// Which; it must be active.
    pub secret: SecretId,
    /// Its revision.
    pub revision: u64,
}

/// A secret to put back: a new secret with versions that were there before.
#[derive(Clone, Debug)]
pub struct SecretRestore {
    /// The secret, with revision 1; `current` is one of the versions.
    pub secret: Authenticated<Secret>,
    /// Its versions, oldest first.
    pub versions: Vec<(Authenticated<Version>, Sealed)>,
}

/// A data key to put under another workspace key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrap {
    /// The secret.
    pub secret: SecretId,
    /// The version whose data key it is.
    pub version: VersionId,
    /// The workspace key that wraps it now.
    pub key_id: KeyId,
    /// The wrapped data key.
    pub wrapped_key: Vec<u8>,
}

/// A data key under its new workspace key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrapped {
    /// The version whose data key it is.
    pub version: VersionId,
    /// The workspace key that wrapped it when it was read.
    pub from: KeyId,
    /// The workspace key that wraps it now.
    pub to: KeyId,
    /// The wrapped data key.
    pub wrapped_key: Vec<u8>,
}

/// A batch of rewrapped data keys of one workspace.
#[derive(Clone, Debug)]
pub struct RewrapStore {
    /// Where.
    pub workspace: WorkspaceId,
    /// The data keys.
    pub items: Vec<Rewrapped>,
}

/// A secret that a run's attempt was given, and what has become of it since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The attempt.
    pub attempt: u32,
    /// The secret.
    pub secret: SecretId,
    /// Its name when it was first delivered.
    pub name: SecretName,
    /// The version the attempt is pinned to.
    pub version: VersionId,
    /// When it was first delivered.
    pub first: Timestamp,
    /// What a read would find now.
    pub now: PinState,
}

/// What has become of a pinned secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinState {
    /// It is as it was.
    Same,
    /// There is a newer version.
    Rotated,
    /// The pinned version is disabled, or the secret is deleted or purged.
    Revoked,
}

/// A live run that was given a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunUsing {
    /// The run.
    pub run: RunId,
    /// Its attempt.
    pub attempt: u32,
    /// The version it is pinned to.
    pub version: VersionId,
    /// Who submitted the run.
    pub submitted_by: PrincipalId,
}

impl Store {
    /// Sets secrets: all of them, or none with [`Error::Entry`] naming the first that is refused. Inside it:
    /// [`Error::Revision`] (another set came first, or with `current: 0` the secret is gone), [`Error::Secret`] when it is
    /// deleted, [`Error::NotFound`] when the workspace is gone, [`Error::Moved`] when the wrapping key is.
    pub async fn secret_version_insert(&self, write: Write<Vec<SecretVersionInsert>>) -> Result<(), Error> {
        match self {
            Self::Sqlite(s) => s.write(write, sqlite::version_insert).await,
        }
    }

    /// Finds secrets by name, in the order asked; `None` where there is none. Checks the authority.
    pub async fn secrets_find(&self, authority: Authority, find: SecretFind) -> Result<Vec<Option<Found>>, Error> {
        match self {
            Self::Sqlite(s) => s.read(move |c| deliveries::find(c, &authority, &find)).await,
        }
    }

    /// Finds one version of a secret. Checks the authority.
    pub async fn secret_find_version(
        &self,
        authority: Authority,
        workspace: WorkspaceId,
        name: &SecretName,
        version: VersionId,
    ) -> Result<Option<Found>, Error> {
        let key = name.key().to_owned();
        match self {
            Self::Sqlite(s) => s.read(move |c| deliveries::find_version(c, &authority, workspace, &key, version)).await,
        }
    }

    /// Records deliveries, all or none, after checking that everything they were decided by still holds. When this
    /// returns, the values may leave. Errors come as [`Error::Entry`]: [`Error::Revision`] or [`Error::NotFound`] when
    /// secret or version moved, [`Error::Secret`] when it is deleted, [`Error::Disabled`], and for a run
    /// [`Error::Pinned`] when its attempt reads another version (find again: the pinned one is found).
    pub async fn secret_read(&self, write: Write<Vec<SecretRead>>) -> Result<(), Error> {
        match self {
            Self::Sqlite(s) => s.deliver(write, deliveries::read).await,
        }
    }

    /// A secret without a value.
    pub async fn secret_get(&self, workspace: WorkspaceId, name: &SecretName) -> Result<Option<SecretListed>, Error> {
        let key = name.key().to_owned();
        match self {
            Self::Sqlite(s) => s.read(move |c| sqlite::secret_get(c, workspace, &key)).await,
        }
    }

    /// Active secrets, or deleted ones, by name.
    pub async fn secret_list(
        &self,
        workspace: WorkspaceId,
        deleted: bool,
        page: After<String>,
    ) -> Result<Listed<SecretListed>, Error> {
        match self {
            Self::Sqlite(s) => s.list(move |c| sqlite::secret_list(c, workspace, deleted, &page)).await,
        }
    }

    /// One version without its value.
    pub async fn version_get(
        &self,
        workspace: WorkspaceId,
        version: VersionId,
    ) -> Result<Option<Authenticated<Version>>, Error> {
        match self {
            Self::Sqlite(s) => s.read(move |c| sqlite::version_get(c, workspace, version)).await,
        }
    }

    /// A secret's versions without their values, newest first.
    pub async fn version_list(
        &self,
        workspace: WorkspaceId,
        secret: SecretId,
        page: After<u64>,
    ) -> Result<Listed<Authenticated<Version>, u64>, Error> {
        match self {
            Self::Sqlite(s) => s.list(move |c| sqlite::version_list(c, workspace, secret, &page)).await,
        }
    }

    /// Changes a version's attributes; the row given is the new one, its revision the stored one plus 1.
    /// [`Error::Revision`]; [`Error::Secret`] when the secret is deleted.
    pub async fn version_change(&self, write: Write<Authenticated<Version>>) -> Result<(), Error> {
        match self {
            Self::Sqlite(s) => s.write(write, sqlite::version_change).await,
        }
    }

    /// Deletes a secret softly; the row given is the new one, its revision the stored one plus 1.
    pub async fn secret_delete(&self, write: Write<Authenticated<Secret>>) -> Result<(), Error> {
        match self {
            Self::Sqlite(s) => s.write(write, sqlite::secret_delete).await,
        }
    }

    /// Recovers a deleted secret; the row given is the new one, its revision the stored one plus 1.
    pub async fn secret_recover(&self, write: Write<Authenticated<Secret>>) -> Result<(), Error> {
        match self {
            Self::Sqlite(s) => s.write(write, sqlite::secret_recover).await,
        }
    }

    /// Erases a deleted secret and all its versions. Its name is free then.
    pub async fn secret_purge(&self, write: Write<SecretPurge>) -> Result<(), Error> {
        match self {
            Self::Sqlite(s) => s.write(write, sqlite::secret_purge).await,
        }
    }

    /// A secret with all its versions; of more than `most`, `most` and one. Whoever takes it out leaves a record by
    /// [`Store::secret_backup`], which checks the authority.
    pub async fn secret_whole(
        &self,
        workspace: WorkspaceId,
        name: &SecretName,
        most: u32,
    ) -> Result<Option<SecretWhole>, Error> {
        let key = name.key().to_owned();
        match self {
            Self::Sqlite(s) => s.read(move |c| backups::whole(c, workspace, &key, most)).await,
        }
    }

    /// Records that a backup was made, if the secret is still what was found. When this returns, the backup may leave.
    /// [`Error::NotFound`], [`Error::Secret`], [`Error::Revision`].
    pub async fn secret_backup(&self, write: Write<SecretBackup>) -> Result<(), Error> {
        match self {
            Self::Sqlite(s) => s.deliver(write, backups::backup).await,
        }
    }

    /// Puts a secret back with its versions. Its name must be free: [`Error::Conflict`], or [`Error::Secret`] when it
    /// belongs to a deleted one. [`Error::Moved`] when the wrapping key is gone.
    pub async fn secret_restore(&self, write: Write<SecretRestore>) -> Result<(), Error> {
        match self {
            Self::Sqlite(s) => s.write(write, backups::restore).await,
        }
    }

    /// Every secret of every workspace, by id: for a look at everything.
    pub async fn secrets_all(&self, page: After<SecretId>) -> Result<Listed<Authenticated<Secret>, SecretId>, Error> {
        match self {
            Self::Sqlite(s) => s.list(move |c| sqlite::secrets_all(c, &page)).await,
        }
    }

    /// Every version of every workspace with its sealed value, oldest first: for a look at everything.
    pub async fn versions_all(&self, page: After<u64>) -> Result<Listed<(Authenticated<Version>, Sealed), u64>, Error> {
        match self {
            Self::Sqlite(s) => s.list(move |c| sqlite::versions_all(c, &page)).await,
        }
    }

    /// Deleted secrets whose time has come, at most `limit`.
    pub async fn purge_due(&self, now: Timestamp, limit: u32) -> Result<Vec<Authenticated<Secret>>, Error> {
        match self {
            Self::Sqlite(s) => Ok(s.list(move |c| sqlite::purge_due(c, now, limit)).await?.items),
        }
    }

    /// Data keys that are not under the workspace's key `current`, at most `limit`.
    pub async fn rewrap_next(&self, workspace: WorkspaceId, current: KeyId, limit: u32) -> Result<Vec<Rewrap>, Error> {
        match self {
            Self::Sqlite(s) => Ok(s.list(move |c| rewrap::next(c, workspace, current, limit)).await?.items),
        }
    }

    /// Stores rewrapped data keys; how many. One that was rewrapped or purged meanwhile is left alone.
    pub async fn rewrap_store(&self, write: Write<RewrapStore>) -> Result<u64, Error> {
        match self {
            Self::Sqlite(s) => s.write(write, rewrap::store).await,
        }
    }

    /// How many data keys a workspace key wraps.
    pub async fn versions_using_key(&self, workspace: WorkspaceId, key: KeyId) -> Result<u64, Error> {
        match self {
            Self::Sqlite(s) => s.read(move |c| rewrap::versions_using_key(c, workspace, key)).await,
        }
    }

    /// What a run's attempts were given, oldest first.
    pub async fn run_secrets(&self, workspace: WorkspaceId, run: &RunId) -> Result<Vec<Pin>, Error> {
        let key = run.key().to_owned();
        match self {
            Self::Sqlite(s) => s.read(move |c| deliveries::pins(c, workspace, &key)).await,
        }
    }

    /// Live runs that were given this secret, or only this version of it.
    pub async fn live_runs_using(
        &self,
        workspace: WorkspaceId,
        secret: SecretId,
        version: Option<VersionId>,
    ) -> Result<Vec<RunUsing>, Error> {
        match self {
            Self::Sqlite(s) => s.read(move |c| deliveries::live_runs_using(c, workspace, secret, version)).await,
        }
    }
}
