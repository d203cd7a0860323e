//! Values for a caller. The order is the promise: authorize, verify, record the delivery and commit, and only then open.

use kluis_core::access::{Action, Resource};
use kluis_core::api::secrets::SecretValues;
use kluis_core::audit::{AuditAction, AuditRecord};
use kluis_core::id::VersionId;
use kluis_core::name::{SecretName, WorkspaceName};
use kluis_core::secret::MAX_BATCH;
use kluis_store::secrets::{Found, SecretFind, SecretRead};
use kluis_store::workspaces::Workspace;
use kluis_store::{Error as StoreError, Write};

use super::{Described, Opened, Readable, Secrets, TRIES};
use crate::caller::Caller;
use crate::error::{Error, Result};

impl Secrets<'_> {
    /// A value: of the current version, or of this one.
    pub async fn read(
        &self,
        caller: &Caller,
        workspace: &WorkspaceName,
        name: &SecretName,
        version: Option<VersionId>,
    ) -> Result<Opened> {
        let workspace = self.workspace(caller, workspace, Action::SecretRead).await?;
        let wanted = Wanted { names: std::slice::from_ref(name), version, batch: false };
        let found = self.deliver(caller, &workspace, &wanted).await.map_err(Error::without_entry)?;
        found.opened.into_iter().next().ok_or(match version {
            Some(_) => Error::NotFound("version of this secret"),
            None => Error::SecretNotFound,
        })
    }

    /// Values of several secrets; one that is refused refuses all, one that is missing is named as missing.
    pub async fn read_many(
        &self,
        caller: &Caller,
        workspace: &WorkspaceName,
        names: &[SecretName],
    ) -> Result<SecretValues> {
        let workspace = self.workspace(caller, workspace, Action::SecretRead).await?;
        check_batch(names)?;
        let found = self.deliver(caller, &workspace, &Wanted { names, version: None, batch: true }).await?;
        Ok(SecretValues { items: found.opened.into_iter().map(Into::into).collect(), missing: found.missing })
    }

    /// The one place where a caller's value is opened. When the caller's rights have moved since it was looked up, it is
    /// looked up and authorized once more; when a row has moved, it is read again.
    async fn deliver(&self, caller: &Caller, workspace: &Workspace, wanted: &Wanted<'_>) -> Result<Delivered> {
        let mut caller = caller.clone();
        let mut stale = false;
        for _ in 0..TRIES {
            match self.deliver_once(&caller, workspace, wanted).await {
                Err(Again::Stale) if !stale => {
                    stale = true;
                    caller = self.app.caller_again(&caller).await?;
                    self.app.authorize(&caller, Action::SecretRead, Resource::Workspace(workspace.id)).await?;
                }
                Err(Again::Stale) => {
                    return Err(Error::conflict("your rights keep changing; nothing was read, try again"));
                }
                Err(Again::Moved) => {}
                Err(Again::No(e)) => return Err(e),
                Ok(values) => return Ok(values),
            }
        }
        Err(Error::conflict("the secret keeps changing; nothing was read, try again"))
    }

    async fn deliver_once(
        &self,
        caller: &Caller,
        workspace: &Workspace,
        wanted: &Wanted<'_>,
    ) -> Result<Delivered, Again> {
        let now = self.app.now();
        let found = self.find(caller, workspace, wanted).await?;
        let (mut good, mut missing) = (Vec::new(), Vec::new());
        for (index, (name, found)) in wanted.names.iter().zip(found).enumerate() {
            let Some(found) = found else {
                missing.push(name.clone());
                continue;
            };
            match self.readable(workspace, name, &found, now) {
                Ok(readable) => good.push((name, readable, found.sealed)),
                Err(Error::SecretDeleted { .. }) if wanted.batch => missing.push(name.clone()),
                Err(e) => return Err(Again::No(e.in_entry(index))),
            }
        }
        let records = good.iter().map(|(_, readable, _)| AuditRecord {
            workspace: Some(workspace.id),
            secret: Some(readable.secret.id),
            version: Some(readable.version.id),
            revision: Some(readable.secret.revision),
            name: Some(readable.secret.name.to_string()),
            ..caller.record(now, AuditAction::SecretDelivered)
        });
        let audit = self.app.entries(records);
        let change = good.iter().map(|(_, readable, _)| reads(readable, false, now)).collect();
        if !good.is_empty() {
            let write = Write { authority: caller.authority(), audit, change };
            self.app.store.secret_read(write).await.map_err(Again::from)?;
        }
        // Committed: from here on the values may leave.
        let retention_days = workspace.settings.retention_days;
        let mut opened = Vec::with_capacity(good.len());
        for (name, readable, sealed) in good {
            let value = self.app.vault.unseal(&readable.binding, &sealed).map_err(|e| Again::No(e.into()))?;
            let Readable { mut secret, version, .. } = readable;
            if wanted.batch {
                secret.name = name.clone();
            }
            opened.push(Opened { value, described: Described { secret, version, retention_days } });
        }
        Ok(Delivered { opened, missing })
    }

    async fn find(
        &self,
        caller: &Caller,
        workspace: &Workspace,
        wanted: &Wanted<'_>,
    ) -> Result<Vec<Option<Found>>, Again> {
        let authority = caller.authority();
        let found = match (wanted.version, wanted.names) {
            (Some(version), [name]) => {
                let found = self.app.store.secret_find_version(authority, workspace.id, name, version).await;
                found.map(|found| vec![found.filter(|f| f.version.row.id == version)])
            }
            (_, names) => {
                let find = SecretFind { workspace: workspace.id, names: names.to_vec(), refresh: false };
                self.app.store.secrets_find(authority, find).await
            }
        };
        found.map_err(Again::from)
    }
}

/// What is asked for: names, or one version of one name.
struct Wanted<'a> {
    names: &'a [SecretName],
    version: Option<VersionId>,
    /// As a batch, of one name too: what is deleted is missing, and names come back as asked.
    batch: bool,
}

/// What was asked for and is there, and the names that are not.
struct Delivered {
    opened: Vec<Opened>,
    missing: Vec<SecretName>,
}

/// What a try came to.
pub(super) enum Again {
    /// The caller's rights have moved.
    Stale,
    /// A row has moved.
    Moved,
    /// It is refused.
    No(Error),
}

impl From<StoreError> for Again {
    fn from(e: StoreError) -> Self {
        match e.entry().1 {
            StoreError::Stale { .. } => Self::Stale,
            StoreError::Revision { .. } | StoreError::Moved(_) | StoreError::NotFound | StoreError::Pinned { .. } => {
                Self::Moved
            }
            _ => Self::No(e.into()),
        }
    }
}

/// The delivery of what was found, which must still be so when it is recorded.
pub(super) fn reads(readable: &Readable, refresh: bool, now: kluis_core::clock::Timestamp) -> SecretRead {
    SecretRead {
        workspace: readable.secret.workspace,
        secret: readable.secret.id,
        version: readable.version.id,
        secret_revision: readable.secret.revision,
        version_revision: readable.version.revision,
        name: readable.secret.name.clone(),
        refresh,
        now,
    }
}

/// At most as many names as a batch may have.
pub(super) fn check_batch(names: &[SecretName]) -> Result<()> {
    if names.len() > MAX_BATCH {
        return Err(Error::bad_request(format!("{} names; at most {MAX_BATCH} are allowed", names.len())));
    }
    Ok(())
}
