//! The audit log for those who may read it, and the checkpoints over it. Every record's MAC is checked when it is read,
//! and nothing new is signed over a log that does not fit what was signed before.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

use kluis_core::access::{Action, Resource};
use kluis_core::api::audit::{AuditPage, AuditQuery, AuditView};
use kluis_core::audit::{AuditEntry, Checkpoint, SignedCheckpoint};
use kluis_core::id::{PrincipalId, WorkspaceId};
use kluis_core::name::WorkspaceName;
use kluis_store::audit::{AuditFilter, AuditProof};
use kluis_store::{Authority, Listed, Store, Write};
use kluis_vault::{Vault, verify_checkpoint};

use crate::api::limit;
use crate::app::App;
use crate::caller::Caller;
use crate::error::{Error, Result};

/// The longest wait for a first record.
const MAX_WAIT: u32 = 30;
/// How long after one checkpoint the next one is signed, if there is anything new.
const SIGNING: Duration = Duration::from_millis(900);
/// How long after a failure it is tried again.
const RETRY: Duration = Duration::from_secs(5);

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
    pub async fn all(&self, caller: &Caller, query: &AuditQuery) -> Result<AuditPage> {
        self.app.authorize(caller, Action::AuditReadAll, Resource::Installation).await?;
        if query.run.is_some() {
            return Err(Error::bad_request("a run belongs to a workspace: ask for its records there"));
        }
        self.query(caller, None, query).await
    }

    /// Records of one workspace.
    pub async fn of_workspace(&self, caller: &Caller, name: &WorkspaceName, query: &AuditQuery) -> Result<AuditPage> {
        let workspace = self.app.workspace_for(caller, name, Action::AuditRead).await?;
        self.query(caller, Some(workspace.id), query).await
    }

    async fn query(&self, caller: &Caller, workspace: Option<WorkspaceId>, query: &AuditQuery) -> Result<AuditPage> {
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
        if found.items.is_empty() && wait > 0 {
            let waited = self.first(&filter);
            let until = tokio::time::timeout(Duration::from_secs(wait.into()), waited);
            found = tokio::select! {
                () = self.app.stopping.cancelled() => nothing(),
                waited = until => waited.unwrap_or_else(|_| Ok(nothing()))?,
            };
            // What the caller may do may have changed while it waited.
            let caller = self.app.caller_again(caller).await?;
            match workspace {
                None => self.app.authorize(&caller, Action::AuditReadAll, Resource::Installation).await?,
                Some(id) => self.app.authorize(&caller, Action::AuditRead, Resource::Workspace(id)).await?,
            }
        }
        let mut page = self.views(found.items).await?;
        page.next = found.next.map(|seq| seq.to_string());
        Ok(page)
    }

    /// Waits for the first records that pass the filter.
    async fn first(&self, filter: &AuditFilter) -> Result<Found> {
        loop {
            let size = self.app.store.audit_head().await?.size;
            let found = self.app.store.audit_query(filter.clone()).await?;
            if !found.items.is_empty() {
                return Ok(found);
            }
            self.app.store.audit_wait(size).await?;
        }
    }

    /// What was written, with names; what was not, by its number.
    async fn views(&self, found: Vec<(u64, Option<AuditEntry>)>) -> Result<AuditPage> {
        let mut names: HashMap<PrincipalId, Option<String>> = HashMap::new();
        let mut page = AuditPage::default();
        for (seq, entry) in found {
            let Some(entry) = entry.filter(|entry| self.app.vault.audit_entry_ok(entry)) else {
                self.app.store.note_damage("audit record", seq.to_string());
                page.damaged.push(seq);
                continue;
            };
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
            page.items.push(view);
        }
        Ok(page)
    }

    /// The log as it is now, signed. For every signed-in caller: whoever remembers one notices a rollback.
    /// [`Error::Inconsistent`] when the log does not fit what was signed before.
    pub async fn checkpoint(&self) -> Result<SignedCheckpoint> {
        if !self.fits().await? {
            return Err(Error::Inconsistent { table: "audit log", row: "a kept checkpoint".into() });
        }
        let head = self.app.store.audit_head().await?;
        Ok(self.app.vault.sign_checkpoint(Checkpoint {
            installation: self.app.installation,
            epoch: self.app.epoch,
            size: head.size,
            root: head.root,
            time: self.app.now(),
        }))
    }

    /// Whether the log is what every kept checkpoint says. Reads the whole log, once per process: from then on the store
    /// itself carries the log on.
    async fn fits(&self) -> Result<bool> {
        let look = async || match prove(&self.app.store, &self.app.vault).await {
            Ok((proof, fits)) => Ok::<_, Error>(proof.holds() && fits),
            Err(kluis_store::Error::Inconsistent { .. }) => Ok(false),
            Err(e) => Err(e.into()),
        };
        let fits = *self.app.log_fits.get_or_try_init(look).await?;
        if !fits {
            self.app.store.note_damage("audit log", "it does not fit a checkpoint that was signed over it".to_owned());
        }
        Ok(fits)
    }

    /// Signs and keeps a checkpoint at least once a second while there are new records. A failure passes; only a log that
    /// was rewritten ends this.
    pub(crate) async fn keep_checkpoints(&self) {
        let mut signed = None;
        loop {
            match self.keep_checkpoint(signed).await {
                Ok(size) => {
                    signed = Some(size);
                    tokio::time::sleep(SIGNING).await;
                }
                Err(e) if self.app.log_fits.get() == Some(&false) => {
                    tracing::error!(error = %e, "the audit log was changed behind the server's back; nothing is signed");
                    return;
                }
                Err(e) => {
                    tracing::error!(error = %e, "no checkpoint was kept; it is tried again");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Waits for new records and keeps a checkpoint over them: of which size.
    async fn keep_checkpoint(&self, signed: Option<u64>) -> Result<u64> {
        let signed = match signed {
            Some(size) => size,
            None => self.app.store.checkpoint_last().await?.map_or(0, |last| last.checkpoint.size),
        };
        self.app.store.audit_wait(signed).await?;
        let checkpoint = self.checkpoint().await?;
        let size = checkpoint.checkpoint.size;
        let write = Write { authority: Authority::server(), audit: Vec::new(), change: checkpoint };
        self.app.store.checkpoint_insert(write).await?;
        Ok(size)
    }
}

/// Records with their numbers, and where the next page starts.
type Found = Listed<(u64, Option<AuditEntry>), u64>;

fn nothing() -> Found {
    Found { items: Vec::new(), next: None }
}

/// Recomputes the log, and whether every kept checkpoint is signed by this installation and fits it.
pub(crate) async fn prove(store: &Store, vault: &Vault) -> Result<(AuditProof, bool), kluis_store::Error> {
    let kept = store.checkpoints().await?;
    let proof = store.audit_prove(kept.iter().map(|signed| signed.checkpoint.size).collect()).await?;
    let key = vault.public_key();
    let fits = kept.iter().all(|signed| proof.fits(&signed.checkpoint) && verify_checkpoint(signed, &key));
    Ok((proof, fits))
}
