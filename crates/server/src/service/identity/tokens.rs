//! A caller's own tokens, and those of others for whoever may take them away. A token made with another one never outlives it, so a short login can not be turned into a
//! long one.

use kluis_core::access::{Action, PrincipalKind, Resource};
use kluis_core::api::identity::{CreateToken, TokenIssued, TokenView};
use kluis_core::api::{Page, PageQuery};
use kluis_core::audit::{AuditAction, AuditRecord};
use kluis_core::clock::Timestamp;
use kluis_core::id::{PrincipalId, TokenId};
use kluis_core::plaintext::Plaintext;
use kluis_store::identity::{TokenKind, TokenRevoke, TokenRow};
use kluis_store::{Authenticated, Authority, Write};
use kluis_vault::token;

use super::{Identity, Minted, check_label, ends, page_of, principal_view, token_view};
use crate::caller::{Caller, Known};
use crate::error::{Error, Result};

impl Identity<'_> {
    /// The caller's tokens, oldest first. A row that is damaged is left out, and in the log.
    pub async fn tokens(&self, caller: &Caller, page: &PageQuery) -> Result<Page<TokenView>> {
        self.token_page(caller.id(), page).await
    }

    /// Anybody's tokens, for an owner of the installation.
    pub async fn tokens_of(&self, caller: &Caller, who: &str, page: &PageQuery) -> Result<Page<TokenView>> {
        self.app.authorize(caller, Action::PrincipalManage, Resource::Installation).await?;
        self.token_page(self.find(who).await?.principal.id, page).await
    }

    async fn token_page(&self, of: PrincipalId, page: &PageQuery) -> Result<Page<TokenView>> {
        let now = self.app.now();
        let mut rows = self.app.store.token_list(of).await?;
        rows.retain(|t| t.row.expires.is_none_or(|expires| expires > now));
        page_of(
            rows,
            page,
            |token| token.row.id,
            |token| {
                let row = self.app.verified(token, TokenRow::canonical, "token", |t| t.id.to_string())?;
                Ok(token_view(&row))
            },
        )
    }

    /// A further token for the caller.
    pub async fn token_create(&self, caller: &Caller, create: &CreateToken) -> Result<TokenIssued> {
        check_label(&create.label)?;
        let now = self.app.now();
        let asked = ends(now, create.life_seconds)?;
        let expires = [asked, caller.token.expires].into_iter().flatten().min();
        let (minted, token) = self.new_token(&caller.known, &create.label, now, expires);
        let mut record = caller.record(now, AuditAction::TokenIssued);
        record.credential = Some(token.row.id);
        record.subject = Some(caller.id());
        record.revision = Some(token.row.revision);
        let write = Write::new(caller.authority(), self.app.vault.audit_entry(record), token.clone());
        self.app.store.token_insert(write).await?;
        Ok(issued(minted, &token.row, &caller.known))
    }

    /// Takes one of the caller's tokens; `current` is the one that was presented.
    pub async fn token_revoke(&self, caller: &Caller, which: &str) -> Result<()> {
        let token = if which == "current" { caller.token.id } else { which.parse()? };
        self.revoke(caller, TokenRevoke { principal: caller.id(), token }).await
    }

    /// Takes anybody's token, for an owner of the installation.
    pub async fn token_revoke_of(&self, caller: &Caller, who: &str, token: TokenId) -> Result<()> {
        self.app.authorize(caller, Action::PrincipalManage, Resource::Installation).await?;
        let principal = self.find(who).await?.principal.id;
        self.revoke(caller, TokenRevoke { principal, token }).await
    }

    async fn revoke(&self, caller: &Caller, revoke: TokenRevoke) -> Result<()> {
        let record = AuditRecord {
            credential: Some(revoke.token),
            subject: Some(revoke.principal),
            ..caller.record(self.app.now(), AuditAction::TokenRevoked)
        };
        let write = Write::new(caller.authority(), self.app.vault.audit_entry(record), revoke);
        self.app.store.token_revoke(write).await.map_err(|e| Error::from(e).missing("token"))?;
        Ok(())
    }

    /// Forgets tokens, client secrets and invitations whose time is over.
    pub async fn forget_expired(&self) -> Result<()> {
        let write = Write { authority: Authority::server(), audit: Vec::new(), change: self.app.now() };
        self.app.store.expired_remove(write).await?;
        Ok(())
    }

    /// A token for a principal, not yet stored.
    pub(super) fn new_token(
        &self,
        known: &Known,
        label: &str,
        now: Timestamp,
        expires: Option<Timestamp>,
    ) -> (Minted, Authenticated<TokenRow>) {
        let kind = match known.principal.kind {
            PrincipalKind::User => token::Kind::User,
            PrincipalKind::ServicePrincipal => token::Kind::ServicePrincipal,
            PrincipalKind::Agent => token::Kind::Agent,
        };
        let minted = self.app.mint(kind);
        let row = TokenRow {
            id: TokenId::generate(&*self.app.rng),
            principal: known.principal.id,
            kind: TokenKind::Native,
            label: label.to_owned(),
            hash: minted.hash,
            created: now,
            expires,
            revision: 1,
        };
        (minted, self.app.authenticated(row, TokenRow::canonical))
    }

    /// In a principal's name without a token: a login is under way. A change of its rights in between is noticed.
    pub(super) fn authority_of(known: &Known) -> Authority {
        Authority::Principal { principal: known.principal.id, token: None, epoch: known.principal.epoch }
    }
}

/// What is shown once.
pub(super) fn issued(minted: Minted, token: &TokenRow, known: &Known) -> TokenIssued {
    TokenIssued {
        token: Plaintext::from_text(&minted.text).expect("a token is short"),
        view: token_view(token),
        principal: principal_view(known),
    }
}
