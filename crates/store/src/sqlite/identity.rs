//! SQL of principals, grants, tokens, client secrets and invitations.

use kluis_core::access::{Action, Effect, Epoch, Grant, Principal, PrincipalKind, Role, Scope, allows};
use kluis_core::clock::Timestamp;
use kluis_core::id::{ComputeId, InviteId, PrincipalId, TokenId, WorkspaceId};
use kluis_core::name::PrincipalName;
use kluis_core::sealed::LookupHash;
use rusqlite::{Connection, Row};

use super::sql::{self, Fields};
use super::{Unit, failure};
use crate::identity::{
    ClientSecretRow, FaceTokenInsert, GrantRemove, InviteRedeem, InviteRow, Invited, Login, OwnerReset, Standing,
    TokenKind, TokenParent, TokenRevoke, TokenRow,
};
use crate::{After, Authenticated, Error, Hint};

const NAME_TAKEN: &str = "a principal with this name exists";
const LAST_OWNER: &str = "the installation would be left without an owner";
const LAST_OWNER_HERE: &str = "this is the workspace's last owner; make somebody else one first";

// How words stand in the rows ---------------------------------------------------------------------------------------

pub(super) const fn kind_text(kind: PrincipalKind) -> &'static str {
    match kind {
        PrincipalKind::User => "user",
        PrincipalKind::ServicePrincipal => "service_principal",
        PrincipalKind::Agent => "agent",
    }
}

fn kind(text: &str) -> Option<PrincipalKind> {
    [PrincipalKind::User, PrincipalKind::ServicePrincipal, PrincipalKind::Agent]
        .into_iter()
        .find(|kind| kind_text(*kind) == text)
}

pub(super) fn role(text: &str) -> Option<Role> {
    [Role::Owner, Role::Contributor, Role::SecretsWriter, Role::Reader, Role::Agent]
        .into_iter()
        .find(|role| role.as_str() == text)
}

const fn effect_text(effect: Effect) -> &'static str {
    match effect {
        Effect::Allow => "allow",
        Effect::Deny => "deny",
    }
}

fn effect(text: &str) -> Option<Effect> {
    [Effect::Allow, Effect::Deny].into_iter().find(|effect| effect_text(*effect) == text)
}

