//! What is done while the server is stopped, on its own machine, by whoever holds the root key: a new login for an owner
//! who lost theirs, a new root key, a look at the data's health. Each takes the store's lock, so a running server refuses.
//! Each needs rows and keys and nothing else: a certificate that is gone, or a blob folder that does not open, may be the
//! very reason for looking.

use std::path::PathBuf;
use std::sync::Arc;

use kluis_core::access::{Effect, Grant, Principal, PrincipalKind, Role, Scope};
use kluis_core::audit::{AuditAction, AuditEntry, AuditRecord, Frontier};
use kluis_core::clock::Timestamp;
use kluis_core::id::{KeyId, TokenId, WorkspaceId};
use kluis_core::name::PrincipalName;
use kluis_core::plaintext::Plaintext;
use kluis_core::rng::Rng;
use kluis_core::sealed::Mac;
use kluis_core::secret::Version;
use kluis_store::audit::{AuditHead, AuditProof};
use kluis_store::identity::{OwnerReset, TokenKind, TokenRow};
use kluis_store::installation::{InstallationKeys, InstallationRow, RootRotate};
use kluis_store::runs::RunFilter;
use kluis_store::workspaces::WorkspaceListed;
use kluis_store::{After, Authority as By, Error as StoreError, Health, Integrity, Store, Write};
use kluis_vault::{Binding, Vault, WorkspaceKey, token};
use zeroize::Zeroizing;

use super::first::authenticated;
use super::{StartError, open_store, open_vault, root};
use crate::caller::Known;
use crate::config::{ServerOptions, TlsSource};
use crate::service::audit;
use crate::service::row::submitted_ok;
use crate::tls::Authority;

/// How many rows are looked at in one read.
const BATCH: u32 = 200;

/// An owner's new login.
#[derive(Debug)]
pub struct NewLogin {
    /// The owner.
    pub owner: PrincipalName,
    /// The login; all others of the owner are dead.
    pub token: Plaintext,
    /// The private authority's pin. Clients of a server that shows a site's certificate pin another one.
    pub ca_sha256: Option<String>,
}

/// Gives an owner of the installation a new login; the one of this name, or the only one.
pub async fn owner_reset(options: &ServerOptions, name: Option<&PrincipalName>) -> Result<NewLogin, StartError> {
    let there = existing(options).await?;
    let result = reset(&there, options, name).await;
    there.close().await;
    result
}

async fn reset(there: &Offline, options: &ServerOptions, name: Option<&PrincipalName>) -> Result<NewLogin, StartError> {
    let mut owners = Vec::new();
    for id in there.store.installation_owners().await? {
        let Some(standing) = there.store.principal_standing(id).await? else { continue };
        match Known::verify(&there.vault, standing) {
            Ok(known) => owners.push(known),
            // Another one may be sound.
            Err(e) => tracing::error!(principal = %id, error = %e, "this owner is left out"),
        }
    }
    owners.retain(|o| name.is_none_or(|name| o.principal.name == *name));
    let [owner] = &owners[..] else {
        let reason = if owners.is_empty() {
            "no owner of that name whose rows are sound"
        } else {
            "several owners: say which one"
        };
        return Err(StartError::Data { path: options.data.clone(), reason: reason.into() });
    };
    let (principal, grant) = enabled_owner(owner)?;
    let Offline { store, vault, now, rng, .. } = there;
    let text = token::generate(token::Kind::User, &**rng);
    let token = TokenRow {
        id: TokenId::generate(&**rng),
        principal: principal.id,
        kind: TokenKind::Native,
        label: "owner reset".to_owned(),
        hash: vault.lookup_hash(token::Kind::User.as_str(), &text),
        created: *now,
        expires: None,
        revision: 1,
    };
    let record = AuditRecord {
        subject: Some(principal.id),
        credential: Some(token.id),
        revision: Some(principal.revision),
        ..AuditRecord::new(*now, AuditAction::OwnerReset)
    };
    let change = OwnerReset {
        principal: authenticated(vault, principal.clone(), principal.canonical()),
        grant: authenticated(vault, grant, grant.canonical()),
        token: authenticated(vault, token.clone(), token.canonical()),
    };
    store.owner_reset(Write::new(By::server(), vault.audit_entry(record), change)).await?;
    Ok(NewLogin {
        owner: principal.name,
        token: Plaintext::from_text(&text).expect("a token is short"),
        ca_sha256: there.pin(options),
    })
}

