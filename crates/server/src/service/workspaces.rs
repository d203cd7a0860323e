//! Workspaces: made, listed, changed, deleted.
//!
//! | | |
//! |---|---|
//! | `members` | who is in a workspace, as what |
//! | `keys` | key generations: rotation, and rewrapping in the background |

use kluis_core::access::{Action, Effect, Grant, Resource, Role, Scope};
use kluis_core::api::workspaces::{CreateWorkspace, WorkspaceSettings, WorkspaceView};
use kluis_core::api::{Page, PageQuery};
use kluis_core::audit::{AuditAction, AuditRecord};
use kluis_core::id::WorkspaceId;
use kluis_core::name::WorkspaceName;
use kluis_store::workspaces::{Purged, Workspace, WorkspaceInsert, WorkspaceKeyRow, WorkspacePurge};
use kluis_store::{After, Authenticated, Authority, Write};

use super::identity::role_in;
use crate::api::limit;
use crate::app::App;
use crate::caller::{Caller, Known};
use crate::error::{Error, Result};

pub(crate) mod keys;
mod members;

/// How many rows of a deleted workspace are erased in one unit of work.
const PURGE_BATCH: u32 = 200;

/// Workspaces, their members and keys.
#[derive(Clone, Copy, Debug)]
pub struct Workspaces<'a> {
    app: &'a App,
}

impl App {
    /// Workspaces, their members and keys.
    pub fn workspaces(&self) -> Workspaces<'_> {
        Workspaces { app: self }
    }

    /// A workspace of a list. A damaged one is left out, and in the log.
    pub(crate) fn workspace_listed(&self, workspace: Authenticated<Workspace>) -> Option<Workspace> {
        let verified = self.workspace_verified(workspace);
        verified.inspect_err(|error| tracing::error!(%error, "left out of a list")).ok()
    }
}

impl Workspaces<'_> {
    /// A new workspace, with its first key; the caller becomes its owner.
    pub async fn create(&self, caller: &Caller, create: &CreateWorkspace) -> Result<WorkspaceView> {
        self.app.authorize(caller, Action::WorkspaceCreate, Resource::Installation).await?;
        check(&create.settings)?;
        let now = self.app.now();
        let id = WorkspaceId::generate(&*self.app.rng);
        let workspace = Workspace {
            id,
            name: create.name.clone(),
            created: now,
            settings: create.settings,
            deleted: None,
            revision: 1,
        };
        let owner = Grant {
            principal: caller.id(),
            scope: Scope::Workspace(id),
            role: Role::Owner,
            effect: Effect::Allow,
            revision: 1,
        };
        let created = AuditRecord {
            workspace: Some(id),
            revision: Some(1),
            name: Some(workspace.name.to_string()),
            ..caller.record(now, AuditAction::WorkspaceCreated)
        };
        let granted = AuditRecord {
            workspace: Some(id),
            subject: Some(caller.id()),
            revision: Some(1),
            name: Some(Role::Owner.as_str().to_owned()),
            ..caller.record(now, AuditAction::GrantSet)
        };
        // No key may be made while the root key is exchanged.
        let _held = self.app.membership.lock().await;
        let key = self.app.vault.workspace_key_create(id)?;
        // Into the ring before the commit: whoever finds the workspace can seal in it.
        self.app.vault.workspace_key_load(&key, true)?;
        let change = WorkspaceInsert {
            workspace: self.app.authenticated(workspace.clone(), Workspace::canonical),
            key: WorkspaceKeyRow { workspace: id, id: key.id, wrapped: key.wrapped, current: true, created: now },
            owner: self.app.authenticated(owner, Grant::canonical),
        };
        let audit = self.app.entries([created, granted]);
        let done = self.app.store.workspace_insert(Write { authority: caller.authority(), audit, change }).await;
        if done.is_err() {
            self.app.vault.workspace_key_forget(id, key.id);
        }
        done?;
        Ok(view(workspace, Some(Role::Owner)))
    }

    /// The workspaces that the caller may know of, by name.
    pub async fn list(&self, caller: &Caller, page: &PageQuery) -> Result<Page<WorkspaceView>> {
        let all = role_in(&caller.known, Scope::Installation) == Some(Role::Owner);
        let after = After { after: page.after.clone(), limit: limit(page.limit)? };
        let of = (!all).then(|| caller.id());
        let listed = self.app.store.workspace_list(of, after).await?;
        let items = listed
            .items
            .into_iter()
            .filter(|l| caller.known.sees(Resource::Workspace(l.workspace.row.id)))
            .filter_map(|l| self.app.workspace_listed(l.workspace))
            .map(|workspace| seen_by(&caller.known, workspace))
            .collect();
        Ok(Page { items, next: listed.next })
    }

    /// One workspace.
    pub async fn show(&self, caller: &Caller, name: &WorkspaceName) -> Result<WorkspaceView> {
        let workspace = self.app.workspace_for(caller, name, Action::WorkspaceRead).await?;
        Ok(seen_by(&caller.known, workspace))
    }

    /// New settings. Retention applies to what is deleted from now on.
    pub async fn change(
        &self,
        caller: &Caller,
        name: &WorkspaceName,
        settings: WorkspaceSettings,
    ) -> Result<WorkspaceView> {
        let mut workspace = self.app.workspace_for(caller, name, Action::WorkspaceManage).await?;
        check(&settings)?;
        if workspace.settings == settings {
            return Ok(seen_by(&caller.known, workspace));
        }
        workspace.settings = settings;
        workspace.revision += 1;
        let record = AuditRecord {
            workspace: Some(workspace.id),
            revision: Some(workspace.revision),
            ..caller.record(self.app.now(), AuditAction::WorkspaceChanged)
        };
        let change = self.app.authenticated(workspace.clone(), Workspace::canonical);
        let write = Write::new(caller.authority(), self.app.vault.audit_entry(record), change);
        self.app.store.workspace_change(write).await.map_err(|e| Error::from(e).missing("workspace"))?;
        Ok(seen_by(&caller.known, workspace))
    }

    /// Deletes a workspace with everything in it, for good: nobody reads it from the answer on, and when the time that the
    /// workspace keeps deleted secrets is over it is erased. Refused while a run of it lives.
    pub async fn delete(&self, caller: &Caller, name: &WorkspaceName) -> Result<()> {
        let mut workspace = self.app.workspace_for(caller, name, Action::WorkspaceManage).await?;
        let now = self.app.now();
        workspace.deleted = Some(now);
        workspace.revision += 1;
        let record = AuditRecord {
            workspace: Some(workspace.id),
            revision: Some(workspace.revision),
            name: Some(workspace.name.to_string()),
            ..caller.record(now, AuditAction::WorkspaceDeleted)
        };
        let change = self.app.authenticated(workspace, Workspace::canonical);
        let write = Write::new(caller.authority(), self.app.vault.audit_entry(record), change);
        self.app.store.workspace_delete(write).await.map_err(|e| Error::from(e).missing("workspace"))?;
        Ok(())
    }
}

