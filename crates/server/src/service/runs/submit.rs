//! Submitting: everything that can be known now is checked now, so that a run does not fail in a week for a name that was
//! mistyped today. No ticket is made; that happens when an agent takes the run.

use kluis_core::access::{Action, Resource};
use kluis_core::api::runs::{RunView, SubmitRun};
use kluis_core::audit::{AuditAction, AuditRecord};
use kluis_core::name::{RunId, SecretName, WorkspaceName};
use kluis_store::runs::{OpenLimits, RunInsert, RunRow};
use kluis_store::workspaces::Workspace;
use kluis_store::{Error as StoreError, Write};
use sha2::{Digest, Sha256};

use super::{Runs, submission, view};
use crate::caller::Caller;
use crate::error::{Error, Result};

/// How many runs may wait or run.
const LIMITS: OpenLimits = OpenLimits { of_submitter: 10_000, of_workspace: 50_000 };
/// How often a submission is checked anew when its workspace changes at the same time.
const TRIES: usize = 5;

/// Why a submission was not stored.
enum Again {
    /// What it was checked against has changed.
    Moved,
    /// It is refused.
    No(Error),
}

impl From<Error> for Again {
    fn from(e: Error) -> Self {
        Self::No(e)
    }
}

impl Runs<'_> {
    /// Submits a run. With a client's own id, the same submission again is the same run, even when it would be refused
    /// by now.
    pub async fn submit(&self, caller: &Caller, workspace: &WorkspaceName, spec: SubmitRun) -> Result<RunView> {
        let request_hash = Sha256::digest(serde_json::to_vec(&spec).expect("a submission is JSON")).into();
        let spec = submission::check(spec)?;
        for _ in 0..TRIES {
            let workspace = self.app.workspace_for(caller, workspace, Action::RunSubmit).await?;
            match self.insert(caller, &workspace, &spec, request_hash).await {
                // Its settings were changed, or a compute target was deleted, after they were looked at.
                Err(Again::Moved) => {}
                Err(Again::No(e)) => return Err(e),
                Ok(run) => return Ok(view(&workspace.name, run)),
            }
        }
        Err(Error::conflict("the workspace keeps changing; nothing was submitted, try again"))
    }

    async fn insert(
        &self,
        caller: &Caller,
        workspace: &Workspace,
        spec: &SubmitRun,
        request_hash: [u8; 32],
    ) -> Result<RunRow, Again> {
        let known = match &spec.run {
            Some(id) => self.app.store.run_get(workspace.id, id).await.map_err(Error::from)?.is_some(),
            None => false,
        };
        if !known {
            self.check(caller, workspace, spec).await?;
        }
        let now = self.app.now();
        let id = match &spec.run {
            Some(id) => id.clone(),
            None => RunId::generate(&spec.experiment, now, &*self.app.rng),
        };
        let record = AuditRecord {
            workspace: Some(workspace.id),
            run: Some(id.clone()),
            name: Some(spec.experiment.to_string()),
            ..caller.record(now, AuditAction::RunSubmitted)
        };
        let insert = RunInsert {
            workspace: workspace.id,
            id,
            max_attempts: spec.max_attempts.unwrap_or(1),
            spec: spec.clone(),
            request_hash,
            submitted_by: caller.id(),
            workspace_revision: workspace.revision,
            limits: LIMITS,
            now,
        };
        let change = self.app.authenticated(insert, RunInsert::canonical);
        let write = Write::new(caller.authority(), self.app.vault.audit_entry(record), change);
        match self.app.store.run_insert(write).await {
            Ok(inserted) => Ok(inserted.run),
            Err(StoreError::Moved(_)) => Err(Again::Moved),
            Err(e) => Err(Again::No(Error::from(e).missing("workspace"))),
        }
    }

    /// What a well-formed submission refers to: compute target, snapshot, secrets.
    async fn check(&self, caller: &Caller, workspace: &Workspace, spec: &SubmitRun) -> Result<()> {
        if !spec.compute.is_local() {
            self.app.compute_to_use(caller, &spec.compute).await?;
        }
        if let Some(snapshot) = spec.snapshot {
            let stored = self.app.store.snapshot_get(workspace.id, snapshot).await?;
            stored.ok_or(Error::NotFound("snapshot"))?;
        }
        if workspace.settings.require_declared_secrets && spec.secrets.is_none() {
            return Err(Error::bad_request(
                "this workspace takes only runs that declare their secrets; give the names, or an empty list for none",
            ));
        }
        if let Some(names) = spec.secrets.as_deref().filter(|names| !names.is_empty()) {
            self.check_secrets(caller, workspace, names).await?;
        }
        Ok(())
    }

    /// Every declared secret exists and the submitter could read it now. What is wrong is told for all of them at once.
    async fn check_secrets(&self, caller: &Caller, workspace: &Workspace, names: &[SecretName]) -> Result<()> {
        self.app.authorize(caller, Action::SecretRead, Resource::Workspace(workspace.id)).await?;
        let unreadable = self.app.secrets().unreadable(caller, workspace, names).await?;
        if unreadable.is_empty() {
            return Ok(());
        }
        self.app.refused(caller, Some(workspace.id), Action::SecretRead).await;
        Err(Error::SecretsUnreadable(unreadable))
    }
}
