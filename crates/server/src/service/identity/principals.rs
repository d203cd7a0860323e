//! Principals: listed, made (service principals), disabled and enabled by the installation's owners.

use kluis_core::access::{Action, Epoch, Principal, PrincipalKind, Resource};
use kluis_core::api::identity::{
    ChangePrincipal, ClientSecretCreated, ClientSecretQuery, ClientSecretView, CreatePrincipal, PrincipalView,
};
use kluis_core::api::{Page, PageQuery};
use kluis_core::audit::{AuditAction, AuditRecord};
use kluis_core::id::{PrincipalId, TokenId};
use kluis_core::plaintext::Plaintext;
use kluis_store::identity::{ClientSecretRow, TokenRevoke};
use kluis_store::{After, Write};
use kluis_vault::token;

use super::{Identity, ends, page_of, principal_view};
use crate::api::limit;
use crate::caller::{Caller, Known};
use crate::error::{Error, Result};

impl Identity<'_> {
    /// All principals, by name. A damaged one is left out, and in the log.
    pub async fn principals(&self, caller: &Caller, page: &PageQuery) -> Result<Page<PrincipalView>> {
        self.app.authorize(caller, Action::PrincipalManage, Resource::Installation).await?;
        let after = After { after: page.after.clone(), limit: limit(page.limit)? };
        let listed = self.app.store.principal_list(after).await?;
        let mut items = Vec::with_capacity(listed.items.len());
        for principal in listed.items {
            match self.app.known(principal.row.id).await {
                Ok(known) => items.push(principal_view(&known)),
                Err(e @ Error::Inconsistent { .. }) => {
                    tracing::error!(principal = %principal.row.id, error = %e, "left out of a list");
                }
                Err(e) => return Err(e),
            }
        }
        Ok(Page { items, next: listed.next })
    }

    /// A new service principal.
    pub async fn principal_create(&self, caller: &Caller, create: &CreatePrincipal) -> Result<PrincipalView> {
        self.app.authorize(caller, Action::PrincipalManage, Resource::Installation).await?;
        if create.kind != PrincipalKind::ServicePrincipal {
            return Err(Error::bad_request("only service principals are made so; invite users and agents"));
        }
        let principal = Principal {
            id: PrincipalId::generate(&*self.app.rng),
            name: create.name.clone(),
            kind: create.kind,
            enabled: true,
            epoch: Epoch(1),
            revision: 1,
        };
        let record = AuditRecord {
            subject: Some(principal.id),
            revision: Some(1),
            name: Some(principal.name.to_string()),
            ..caller.record(self.app.now(), AuditAction::PrincipalCreated)
        };
        let row = self.app.authenticated(principal.clone(), Principal::canonical);
        let write = Write::new(caller.authority(), self.app.vault.audit_entry(record), row);
        self.app.store.principal_insert(write).await?;
        Ok(principal_view(&Known { principal, grants: Vec::new() }))
    }

    /// Disables or enables a principal. Disabled, none of its tokens works, and no run of it reads.
    pub async fn principal_change(
        &self,
        caller: &Caller,
        who: &str,
        change: &ChangePrincipal,
    ) -> Result<PrincipalView> {
        self.app.authorize(caller, Action::PrincipalManage, Resource::Installation).await?;
        let mut known = self.find(who).await?;
        if known.principal.enabled == change.enabled {
            return Ok(principal_view(&known));
        }
        known.principal.enabled = change.enabled;
        known.principal.revision += 1;
        let record = AuditRecord {
            subject: Some(known.principal.id),
            revision: Some(known.principal.revision),
            name: Some(if change.enabled { "enabled" } else { "disabled" }.to_owned()),
            ..caller.record(self.app.now(), AuditAction::PrincipalChanged)
        };
        let row = self.app.authenticated(known.principal.clone(), Principal::canonical);
        let write = Write::new(caller.authority(), self.app.vault.audit_entry(record), row);
        self.app.store.principal_change(write).await.map_err(|e| Error::from(e).missing("principal"))?;
        Ok(principal_view(&known))
    }

    /// A new secret for a service principal, shown once.
    pub async fn client_secret_create(
        &self,
        caller: &Caller,
        who: &str,
        query: ClientSecretQuery,
    ) -> Result<ClientSecretCreated> {
        self.app.authorize(caller, Action::PrincipalManage, Resource::Installation).await?;
        let known = self.find(who).await?;
        if known.principal.kind != PrincipalKind::ServicePrincipal {
            return Err(Error::conflict("only service principals sign in with a secret; invite users and agents"));
        }
        let now = self.app.now();
        let expires = ends(now, query.life_seconds)?;
        let minted = self.app.mint(token::Kind::ClientSecret);
        let row = ClientSecretRow {
            id: TokenId::generate(&*self.app.rng),
            principal: known.principal.id,
            hash: minted.hash,
            created: now,
            expires,
            revision: 1,
        };
        let id = row.id;
        let record = AuditRecord {
            credential: Some(id),
            subject: Some(known.principal.id),
            revision: Some(row.revision),
            ..caller.record(now, AuditAction::ClientSecretCreated)
        };
        let row = self.app.authenticated(row, ClientSecretRow::canonical);
        let write = Write::new(caller.authority(), self.app.vault.audit_entry(record), row);
        self.app.store.client_secret_insert(write).await.map_err(|e| match e {
            kluis_store::Error::NotFound => Error::conflict("the service principal is disabled"),
            other => other.into(),
        })?;
        let client_secret = Plaintext::from_text(&minted.text).expect("a token is short");
        Ok(ClientSecretCreated { id, client_id: known.principal.id, client_secret, expires })
    }

    /// A service principal's secrets, oldest first, without what is secret.
    pub async fn client_secrets(&self, caller: &Caller, who: &str, page: &PageQuery) -> Result<Page<ClientSecretView>> {
        self.app.authorize(caller, Action::PrincipalManage, Resource::Installation).await?;
        let now = self.app.now();
        let mut rows = self.app.store.client_secret_list(self.find(who).await?.principal.id).await?;
        rows.retain(|secret| secret.row.expires.is_none_or(|expires| expires > now));
        page_of(
            rows,
            page,
            |secret| secret.row.id,
            |secret| {
                let row =
                    self.app.verified(secret, ClientSecretRow::canonical, "client secret", |r| r.id.to_string())?;
                Ok(ClientSecretView { id: row.id, created: row.created, expires: row.expires })
            },
        )
    }

    /// Takes a service principal's secret: nobody signs in with it from the answer on.
    pub async fn client_secret_revoke(&self, caller: &Caller, who: &str, secret: TokenId) -> Result<()> {
        self.app.authorize(caller, Action::PrincipalManage, Resource::Installation).await?;
        let principal = self.find(who).await?.principal.id;
        let record = AuditRecord {
            credential: Some(secret),
            subject: Some(principal),
            ..caller.record(self.app.now(), AuditAction::ClientSecretRevoked)
        };
        let revoke = TokenRevoke { principal, token: secret };
        let write = Write::new(caller.authority(), self.app.vault.audit_entry(record), revoke);
        self.app.store.client_secret_revoke(write).await.map_err(|e| Error::from(e).missing("client secret"))?;
        Ok(())
    }
}