type ScopeColumns = (&'static str, Option<[u8; 16]>, Option<[u8; 16]>);

fn scope_columns(scope: Scope) -> ScopeColumns {
    match scope {
        Scope::Installation => ("installation", None, None),
        Scope::Workspace(id) => ("workspace", Some(*id.as_bytes()), None),
        Scope::Compute(id) => ("compute", None, Some(*id.as_bytes())),
    }
}

/// Which row of the unique index `role_grant_place` a scope is.
fn scope_key(scope: Scope) -> (&'static str, Vec<u8>) {
    match scope {
        Scope::Installation => ("installation", Vec::new()),
        Scope::Workspace(id) => ("workspace", id.as_bytes().to_vec()),
        Scope::Compute(id) => ("compute", id.as_bytes().to_vec()),
    }
}

// Rows --------------------------------------------------------------------------------------------------------------

/// Columns: id, name, kind, enabled, epoch, revision, mac.
fn principal(row: &Row<'_>) -> Result<Authenticated<Principal>, Error> {
    let f = Fields::new(row, "principal");
    Ok(Authenticated {
        row: Principal {
            id: f.id(PrincipalId::from_bytes)?,
            name: f.parse(PrincipalName::parse)?,
            kind: f.word(kind)?,
            enabled: f.flag()?,
            epoch: Epoch(f.number()?),
            revision: f.number()?,
        },
        mac: f.mac()?,
    })
}

/// Columns: principal, scope, workspace, compute, effect, role, revision, mac.
pub(super) fn grant(f: &Fields<'_>) -> Result<Authenticated<Grant>, Error> {
    let principal = f.id(PrincipalId::from_bytes)?;
    let scope: String = f.get()?;
    let workspace = f.optional_id(WorkspaceId::from_bytes)?;
    let compute = f.optional_id(ComputeId::from_bytes)?;
    let scope = match (scope.as_str(), workspace, compute) {
        ("installation", None, None) => Scope::Installation,
        ("workspace", Some(id), None) => Scope::Workspace(id),
        ("compute", None, Some(id)) => Scope::Compute(id),
        _ => return Err(f.wrong()),
    };
    let effect = f.word(effect)?;
    let role = f.word(role)?;
    Ok(Authenticated { row: Grant { principal, scope, role, effect, revision: f.number()? }, mac: f.mac()? })
}

/// Columns: id, principal, label, hash, created, expires, kind, audience, parent_token, parent_secret, revision, mac.
fn token(row: &Row<'_>) -> Result<Authenticated<TokenRow>, Error> {
    let f = Fields::new(row, "token");
    let id = f.id(TokenId::from_bytes)?;
    let principal = f.id(PrincipalId::from_bytes)?;
    let (label, hash, created, expires) = (f.get()?, f.hash()?, f.time()?, f.optional_time()?);
    let (kind, audience): (String, Option<String>) = (f.get()?, f.get()?);
    let of_token = f.optional_id(TokenId::from_bytes)?.map(TokenParent::Token);
    let of_secret = f.optional_id(TokenId::from_bytes)?.map(TokenParent::ClientSecret);
    let kind = match (kind.as_str(), audience, of_token, of_secret) {
        ("native", None, None, None) => TokenKind::Native,
        ("face", Some(audience), Some(parent), None) | ("face", Some(audience), None, Some(parent)) => {
            TokenKind::Face { audience, parent }
        }
        _ => return Err(f.wrong()),
    };
    let revision = f.number()?;
    Ok(Authenticated { row: TokenRow { id, principal, kind, label, hash, created, expires, revision }, mac: f.mac()? })
}

/// Columns: id, principal, hash, created, expires, revision, mac.
fn client_secret(row: &Row<'_>) -> Result<Authenticated<ClientSecretRow>, Error> {
    let f = Fields::new(row, "client_secret");
    Ok(Authenticated {
        row: ClientSecretRow {
            id: f.id(TokenId::from_bytes)?,
            principal: f.id(PrincipalId::from_bytes)?,
            hash: f.hash()?,
            created: f.time()?,
            expires: f.optional_time()?,
            revision: f.number()?,
        },
        mac: f.mac()?,
    })
}

// Epochs ------------------------------------------------------------------------------------------------------------

/// Whether a principal may submit runs in a workspace, as the rows are now; whether they are what the vault made is their
/// reader's business.
pub(super) fn may_submit(c: &Connection, principal: PrincipalId, workspace: WorkspaceId) -> Result<bool, Error> {
    if !sql::exists(c, "SELECT 1 FROM principal WHERE id = ?1 AND enabled = 1", [principal.as_bytes()])? {
        return Ok(false);
    }
    let grants: Vec<Grant> = grants_of(c, principal)?.into_iter().map(|grant| grant.row).collect();
    Ok(allows(&grants, Action::RunSubmit, Scope::Workspace(workspace)))
}

/// What a principal may do has changed: its epoch moves, the runs that it may not have any more end, and the others have a
/// notice.
pub(super) fn move_epoch(unit: &Unit<'_>, principal: PrincipalId) -> Result<Epoch, Error> {
    let epoch = sql::one(
        unit,
        "UPDATE principal SET epoch = epoch + 1 WHERE id = ?1 RETURNING id, epoch",
        [principal.as_bytes()],
        |row| {
            let f = Fields::new(row, "principal");
            f.skip();
            f.number().map(Epoch)
        },
    )?;
    sql::run(
        unit,
        "UPDATE run SET notices = notices + 1
         WHERE submitted_by = ?1 AND status IN ('starting', 'running', 'unresponsive')",
        [principal.as_bytes()],
    )?;
    super::runs_end::end_disallowed(unit, principal)?;
    unit.hint(Hint::PrincipalChanged { principal });
    epoch.ok_or(Error::NotFound)
}

fn require_an_owner(unit: &Unit<'_>) -> Result<(), Error> {
    let there_is = sql::exists(
        unit,
        "SELECT 1 FROM role_grant g JOIN principal p ON p.id = g.principal
         WHERE g.scope = 'installation' AND g.role = 'owner' AND g.effect = 'allow' AND p.enabled = 1",
        [],
    )?;
    if there_is { Ok(()) } else { Err(Error::Conflict(LAST_OWNER)) }
}

/// Whoever owned the workspace until now: somebody enabled must own it still. A workspace whose owners were all disabled
/// can be given another one.
fn require_a_workspace_owner(unit: &Unit<'_>, scope: Scope, had: Option<Role>) -> Result<(), Error> {
    let (Scope::Workspace(workspace), Some(Role::Owner)) = (scope, had) else { return Ok(()) };
    let there_is = sql::exists(
        unit,
        "SELECT 1 FROM role_grant g JOIN principal p ON p.id = g.principal
         WHERE g.workspace = ?1 AND g.role = 'owner' AND g.effect = 'allow' AND p.enabled = 1",
        [workspace.as_bytes()],
    )?;
    if there_is { Ok(()) } else { Err(Error::Conflict(LAST_OWNER_HERE)) }
}

// Principals --------------------------------------------------------------------------------------------------------

pub(crate) fn principal_insert(unit: &Unit<'_>, new: Authenticated<Principal>) -> Result<(), Error> {
    let Authenticated { row, mac } = new;
    sql::run(
        unit,
        "INSERT INTO principal (id, name, name_key, kind, enabled, epoch, revision, mac)
         VALUES (?1, ?2, ?3, ?4, ?5, 1, ?6, ?7)",
        (
            row.id.as_bytes(),
            row.name.as_str(),
            row.name.key(),
            kind_text(row.kind),
            row.enabled,
            sql::int(row.revision),
            mac.0,
        ),
    )
    .map_err(failure::taken(NAME_TAKEN))?;
    Ok(())
}

pub(crate) fn principal_get(c: &Connection, id: PrincipalId) -> Result<Option<Authenticated<Principal>>, Error> {
    sql::one(
        c,
        "SELECT id, name, kind, enabled, epoch, revision, mac FROM principal WHERE id = ?1",
        [id.as_bytes()],
        principal,
    )
}

pub(crate) fn principal_by_name(c: &Connection, key: &str) -> Result<Option<Authenticated<Principal>>, Error> {
    let found = sql::one(
        c,
        "SELECT id, name, kind, enabled, epoch, revision, mac FROM principal WHERE name_key = ?1",
        [key],
        principal,
    )?;
    if let Some(found) = &found {
        asked(found.row.name.key() == key, "principal", found.row.id)?;
    }
    Ok(found)
}

/// What was looked up must be what the row itself, and with it the MAC, says: an index, or the column that is looked up
/// by, may lie.
fn asked(same: bool, table: &'static str, id: impl std::fmt::Display) -> Result<(), Error> {
    if same { Ok(()) } else { Err(Error::Inconsistent { table, row: id.to_string() }) }
}

pub(crate) fn principal_list(
    c: &Connection,
    page: &After<String>,
) -> Result<sql::Page<Authenticated<Principal>, String>, Error> {
    sql::page(
        c,
        "SELECT id, name, kind, enabled, epoch, revision, mac, name_key FROM principal
         WHERE name_key > ?1 ORDER BY name_key LIMIT ?2",
        (page.after.as_deref().unwrap_or_default(), sql::more(page)),
        page.limit,
        |row| row.get(7),
        principal,
    )
}

pub(crate) fn installation_owners(c: &Connection) -> Result<Vec<PrincipalId>, Error> {
    sql::all(
        c,
        "SELECT principal FROM role_grant
         WHERE scope = 'installation' AND role = 'owner' AND effect = 'allow' ORDER BY principal",
        [],
        |row| Fields::new(row, "role_grant").id(PrincipalId::from_bytes),
    )
}

pub(crate) fn standing(c: &Connection, id: PrincipalId) -> Result<Option<Standing>, Error> {
    let Some(principal) = principal_get(c, id)? else { return Ok(None) };
    Ok(Some(Standing { principal, grants: grants_of(c, id)? }))
}

pub(crate) fn principal_change(unit: &Unit<'_>, change: Authenticated<Principal>) -> Result<Epoch, Error> {
    let epoch = change_principal(unit, change)?;
    require_an_owner(unit)?;
    Ok(epoch)
}

fn change_principal(unit: &Unit<'_>, change: Authenticated<Principal>) -> Result<Epoch, Error> {
    let Authenticated { row, mac } = change;
    let changed = sql::run(
        unit,
        "UPDATE principal SET name = ?3, name_key = ?4, kind = ?5, enabled = ?6, revision = ?2, mac = ?7
         WHERE id = ?1 AND revision = ?2 - 1",
        (
            row.id.as_bytes(),
            sql::int(row.revision),
            row.name.as_str(),
            row.name.key(),
            kind_text(row.kind),
            row.enabled,
            mac.0,
        ),
    )
    .map_err(failure::taken(NAME_TAKEN))?;
    if changed == 0 {
        let current = principal_get(unit, row.id)?.map_or(0, |found| found.row.revision);
        return Err(Error::Revision { current });
    }
    move_epoch(unit, row.id)
}

// Grants ------------------------------------------------------------------------------------------------------------

pub(crate) fn grants_of(c: &Connection, principal: PrincipalId) -> Result<Vec<Authenticated<Grant>>, Error> {
    sql::all(
        c,
        "SELECT principal, scope, workspace, compute, effect, role, revision, mac FROM role_grant
         WHERE principal = ?1 ORDER BY scope, workspace, compute, effect",
        [principal.as_bytes()],
        |row| grant(&Fields::new(row, "role_grant")),
    )
}

/// The revision (0 when there is none) and the role of a grant that is there.
fn grant_now(
    c: &Connection,
    principal: PrincipalId,
    scope: Scope,
    effect: Effect,
) -> Result<(u64, Option<Role>), Error> {
    let (scope, place) = scope_key(scope);
    let found = sql::one(
        c,
        "SELECT principal, revision, role FROM role_grant
         WHERE principal = ?1 AND scope = ?2 AND coalesce(workspace, compute, x'') = ?3 AND effect = ?4",
        (principal.as_bytes(), scope, place, effect_text(effect)),
        |row| {
            let f = Fields::new(row, "role_grant");
            f.skip();
            Ok((f.number()?, Some(f.word(role)?)))
        },
    )?;
    Ok(found.unwrap_or((0, None)))
}

pub(crate) fn grant_set(unit: &Unit<'_>, change: Authenticated<Grant>) -> Result<Epoch, Error> {
    let epoch = set_grant(unit, change)?;
    require_an_owner(unit)?;
    Ok(epoch)
}

fn set_grant(unit: &Unit<'_>, change: Authenticated<Grant>) -> Result<Epoch, Error> {
    let Authenticated { row, mac } = change;
    let (current, had) = grant_now(unit, row.principal, row.scope, row.effect)?;
    if row.revision != current + 1 {
        return Err(Error::Revision { current });
    }
    if let Scope::Workspace(workspace) = row.scope {
        super::workspaces::require(unit, workspace)?;
    }
    if current == 0 {
        let (scope, workspace, compute) = scope_columns(row.scope);
        sql::run(
            unit,
            "INSERT INTO role_grant (principal, scope, workspace, compute, effect, role, revision, mac)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            (
                row.principal.as_bytes(),
                scope,
                workspace,
                compute,
                effect_text(row.effect),
                row.role.as_str(),
                sql::int(row.revision),
                mac.0,
            ),
        )?;
    } else {
        let (scope, place) = scope_key(row.scope);
        sql::run(
            unit,
            "UPDATE role_grant SET role = ?5, revision = ?6, mac = ?7
             WHERE principal = ?1 AND scope = ?2 AND coalesce(workspace, compute, x'') = ?3 AND effect = ?4",
            (
                row.principal.as_bytes(),
                scope,
                place,
                effect_text(row.effect),
                row.role.as_str(),
                sql::int(row.revision),
                mac.0,
            ),
        )?;
    }
    require_a_workspace_owner(unit, row.scope, had)?;
    move_epoch(unit, row.principal)
}

