//! One secret as a sealed whole: taken out with all its versions, and put back where it was made. A backup opens nowhere
//! else, so whoever holds one reads nothing in it; see docs/format.md.

use kluis_core::access::{Action, Resource};
use kluis_core::api::base64_bytes;
use kluis_core::audit::AuditAction;
use kluis_core::clock::Timestamp;
use kluis_core::id::{PrincipalId, SecretId, VersionId};
use kluis_core::name::{SecretName, WorkspaceName};
use kluis_core::sealed::Sealed;
use kluis_core::secret::{Attributes, Secret, SecretState, Version};
use kluis_store::secrets::{SecretBackup, SecretRestore};
use kluis_store::workspaces::Workspace;
use kluis_store::{Error as StoreError, Write};
use kluis_vault::{BackupOpener, Binding};
use serde::{Deserialize, Serialize};

use super::change::{busy, missing, record};
use super::{Described, Secrets, TRIES, binding, damaged};
use crate::caller::Caller;
use crate::error::{Error, Result};

/// How many versions a backup holds at most.
const MOST_VERSIONS: u32 = 500;

/// What a backup says, inside its seal.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    secret: SecretId,
    name: SecretName,
    current: VersionId,
    created: Timestamp,
    /// Oldest first.
    versions: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    version: VersionId,
    attributes: Attributes,
    created: Timestamp,
    updated: Timestamp,
    created_by: PrincipalId,
    #[serde(with = "base64_bytes")]
    wrapped_key: Vec<u8>,
    #[serde(with = "base64_bytes")]
    value: Vec<u8>,
}

impl Secrets<'_> {
    /// A backup of a secret, with all its versions, disabled ones too. It leaves only after its record is committed.
    pub async fn backup(&self, caller: &Caller, workspace: &WorkspaceName, name: &SecretName) -> Result<Vec<u8>> {
        let workspace = self.workspace(caller, workspace, Action::SecretRead).await?;
        for _ in 0..TRIES {
            let (secret, sealed) = self.taken(&workspace, name).await?;
            let record = record(caller, &secret, self.app.now(), AuditAction::SecretBackedUp);
            let change = SecretBackup { workspace: workspace.id, secret: secret.id, revision: secret.revision };
            let write = Write::new(caller.authority(), self.app.vault.audit_entry(record), change);
            let may = (Action::SecretRead, Resource::Workspace(workspace.id));
            match self.app.write(caller, may, write, |s, w| async move { s.secret_backup(w).await }).await? {
                Ok(()) => return Ok(sealed),
                Err(StoreError::Revision { .. }) => {}
                Err(e) => return Err(missing(e)),
            }
        }
        Err(busy())
    }

    async fn taken(&self, workspace: &Workspace, name: &SecretName) -> Result<(Secret, Vec<u8>)> {
        let whole = self.app.store.secret_whole(workspace.id, name, MOST_VERSIONS).await?;
        let whole = whole.ok_or(Error::SecretNotFound)?;
        let secret = self.app.verified(whole.secret, Secret::canonical, "secret", |s| s.id.to_string())?;
        if secret.workspace != workspace.id || secret.name != *name {
            return Err(damaged(&secret));
        }
        secret.state.require_active()?;
        if whole.versions.len() > MOST_VERSIONS as usize {
            return Err(Error::conflict(format!(
                "the secret has more than {MOST_VERSIONS} versions, more than a backup holds"
            )));
        }
        let backup = self.app.vault.backup(workspace.id);
        let mut versions = Vec::with_capacity(whole.versions.len());
        for (row, sealed) in whole.versions {
            let version = self.app.verified(row, Version::canonical, "version", |v| v.id.to_string())?;
            if version.secret != secret.id || version.workspace != workspace.id {
                return Err(damaged(&secret));
            }
            let Sealed { wrapped_key, value, .. } = backup.take(&binding(&version), &sealed)?;
            let Version { id, attributes, created, updated, created_by, .. } = version;
            versions.push(Entry { version: id, attributes, created, updated, created_by, wrapped_key, value });
        }
        let manifest = Manifest {
            secret: secret.id,
            name: secret.name.clone(),
            current: secret.current,
            created: secret.created,
            versions,
        };
        let manifest = serde_json::to_vec(&manifest).expect("ids, texts and bytes become JSON");
        Ok((secret, backup.seal(&manifest)?))
    }

    /// Puts a secret back from its backup, with its versions as they were. It is another secret than the one that was
    /// backed up: whatever of that one was revoked stays so.
    pub async fn restore(&self, caller: &Caller, workspace: &WorkspaceName, backup: &[u8]) -> Result<Described> {
        let workspace = self.workspace(caller, workspace, Action::SecretSet).await?;
        let (manifest, opener) = self.app.vault.backup_open(workspace.id, backup).map_err(|_| Error::BackupRefused)?;
        let manifest: Manifest = serde_json::from_slice(&manifest).map_err(|_| Error::BackupRefused)?;
        for _ in 0..TRIES {
            let (change, made) = self.restored(&workspace, &manifest, &opener)?;
            let record = record(caller, &made.secret, made.secret.updated, AuditAction::SecretRestored);
            let write = Write::new(caller.authority(), self.app.vault.audit_entry(record), change);
            let may = (Action::SecretSet, Resource::Workspace(workspace.id));
            match self.app.write(caller, may, write, |s, w| async move { s.secret_restore(w).await }).await? {
                Ok(()) => return Ok(made),
                // The workspace's key was rotated.
                Err(StoreError::Moved(_)) => {}
                Err(StoreError::Conflict(_) | StoreError::Secret(_)) => return Err(Error::SecretExists(manifest.name)),
                Err(e) => return Err(Error::from(e).missing("workspace")),
            }
        }
        Err(busy())
    }

    fn restored(
        &self,
        workspace: &Workspace,
        manifest: &Manifest,
        opener: &BackupOpener<'_>,
    ) -> Result<(SecretRestore, Described)> {
        let secret = Secret {
            workspace: workspace.id,
            id: SecretId::generate(&*self.app.rng),
            name: manifest.name.clone(),
            current: manifest.current,
            state: SecretState::Active,
            revision: 1,
            created: manifest.created,
            updated: self.app.now(),
        };
        let (mut versions, mut current) = (Vec::with_capacity(manifest.versions.len()), None);
        for entry in &manifest.versions {
            let was = Binding { workspace: workspace.id, secret: manifest.secret, version: entry.version };
            let value = opener.value(&was, &entry.wrapped_key, &entry.value).map_err(|_| Error::BackupRefused)?;
            let version = Version {
                workspace: workspace.id,
                secret: secret.id,
                id: entry.version,
                attributes: entry.attributes.clone(),
                revision: 1,
                created: entry.created,
                updated: entry.updated,
                created_by: entry.created_by,
            };
            let sealed = self.app.vault.seal(&binding(&version), &value)?;
            if version.id == secret.current {
                current = Some(version.clone());
            }
            versions.push((self.app.authenticated(version, Version::canonical), sealed));
        }
        let version = current.ok_or(Error::BackupRefused)?;
        let row = self.app.authenticated(secret.clone(), Secret::canonical);
        let retention_days = workspace.settings.retention_days;
        Ok((SecretRestore { secret: row, versions }, Described { secret, version, retention_days }))
    }
}