/// The owner's row and grant as they will be: enabled, and allowed.
fn enabled_owner(owner: &Known) -> Result<(Principal, Grant), StartError> {
    let mut principal = owner.principal.clone();
    if principal.kind != PrincipalKind::User {
        return Err(StartError::Internal("the installation's owner is not a user".into()));
    }
    if !principal.enabled {
        principal.enabled = true;
        principal.revision += 1;
    }
    let granted = |g: &&Grant| g.scope == Scope::Installation && g.effect == Effect::Allow && g.role == Role::Owner;
    let grant = owner.grants.iter().find(granted).copied();
    Ok((principal, grant.ok_or_else(|| StartError::Internal("an owner has no owner's grant".into()))?))
}

/// A finished rotation of the root key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootRotated {
    /// The new key's id.
    pub key: KeyId,
    /// Where the new key is.
    pub path: PathBuf,
    /// Where the old one is kept: needed for backups made before now, to be destroyed with them.
    pub old: PathBuf,
}

/// Puts everything that the root key wraps under a new one, in the same place: a new file, or for a passphrase a new
/// passphrase, which then has to be given. No value, token or signature changes. Interrupted at any point, the next start
/// finds the key that fits.
pub async fn root_rotate(
    options: &ServerOptions,
    passphrase: Option<Zeroizing<String>>,
) -> Result<RootRotated, StartError> {
    let there = existing(options).await?;
    let result = rotate(&there, options, passphrase).await;
    there.close().await;
    result
}

async fn rotate(
    there: &Offline,
    options: &ServerOptions,
    passphrase: Option<Zeroizing<String>>,
) -> Result<RootRotated, StartError> {
    let new = root::create_next(options, passphrase).await?;
    let (old, key) = (there.vault.root_key_id(), new.id());

    let rows = there.store.workspace_keys_all().await?;
    let wrapped: Vec<WorkspaceKey> = rows
        .into_iter()
        .map(|row| WorkspaceKey { workspace: row.workspace, id: row.id, wrapped: row.wrapped })
        .collect();
    let rotated = there.vault.rotate_root(new, &wrapped)?;
    let change = RootRotate {
        keys: InstallationKeys {
            installation_key: rotated.installation.installation_key.clone(),
            signing_key: rotated.installation.signing_key.clone(),
            canary: rotated.installation.canary.clone(),
            root_source: options.root_key.describe(),
        },
        workspace_keys: rotated.workspace_keys.iter().map(|k| (k.id, k.wrapped.clone())).collect(),
    };
    let record = AuditRecord { key: Some(key), ..AuditRecord::new(there.now, AuditAction::RootKeyRotated) };
    there.store.root_rotate(Write::new(By::server(), there.vault.audit_entry(record), change)).await?;
    there.vault.adopt_root(rotated);
    let kept = root::exchange(options, old)?;
    Ok(RootRotated { key, path: root::path(options), old: kept })
}

/// What a look at a stopped server's data found.
#[derive(Clone, Debug)]
pub struct Diagnosis {
    /// The store's own condition, after a check of the whole file, of every row's MAC and of every value.
    pub health: Health,
    /// Whether the audit log's pages give the root that is remembered.
    pub audit: AuditProof,
    /// Whether every kept checkpoint fits the log, and its signature the installation's key.
    pub checkpoint_fits: bool,
    /// What protects the keys in memory less than it should.
    pub weaknesses: Vec<String>,
}