pub(crate) fn grant_remove(unit: &Unit<'_>, remove: GrantRemove) -> Result<Epoch, Error> {
    let (current, had) = grant_now(unit, remove.principal, remove.scope, remove.effect)?;
    if current == 0 {
        return Err(Error::NotFound);
    }
    if current != remove.revision {
        return Err(Error::Revision { current });
    }
    let (scope, place) = scope_key(remove.scope);
    sql::run(
        unit,
        "DELETE FROM role_grant
         WHERE principal = ?1 AND scope = ?2 AND coalesce(workspace, compute, x'') = ?3 AND effect = ?4",
        (remove.principal.as_bytes(), scope, place, effect_text(remove.effect)),
    )?;
    require_an_owner(unit)?;
    require_a_workspace_owner(unit, remove.scope, had)?;
    move_epoch(unit, remove.principal)
}

// Tokens ------------------------------------------------------------------------------------------------------------

fn require_enabled(c: &Connection, principal: PrincipalId) -> Result<(), Error> {
    let enabled = sql::exists(c, "SELECT 1 FROM principal WHERE id = ?1 AND enabled = 1", [principal.as_bytes()])?;
    if enabled { Ok(()) } else { Err(Error::NotFound) }
}

pub(crate) fn token_insert(unit: &Unit<'_>, new: Authenticated<TokenRow>) -> Result<(), Error> {
    let Authenticated { row, mac } = new;
    require_enabled(unit, row.principal)?;
    let (of_token, of_secret) = match row.kind.parent() {
        None => (None, None),
        Some(TokenParent::Token(id)) => (Some(*id.as_bytes()), None),
        Some(TokenParent::ClientSecret(id)) => (None, Some(*id.as_bytes())),
    };
    sql::run(
        unit,
        "INSERT INTO token (id, principal, label, hash, created, expires,
                            kind, audience, parent_token, parent_secret, revision, mac)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        (
            row.id.as_bytes(),
            row.principal.as_bytes(),
            row.label,
            row.hash.0,
            row.created.millis(),
            row.expires.map(Timestamp::millis),
            row.kind.as_str(),
            row.kind.audience(),
            of_token,
            of_secret,
            sql::int(row.revision),
            mac.0,
        ),
    )?;
    Ok(())
}