impl Workspaces<'_> {
    /// Erases what is in workspaces that were deleted long enough ago. The server's own work, a batch at a time, gone on
    /// with at the next look: blobs take theirs.
    pub async fn purge_due(&self) -> Result<()> {
        for workspace in self.app.store.workspaces_to_purge(self.app.now()).await? {
            if let Err(e) = self.purge(workspace).await {
                tracing::error!(%workspace, error = %e, "a deleted workspace is not erased yet");
            }
        }
        Ok(())
    }

    async fn purge(&self, workspace: WorkspaceId) -> Result<()> {
        loop {
            let now = self.app.now();
            let record =
                AuditRecord { workspace: Some(workspace), ..AuditRecord::new(now, AuditAction::WorkspacePurged) };
            let change = WorkspacePurge { workspace, now, limit: PURGE_BATCH };
            let write = Write::new(Authority::server(), self.app.vault.audit_entry(record), change);
            match self.app.store.workspace_purge(write).await? {
                Purged::More => {}
                Purged::Waiting => return Ok(()),
                Purged::Done(keys) => {
                    for key in keys {
                        self.app.vault.workspace_key_forget(workspace, key);
                    }
                    return Ok(());
                }
            }
        }
    }
}

/// 7 to 90 days, as the Key Vault has it.
fn check(settings: &WorkspaceSettings) -> Result<()> {
    if (7..=90).contains(&settings.retention_days) {
        Ok(())
    } else {
        Err(Error::bad_request("`retention_days` must be 7 to 90"))
    }
}

fn seen_by(known: &Known, workspace: Workspace) -> WorkspaceView {
    let role = role_in(known, Scope::Workspace(workspace.id));
    view(workspace, role)
}

fn view(workspace: Workspace, role: Option<Role>) -> WorkspaceView {
    let Workspace { id, name, created, settings, .. } = workspace;
    WorkspaceView { id, name, created, settings, role }
}
