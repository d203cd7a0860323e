//! Workspaces, their members and their wrapping keys, and the compute targets that runs queue for.

use kluis_core::access::{Grant, Role};
use kluis_core::api::workspaces::WorkspaceSettings;
use kluis_core::clock::Timestamp;
use kluis_core::id::{ComputeId, KeyId, PrincipalId, WorkspaceId};
use kluis_core::name::{ComputeName, PrincipalName, WorkspaceName};
use kluis_core::sealed::Canonical;

use crate::sqlite::{purge, workspaces as sqlite};
use crate::{After, Authenticated, Error, Listed, Store, Write};

/// A workspace. The row grants: the name says which vault a caller reaches, the settings what it allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workspace {
    /// Its id.
    pub id: WorkspaceId,
    /// Its name, unique in the installation, taken for good.
    pub name: WorkspaceName,
    /// When it was created.
    pub created: Timestamp,
    /// What it decides for itself.
    pub settings: WorkspaceSettings,
    /// When it was deleted, if it was.
    pub deleted: Option<Timestamp>,
    /// Counts changes of this row, from 1.
    pub revision: u64,
}

impl Workspace {
    /// What the row MAC covers.
    pub fn canonical(&self) -> Vec<u8> {
        let WorkspaceSettings { retention_days, require_declared_secrets, enforce_validity } = self.settings;
        Canonical::new("kluis/row/workspace/1")
            .bytes(self.id.as_bytes())
            .text(self.name.as_str())
            .signed(self.created.millis())
            .number(retention_days.into())
            .number(require_declared_secrets.into())
            .number(enforce_validity.into())
            .optional(self.deleted.map(|t| t.millis().to_be_bytes()).as_ref().map(|b| &b[..]))
            .number(self.revision)
            .finish()
    }
}

/// One generation of a workspace's wrapping key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkspaceKeyRow {
    /// Whose.
    pub workspace: WorkspaceId,
    /// Which generation.
    pub id: KeyId,
    /// Under the installation's keys.
    pub wrapped: Vec<u8>,
    /// Whether new data keys are wrapped with it.
    pub current: bool,
    /// When it was made.
    pub created: Timestamp,
}

/// A new workspace, with its first key and its owner.
#[derive(Clone, Debug)]
pub struct WorkspaceInsert {
    /// The workspace.
    pub workspace: Authenticated<Workspace>,
    /// Its first key.
    pub key: WorkspaceKeyRow,
    /// Its creator's grant as owner.
    pub owner: Authenticated<Grant>,
}

/// Erasing some of what is in a deleted workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkspacePurge {
    /// Which.
    pub workspace: WorkspaceId,
    /// Now.
    pub now: Timestamp,
    /// At most so many rows in one unit of work.
    pub limit: u32,
}

/// What became of that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purged {
    /// There is more to erase. No record was left.
    More,
    /// Only its blobs are left, orphaned, until whoever deletes them has done so. No record was left.
    Waiting,
    /// Everything is erased, these keys last.
    Done(Vec<KeyId>),
}

/// Someone with a grant on a workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// By name.
    pub name: PrincipalName,
    /// The grant.
    pub grant: Authenticated<Grant>,
}

/// A workspace as one of its members lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkspaceListed {
    /// The workspace.
    pub workspace: Authenticated<Workspace>,
    /// The role of the principal that was asked for, when it has one.
    pub role: Option<Role>,
}

/// A compute target. The row grants: an open target takes everybody's runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComputeRow {
    /// Its id.
    pub id: ComputeId,
    /// Its name, unique in the installation.
    pub name: ComputeName,
    /// Whether every member who may submit runs may use it.
    pub open: bool,
    /// When it was created.
    pub created: Timestamp,
    /// Counts changes of this row, from 1.
    pub revision: u64,
    /// When an agent last asked for work. Kept by the store.
    pub last_seen: Option<Timestamp>,
    /// Runs that wait for it. Counted by the store, ignored on insert.
    pub queued: u64,
}

impl ComputeRow {
    /// What the row MAC covers. When an agent last asked, and how many runs wait, only inform.
    pub fn canonical(&self) -> Vec<u8> {
        Canonical::new("kluis/row/compute/1")
            .bytes(self.id.as_bytes())
            .text(self.name.as_str())
            .number(self.open.into())
            .signed(self.created.millis())
            .number(self.revision)
            .finish()
    }
}

/// Which key generation to forget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkspaceKeyRemove {
    /// Whose.
    pub workspace: WorkspaceId,
    /// Which.
    pub key: KeyId,
}

/// An agent asked for work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ComputeSeen {
    /// Of which compute target.
    pub compute: ComputeId,
    /// When.
    pub now: Timestamp,
}

impl Store {
    /// A new workspace with its key and its owner, whose epoch moves. [`Error::Conflict`] when the name is taken.
    pub async fn workspace_insert(&self, write: Write<WorkspaceInsert>) -> Result<(), Error> {
        match self {
            Self::Sqlite(s) => s.write(write, sqlite::workspace_insert).await,
        }
    }

    /// A workspace by name; deleted ones are not found.
    pub async fn workspace_by_name(&self, name: &WorkspaceName) -> Result<Option<Authenticated<Workspace>>, Error> {
        let key = name.key().to_owned();
        match self {
            Self::Sqlite(s) => s.read(move |c| sqlite::workspace_by_name(c, &key)).await,
        }
    }

