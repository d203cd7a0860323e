//! The first line of every service method. Who may not see a thing hears that it does not exist; who sees it and may not
//! act is refused; both leave a record, since the caller is known.

use kluis_core::access::{Action, Resource};
use kluis_core::audit::{AuditAction, AuditRecord};
use kluis_core::id::WorkspaceId;
use kluis_core::name::WorkspaceName;
use kluis_store::workspaces::Workspace;
use kluis_store::{Authority, Error as StoreError, Store, Write};

use crate::app::App;
use crate::caller::Caller;
use crate::error::{Error, Result};

impl App {
    /// The workspace of this name, for a caller that may do this in it.
    pub async fn workspace_for(&self, caller: &Caller, name: &WorkspaceName, action: Action) -> Result<Workspace> {
        let Some(workspace) = self.workspace_named(name).await? else {
            self.refused(caller, None, action).await;
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
        self.refused(caller, workspace, action).await;
        if caller.known.sees(resource) { Err(Error::Forbidden(in_words(action))) } else { Err(Error::NotFound(what)) }
    }

    /// Does a command in the caller's name. When the caller's rights have moved since it was looked up, which need not
    /// concern this, it is looked up and authorized once more, and the command done once more. Outside: whether it may.
    /// Inside: what the store says.
    pub(crate) async fn write<C: Clone, T, F>(
        &self,
        caller: &Caller,
        (action, resource): (Action, Resource),
        write: Write<C>,
        command: impl Fn(Store, Write<C>) -> F,
    ) -> Result<Result<T, StoreError>>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        match command(self.store.clone(), write.clone()).await {
            Err(StoreError::Stale { .. }) => {
                let caller = self.caller_again(caller).await?;
                self.authorize(&caller, action, resource).await?;
                Ok(command(self.store.clone(), Write { authority: caller.authority(), ..write }).await)
            }
            done => Ok(done),
        }
    }

    /// Records that a known caller was refused.
    pub async fn refused(&self, caller: &Caller, workspace: Option<WorkspaceId>, action: Action) {
        let mut record = caller.record(self.now(), AuditAction::Refused);
        record.workspace = workspace;
        record.name = Some(in_words(action).to_owned());
        self.record_refusals(self.refusals.note((caller.id(), workspace, action), record)).await;
    }

    /// In the server's name: the caller's own authority may be the reason. A refusal stands whether or not there is room
    /// to say so.
    pub(crate) async fn record_refusals(&self, records: Vec<AuditRecord>) {
        if records.is_empty() {
            return;
        }
        let write = Write { authority: Authority::server(), audit: self.entries(records), change: () };
        if let Err(e) = self.store.audit_append(write).await {
            tracing::error!(error = %e, "refusals are not on record");
        }
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
