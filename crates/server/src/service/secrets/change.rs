//! Attributes, deletion, recovery, purge. Rows that decide what a reader gets are read, changed, authenticated anew, and
//! exchanged only if nobody else has changed them meanwhile.

use std::time::Duration;

use kluis_core::access::{Action, Resource};
use kluis_core::api::secrets::ChangeVersion;
use kluis_core::audit::{AuditAction, AuditRecord};
use kluis_core::clock::Timestamp;
use kluis_core::name::{SecretName, WorkspaceName};
use kluis_core::secret::{Secret, Version};
use kluis_store::secrets::SecretPurge;
use kluis_store::workspaces::Workspace;
use kluis_store::{Authority, Write};

use super::{Described, Secrets, TRIES};
use crate::caller::Caller;
use crate::error::{Error, Result};

/// How many secrets one round of purging erases at most.
const PURGE_BATCH: u32 = 100;

impl Secrets<'_> {
    /// Changes a version's attributes; `current` names the current version.
    pub async fn version_change(
        &self,
        caller: &Caller,
        workspace: &WorkspaceName,
        name: &SecretName,
        version: &str,
        change: &ChangeVersion,
    ) -> Result<Described> {
        let workspace = self.workspace(caller, workspace, Action::SecretSet).await?;
        let retention_days = workspace.settings.retention_days;
        for _ in 0..TRIES {
            let (secret, current) = self.listed(&workspace, name).await?.ok_or(Error::SecretNotFound)?;
            secret.state.require_active()?;
            let mut row =
                if version == "current" { current } else { self.version(&workspace, &secret, version).await? };
            if change.if_revision.is_some_and(|wanted| wanted != row.revision) {
                return Err(Error::RevisionConflict { current: row.revision, entry: None });
            }
            apply(&mut row, change)?;
            row.revision += 1;
            row.updated = self.app.now();
            let record = AuditRecord {
                version: Some(row.id),
                revision: Some(row.revision),
                ..record(caller, &secret, row.updated, AuditAction::SecretChanged)
            };
            let changed = self.app.authenticated(row.clone(), Version::canonical);
            let write = Write::new(caller.authority(), self.app.vault.audit_entry(record), changed);
            let may = (Action::SecretSet, Resource::Workspace(workspace.id));
            let changed = self.app.write(caller, may, write, |s, w| async move { s.version_change(w).await });
            match changed.await? {
                Ok(()) => return Ok(Described { secret, version: row, retention_days }),
                Err(kluis_store::Error::Revision { .. }) => {}
                Err(e) => return Err(Error::from(e).missing("version of this secret")),
            }
        }
        Err(busy())
    }

    /// One version of a secret, verified.
    async fn version(&self, workspace: &Workspace, secret: &Secret, version: &str) -> Result<Version> {
        let id = version.parse()?;
        let missing = || Error::NotFound("version of this secret");
        let row = self.app.store.version_get(workspace.id, id).await?.ok_or_else(missing)?;
        let row = self.app.verified(row, Version::canonical, "version", |v| v.id.to_string())?;
        let fits = row.id == id && row.secret == secret.id && row.workspace == workspace.id;
        if fits { Ok(row) } else { Err(missing()) }
    }

    /// Deletes softly: recoverable for as long as the workspace keeps deleted secrets.
    pub async fn delete(&self, caller: &Caller, workspace: &WorkspaceName, name: &SecretName) -> Result<Described> {
        let workspace = self.workspace(caller, workspace, Action::SecretDelete).await?;
        let retention_days = workspace.settings.retention_days;
        let retention = Duration::from_hours(24 * u64::from(retention_days));
        for _ in 0..TRIES {
            let (mut secret, version) = self.listed(&workspace, name).await?.ok_or(Error::SecretNotFound)?;
            let now = self.app.now();
            secret.state = secret.state.delete(now, retention)?;
            secret.revision += 1;
            secret.updated = now;
            let write = self.exchange(caller, &secret, AuditAction::SecretDeleted);
            let may = (Action::SecretDelete, Resource::Workspace(workspace.id));
            let deleted = self.app.write(caller, may, write, |s, w| async move { s.secret_delete(w).await });
            match deleted.await? {
                Ok(()) => return Ok(Described { secret, version, retention_days }),
                Err(kluis_store::Error::Revision { .. }) => {}
                Err(e) => return Err(missing(e)),
            }
        }
        Err(busy())
    }

    /// Brings a deleted secret back, with all its versions.
    pub async fn recover(&self, caller: &Caller, workspace: &WorkspaceName, name: &SecretName) -> Result<Described> {
        let workspace = self.workspace(caller, workspace, Action::SecretDelete).await?;
        let retention_days = workspace.settings.retention_days;
        for _ in 0..TRIES {
            let (mut secret, version) = self.listed(&workspace, name).await?.ok_or(Error::SecretNotFound)?;
            secret.state = secret.state.recover()?;
            secret.revision += 1;
            secret.updated = self.app.now();
            let write = self.exchange(caller, &secret, AuditAction::SecretRecovered);
            let may = (Action::SecretDelete, Resource::Workspace(workspace.id));
            let recovered = self.app.write(caller, may, write, |s, w| async move { s.secret_recover(w).await });
            match recovered.await? {
                Ok(()) => return Ok(Described { secret, version, retention_days }),
                Err(kluis_store::Error::Revision { .. }) => {}
                Err(e) => return Err(missing(e)),
            }
        }
        Err(busy())
    }

    /// Erases a deleted secret and all its versions from the live data; its name is free then.
    pub async fn purge(&self, caller: &Caller, workspace: &WorkspaceName, name: &SecretName) -> Result<()> {
        let workspace = self.workspace(caller, workspace, Action::SecretPurge).await?;
        let (secret, _) = self.listed(&workspace, name).await?.ok_or(Error::SecretNotFound)?;
        secret.state.require_deleted()?;
        let record = record(caller, &secret, self.app.now(), AuditAction::SecretPurged);
        let change = SecretPurge { workspace: workspace.id, secret: secret.id, revision: secret.revision };
        let write = Write::new(caller.authority(), self.app.vault.audit_entry(record), change);
        let may = (Action::SecretPurge, Resource::Workspace(workspace.id));
        let purged = self.app.write(caller, may, write, |s, w| async move { s.secret_purge(w).await });
        purged.await?.map_err(missing)
    }

    /// Purges what was deleted long enough ago. The server's own work: the record names nobody.
    pub async fn purge_due(&self) -> Result<()> {
        loop {
            let now = self.app.now();
            let due = self.app.store.purge_due(now, PURGE_BATCH).await?;
            let full = due.len() == PURGE_BATCH as usize;
            let mut purged = 0;
            for row in due {
                // A row that is not what was written destroys nothing.
                let secret = match self.app.verified(row, Secret::canonical, "secret", |s| s.id.to_string()) {
                    Ok(secret) => secret,
                    Err(e) => {
                        tracing::error!(error = %e, "not purged");
                        continue;
                    }
                };
                let record = AuditRecord {
                    workspace: Some(secret.workspace),
                    secret: Some(secret.id),
                    revision: Some(secret.revision),
                    name: Some(secret.name.to_string()),
                    ..AuditRecord::new(now, AuditAction::SecretPurged)
                };
                let change = SecretPurge { workspace: secret.workspace, secret: secret.id, revision: secret.revision };
                let write = Write::new(Authority::server(), self.app.vault.audit_entry(record), change);
                match self.app.store.secret_purge(write).await {
                    Ok(()) => purged += 1,
                    // Recovered or purged by somebody in between.
                    Err(kluis_store::Error::Revision { .. } | kluis_store::Error::NotFound) => {}
                    Err(e) => return Err(e.into()),
                }
            }
            if !full || purged == 0 {
                return Ok(());
            }
        }
    }

    fn exchange(
        &self,
        caller: &Caller,
        secret: &Secret,
        action: AuditAction,
    ) -> Write<kluis_store::Authenticated<Secret>> {
        let record = record(caller, secret, secret.updated, action);
        let row = self.app.authenticated(secret.clone(), Secret::canonical);
        Write::new(caller.authority(), self.app.vault.audit_entry(record), row)
    }
}

fn apply(row: &mut Version, change: &ChangeVersion) -> Result<()> {
    let attributes = &mut row.attributes;
    if let Some(enabled) = change.enabled {
        attributes.enabled = enabled;
    }
    if let Some(content_type) = &change.content_type {
        attributes.content_type.clone_from(content_type);
    }
    if let Some(tags) = &change.tags {
        attributes.tags.clone_from(tags);
    }
    attributes.not_before = change.not_before.unwrap_or(attributes.not_before);
    attributes.expires = change.expires.unwrap_or(attributes.expires);
    Ok(attributes.check()?)
}

pub(super) fn record(caller: &Caller, secret: &Secret, now: Timestamp, action: AuditAction) -> AuditRecord {
    AuditRecord {
        workspace: Some(secret.workspace),
        secret: Some(secret.id),
        revision: Some(secret.revision),
        name: Some(secret.name.to_string()),
        ..caller.record(now, action)
    }
}

pub(super) fn missing(e: kluis_store::Error) -> Error {
    match e {
        kluis_store::Error::NotFound => Error::SecretNotFound,
        other => other.into(),
    }
}

pub(super) fn busy() -> Error {
    Error::conflict("others change the same secret all the time; nothing was changed, try again")
}