pub(crate) fn face_token_insert(unit: &Unit<'_>, insert: FaceTokenInsert) -> Result<(), Error> {
    let FaceTokenInsert { token, now, most } = insert;
    let principal = token.row.principal;
    let has = sql::one(
        unit,
        "SELECT count(*) FROM token WHERE principal = ?1 AND kind = 'face' AND expires > ?2",
        (principal.as_bytes(), now.millis()),
        |row| Fields::new(row, "token").number::<u32>(),
    )?;
    if has.is_some_and(|has| has >= most) {
        return Err(Error::Crowded("tokens for the Azure faces"));
    }
    // What it dies with is its own principal's.
    let parent = match token.row.kind.parent() {
        Some(TokenParent::Token(id)) => sql::exists(
            unit,
            "SELECT 1 FROM token WHERE id = ?1 AND principal = ?2",
            (id.as_bytes(), principal.as_bytes()),
        )?,
        Some(TokenParent::ClientSecret(id)) => sql::exists(
            unit,
            "SELECT 1 FROM client_secret WHERE id = ?1 AND principal = ?2",
            (id.as_bytes(), principal.as_bytes()),
        )?,
        None => false,
    };
    if parent { token_insert(unit, token) } else { Err(Error::NotFound) }
}

pub(crate) fn token_by_hash(c: &Connection, hash: LookupHash) -> Result<Option<Login>, Error> {
    let found = sql::one(
        c,
        "SELECT id, principal, label, hash, created, expires,
                kind, audience, parent_token, parent_secret, revision, mac
         FROM token WHERE hash = ?1",
        [hash.0],
        token,
    )?;
    let Some(token) = found else { return Ok(None) };
    asked(token.row.hash == hash, "token", token.row.id)?;
    let standing = standing(c, token.row.principal)?
        .ok_or_else(|| Error::Inconsistent { table: "token", row: token.row.id.to_string() })?;
    Ok(Some(Login { token, standing }))
}