    /// A workspace by id; deleted ones are not found.
    pub async fn workspace_get(&self, id: WorkspaceId) -> Result<Option<Authenticated<Workspace>>, Error> {
        match self {
            Self::Sqlite(s) => s.read(move |c| sqlite::workspace_get(c, id)).await,
        }
    }

    /// Workspaces by name: those `of` has an allowing grant on, with its role; or all of them.
    pub async fn workspace_list(
        &self,
        of: Option<PrincipalId>,
        page: After<String>,
    ) -> Result<Listed<WorkspaceListed>, Error> {
        match self {
            Self::Sqlite(s) => s.list(move |c| sqlite::workspace_list(c, of, &page)).await,
        }
    }

    /// Changes a workspace's settings; the row's revision is the stored one plus 1. The name stays.
    pub async fn workspace_change(&self, write: Write<Authenticated<Workspace>>) -> Result<(), Error> {
        match self {
            Self::Sqlite(s) => s.write(write, sqlite::workspace_change).await,
        }
    }

    /// Deletes a workspace: it is not found from now on, its grants are gone, its members' epochs move. Its rows stay
    /// until they are purged, and its name stays taken. The row given says when, its revision is the stored one plus 1.
    /// [`Error::Conflict`] while a run of it lives.
    pub async fn workspace_delete(&self, write: Write<Authenticated<Workspace>>) -> Result<(), Error> {
        match self {
            Self::Sqlite(s) => s.write(write, sqlite::workspace_delete).await,
        }
    }

    /// Deleted workspaces whose retention is over and that are not wholly erased.
    pub async fn workspaces_to_purge(&self, now: Timestamp) -> Result<Vec<WorkspaceId>, Error> {
        match self {
            Self::Sqlite(s) => s.read(move |c| purge::due(c, now)).await,
        }
    }

    /// Erases a batch of what is in a deleted workspace, its keys last. [`Error::NotFound`] when it is not deleted.
    pub async fn workspace_purge(&self, write: Write<WorkspacePurge>) -> Result<Purged, Error> {
        match self {
            Self::Sqlite(s) => s.write(write, purge::purge).await,
        }
    }

    /// Who has a grant on a workspace, by name; a principal with an allowing and a denying one appears twice.
    pub async fn members(&self, workspace: WorkspaceId, page: After<String>) -> Result<Listed<Member>, Error> {
        match self {
            Self::Sqlite(s) => s.list(move |c| sqlite::members(c, workspace, &page)).await,
        }
    }

    /// A workspace's key generations, oldest first.
    pub async fn workspace_keys(&self, workspace: WorkspaceId) -> Result<Vec<WorkspaceKeyRow>, Error> {
        match self {
            Self::Sqlite(s) => s.read(move |c| sqlite::workspace_keys(c, workspace)).await,
        }
    }

    /// Every key generation of every workspace, deleted ones included.
    pub async fn workspace_keys_all(&self) -> Result<Vec<WorkspaceKeyRow>, Error> {
        match self {
            Self::Sqlite(s) => s.read(sqlite::workspace_keys_all).await,
        }
    }

    /// A new generation, which becomes the current one.
    pub async fn workspace_key_add(&self, write: Write<WorkspaceKeyRow>) -> Result<(), Error> {
        match self {
            Self::Sqlite(s) => s.write(write, sqlite::workspace_key_add).await,
        }
    }

    /// Forgets a generation. [`Error::Conflict`] when it is current or a version still uses it.
    pub async fn workspace_key_remove(&self, write: Write<WorkspaceKeyRemove>) -> Result<(), Error> {
        match self {
            Self::Sqlite(s) => s.write(write, sqlite::workspace_key_remove).await,
        }
    }

    /// A new compute target. [`Error::Conflict`] when the name is taken.
    pub async fn compute_insert(&self, write: Write<Authenticated<ComputeRow>>) -> Result<(), Error> {
        match self {
            Self::Sqlite(s) => s.write(write, sqlite::compute_insert).await,
        }
    }

    /// A compute target by name.
    pub async fn compute_by_name(&self, name: &ComputeName) -> Result<Option<Authenticated<ComputeRow>>, Error> {
        let key = name.key().to_owned();
        match self {
            Self::Sqlite(s) => s.read(move |c| sqlite::compute_by_name(c, &key)).await,
        }
    }

    /// All compute targets, by name.
    pub async fn compute_list(&self, page: After<String>) -> Result<Listed<Authenticated<ComputeRow>>, Error> {
        match self {
            Self::Sqlite(s) => s.list(move |c| sqlite::compute_list(c, &page)).await,
        }
    }

    /// Deletes a compute target and the grants on it. [`Error::Conflict`] while a run waits for it or runs on it.
    pub async fn compute_delete(&self, write: Write<ComputeId>) -> Result<(), Error> {
        match self {
            Self::Sqlite(s) => s.write(write, sqlite::compute_delete).await,
        }
    }

    /// Notes that an agent asked for work.
    pub async fn compute_seen(&self, write: Write<ComputeSeen>) -> Result<(), Error> {
        match self {
            Self::Sqlite(s) => s.write(write, sqlite::compute_seen).await,
        }
    }
}
