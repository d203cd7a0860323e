//! First start: the root key's file, then everything else in one unit of work, so that there is no half-made
//! installation. Interrupted after the file, the next start goes on from there.

use std::collections::BTreeMap;
use std::sync::Arc;

use kluis_core::access::{Effect, Epoch, Grant, Principal, PrincipalKind, Role, Scope};
use kluis_core::audit::{AuditAction, AuditRecord};
use kluis_core::clock::Timestamp;
use kluis_core::id::{ComputeId, InstallationId, PrincipalId, TokenId, WorkspaceId};
use kluis_core::name::{ComputeName, WorkspaceName};
use kluis_core::plaintext::Plaintext;
use kluis_store::identity::{TokenKind, TokenRow};
use kluis_store::installation::{InstallationCreate, InstallationKeys};
use kluis_store::workspaces::{ComputeRow, Workspace, WorkspaceInsert, WorkspaceKeyRow};
use kluis_store::{Authenticated, Authority as By, Store, Write};
use kluis_vault::{Vault, token};

use super::{FirstStart, Opened, StartError, root};
use crate::config::ServerOptions;
use crate::tls::{Authority, Leaf};

/// The first workspace.
const WORKSPACE: &str = "default";
/// The compute target of the agent built into `kluis up`.
const COMPUTE: &str = "server";

/// Makes the installation.
pub(super) async fn start(options: &ServerOptions, store: Store) -> Result<Opened, StartError> {
    let (now, rng) = (options.clock.now(), &*options.rng);
    let id = InstallationId::generate(rng);
    let root = root::create(options).await?;
    let (vault, keys) = Vault::create(root, id, options.rng.clone())?;
    let vault = Arc::new(vault);

    let owner = Principal {
        id: PrincipalId::generate(rng),
        name: options.owner.clone(),
        kind: PrincipalKind::User,
        enabled: true,
        epoch: Epoch(1),
        revision: 1,
    };
    let text = token::generate(token::Kind::User, rng);
    let owner_token = TokenRow {
        id: TokenId::generate(rng),
        principal: owner.id,
        kind: TokenKind::Native,
        label: options.owner_label.clone(),
        hash: vault.lookup_hash(token::Kind::User.as_str(), &text),
        created: now,
        expires: None,
        revision: 1,
    };
    let authority = Authority::create(&options.hosts, now)?;
    let leaf = authority.issue(now)?;
    let sealed = BTreeMap::from([
        (Authority::NAME.to_owned(), vault.seal_small(Authority::NAME, &authority.to_bytes())?),
        (Leaf::NAME.to_owned(), vault.seal_small(Leaf::NAME, &leaf.to_bytes())?),
    ]);
    let workspace = workspace(&vault, options, owner.id, now)?;
    let compute = ComputeRow {
        id: ComputeId::generate(rng),
        name: ComputeName::parse(COMPUTE).expect("a constant name"),
        open: false,
        created: now,
        revision: 1,
        last_seen: None,
        queued: 0,
    };
    let audit = records(now, &owner, &owner_token, &workspace.workspace.row, &compute)
        .into_iter()
        .map(|record| vault.audit_entry(record))
        .collect();
    let create = InstallationCreate {
        id,
        created: now,
        keys: InstallationKeys {
            installation_key: keys.installation_key,
            signing_key: keys.signing_key,
            canary: keys.canary,
            root_source: options.root_key.describe(),
        },
        sealed,
        owner_grant: grant(&vault, owner.id, Scope::Installation),
        owner: authenticated(&vault, owner.clone(), owner.canonical()),
        owner_token: authenticated(&vault, owner_token.clone(), owner_token.canonical()),
        workspace,
        compute: authenticated(&vault, compute.clone(), compute.canonical()),
    };
    store.installation_create(Write { authority: By::server(), audit, change: create }).await?;
    let installation = store
        .installation_load()
        .await?
        .ok_or_else(|| StartError::Internal("the installation is gone right after it was made".into()))?;
    let token = Plaintext::from_text(&text).expect("a token is short");
    let first_start = Some(FirstStart { owner: owner.name, token, root_key: root::path(options) });
    Ok(Opened { store, vault, installation, first_start })
}

fn workspace(
    vault: &Vault,
    options: &ServerOptions,
    owner: PrincipalId,
    now: Timestamp,
) -> Result<WorkspaceInsert, StartError> {
    let id = WorkspaceId::generate(&*options.rng);
    let key = vault.workspace_key_create(id)?;
    vault.workspace_key_load(&key, true)?;
    let workspace = Workspace {
        id,
        name: WorkspaceName::parse(WORKSPACE).expect("a constant name"),
        created: now,
        settings: kluis_core::api::workspaces::WorkspaceSettings::default(),
        deleted: None,
        revision: 1,
    };
    Ok(WorkspaceInsert {
        workspace: authenticated(vault, workspace.clone(), workspace.canonical()),
        key: WorkspaceKeyRow { workspace: id, id: key.id, wrapped: key.wrapped, current: true, created: now },
        owner: grant(vault, owner, Scope::Workspace(id)),
    })
}

fn grant(vault: &Vault, principal: PrincipalId, scope: Scope) -> Authenticated<Grant> {
    let grant = Grant { principal, scope, role: Role::Owner, effect: Effect::Allow, revision: 1 };
    authenticated(vault, grant, grant.canonical())
}

pub(super) fn authenticated<T>(vault: &Vault, row: T, canonical: Vec<u8>) -> Authenticated<T> {
    Authenticated { mac: vault.mac(&canonical), row }
}

fn records(
    now: Timestamp,
    owner: &Principal,
    token: &TokenRow,
    workspace: &Workspace,
    compute: &ComputeRow,
) -> Vec<AuditRecord> {
    let record = |action| AuditRecord::new(now, action);
    let subject = |action| AuditRecord { subject: Some(owner.id), revision: Some(1), ..record(action) };
    vec![
        record(AuditAction::InstallationCreated),
        AuditRecord { name: Some(owner.name.to_string()), ..subject(AuditAction::PrincipalCreated) },
        AuditRecord { name: Some(Role::Owner.as_str().into()), ..subject(AuditAction::GrantSet) },
        AuditRecord { credential: Some(token.id), ..subject(AuditAction::TokenIssued) },
        AuditRecord {
            workspace: Some(workspace.id),
            revision: Some(workspace.revision),
            name: Some(workspace.name.to_string()),
            ..record(AuditAction::WorkspaceCreated)
        },
        AuditRecord {
            workspace: Some(workspace.id),
            name: Some(Role::Owner.as_str().into()),
            ..subject(AuditAction::GrantSet)
        },
        AuditRecord {
            compute: Some(compute.id),
            revision: Some(compute.revision),
            name: Some(compute.name.to_string()),
            ..record(AuditAction::ComputeCreated)
        },
        record(AuditAction::CertificateIssued),
        record(AuditAction::ServerStarted),
    ]
}
