//! Members of a workspace. The last owner stays, which the store sees to: somebody must be able to let others in.

use kluis_core::access::{Action, Effect, Grant, Role, Scope};
use kluis_core::api::workspaces::MemberView;
use kluis_core::api::{Page, PageQuery};
use kluis_core::audit::{AuditAction, AuditRecord};
use kluis_core::id::WorkspaceId;
use kluis_core::name::WorkspaceName;
use kluis_store::identity::GrantRemove;
use kluis_store::workspaces::Member;
use kluis_store::{After, Write};

use super::Workspaces;
use crate::api::limit;
use crate::caller::Caller;
use crate::error::{Error, Result};

impl Workspaces<'_> {
    /// Who is a member, by name.
    pub async fn members(&self, caller: &Caller, name: &WorkspaceName, page: &PageQuery) -> Result<Page<MemberView>> {
        let workspace = self.app.workspace_for(caller, name, Action::WorkspaceRead).await?;
        let after = After { after: page.after.clone(), limit: limit(page.limit)? };
        let listed = self.app.store.members(workspace.id, after).await?;
        let items = listed.items.into_iter().filter_map(|m| self.view(workspace.id, m)).collect();
        Ok(Page { items, next: listed.next })
    }

    /// A member, if its grant is what the vault made and gives something. Others are left out, and in the log.
    fn view(&self, workspace: WorkspaceId, member: Member) -> Option<MemberView> {
        let Member { name, grant } = member;
        let grant = self.app.verified(grant, Grant::canonical, "grant", |g| g.principal.to_string());
        match grant {
            Ok(g) if g.scope == Scope::Workspace(workspace) && g.effect == Effect::Allow => {
                Some(MemberView { principal: g.principal, name, role: g.role })
            }
            Ok(_) => None,
            Err(e) => {
                tracing::error!(%workspace, error = %e, "left out of a list");
                None
            }
        }
    }

    /// Makes somebody a member, or gives a member another role.
    pub async fn member_set(&self, caller: &Caller, name: &WorkspaceName, who: &str, role: Role) -> Result<MemberView> {
        let workspace = self.app.workspace_for(caller, name, Action::WorkspaceManage).await?;
        if role == Role::Agent {
            return Err(Error::bad_request("a member is an owner, contributor, secrets-writer or reader"));
        }
        let _held = self.app.membership.lock().await;
        let known = self.app.principal_by_text(who).await?;
        let scope = Scope::Workspace(workspace.id);
        let had = known.grants.iter().find(|g| g.scope == scope && g.effect == Effect::Allow);
        let view = MemberView { principal: known.principal.id, name: known.principal.name.clone(), role };
        if had.is_some_and(|g| g.role == role) {
            return Ok(view);
        }
        let grant = Grant {
            principal: known.principal.id,
            scope,
            role,
            effect: Effect::Allow,
            revision: had.map_or(1, |g| g.revision + 1),
        };
        let record = AuditRecord {
            workspace: Some(workspace.id),
            subject: Some(grant.principal),
            revision: Some(grant.revision),
            name: Some(role.as_str().to_owned()),
            ..caller.record(self.app.now(), AuditAction::GrantSet)
        };
        let row = self.app.authenticated(grant, Grant::canonical);
        let write = Write::new(caller.authority(), self.app.vault.audit_entry(record), row);
        self.app.store.grant_set(write).await.map_err(|e| Error::from(e).missing("principal"))?;
        Ok(view)
    }

    /// Ends a membership: from the answer on, nothing of the workspace is readable with it, in runs neither.
    pub async fn member_remove(&self, caller: &Caller, name: &WorkspaceName, who: &str) -> Result<()> {
        let workspace = self.app.workspace_for(caller, name, Action::WorkspaceManage).await?;
        let _held = self.app.membership.lock().await;
        let known = self.app.principal_by_text(who).await.map_err(|e| e.missing("member"))?;
        let scope = Scope::Workspace(workspace.id);
        let had = known.grants.iter().find(|g| g.scope == scope && g.effect == Effect::Allow);
        let had = had.ok_or(Error::NotFound("member"))?;
        let record = AuditRecord {
            workspace: Some(workspace.id),
            subject: Some(known.principal.id),
            revision: Some(had.revision),
            name: Some(had.role.as_str().to_owned()),
            ..caller.record(self.app.now(), AuditAction::GrantRemoved)
        };
        let remove =
            GrantRemove { principal: known.principal.id, scope, effect: Effect::Allow, revision: had.revision };
        let write = Write::new(caller.authority(), self.app.vault.audit_entry(record), remove);
        self.app.store.grant_remove(write).await.map_err(|e| Error::from(e).missing("member"))?;
        Ok(())
    }
}