pub(crate) fn token_list(c: &Connection, principal: PrincipalId) -> Result<Vec<Authenticated<TokenRow>>, Error> {
    sql::all(
        c,
        "SELECT id, principal, label, hash, created, expires,
                kind, audience, parent_token, parent_secret, revision, mac
         FROM token WHERE principal = ?1 AND kind = 'native' ORDER BY created, id",
        [principal.as_bytes()],
        token,
    )
}

pub(crate) fn token_revoke(unit: &Unit<'_>, revoke: TokenRevoke) -> Result<Epoch, Error> {
    let revoked = sql::run(
        unit,
        "DELETE FROM token WHERE id = ?1 AND principal = ?2",
        (revoke.token.as_bytes(), revoke.principal.as_bytes()),
    )?;
    if revoked == 0 {
        return Err(Error::NotFound);
    }
    move_epoch(unit, revoke.principal)
}

pub(crate) fn expired_remove(unit: &Unit<'_>, before: Timestamp) -> Result<u64, Error> {
    let tokens = sql::run(unit, "DELETE FROM token WHERE expires IS NOT NULL AND expires < ?1", [before.millis()])?;
    let secrets =
        sql::run(unit, "DELETE FROM client_secret WHERE expires IS NOT NULL AND expires < ?1", [before.millis()])?;
    let invites = sql::run(unit, "DELETE FROM invite WHERE expires < ?1", [before.millis()])?;
    let devices = super::devices::expired_remove(unit, before)?;
    Ok((tokens + secrets + invites + devices) as u64)
}

