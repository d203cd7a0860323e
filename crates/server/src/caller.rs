//! Who is asking: a bearer token becomes a [`Caller`] whose rows have been verified. What it may do is decided by the
//! service. Launchers sign instead; see [`crate::signed`].

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, HeaderName};
use kluis_core::access::{Action, Grant, Principal, Resource, allows, sees};
use kluis_core::audit::{AuditAction, AuditRecord};
use kluis_core::clock::Timestamp;
use kluis_core::id::PrincipalId;
use kluis_core::sealed::LookupHash;
use kluis_store::identity::{Standing, TokenKind, TokenRow};
use kluis_store::{Authenticated, Authority};
use kluis_vault::{Vault, face, token};

use crate::app::App;
use crate::error::{Error, Result, Unauthenticated};
use crate::service::identity::Audience;

/// Where a connection comes from; put into each request by the listener.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

/// A principal and its grants, each verified against its MAC.
#[derive(Clone, Debug)]
pub struct Known {
    /// The principal, enabled or not, with its epoch at the moment of reading.
    pub principal: Principal,
    /// All its grants.
    pub grants: Vec<Grant>,
}

impl Known {
    /// Verifies what the store read. One bad row and the principal is refused: a grant that was tampered with may be a
    /// denying one.
    pub fn verify(vault: &Vault, standing: Standing) -> Result<Self> {
        let Standing { principal, grants } = standing;
        let row = || principal.row.id.to_string();
        if !vault.mac_ok(&principal.row.canonical(), &principal.mac) {
            return Err(Error::Inconsistent { table: "principal", row: row() });
        }
        let id = principal.row.id;
        if grants.iter().any(|g| g.row.principal != id || !vault.mac_ok(&g.row.canonical(), &g.mac)) {
            return Err(Error::Inconsistent { table: "grant", row: row() });
        }
        Ok(Self { principal: principal.row, grants: grants.into_iter().map(|g| g.row).collect() })
    }

    /// Whether its grants allow the action. The one evaluator is `kluis_core::access`.
    pub fn may(&self, action: Action, resource: Resource) -> bool {
        allows(&self.grants, action, resource)
    }

    /// Whether it may know that the resource exists.
    pub fn sees(&self, resource: Resource) -> bool {
        sees(&self.grants, resource)
    }
}

/// A signed-in caller: enabled, its token known and not expired when it was looked at.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who.
    pub known: Arc<Known>,
    /// With which token.
    pub token: Arc<TokenRow>,
    /// From where.
    pub source: IpAddr,
}

impl Caller {
    /// Its id.
    pub fn id(&self) -> PrincipalId {
        self.known.principal.id
    }

    /// In whose name its commands are done.
    pub fn authority(&self) -> Authority {
        Authority::principal(self.id(), self.token.id, self.known.principal.epoch)
    }

    /// Whether its grants allow the action.
    pub fn may(&self, action: Action, resource: Resource) -> bool {
        self.known.may(action, resource)
    }

    /// An audit record with who, with which token and from where filled in.
    pub fn record(&self, now: Timestamp, action: AuditAction) -> AuditRecord {
        let mut record = AuditRecord::new(now, action);
        record.principal = Some(self.id());
        record.token = Some(self.token.id);
        record.source = Some(self.source.to_string());
        record
    }
}

impl FromRequestParts<App> for Caller {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let source = source(parts);
        let signed_in = match bearer(&parts.headers) {
            Ok(text) => app.sign_in(text, source).await,
            Err(e) => Err(e),
        };
        if let Err(Error::Unauthenticated(_)) = signed_in {
            app.throttle.count();
        }
        signed_in
    }
}

/// The address that a request came from.
pub fn source(parts: &Parts) -> IpAddr {
    parts.extensions.get::<Peer>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0)
}

/// The source of a request without a caller, such as a login.
#[derive(Clone, Copy, Debug)]
pub struct Source(pub IpAddr);

impl<S: Sync> FromRequestParts<S> for Source {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        Ok(Self(source(parts)))
    }
}

