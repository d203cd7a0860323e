//! What is done while the server is stopped, on its own machine, by whoever holds the root key: a new login for an owner
//! who lost theirs, a new root key, a look at the data's health. Each takes the store's lock, so a running server refuses.

use std::path::PathBuf;

use kluis_core::access::{Effect, Grant, Principal, PrincipalKind, Role, Scope};
use kluis_core::audit::{AuditAction, AuditRecord};
use kluis_core::id::{KeyId, TokenId};
use kluis_core::name::PrincipalName;
use kluis_core::plaintext::Plaintext;
use kluis_store::audit::AuditProof;
use kluis_store::identity::{OwnerReset, TokenKind, TokenRow};
use kluis_store::installation::{InstallationKeys, RootRotate};
use kluis_store::{Authority as By, Health, Integrity, Write};
use kluis_vault::{RootKeyFile, RootKeySource, WorkspaceKey, token};

use super::{StartError, root};
use crate::app::App;
use crate::caller::Known;
use crate::config::{RootKeyOption, ServerOptions};
use crate::server::Server;

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
    let app = existing(options).await?;
    let result = reset(&app, options, name).await;
    close(&app).await;
    result
}

async fn reset(app: &App, options: &ServerOptions, name: Option<&PrincipalName>) -> Result<NewLogin, StartError> {
    let mut owners = Vec::new();
    for id in app.store.installation_owners().await? {
        owners.push(app.known(id).await.map_err(|e| StartError::Internal(e.to_string()))?);
    }
    owners.retain(|o| name.is_none_or(|name| o.principal.name == *name));
    let [owner] = &owners[..] else {
        let reason = if owners.is_empty() { "no owner of that name" } else { "several owners: say which one" };
        return Err(StartError::Data { path: options.data.clone(), reason: reason.into() });
    };
    let (principal, grant) = enabled_owner(owner)?;
    let now = app.now();
    let text = token::generate(token::Kind::User, &*app.rng);
    let token = TokenRow {
        id: TokenId::generate(&*app.rng),
        principal: principal.id,
        kind: TokenKind::Native,
        label: "owner reset".to_owned(),
        hash: app.vault.lookup_hash(token::Kind::User.as_str(), &text),
        created: now,
        expires: None,
        revision: 1,
    };
    let record = AuditRecord {
        subject: Some(principal.id),
        token: Some(token.id),
        revision: Some(principal.revision),
        ..AuditRecord::new(now, AuditAction::OwnerReset)
    };
    let change = OwnerReset {
        principal: app.authenticated(principal.clone(), Principal::canonical),
        grant: app.authenticated(grant, Grant::canonical),
        token: app.authenticated(token, TokenRow::canonical),
    };
    app.store.owner_reset(Write::new(By::server(), app.vault.audit_entry(record), change)).await?;
    Ok(NewLogin {
        owner: principal.name,
        token: Plaintext::from_text(&text).expect("a token is short"),
        ca_sha256: app.ca.as_ref().map(|ca| ca.sha256.clone()),
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

/// Puts everything that the root key wraps under a new one, in the same file. No value, token or signature changes.
/// Interrupted at any point, the next start finds the key that fits.
pub async fn root_rotate(options: &ServerOptions) -> Result<RootRotated, StartError> {
    if !matches!(options.root_key, RootKeyOption::File(_)) {
        return Err(StartError::Data {
            path: options.data.clone(),
            reason: "only a root key in a file can be rotated so".into(),
        });
    }
    let app = existing(options).await?;
    let result = rotate(&app, options).await;
    close(&app).await;
    result
}

async fn rotate(app: &App, options: &ServerOptions) -> Result<RootRotated, StartError> {
    let next = root::next_path(options);
    // One that waits there was never committed, or the start would have taken it.
    std::fs::remove_file(&next).or_else(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Ok(()),
        _ => Err(StartError::Data { path: next.clone(), reason: e.to_string() }),
    })?;
    let new = RootKeyFile::create_new(&next, &*app.rng)?.load()?;
    let (old, key) = (app.vault.root_key_id(), new.id());

    let rows = app.store.workspace_keys_all().await?;
    let wrapped: Vec<WorkspaceKey> = rows
        .into_iter()
        .map(|row| WorkspaceKey { workspace: row.workspace, id: row.id, wrapped: row.wrapped })
        .collect();
    let rotated = app.vault.rotate_root(new, &wrapped)?;
    let change = RootRotate {
        keys: InstallationKeys {
            installation_key: rotated.installation.installation_key.clone(),
            signing_key: rotated.installation.signing_key.clone(),
            canary: rotated.installation.canary.clone(),
            root_source: options.root_key.describe(),
        },
        workspace_keys: rotated.workspace_keys.iter().map(|k| (k.id, k.wrapped.clone())).collect(),
    };
    let record = AuditRecord { key: Some(key), ..AuditRecord::new(app.now(), AuditAction::RootKeyRotated) };
    app.store.root_rotate(Write::new(By::server(), app.vault.audit_entry(record), change)).await?;
    app.vault.adopt_root(rotated);
    let kept = root::exchange(options, old)?;
    Ok(RootRotated { key, path: root::path(options), old: kept })
}

/// What a look at a stopped server's data found.
#[derive(Clone, Debug)]
pub struct Diagnosis {
    /// The store's own condition, after a check of the whole file.
    pub health: Health,
    /// Whether the audit log's pages give the root that is remembered.
    pub audit: AuditProof,
    /// Whether the last checkpoint fits the log and its signature the installation's key.
    pub checkpoint_fits: bool,
    /// What protects the keys in memory less than it should.
    pub weaknesses: Vec<String>,
}

/// Looks the data over: that the root key fits, the whole file, the audit log. Reads everything once.
pub async fn doctor(options: &ServerOptions) -> Result<Diagnosis, StartError> {
    let app = existing(options).await?;
    let result = diagnose(&app).await;
    close(&app).await;
    result
}

async fn diagnose(app: &App) -> Result<Diagnosis, StartError> {
    while app.store.health().integrity == Integrity::Checking {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let audit = app.store.audit_prove().await?;
    let last = app.store.checkpoint_last().await?;
    let checkpoint_fits = last.is_none_or(|last| {
        let fits = last.checkpoint.size < audit.stored.size
            || (last.checkpoint.size == audit.stored.size && last.checkpoint.root == audit.stored.root);
        fits && kluis_vault::verify_checkpoint(&last, &app.vault.public_key())
    });
    let weaknesses = kluis_vault::memory_weaknesses().iter().map(ToString::to_string).collect();
    Ok(Diagnosis { health: app.store.health(), audit, checkpoint_fits, weaknesses })
}

/// The application over data that exists: work on a stopped server never makes an installation.
async fn existing(options: &ServerOptions) -> Result<App, StartError> {
    if !options.data.join("kluis.db").exists() {
        return Err(StartError::Data { path: options.data.clone(), reason: "there is no installation here".into() });
    }
    let (app, _) = Server::open(options).await?;
    Ok(app)
}

async fn close(app: &App) {
    let app = app.clone();
    tokio::task::spawn_blocking(move || app.store.close()).await.expect("closing the store does not panic");
}