// Client secrets ----------------------------------------------------------------------------------------------------

pub(crate) fn client_secret_insert(unit: &Unit<'_>, new: Authenticated<ClientSecretRow>) -> Result<(), Error> {
    let Authenticated { row, mac } = new;
    require_enabled(unit, row.principal)?;
    sql::run(
        unit,
        "INSERT INTO client_secret (id, principal, hash, created, expires, revision, mac)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        (
            row.id.as_bytes(),
            row.principal.as_bytes(),
            row.hash.0,
            row.created.millis(),
            row.expires.map(Timestamp::millis),
            sql::int(row.revision),
            mac.0,
        ),
    )?;
    Ok(())
}

pub(crate) fn client_secret_by_hash(
    c: &Connection,
    hash: LookupHash,
) -> Result<Option<(Authenticated<ClientSecretRow>, Standing)>, Error> {
    let found = sql::one(
        c,
        "SELECT id, principal, hash, created, expires, revision, mac FROM client_secret WHERE hash = ?1",
        [hash.0],
        client_secret,
    )?;
    let Some(secret) = found else { return Ok(None) };
    asked(secret.row.hash == hash, "client_secret", secret.row.id)?;
    let standing = standing(c, secret.row.principal)?
        .ok_or_else(|| Error::Inconsistent { table: "client_secret", row: secret.row.id.to_string() })?;
    Ok(Some((secret, standing)))
}

pub(crate) fn client_secret_list(
    c: &Connection,
    principal: PrincipalId,
) -> Result<Vec<Authenticated<ClientSecretRow>>, Error> {
    sql::all(
        c,
        "SELECT id, principal, hash, created, expires, revision, mac FROM client_secret
         WHERE principal = ?1 ORDER BY created, id",
        [principal.as_bytes()],
        client_secret,
    )
}

pub(crate) fn client_secret_revoke(unit: &Unit<'_>, revoke: TokenRevoke) -> Result<Epoch, Error> {
    let revoked = sql::run(
        unit,
        "DELETE FROM client_secret WHERE id = ?1 AND principal = ?2",
        (revoke.token.as_bytes(), revoke.principal.as_bytes()),
    )?;
    if revoked == 0 {
        return Err(Error::NotFound);
    }
    move_epoch(unit, revoke.principal)
}

// Invitations -------------------------------------------------------------------------------------------------------

pub(crate) fn invite_insert(unit: &Unit<'_>, new: Authenticated<InviteRow>) -> Result<(), Error> {
    let Authenticated { row, mac } = new;
    if let Some((workspace, _)) = row.membership {
        super::workspaces::require(unit, workspace)?;
    }
    sql::run(
        unit,
        "INSERT INTO invite (id, hash, name, kind, workspace, role, compute, created_by, created, expires, mac)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        (
            row.id.as_bytes(),
            row.hash.0,
            row.name.as_str(),
            kind_text(row.kind),
            row.membership.as_ref().map(|(workspace, _)| workspace.as_bytes()),
            row.membership.map(|(_, role)| role.as_str()),
            row.compute.as_ref().map(ComputeId::as_bytes),
            row.created_by.as_bytes(),
            row.created.millis(),
            row.expires.millis(),
            mac.0,
        ),
    )?;
    Ok(())
}

