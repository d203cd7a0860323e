//! A caller's own tokens. A token made with another one never outlives it, so a short login can not be turned into a
//! long one.

use kluis_core::access::PrincipalKind;
use kluis_core::api::identity::{CreateToken, TokenIssued, TokenView};
use kluis_core::api::{Page, PageQuery};
use kluis_core::audit::{AuditAction, AuditRecord};
use kluis_core::clock::Timestamp;
use kluis_core::id::TokenId;
use kluis_core::plaintext::Plaintext;
use kluis_store::identity::{TokenKind, TokenRevoke, TokenRow};
use kluis_store::{Authenticated, Authority, Write};
use kluis_vault::token;

use super::{Identity, Minted, check_label, ends, principal_view, token_view};
use crate::api::limit;
use crate::caller::{Caller, Known};
use crate::error::{Error, Result};

impl Identity<'_> {
    /// The caller's tokens, oldest first. A row that is damaged is left out, and in the log.
    pub async fn tokens(&self, caller: &Caller, page: &PageQuery) -> Result<Page<TokenView>> {
        let limit = limit(page.limit)? as usize;
        let after = page.after.as_deref().map(str::parse::<TokenId>).transpose()?;
        let now = self.app.now();
        let mut rows = self.app.store.token_list(caller.id()).await?;
        rows.retain(|t| t.row.expires.is_none_or(|expires| expires > now));
        let start = match after {
            None => 0,
            Some(id) => rows.iter().position(|t| t.row.id == id).map_or(rows.len(), |n| n + 1),
        };
        let mut items = Vec::new();
        let mut last = None;
        for token in rows.drain(start..).take(limit + 1) {
            if items.len() == limit {
                return Ok(Page { items, next: last });
            }
            let id = token.row.id;
            match self.app.verified(token, TokenRow::canonical, "token", |t| t.id.to_string()) {
                Ok(row) => items.push(token_view(&row)),
                Err(e) => tracing::error!(token = %id, error = %e, "left out of a list"),
            }
            last = Some(id.to_string());
        }
        Ok(Page { items, next: None })
    }

    /// A further token for the caller.
    pub async fn token_create(&self, caller: &Caller, create: &CreateToken) -> Result<TokenIssued> {
        check_label(&create.label)?;
        let now = self.app.now();
        let asked = ends(now, create.life_seconds)?;
        let expires = [asked, caller.token.expires].into_iter().flatten().min();
        let (minted, token) = self.new_token(&caller.known, &create.label, now, expires);
        let mut record = caller.record(now, AuditAction::TokenIssued);
        record.subject = Some(caller.id());
        record.revision = Some(token.row.revision);
        let write = Write::new(caller.authority(), self.app.vault.audit_entry(record), token.clone());
        self.app.store.token_insert(write).await?;
        Ok(issued(minted, &token.row, &caller.known))
    }

    /// Takes one of the caller's tokens; `current` is the one that was presented.
    pub async fn token_revoke(&self, caller: &Caller, which: &str) -> Result<()> {
        let token = if which == "current" { caller.token.id } else { which.parse()? };
        let now = self.app.now();
        let record = AuditRecord { subject: Some(caller.id()), ..caller.record(now, AuditAction::TokenRevoked) };
        let revoke = TokenRevoke { principal: caller.id(), token };
        let write = Write::new(caller.authority(), self.app.vault.audit_entry(record), revoke);
        self.app.store.token_revoke(write).await.map_err(|e| Error::from(e).missing("token"))?;
        Ok(())
    }

    /// Forgets tokens, client secrets and unused invitations whose time is over.
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
