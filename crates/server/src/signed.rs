//! Requests of launchers: signed with the session's key, checked here before anything in the body is believed. What is
//! signed is the address as it arrived, so nothing between client and handler may rewrite it. The headers are those of
//! `kluis_core::api::session`.

use std::net::IpAddr;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use axum::extract::{FromRequest, Request};
use data_encoding::HEXLOWER;
use http::HeaderMap;
use kluis_core::api::MAX_JSON_BODY;
use kluis_core::api::session::{
    HEADER_SESSION, HEADER_SIGNATURE, HEADER_TIME, MAX_PIECE, MAX_SKEW, RedeemTicket, signed_bytes,
};
use kluis_core::clock::Timestamp;
use kluis_core::id::SessionId;
use kluis_store::attempts::SessionRow;
use kluis_store::{Authority, RunAuthority};
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::api::json;
use crate::api::problem::Arrived;
use crate::app::App;
use crate::caller::Peer;
use crate::error::{Error, Result, Unauthenticated};

/// A launcher whose signature fits its session's key. Whether the session is alive, the run running and the attempt
/// current, the store says in each command; a dead session's request still gets here, so that it can be told why.
#[derive(Clone, Debug)]
pub struct SessionCaller {
    /// The session as it was when the request came.
    pub row: SessionRow,
    /// From where.
    pub source: IpAddr,
}

impl SessionCaller {
    /// The session and what it is bound to.
    pub fn run_authority(&self) -> RunAuthority {
        RunAuthority {
            workspace: self.row.workspace,
            run: self.row.run.clone(),
            attempt: self.row.attempt,
            session: self.row.id,
        }
    }

    /// In whose name its reports are made.
    pub fn authority(&self) -> Authority {
        Authority::Session(self.run_authority())
    }
}

/// A signed request with a JSON body.
#[derive(Debug)]
pub struct Signed<T> {
    /// Whose signature it is.
    pub session: SessionCaller,
    /// The body.
    pub body: T,
}

impl<T: DeserializeOwned> FromRequest<App> for Signed<T> {
    type Rejection = Error;

    async fn from_request(request: Request, app: &App) -> Result<Self> {
        let is_json = json::content_type(request.headers());
        let SignedBytes { session, body } = read(request, app, MAX_JSON_BODY).await?;
        is_json?;
        Ok(Self { session, body: json::parse(&body)? })
    }
}

/// A signed request with any body, at most [`MAX_PIECE`] bytes; an empty one for `GET`.
#[derive(Debug)]
pub struct SignedBytes {
    /// Whose signature it is.
    pub session: SessionCaller,
    /// The body.
    pub body: Zeroizing<Vec<u8>>,
}

impl FromRequest<App> for SignedBytes {
    type Rejection = Error;

    async fn from_request(request: Request, app: &App) -> Result<Self> {
        read(request, app, MAX_PIECE).await
    }
}

async fn read(request: Request, app: &App, limit: usize) -> Result<SignedBytes> {
    let signature = Signature::of(&request, app.clock.now())?;
    let id: SessionId = signature.session.parse().map_err(|_| Unauthenticated::Unsigned)?;
    let source = signature.source;
    let row = app.store.session_get(id).await?.ok_or(Unauthenticated::Session)?;
    let body = json::read_body(request, limit).await?;
    signature.check(&row.public_key, &body)?;
    if !app.session_ok(&row) {
        return Err(Error::Inconsistent { table: "session", row: row.id.to_string() });
    }
    Ok(SignedBytes { session: SessionCaller { row, source }, body })
}

/// A redemption: signed by the key that it brings, so that a ticket alone is not enough and a key cannot be borrowed.
#[derive(Debug)]
pub struct Redeeming {
    /// The ticket and its attempt.
    pub body: RedeemTicket,
    /// The key, from the body.
    pub public_key: [u8; 32],
    /// From where.
    pub source: IpAddr,
}

impl FromRequest<App> for Redeeming {
    type Rejection = Error;

    async fn from_request(request: Request, app: &App) -> Result<Self> {
        json::content_type(request.headers())?;
        let signature = Signature::of(&request, app.clock.now())?;
        if !signature.session.is_empty() {
            return Err(Unauthenticated::Unsigned.into());
        }
        let source = signature.source;
        let bytes = json::read_strangers_body(request).await?;
        let body: RedeemTicket = json::parse(&bytes)?;
        let public_key = HEXLOWER.decode(body.public_key.as_bytes()).ok().and_then(|k| k.try_into().ok());
        let public_key =
            public_key.ok_or_else(|| Error::bad_request("`public_key` is not 64 lower-case hex digits"))?;
        signature.check(&public_key, &bytes)?;
        Ok(Self { body, public_key, source })
    }
}

/// What a request says of its signature, the time already checked.
struct Signature {
    method: String,
    address: String,
    session: String,
    time: i64,
    bytes: Vec<u8>,
    source: IpAddr,
}

impl Signature {
    fn of(request: &Request, now: Timestamp) -> Result<Self> {
        let headers = request.headers();
        let text = |name| header(headers, name).ok_or(Unauthenticated::Unsigned);
        let time: i64 = text(HEADER_TIME)?.parse().map_err(|_| Unauthenticated::Unsigned)?;
        let bytes = HEXLOWER.decode(text(HEADER_SIGNATURE)?.as_bytes()).map_err(|_| Unauthenticated::Unsigned)?;
        let sent = Timestamp::from_millis(time);
        if now.since(sent).max(sent.since(now)) > MAX_SKEW {
            return Err(Unauthenticated::Skew { now }.into());
        }
        let arrived = request.extensions().get::<Arrived>().ok_or_else(|| Error::internal("no edge was passed"))?;
        let peer = request.extensions().get::<Peer>().map_or(std::net::Ipv4Addr::UNSPECIFIED.into(), |p| p.0);
        Ok(Self {
            method: request.method().as_str().to_owned(),
            address: arrived.0.clone(),
            session: text(HEADER_SESSION)?.to_owned(),
            time,
            bytes,
            source: peer,
        })
    }

    fn check(&self, public_key: &[u8; 32], body: &[u8]) -> Result<()> {
        let signed = signed_bytes(&self.method, &self.address, &self.session, self.time, body);
        UnparsedPublicKey::new(&ED25519, public_key)
            .verify(&signed, &self.bytes)
            .map_err(|_| Unauthenticated::Signature.into())
    }
}

/// The text of a header that is there once.
fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut all = headers.get_all(name).iter();
    let value = all.next().filter(|_| all.next().is_none())?;
    value.to_str().ok()
}
