//! The first line of every service method. Who may not see a thing hears that it does not exist; who sees it and may not
//! act is refused; both leave a record, since the caller is known.

use kluis_core::access::{Action, Resource};
use kluis_core::audit::AuditAction;
use kluis_core::id::WorkspaceId;
use kluis_core::name::WorkspaceName;
use kluis_store::workspaces::Workspace;
use kluis_store::{Authority, Write};

use crate::app::App;
use crate::caller::Caller;
use crate::error::{Error, Result};

impl App {
    /// The workspace of this name, for a caller that may do this in it.
    pub async fn workspace_for(&self, caller: &Caller, name: &WorkspaceName, action: Action) -> Result<Workspace> {
        let Some(workspace) = self.workspace_named(name).await? else {
            self.refused(caller, None, action).await?;
            return Err(Error::NotFound("workspace"));
        };
        self.authorize(caller, action, Resource::Workspace(workspace.id)).await?;
        Ok(workspace)
    }

    /// Refuses a caller that may not do this to the resource, with a record.
    pub async fn authorize(&self, caller: &Caller, action: Action, resource: Resource) -> Result<()> {
        if caller.may(action, resource) {
            return Ok(());
        }
        let (what, workspace) = match resource {
            Resource::Installation => ("thing", None),
            Resource::Workspace(id) => ("workspace", Some(id)),
            Resource::Compute(_) => ("compute target", None),
        };
        self.refused(caller, workspace, action).await?;
        if caller.known.sees(resource) { Err(Error::Forbidden(in_words(action))) } else { Err(Error::NotFound(what)) }
    }

    /// Records that a known caller was refused. In the server's name: the caller's own authority may be the reason.
    pub async fn refused(&self, caller: &Caller, workspace: Option<WorkspaceId>, action: Action) -> Result<()> {
        let mut record = caller.record(self.now(), AuditAction::Refused);
        record.workspace = workspace;
        record.name = Some(in_words(action).to_owned());
        let entry = self.vault.audit_entry(record);
        Ok(self.store.audit_append(Write::new(Authority::server(), entry, ())).await?)
    }
}

/// What was to be done, for a refusal and its record.
pub fn in_words(action: Action) -> &'static str {
    match action {
        Action::WorkspaceCreate => "create workspaces",
        Action::PrincipalManage => "manage principals",
        Action::ComputeManage => "manage compute targets",
        Action::AuditReadAll => "read the whole audit log",
        Action::KeyRotate => "rotate keys",
        Action::WorkspaceRead => "see the workspace",
        Action::WorkspaceManage => "manage the workspace",
        Action::SecretList => "list secrets",
        Action::SecretRead => "read secrets",
        Action::SecretSet => "set secrets",
        Action::SecretDelete => "delete secrets",
        Action::SecretPurge => "purge secrets",
        Action::RunSubmit => "submit runs",
        Action::RunRead => "see runs",
        Action::RunManage => "manage runs",
        Action::AuditRead => "read the workspace's audit log",
        Action::ComputeUse => "use the compute target",
        Action::ComputeServe => "serve the compute target",
    }
}
