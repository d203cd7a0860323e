//! Values for a run: what its submitter may read at this moment, narrowed to what the run declared, at the versions its
//! attempt is pinned to. The store checks the session, the attempt and the run's status where it records the delivery.

use std::net::IpAddr;

use kluis_core::access::{Action, Resource};
use kluis_core::api::session::{ReadValue, SecretsRead};
use kluis_core::audit::{AuditAction, AuditRecord};
use kluis_core::clock::Timestamp;
use kluis_core::id::PrincipalId;
use kluis_core::name::SecretName;
use kluis_store::secrets::SecretFind;
use kluis_store::workspaces::Workspace;
use kluis_store::{Authority, RunAuthority, Write};

use super::read::{Again, check_batch, reads};
use super::{Secrets, TRIES};
use crate::caller::{Caller, Known};
use crate::error::{Error, Result};
use crate::service::authorize::in_words;

/// A run that reads.
#[derive(Clone, Debug)]
pub struct RunReader<'a> {
    /// Its workspace.
    pub workspace: &'a Workspace,
    /// The session it reads by.
    pub run: RunAuthority,
    /// The attempt's node, for the record.
    pub node: u32,
    /// Whose rights it has.
    pub submitter: PrincipalId,
    /// What it declared, if it did.
    pub declared: Option<&'a [SecretName]>,
    /// Where the request came from, for the record.
    pub source: IpAddr,
}

impl RunReader<'_> {
    fn record(&self, now: Timestamp, action: AuditAction) -> AuditRecord {
        AuditRecord {
            principal: Some(self.submitter),
            workspace: Some(self.workspace.id),
            run: Some(self.run.run.clone()),
            attempt: Some(self.run.attempt),
            node: Some(self.node),
            session: Some(self.run.session),
            source: Some(self.source.to_string()),
            ..AuditRecord::new(now, action)
        }
    }
}

impl Secrets<'_> {
    /// The values of these names for a run, each pinned to a version for the attempt unless `refresh` moves the pins.
    /// Deliveries are recorded and committed before this returns. One undeclared or refused name refuses all; one that
    /// does not exist, or is deleted, is named as missing.
    pub async fn read_for_run(
        &self,
        reader: &RunReader<'_>,
        names: &[SecretName],
        refresh: bool,
    ) -> Result<SecretsRead> {
        for _ in 0..TRIES {
            let submitter = self.authorize_run(reader, names).await?;
            match self.deliver_to_run(reader, &submitter, names, refresh).await {
                Ok(read) => return Ok(read),
                Err(Again::Stale | Again::Moved) => {}
                Err(Again::No(e)) => return Err(e),
            }
        }
        Err(Error::conflict("the secret, or the submitter's rights, keep changing; nothing was read, try again"))
    }

    /// The submitter as it stands now, if the run may read these names.
    async fn authorize_run(&self, reader: &RunReader<'_>, names: &[SecretName]) -> Result<Known> {
        check_batch(names)?;
        let submitter = self.app.known(reader.submitter).await?;
        let may =
            submitter.principal.enabled && submitter.may(Action::SecretRead, Resource::Workspace(reader.workspace.id));
        let undeclared = match reader.declared {
            Some(declared) => names.iter().position(|name| !declared.contains(name)),
            // Submitted before the workspace asked for declarations, it reads nothing since.
            None => reader.workspace.settings.require_declared_secrets.then_some(0),
        };
        if may && undeclared.is_none() {
            return Ok(submitter);
        }
        let mut record = reader.record(self.app.now(), AuditAction::Refused);
        record.name = Some(in_words(Action::SecretRead).to_owned());
        let entry = self.app.vault.audit_entry(record);
        self.app.store.audit_append(Write::new(Authority::server(), entry, ())).await?;
        Err(match undeclared {
            Some(entry) if may => Error::SecretUndeclared { entry },
            _ => Error::Forbidden("read secrets: the run's submitter may not (any more)"),
        })
    }

    async fn deliver_to_run(
        &self,
        reader: &RunReader<'_>,
        submitter: &Known,
        names: &[SecretName],
        refresh: bool,
    ) -> Result<SecretsRead, Again> {
        let now = self.app.now();
        let authority = Authority::Run {
            submitter: submitter.principal.id,
            epoch: submitter.principal.epoch,
            run: reader.run.clone(),
        };
        let find = SecretFind { workspace: reader.workspace.id, names: names.to_vec(), refresh };
        let found = self.app.store.secrets_find(authority.clone(), find).await.map_err(Again::from)?;
        let (mut good, mut missing) = (Vec::new(), Vec::new());
        for (index, (name, found)) in names.iter().zip(found).enumerate() {
            let readable = found.as_ref().map(|found| self.readable(reader.workspace, name, found, now));
            match (readable, found) {
                (None | Some(Err(Error::SecretDeleted { .. })), _) | (_, None) => missing.push(name.clone()),
                (Some(Ok(readable)), Some(found)) => good.push((name, readable, found.sealed)),
                (Some(Err(e)), _) => return Err(Again::No(e.in_entry(index))),
            }
        }
        if !good.is_empty() {
            let records = good.iter().map(|(_, readable, _)| AuditRecord {
                secret: Some(readable.secret.id),
                version: Some(readable.version.id),
                revision: Some(readable.secret.revision),
                name: Some(readable.secret.name.to_string()),
                ..reader.record(now, AuditAction::SecretDelivered)
            });
            let audit = self.app.entries(records);
            let change = good.iter().map(|(_, readable, _)| reads(readable, refresh, now)).collect();
            self.app.store.secret_read(Write { authority, audit, change }).await.map_err(Again::from)?;
        }
        // Committed: from here on the values may leave.
        let mut items = Vec::with_capacity(good.len());
        for (name, readable, sealed) in good {
            let value = self.app.vault.unseal(&readable.binding, &sealed).map_err(|e| Again::No(e.into()))?;
            items.push(ReadValue { name: name.clone(), version: readable.version.id, value });
        }
        Ok(SecretsRead { items, missing })
    }

    /// Which of these names the caller could not read in this workspace now (missing, deleted, disabled), for checks at
    /// submission. Nothing is opened and nothing recorded.
    pub async fn unreadable(
        &self,
        caller: &Caller,
        workspace: &Workspace,
        names: &[SecretName],
    ) -> Result<Vec<(SecretName, Error)>> {
        self.app.authorize(caller, Action::SecretRead, Resource::Workspace(workspace.id)).await?;
        check_batch(names)?;
        let now = self.app.now();
        let find = SecretFind { workspace: workspace.id, names: names.to_vec(), refresh: false };
        let found = self.app.store.secrets_find(caller.authority(), find).await?;
        let mut unreadable = Vec::new();
        for (name, found) in names.iter().zip(found) {
            let readable = match found {
                None => Err(Error::SecretNotFound),
                Some(found) => self.readable(workspace, name, &found, now).map(drop),
            };
            if let Err(e) = readable {
                unreadable.push((name.clone(), e));
            }
        }
        Ok(unreadable)
    }
}