/// Looks the data over: that the root key fits, the whole file, the audit log with every record's MAC, the rows that grant
/// with theirs, and that every value opens. Reads everything once, changes nothing and leaves no record.
pub async fn doctor(options: &ServerOptions) -> Result<Diagnosis, StartError> {
    let there = existing(options).await?;
    let result = there.diagnose().await;
    there.close().await;
    result
}

/// An installation's rows and keys.
struct Offline {
    store: Store,
    vault: Arc<Vault>,
    installation: InstallationRow,
    now: Timestamp,
    rng: Arc<dyn Rng>,
}

/// Opens what exists: work on a stopped server never makes an installation.
async fn existing(options: &ServerOptions) -> Result<Offline, StartError> {
    let nothing = || StartError::Data { path: options.data.clone(), reason: "there is no installation here".into() };
    if !options.data.join("kluis.db").exists() {
        return Err(nothing());
    }
    for weakness in kluis_vault::harden_process() {
        tracing::warn!("{weakness}");
    }
    let store = open_store(&options.data).await?;
    let installation = store.installation_load().await?.ok_or_else(nothing)?;
    let vault = open_vault(options, &store, &installation).await?;
    Ok(Offline { store, vault, installation, now: options.clock.now(), rng: options.rng.clone() })
}

impl Offline {
    async fn close(self) {
        tokio::task::spawn_blocking(move || self.store.close()).await.expect("closing the store does not panic");
    }

    /// What clients pin, when there is a private authority and it can be read.
    fn pin(&self, options: &ServerOptions) -> Option<String> {
        if options.tls != TlsSource::Authority {
            return None;
        }
        let sealed = self.installation.sealed.get(Authority::NAME)?;
        let bytes = self.vault.unseal_small(Authority::NAME, sealed).ok()?;
        Authority::from_bytes(&bytes).ok().map(|authority| authority.sha256())
    }

