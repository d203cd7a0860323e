//! Signing in: an invitation's code, once, or a client id with its secret. Failures look alike, are slowed down by what
//! was tried from where, and are counted, not recorded one by one.

use std::net::IpAddr;
use std::time::Duration;

use kluis_core::access::{Action, Effect, Epoch, Grant, Principal, PrincipalKind, Resource, Role, Scope};
use kluis_core::api::identity::{ClientLogin, RedeemInvite, TokenIssued};
use kluis_core::audit::{AuditAction, AuditRecord};
use kluis_core::clock::Timestamp;
use kluis_core::id::PrincipalId;
use kluis_store::identity::{ClientSecretRow, InviteRedeem, InviteRow, Invited, TokenParent};
use kluis_store::{Authenticated, Authority, Write};
use kluis_vault::token;

use super::faces::MadeFrom;
use super::tokens::issued;
use super::{Audience, FaceIssued, Identity, Issuer, check_label};
use crate::caller::Known;
use crate::error::{Error, Result, Unauthenticated};

/// How long a login by client secret lives.
const CLIENT_LOGIN: Duration = Duration::from_mins(15);
/// So many characters of an invitation's code stand for it among the failures.
const CODE_START: usize = 20;

impl Identity<'_> {
    /// Uses an invitation: the principal, its grants and its login in one unit of work.
    pub async fn login_invite(&self, redeem: &RedeemInvite, source: IpAddr) -> Result<TokenIssued> {
        // A code that was mistyped once is not tried ten times a minute; who tries others is not slowed down with it.
        let start: String = redeem.code.expose().chars().take(CODE_START).collect();
        self.app.throttle.check(source, &start)?;
        check_label(&redeem.label)?;
        let result = self.redeem(redeem, source).await;
        self.count_failure(&result, source, &start);
        result
    }

    async fn redeem(&self, redeem: &RedeemInvite, source: IpAddr) -> Result<TokenIssued> {
        let code = redeem.code.expose();
        let refused = || Error::from(Unauthenticated::Credentials);
        if token::check(code) != Ok(token::Kind::Invite) {
            return Err(refused());
        }
        let hash = self.app.vault.lookup_hash(token::Kind::Invite.as_str(), code);
        let invite = self.app.store.invite_by_hash(hash).await?.ok_or_else(refused)?;
        let invite = self.app.verified(invite, InviteRow::canonical, "invite", |i| i.id.to_string())?;
        let now = self.app.now();
        // Whoever invited must still be allowed to: an invitation does not outlive its maker's rights.
        let inviter = self.app.known(invite.created_by).await?;
        let still = inviter.principal.enabled && inviter.may(Action::PrincipalManage, Resource::Installation);
        if invite.hash != hash || invite.expires <= now || !still {
            return Err(refused());
        }

        let (known, invited, mut records) = self.invited(&invite, now).await?;
        let grants = self.invited_grants(&invite, &known);
        for grant in &grants {
            records.push(grant_record(&grant.row, now));
        }
        let (minted, token) = self.new_token(&known, &redeem.label, now, None);
        records.push(AuditRecord {
            credential: Some(token.row.id),
            revision: Some(token.row.revision),
            ..AuditRecord::new(now, AuditAction::TokenIssued)
        });
        for record in &mut records {
            record.principal = Some(invite.created_by);
            record.subject = Some(known.principal.id);
            record.invite = Some(invite.id);
            record.source = Some(source.to_string());
        }
        let change = InviteRedeem { hash, now, invited, grants, token: token.clone() };
        let write = Write { authority: Authority::server(), audit: self.app.entries(records), change };
        self.app.store.invite_redeem(write).await.map_err(|e| match e {
            kluis_store::Error::NotFound => refused(),
            other => other.into(),
        })?;
        Ok(issued(minted, &token.row, &self.app.known(known.principal.id).await?))
    }

    /// The principal that the invitation is for: a new one, or one that exists and gets another login.
    async fn invited(&self, invite: &InviteRow, now: Timestamp) -> Result<(Known, Invited, Vec<AuditRecord>)> {
        let mut records = vec![AuditRecord {
            name: Some(invite.name.to_string()),
            ..AuditRecord::new(now, AuditAction::InviteRedeemed)
        }];
        if let Some(existing) = self.app.store.principal_by_name(&invite.name).await? {
            let known = self.app.known(existing.row.id).await?;
            if known.principal.name != invite.name || known.principal.kind != invite.kind || !known.principal.enabled {
                return Err(Unauthenticated::Credentials.into());
            }
            let invited = Invited::Existing(known.principal.id);
            return Ok((known, invited, records));
        }
        let principal = Principal {
            id: PrincipalId::generate(&*self.app.rng),
            name: invite.name.clone(),
            kind: invite.kind,
            enabled: true,
            epoch: Epoch(1),
            revision: 1,
        };
        records.push(AuditRecord {
            revision: Some(1),
            name: Some(principal.name.to_string()),
            ..AuditRecord::new(now, AuditAction::PrincipalCreated)
        });
        let known = Known { principal: principal.clone(), grants: Vec::new() };
        Ok((known, Invited::New(self.app.authenticated(principal, Principal::canonical)), records))
    }

    /// What comes with the invitation. What the principal has already stays as it is: a code, which may be weeks old,
    /// changes nobody's role.
    fn invited_grants(&self, invite: &InviteRow, known: &Known) -> Vec<Authenticated<Grant>> {
        let member = invite.membership.map(|(workspace, role)| (Scope::Workspace(workspace), role));
        let serves = invite.compute.map(|compute| (Scope::Compute(compute), Role::Agent));
        let new = |(scope, role): (Scope, Role)| {
            let has = known.grants.iter().any(|g| g.scope == scope && g.effect == Effect::Allow);
            let grant = Grant { principal: known.principal.id, scope, role, effect: Effect::Allow, revision: 1 };
            (!has).then(|| self.app.authenticated(grant, Grant::canonical))
        };
        [member, serves].into_iter().flatten().filter_map(new).collect()
    }

    /// Signs a service principal in for a quarter of an hour.
    pub async fn login_client(&self, login: &ClientLogin, source: IpAddr) -> Result<TokenIssued> {
        let name = login.client_id.to_string();
        self.app.throttle.check(source, &name)?;
        let result = self.client(login, source).await;
        self.count_failure(&result, source, &name);
        result
    }

    /// Whose secret it is, and its row. Fails alike whatever does not fit.
    async fn client_known(&self, login: &ClientLogin) -> Result<(ClientSecretRow, Known)> {
        let secret = login.client_secret.expose();
        let refused = || Error::from(Unauthenticated::Credentials);
        if token::check(secret) != Ok(token::Kind::ClientSecret) {
            return Err(refused());
        }
        let hash = self.app.vault.lookup_hash(token::Kind::ClientSecret.as_str(), secret);
        let (row, standing) = self.app.store.client_secret_by_hash(hash).await?.ok_or_else(refused)?;
        let row = self.app.verified(row, ClientSecretRow::canonical, "client secret", |r| r.id.to_string())?;
        let known = Known::verify(&self.app.vault, standing)?;
        let now = self.app.now();
        let good = row.hash == hash
            && row.principal == login.client_id
            && known.principal.id == login.client_id
            && known.principal.kind == PrincipalKind::ServicePrincipal
            && known.principal.enabled
            && row.expires.is_none_or(|expires| expires > now);
        if good { Ok((row, known)) } else { Err(refused()) }
    }

    async fn client(&self, login: &ClientLogin, source: IpAddr) -> Result<TokenIssued> {
        let (_, known) = self.client_known(login).await?;
        let now = self.app.now();
        let (minted, token) = self.new_token(&known, "client login", now, Some(now.plus(CLIENT_LOGIN)));
        let record = AuditRecord {
            principal: Some(known.principal.id),
            credential: Some(token.row.id),
            subject: Some(known.principal.id),
            revision: Some(token.row.revision),
            source: Some(source.to_string()),
            ..AuditRecord::new(now, AuditAction::TokenIssued)
        };
        let write = Write::new(Self::authority_of(&known), self.app.vault.audit_entry(record), token.clone());
        self.app.store.token_insert(write).await.map_err(taken_meanwhile)?;
        Ok(issued(minted, &token.row, &known))
    }

    /// Signs a service principal in at a face: the token dies with the secret.
    pub async fn face_login_client(
        &self,
        login: &ClientLogin,
        source: IpAddr,
        audience: &Audience,
        issuer: &Issuer,
    ) -> Result<FaceIssued> {
        let name = login.client_id.to_string();
        self.app.throttle.check(source, &name)?;
        let result = self.face_client(login, source, audience, issuer).await;
        self.count_failure(&result, source, &name);
        result
    }

    async fn face_client(
        &self,
        login: &ClientLogin,
        source: IpAddr,
        audience: &Audience,
        issuer: &Issuer,
    ) -> Result<FaceIssued> {
        let (secret, known) = self.client_known(login).await?;
        let record = AuditRecord {
            principal: Some(known.principal.id),
            source: Some(source.to_string()),
            ..AuditRecord::new(self.app.now(), AuditAction::TokenIssued)
        };
        let from = MadeFrom { parent: TokenParent::ClientSecret(secret.id), until: secret.expires };
        let by = Self::authority_of(&known);
        self.face_mint(&known, from, by, record, audience, issuer).await.map_err(taken_meanwhile)
    }

    pub(super) fn count_failure<T>(&self, result: &Result<T>, source: IpAddr, name: &str) {
        if let Err(Error::Unauthenticated(_)) = result {
            self.app.throttle.failed(source, name);
        }
    }
}

/// Disabled, or its secret taken, while it signed in.
pub(super) fn taken_meanwhile(e: kluis_store::Error) -> Error {
    match e {
        kluis_store::Error::NotFound | kluis_store::Error::Stale { .. } => Unauthenticated::Credentials.into(),
        other => other.into(),
    }
}

/// A record of a grant.
pub(crate) fn grant_record(grant: &Grant, now: Timestamp) -> AuditRecord {
    let mut record = AuditRecord::new(now, AuditAction::GrantSet);
    record.subject = Some(grant.principal);
    record.revision = Some(grant.revision);
    record.name = Some(grant.role.as_str().to_owned());
    match grant.scope {
        Scope::Installation => {}
        Scope::Workspace(workspace) => record.workspace = Some(workspace),
        Scope::Compute(compute) => record.compute = Some(compute),
    }
    record
}
