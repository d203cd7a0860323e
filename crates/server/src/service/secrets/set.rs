//! New versions. Sealed before they are written; all of a batch or none.

use std::collections::HashSet;

use kluis_core::access::{Action, Resource};
use kluis_core::api::secrets::{NamedSecret, SecretView, SecretsSet, SetSecret, SetSecrets};
use kluis_core::audit::{AuditAction, AuditRecord};
use kluis_core::clock::Timestamp;
use kluis_core::id::{SecretId, VersionId};
use kluis_core::name::{SecretName, WorkspaceName};
use kluis_core::plaintext::Plaintext;
use kluis_core::secret::{Attributes, MAX_BATCH, Secret, SecretState, Version};
use kluis_store::secrets::SecretVersionInsert;
use kluis_store::workspaces::Workspace;
use kluis_store::{Error as StoreError, Write};

use super::{Described, Secrets, TRIES, binding};
use crate::caller::Caller;
use crate::error::{Error, Result};

/// One entry of a set.
struct Entry<'a> {
    name: &'a SecretName,
    value: &'a Plaintext,
    attributes: &'a Attributes,
    if_revision: Option<u64>,
}

impl Secrets<'_> {
    /// A new version; the secret is made when it does not exist.
    pub async fn set(
        &self,
        caller: &Caller,
        workspace: &WorkspaceName,
        name: &SecretName,
        set: &SetSecret,
    ) -> Result<Described> {
        let workspace = self.workspace(caller, workspace, Action::SecretSet).await?;
        set.attributes.check()?;
        let SetSecret { value, attributes, if_revision } = set;
        let entry = Entry { name, value, attributes, if_revision: *if_revision };
        let made = self.insert(caller, &workspace, &[entry]).await.map_err(Error::without_entry)?;
        Ok(made.into_iter().next().expect("one entry makes one version"))
    }

    /// Several in one go: all are set or none.
    pub async fn set_many(&self, caller: &Caller, workspace: &WorkspaceName, set: &SetSecrets) -> Result<SecretsSet> {
        let workspace = self.workspace(caller, workspace, Action::SecretSet).await?;
        if set.items.len() > MAX_BATCH {
            return Err(Error::bad_request(format!("{} entries; at most {MAX_BATCH} are allowed", set.items.len())));
        }
        let mut names = HashSet::new();
        let mut entries = Vec::with_capacity(set.items.len());
        for (index, item) in set.items.iter().enumerate() {
            let NamedSecret { name, value, attributes } = item;
            attributes.check().map_err(|e| Error::from(e).in_entry(index))?;
            if !names.insert(name) {
                return Err(Error::bad_request(format!("entry {index}: its name is in the batch twice")));
            }
            entries.push(Entry { name, value, attributes, if_revision: None });
        }
        let made = self.insert(caller, &workspace, &entries).await?;
        let mut items: Vec<SecretView> = made.into_iter().map(Into::into).collect();
        // A batch answers in the names that it was asked with.
        for (view, entry) in items.iter_mut().zip(&entries) {
            view.name.clone_from(entry.name);
        }
        Ok(SecretsSet { items })
    }

    async fn insert(&self, caller: &Caller, workspace: &Workspace, entries: &[Entry<'_>]) -> Result<Vec<Described>> {
        let retention_days = workspace.settings.retention_days;
        for _ in 0..TRIES {
            let now = self.app.now();
            let (mut change, mut records, mut made) = (Vec::new(), Vec::new(), Vec::new());
            for (index, entry) in entries.iter().enumerate() {
                let had = self.listed(workspace, entry.name).await.map_err(|e| e.in_entry(index))?;
                let had = had.map(|(secret, _)| secret);
                let secret = self.next(workspace, entry, had, now).map_err(|e| e.in_entry(index))?;
                let version = Version {
                    workspace: workspace.id,
                    secret: secret.id,
                    id: secret.current,
                    attributes: entry.attributes.clone(),
                    revision: 1,
                    created: now,
                    updated: now,
                    created_by: caller.id(),
                };
                let sealed = self.app.vault.seal(&binding(&version), entry.value)?;
                records.push(AuditRecord {
                    workspace: Some(workspace.id),
                    secret: Some(secret.id),
                    version: Some(version.id),
                    revision: Some(secret.revision),
                    name: Some(secret.name.to_string()),
                    ..caller.record(now, AuditAction::SecretSet)
                });
                made.push(Described { secret: secret.clone(), version: version.clone(), retention_days });
                change.push(SecretVersionInsert {
                    secret: self.app.authenticated(secret, Secret::canonical),
                    version: self.app.authenticated(version, Version::canonical),
                    sealed,
                });
            }
            let write = Write { authority: caller.authority(), audit: self.app.entries(records), change };
            let may = (Action::SecretSet, Resource::Workspace(workspace.id));
            let set = self.app.write(caller, may, write, |s, w| async move { s.secret_version_insert(w).await });
            match set.await? {
                Ok(()) => return Ok(made),
                // Somebody else set it between the look and the write, or the workspace's key was rotated: look again.
                Err(e) if matches!(e.entry().1, StoreError::Revision { .. } | StoreError::Moved(_)) => {}
                Err(e) => return Err(Error::from(e).missing("workspace")),
            }
        }
        Err(Error::conflict("others set the same secret all the time; nothing was set, try again"))
    }

    /// The secret's row after this set.
    fn next(&self, workspace: &Workspace, entry: &Entry<'_>, had: Option<Secret>, now: Timestamp) -> Result<Secret> {
        let current = VersionId::generate(&*self.app.rng);
        if let Some(had) = &had {
            had.state.require_active()?;
        }
        let revision = had.as_ref().map_or(0, |s| s.revision);
        if entry.if_revision.is_some_and(|wanted| wanted != revision) {
            return Err(Error::RevisionConflict { current: revision, entry: None });
        }
        Ok(match had {
            Some(had) => Secret { current, revision: revision + 1, updated: now, ..had },
            None => Secret {
                workspace: workspace.id,
                id: SecretId::generate(&*self.app.rng),
                name: entry.name.clone(),
                current,
                state: SecretState::Active,
                revision: 1,
                created: now,
                updated: now,
            },
        })
    }
}