    async fn diagnose(&self) -> Result<Diagnosis, StartError> {
        while self.store.health().integrity == Integrity::Checking {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        let (audit, checkpoint_fits) = match audit::prove(&self.store, &self.vault).await {
            // It stands in the store's health which page it is.
            Err(StoreError::Inconsistent { .. }) => (self.unproven().await?, false),
            proven => proven?,
        };
        self.check_small();
        self.check_records().await?;
        self.check_identity().await?;
        self.check_workspaces().await?;
        self.check_computes().await?;
        self.check_secrets().await?;
        let weaknesses = kluis_vault::memory_weaknesses().iter().map(ToString::to_string).collect();
        Ok(Diagnosis { health: self.store.health(), audit, checkpoint_fits, weaknesses })
    }

    /// A log whose pages do not go on to its end.
    async fn unproven(&self) -> Result<AuditProof, StartError> {
        let recomputed = AuditHead { size: 0, root: Frontier::default().root() };
        Ok(AuditProof { stored: self.store.audit_head().await?, recomputed, at: Vec::new() })
    }

    fn damaged(&self, table: &'static str, row: impl ToString) {
        self.store.note_damage(table, row.to_string());
    }

    /// The certificates' keys.
    fn check_small(&self) {
        for (name, sealed) in &self.installation.sealed {
            if self.vault.unseal_small(name, sealed).is_err() {
                self.damaged("sealed_blob", name);
            }
        }
    }

    async fn check_records(&self) -> Result<(), StartError> {
        let mut from = 0;
        loop {
            let leaves = match self.store.audit_leaves(from, BATCH).await {
                // The proof has told.
                Err(StoreError::Inconsistent { .. }) => return Ok(()),
                leaves => leaves?,
            };
            let Some((last, _)) = leaves.last() else { return Ok(()) };
            from = last + 1;
            for (seq, leaf) in leaves {
                if !AuditEntry::from_leaf(&leaf).is_ok_and(|entry| self.vault.audit_entry_ok(&entry)) {
                    self.damaged("audit record", seq);
                }
            }
        }
    }

    /// Principals with their grants, and everything that signs in.
    async fn check_identity(&self) -> Result<(), StartError> {
        let mut page = After::first(BATCH);
        loop {
            let listed = self.store.principal_list(page).await?;
            for principal in listed.items {
                let id = principal.row.id;
                let sound = match told(self.store.principal_standing(id).await)? {
                    Some(standing) => standing.is_some_and(|standing| Known::verify(&self.vault, standing).is_ok()),
                    None => false,
                };
                if !sound {
                    self.damaged("principal", id);
                }
                for token in told(self.store.token_list(id).await)?.unwrap_or_default() {
                    self.check_mac("token", token.row.id, &token.row.canonical(), &token.mac);
                }
                for secret in told(self.store.client_secret_list(id).await)?.unwrap_or_default() {
                    self.check_mac("client_secret", secret.row.id, &secret.row.canonical(), &secret.mac);
                }
            }
            match listed.next {
                Some(next) => page = After { after: Some(next), limit: BATCH },
                None => break,
            }
        }
        for invite in told(self.store.invite_list().await)?.unwrap_or_default() {
            self.check_mac("invite", invite.row.id, &invite.row.canonical(), &invite.mac);
        }
        Ok(())
    }

    /// Workspaces, and the runs of each: what a run may read hangs on what its row says.
    async fn check_workspaces(&self) -> Result<(), StartError> {
        let mut page = After::first(BATCH);
        loop {
            let listed = self.store.workspace_list(None, page).await?;
            for WorkspaceListed { workspace, .. } in listed.items {
                let id = workspace.row.id;
                self.check_mac("workspace", id, &workspace.row.canonical(), &workspace.mac);
                self.check_runs(id).await?;
            }
            match listed.next {
                Some(next) => page = After { after: Some(next), limit: BATCH },
                None => return Ok(()),
            }
        }
    }

    async fn check_runs(&self, workspace: WorkspaceId) -> Result<(), StartError> {
        let mut after = None;
        loop {
            let page = After { after, limit: BATCH };
            let listed = self.store.run_list(workspace, RunFilter::default(), page).await?;
            for run in listed.items {
                if !submitted_ok(&self.vault, &run) {
                    self.damaged("run", run.seq);
                }
            }
            after = listed.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    async fn check_computes(&self) -> Result<(), StartError> {
        let mut page = After::first(BATCH);
        loop {
            let listed = self.store.compute_list(page).await?;
            for compute in listed.items {
                self.check_mac("compute", compute.row.id, &compute.row.canonical(), &compute.mac);
            }
            match listed.next {
                Some(next) => page = After { after: Some(next), limit: BATCH },
                None => return Ok(()),
            }
        }
    }

    async fn check_secrets(&self) -> Result<(), StartError> {
        let mut after = None;
        loop {
            let listed = self.store.secrets_all(After { after, limit: BATCH }).await?;
            for secret in listed.items {
                self.check_mac("secret", secret.row.id, &secret.row.canonical(), &secret.mac);
            }
            after = listed.next;
            if after.is_none() {
                break;
            }
        }
        let mut after = None;
        loop {
            let listed = self.store.versions_all(After { after, limit: BATCH }).await?;
            for (version, sealed) in listed.items {
                let Version { workspace, secret, id, .. } = version.row;
                self.check_mac("version", id, &version.row.canonical(), &version.mac);
                if self.vault.unseal(&Binding { workspace, secret, version: id }, &sealed).is_err() {
                    self.damaged("version", format!("{id}: its value does not open"));
                }
            }
            after = listed.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    fn check_mac(&self, table: &'static str, id: impl ToString, canonical: &[u8], mac: &Mac) {
        if !self.vault.mac_ok(canonical, mac) {
            self.damaged(table, id);
        }
    }
}

/// `None`: rows that can not be read, of which the store has taken note.
fn told<T>(read: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match read {
        Err(StoreError::Inconsistent { .. }) => Ok(None),
        read => read.map(Some),
    }
}