/// The token of exactly one `authorization: Bearer` header.
pub(crate) fn bearer(headers: &HeaderMap) -> Result<&str> {
    let value = one(headers, &AUTHORIZATION).ok_or(Unauthenticated::Missing)?;
    let (scheme, text) = value.split_once(' ').ok_or(Unauthenticated::Missing)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(text.trim()) } else { Err(Unauthenticated::Missing.into()) }
}

/// The text of a header that is there once.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut all = headers.get_all(name).iter();
    let value = all.next().filter(|_| all.next().is_none())?;
    value.to_str().ok()
}

impl App {
    /// The caller of a token: its checksum, then its keyed hash, then the rows under it, each verified.
    pub async fn sign_in(&self, text: &str, source: IpAddr) -> Result<Caller> {
        let kind = token::check(text).map_err(Unauthenticated::Form)?;
        if !matches!(kind, token::Kind::User | token::Kind::ServicePrincipal | token::Kind::Agent) {
            return Err(Unauthenticated::Kind.into());
        }
        let caller = self.caller_by_hash(self.vault.lookup_hash(kind.as_str(), text), source).await?;
        // The purposes of the hashes keep the kinds apart; this is the row's own word for it.
        if caller.token.kind == TokenKind::Native { Ok(caller) } else { Err(Unauthenticated::Unknown.into()) }
    }

    /// The caller of a token for the faces whose clients look into it, which must have been issued for this audience. What
    /// the token says of itself is not read.
    pub async fn sign_in_face(&self, text: &str, source: IpAddr, audience: &str) -> Result<Caller> {
        let caller = self.sign_in_face_for_any(text, source).await?;
        let wanted = Audience::canonical(audience);
        if wanted.is_some() && caller.token.kind.audience() == wanted.as_deref() {
            Ok(caller)
        } else {
            Err(Unauthenticated::Audience.into())
        }
    }

    /// The same, whatever it was issued for: where it proves only who somebody is.
    pub(crate) async fn sign_in_face_for_any(&self, text: &str, source: IpAddr) -> Result<Caller> {
        face::check(text).map_err(Unauthenticated::Form)?;
        let caller = self.caller_by_hash(self.vault.lookup_hash(face::PURPOSE, text), source).await?;
        if caller.token.kind.audience().is_some() { Ok(caller) } else { Err(Unauthenticated::Unknown.into()) }
    }

    /// The caller of a token's hash, of either kind, as the rows are now.
    pub async fn caller_by_hash(&self, hash: LookupHash, source: IpAddr) -> Result<Caller> {
        let login = self.store.token_by_hash(hash).await?.ok_or(Unauthenticated::Unknown)?;
        let Authenticated { row: token, mac } = login.token;
        // A row that somebody put into the database is not a login.
        if !self.vault.mac_ok(&token.canonical(), &mac) || token.hash != hash {
            tracing::error!(token = %token.id, "a token's row is damaged or forged; it is not a login");
            return Err(Unauthenticated::Unknown.into());
        }
        let known = Known::verify(&self.vault, login.standing)?;
        if known.principal.id != token.principal {
            return Err(Error::Inconsistent { table: "token", row: token.id.to_string() });
        }
        if token.expires.is_some_and(|expires| expires <= self.clock.now()) {
            return Err(Unauthenticated::Expired.into());
        }
        if !known.principal.enabled {
            return Err(Unauthenticated::Disabled.into());
        }
        Ok(Caller { known: Arc::new(known), token: Arc::new(token), source })
    }

    /// The same caller, as the rows are now.
    pub async fn caller_again(&self, caller: &Caller) -> Result<Caller> {
        self.caller_by_hash(caller.token.hash, caller.source).await
    }

    /// A principal as the rows are now: a run's submitter, for instance. [`Error::NotFound`] when it is gone.
    pub async fn known(&self, principal: PrincipalId) -> Result<Known> {
        let standing = self.store.principal_standing(principal).await?.ok_or(Error::NotFound("principal"))?;
        let known = Known::verify(&self.vault, standing)?;
        if known.principal.id != principal {
            return Err(Error::Inconsistent { table: "principal", row: principal.to_string() });
        }
        Ok(known)
    }
}
