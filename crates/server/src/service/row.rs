//! Rows that grant: their MACs are made here, before a command, and checked here, after a read. A row whose MAC does not
//! fit is not used, whatever it says.

use kluis_core::api::runs::SubmitRun;
use kluis_core::audit::{AuditEntry, AuditRecord};
use kluis_core::id::WorkspaceId;
use kluis_core::name::{ComputeName, WorkspaceName};
use kluis_store::Authenticated;
use kluis_store::runs::RunRow;
use kluis_store::workspaces::{ComputeRow, Workspace};
use kluis_vault::Vault;

use crate::app::App;
use crate::error::{Error, Result};

impl App {
    /// A row with its MAC, for the store.
    pub fn authenticated<T>(&self, row: T, canonical: impl Fn(&T) -> Vec<u8>) -> Authenticated<T> {
        let mac = self.vault.mac(&canonical(&row));
        Authenticated { row, mac }
    }

    /// A row from the store, if it is as the vault last saw it. `name` is what the error says of it.
    pub fn verified<T>(
        &self,
        authenticated: Authenticated<T>,
        canonical: impl Fn(&T) -> Vec<u8>,
        table: &'static str,
        name: impl Fn(&T) -> String,
    ) -> Result<T> {
        let Authenticated { row, mac } = authenticated;
        if self.vault.mac_ok(&canonical(&row), &mac) {
            Ok(row)
        } else {
            Err(Error::Inconsistent { table, row: name(&row) })
        }
    }

    /// What a run was submitted with, if everything that it grants is as it was at its submission. A child run grants
    /// nothing and was not submitted.
    pub fn submitted<'r>(&self, run: &'r RunRow) -> Result<&'r SubmitRun> {
        let sound = run.spec.as_ref().filter(|_| submitted_ok(&self.vault, run));
        sound.ok_or_else(|| Error::Inconsistent { table: "run", row: run.seq.to_string() })
    }

    /// A workspace by name; `None` when there is none, or it is deleted.
    pub async fn workspace_named(&self, name: &WorkspaceName) -> Result<Option<Workspace>> {
        let found = self.store.workspace_by_name(name).await?;
        found.map(|workspace| self.workspace_verified(workspace)).transpose()
    }

    /// A workspace by id; `None` when there is none, or it is deleted.
    pub async fn workspace_of(&self, id: WorkspaceId) -> Result<Option<Workspace>> {
        let found = self.store.workspace_get(id).await?;
        found.map(|workspace| self.workspace_verified(workspace)).transpose()
    }

    /// A workspace's row, if the vault made it.
    pub fn workspace_verified(&self, workspace: Authenticated<Workspace>) -> Result<Workspace> {
        self.verified(workspace, Workspace::canonical, "workspace", |w| w.id.to_string())
    }

    /// A compute target by name.
    pub async fn compute_named(&self, name: &ComputeName) -> Result<Option<ComputeRow>> {
        let found = self.store.compute_by_name(name).await?;
        found.map(|compute| self.compute_verified(compute)).transpose()
    }

    /// A compute target's row, if the vault made it.
    pub fn compute_verified(&self, compute: Authenticated<ComputeRow>) -> Result<ComputeRow> {
        self.verified(compute, ComputeRow::canonical, "compute", |c| c.id.to_string())
    }

    /// Records with their MACs, for a command.
    pub fn entries(&self, records: impl IntoIterator<Item = AuditRecord>) -> Vec<AuditEntry> {
        records.into_iter().map(|record| self.vault.audit_entry(record)).collect()
    }
}

/// Whether everything that a run's row grants is as it was at its submission.
pub(crate) fn submitted_ok(vault: &Vault, run: &RunRow) -> bool {
    let (Some(spec), Some(mac), Some(canonical)) = (&run.spec, &run.mac, run.canonical()) else { return false };
    vault.mac_ok(&canonical, mac) && spec.compute == run.compute
}
