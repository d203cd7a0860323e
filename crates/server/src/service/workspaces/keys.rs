//! Key generations of a workspace. A new one seals from now on; what is under older ones is rewrapped in the background,
//! a batch at a time, and stays readable all the while. Older generations are kept: snapshots and logs need them.

use std::collections::BTreeMap;

use kluis_core::access::Action;
use kluis_core::audit::{AuditAction, AuditRecord};
use kluis_core::id::{KeyId, WorkspaceId};
use kluis_core::name::WorkspaceName;
use kluis_core::sealed::Sealed;
use kluis_store::secrets::{Rewrap, RewrapStore, Rewrapped};
use kluis_store::workspaces::WorkspaceKeyRow;
use kluis_store::{Authority, Write};
use kluis_vault::Binding;

use super::Workspaces;
use crate::caller::Caller;
use crate::error::{Error, Result};

/// How many data keys are rewrapped in one unit of work.
const REWRAP_BATCH: u32 = 200;

impl Workspaces<'_> {
    /// Makes a new generation the current one.
    pub async fn key_rotate(&self, caller: &Caller, name: &WorkspaceName) -> Result<()> {
        let workspace = self.app.workspace_for(caller, name, Action::WorkspaceManage).await?;
        // No key may be made while the root key is exchanged.
        let _held = self.app.membership.lock().await;
        let now = self.app.now();
        let key = self.app.vault.workspace_key_create(workspace.id)?;
        let record = AuditRecord {
            workspace: Some(workspace.id),
            key: Some(key.id),
            ..caller.record(now, AuditAction::WorkspaceKeyRotated)
        };
        let row = WorkspaceKeyRow {
            workspace: workspace.id,
            id: key.id,
            wrapped: key.wrapped.clone(),
            current: true,
            created: now,
        };
        let write = Write::new(caller.authority(), self.app.vault.audit_entry(record), row);
        self.app.store.workspace_key_add(write).await.map_err(|e| Error::from(e).missing("workspace"))?;
        // Until here the older one sealed, which is as good: what it sealed is rewrapped too.
        Ok(self.app.vault.workspace_key_load(&key, true)?)
    }

    /// Puts every data key under its workspace's current generation. Goes on where it was interrupted; with nothing to do
    /// it costs one look per workspace.
    pub async fn rewrap_all(&self) -> Result<()> {
        for (workspace, generations) in self.generations().await? {
            let [.., current] = generations[..] else { continue };
            if generations.len() > 1 {
                self.rewrap(workspace, current).await?;
            }
        }
        Ok(())
    }

    async fn rewrap(&self, workspace: WorkspaceId, current: KeyId) -> Result<()> {
        let mut count = 0;
        loop {
            let next = self.app.store.rewrap_next(workspace, current, REWRAP_BATCH).await?;
            let all = next.len();
            let items: Vec<Rewrapped> = next.into_iter().filter_map(|item| self.rewrapped(workspace, item)).collect();
            let unwrapped = all - items.len();
            if items.is_empty() {
                if count > 0 && unwrapped == 0 {
                    let record = AuditRecord {
                        workspace: Some(workspace),
                        key: Some(current),
                        count: Some(count),
                        ..AuditRecord::new(self.app.now(), AuditAction::WorkspaceKeyRewrapped)
                    };
                    let entry = self.app.vault.audit_entry(record);
                    self.app.store.audit_append(Write::new(Authority::server(), entry, ())).await?;
                }
                return Ok(());
            }
            let change = RewrapStore { workspace, items };
            let write = Write { authority: Authority::server(), audit: Vec::new(), change };
            let stored = self.app.store.rewrap_store(write).await?;
            if stored == 0 {
                return Ok(());
            }
            count += stored;
        }
    }

    /// One data key under the current generation; one that does not open stays as it is, and stands in the log.
    fn rewrapped(&self, workspace: WorkspaceId, item: Rewrap) -> Option<Rewrapped> {
        let Rewrap { secret, version, key_id, wrapped_key } = item;
        let sealed = Sealed { key_id, wrapped_key, value: Vec::new() };
        match self.app.vault.rewrap(&Binding { workspace, secret, version }, &sealed) {
            Ok(now) => Some(Rewrapped { version, from: key_id, to: now.key_id, wrapped_key: now.wrapped_key }),
            Err(e) => {
                tracing::error!(%version, error = %e, "a data key was not rewrapped");
                None
            }
        }
    }

    /// Tells the vault how often each generation has wrapped: it starts counting at zero with each process. Which one
    /// wrapped a blob's key is not in the rows, so each counts all of them.
    pub async fn count_wear(&self) -> Result<()> {
        for (workspace, generations) in self.generations().await? {
            let blobs = self.app.store.blob_count(workspace).await?;
            for key in generations {
                let count = blobs + self.app.store.versions_using_key(workspace, key).await?;
                if let Err(e) = self.app.vault.wraps_at_least(workspace, key, count) {
                    tracing::error!(%workspace, error = %e, "a key's wear is not known");
                }
            }
        }
        Ok(())
    }

    /// The generations of each workspace, the current one last.
    async fn generations(&self) -> Result<BTreeMap<WorkspaceId, Vec<KeyId>>> {
        let mut rows = self.app.store.workspace_keys_all().await?;
        rows.sort_by_key(|row| row.current);
        let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for row in rows {
            all.entry(row.workspace).or_default().push(row.id);
        }
        Ok(all)
    }
}