/// Columns: id, hash, name, kind, workspace, role, compute, created_by, created, expires, mac.
fn invite(row: &Row<'_>) -> Result<Authenticated<InviteRow>, Error> {
    let f = Fields::new(row, "invite");
    let (id, hash, name, kind) =
        (f.id(InviteId::from_bytes)?, f.hash()?, f.parse(PrincipalName::parse)?, f.word(kind)?);
    let workspace = f.optional_id(WorkspaceId::from_bytes)?;
    let role = f.parse_optional(|text| role(text).ok_or(()))?;
    let membership = match (workspace, role) {
        (Some(workspace), Some(role)) => Some((workspace, role)),
        (None, None) => None,
        _ => return Err(f.wrong()),
    };
    Ok(Authenticated {
        row: InviteRow {
            id,
            hash,
            name,
            kind,
            membership,
            compute: f.optional_id(ComputeId::from_bytes)?,
            created_by: f.id(PrincipalId::from_bytes)?,
            created: f.time()?,
            expires: f.time()?,
        },
        mac: f.mac()?,
    })
}

pub(crate) fn invite_by_hash(c: &Connection, hash: LookupHash) -> Result<Option<Authenticated<InviteRow>>, Error> {
    sql::one(
        c,
        "SELECT id, hash, name, kind, workspace, role, compute, created_by, created, expires, mac
         FROM invite WHERE hash = ?1 AND redeemed IS NULL",
        [hash.0],
        invite,
    )
}

pub(crate) fn invite_list(c: &Connection) -> Result<Vec<Authenticated<InviteRow>>, Error> {
    sql::all(
        c,
        "SELECT id, hash, name, kind, workspace, role, compute, created_by, created, expires, mac
         FROM invite WHERE redeemed IS NULL ORDER BY created, id",
        [],
        invite,
    )
}

pub(crate) fn invite_revoke(unit: &Unit<'_>, invite: InviteId) -> Result<(), Error> {
    let revoked = sql::run(unit, "DELETE FROM invite WHERE id = ?1 AND redeemed IS NULL", [invite.as_bytes()])?;
    if revoked == 0 { Err(Error::NotFound) } else { Ok(()) }
}

pub(crate) fn invite_redeem(unit: &Unit<'_>, redeem: InviteRedeem) -> Result<(), Error> {
    let used = sql::run(
        unit,
        "UPDATE invite SET redeemed = ?2 WHERE hash = ?1 AND redeemed IS NULL AND expires > ?2",
        (redeem.hash.0, redeem.now.millis()),
    )?;
    if used == 0 {
        return Err(Error::NotFound);
    }
    match redeem.invited {
        Invited::New(principal) => principal_insert(unit, principal)?,
        Invited::Existing(principal) => require_enabled(unit, principal)?,
    }
    for grant in redeem.grants {
        grant_set(unit, grant)?;
    }
    token_insert(unit, redeem.token)
}

pub(crate) fn owner_reset(unit: &Unit<'_>, reset: OwnerReset) -> Result<Epoch, Error> {
    let OwnerReset { principal, grant, token } = reset;
    let id = principal.row.id;
    let current = principal_get(unit, id)?.ok_or(Error::NotFound)?;
    if principal.row.revision != current.row.revision {
        change_principal(unit, principal)?;
    }
    if grant.row.revision != grant_now(unit, grant.row.principal, grant.row.scope, grant.row.effect)?.0 {
        set_grant(unit, grant)?;
    }
    sql::run(unit, "DELETE FROM token WHERE principal = ?1", [id.as_bytes()])?;
    sql::run(unit, "DELETE FROM client_secret WHERE principal = ?1", [id.as_bytes()])?;
    token_insert(unit, token)?;
    require_an_owner(unit)?;
    move_epoch(unit, id)
}
