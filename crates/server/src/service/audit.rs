//! The audit log for those who may read it, and the checkpoints over it. Every record's MAC is checked when it is read.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

use kluis_core::access::{Action, Resource};
use kluis_core::api::Page;
use kluis_core::api::audit::{AuditQuery, AuditView};
use kluis_core::audit::{AuditEntry, Checkpoint, SignedCheckpoint};
use kluis_core::id::{PrincipalId, WorkspaceId};
use kluis_core::name::WorkspaceName;
use kluis_store::audit::AuditFilter;
use kluis_store::{Authority, Write};

use crate::api::limit;
use crate::app::App;
use crate::caller::Caller;
use crate::error::{Error, Result};

/// The longest wait for a first record.
const MAX_WAIT: u32 = 30;

/// The audit log.
#[derive(Clone, Copy, Debug)]
pub struct Audit<'a> {
    app: &'a App,
}

impl App {
    /// The audit log.
    pub fn audit(&self) -> Audit<'_> {
        Audit { app: self }
    }
}

impl Audit<'_> {
    /// Records of the whole installation.
    pub async fn all(&self, caller: &Caller, query: &AuditQuery) -> Result<Page<AuditView>> {
        self.app.authorize(caller, Action::AuditReadAll, Resource::Installation).await?;
        if query.run.is_some() {
            return Err(Error::bad_request("a run belongs to a workspace: ask for its records there"));
        }
        self.query(caller, None, query).await
    }

    /// Records of one workspace.
    pub async fn of_workspace(
        &self,
        caller: &Caller,
        name: &WorkspaceName,
        query: &AuditQuery,
    ) -> Result<Page<AuditView>> {
        let workspace = self.app.workspace_for(caller, name, Action::AuditRead).await?;
        self.query(caller, Some(workspace.id), query).await
    }

    async fn query(
        &self,
        caller: &Caller,
        workspace: Option<WorkspaceId>,
        query: &AuditQuery,
    ) -> Result<Page<AuditView>> {
        let wait = query.wait_seconds.unwrap_or(0);
        if wait > MAX_WAIT {
            return Err(Error::bad_request("`wait_seconds` must be at most 30"));
        }
        let after = query.after.as_deref().map(str::parse::<u64>).transpose();
        let after = after.map_err(|_| Error::bad_request("`after` is not a page's `next`"))?;
        if query.last.is_some() && (after.is_some() || query.limit.is_some()) {
            return Err(Error::bad_request("`last` goes with neither `after` nor `limit`"));
        }
        let filter = AuditFilter {
            workspace,
            run: query.run.clone(),
            from: after.map_or(0, |n| n.saturating_add(1)),
            newest: query.last.is_some(),
            limit: limit(query.last.or(query.limit))?,
            ..AuditFilter::default()
        };
        let mut found = self.app.store.audit_query(filter.clone()).await?;
        if found.is_empty() && wait > 0 {
            let waited = self.first(&filter);
            let until = tokio::time::timeout(Duration::from_secs(wait.into()), waited);
            found = tokio::select! {
                () = self.app.stopping.cancelled() => Vec::new(),
                waited = until => waited.unwrap_or(Ok(Vec::new()))?,
            };
            // What the caller may do may have changed while it waited.
            self.app.caller_again(caller).await?;
        }
        let full = found.len() as u64 == u64::from(filter.limit) && !filter.newest;
        let next = found.last().filter(|_| full).map(|(seq, _)| seq.to_string());
        Ok(Page { items: self.views(found).await?, next })
    }

    /// Waits for the first records that pass the filter.
    async fn first(&self, filter: &AuditFilter) -> Result<Vec<(u64, AuditEntry)>> {
        loop {
            let size = self.app.store.audit_head().await?.size;
            let found = self.app.store.audit_query(filter.clone()).await?;
            if !found.is_empty() {
                return Ok(found);
            }
            self.app.store.audit_wait(size).await?;
        }
    }

    async fn views(&self, found: Vec<(u64, AuditEntry)>) -> Result<Vec<AuditView>> {
        let mut names: HashMap<PrincipalId, Option<String>> = HashMap::new();
        let mut views = Vec::with_capacity(found.len());
        for (seq, entry) in found {
            if !self.app.vault.audit_entry_ok(&entry) {
                return Err(Error::Inconsistent { table: "audit record", row: seq.to_string() });
            }
            let mut view = AuditView::new(seq, entry.record);
            if let Some(id) = view.principal {
                let name = match names.entry(id) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(unknown) => {
                        let found = self.app.store.principal_get(id).await?;
                        unknown.insert(found.map(|p| p.row.name.to_string()))
                    }
                };
                view.principal_name.clone_from(name);
            }
            views.push(view);
        }
        Ok(views)
    }

    /// The log as it is now, signed. For every signed-in caller: whoever remembers one notices a rollback.
    pub async fn checkpoint(&self) -> Result<SignedCheckpoint> {
        let head = self.app.store.audit_head().await?;
        Ok(self.app.vault.sign_checkpoint(Checkpoint {
            installation: self.app.installation,
            epoch: self.app.epoch,
            size: head.size,
            root: head.root,
            time: self.app.now(),
        }))
    }

    /// Signs and keeps a checkpoint at least once a second while there are new records. Ends when the store closes.
    pub(crate) async fn keep_checkpoints(&self) -> Result<()> {
        let mut signed = self.app.store.checkpoint_last().await?.map_or(0, |last| last.checkpoint.size);
        loop {
            self.app.store.audit_wait(signed).await?;
            let checkpoint = self.checkpoint().await?;
            let size = checkpoint.checkpoint.size;
            let write = Write { authority: Authority::server(), audit: Vec::new(), change: checkpoint };
            match self.app.store.checkpoint_insert(write).await {
                Ok(()) => signed = size,
                Err(e) => tracing::error!(error = %e, "a checkpoint was not kept"),
            }
            tokio::time::sleep(Duration::from_millis(900)).await;
        }
    }
}
