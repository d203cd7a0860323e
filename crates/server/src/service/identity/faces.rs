//! Tokens for the Azure faces. They are short-lived, good for one resource, and die with what they were made from: a
//! token or a client secret that is taken takes them with it. Their claims tell clients what clients look for; nothing
//! here reads them again.

use std::time::Duration;

use data_encoding::HEXLOWER;
use kluis_core::access::PrincipalKind;
use kluis_core::audit::{AuditAction, AuditRecord};
use kluis_core::clock::Timestamp;
use kluis_core::id::TokenId;
use kluis_core::plaintext::Plaintext;
use kluis_store::identity::{FaceTokenInsert, TokenKind, TokenParent, TokenRow};
use kluis_store::{Authority, Write};
use kluis_vault::face;
use serde::Serialize;
use zeroize::Zeroizing;

use super::logins::taken_meanwhile;
use super::{Audience, Identity};
use crate::caller::{Caller, Known};
use crate::error::Result;

/// How long one lives: clients fetch another when less than 5 minutes are left, so much less would be a fetch for every
/// call, and much more would keep alive what was taken from a principal's rights without moving its rows.
const LIFE: Duration = Duration::from_mins(15);
/// How many that have not expired one principal may have: a client has one or two.
const MOST: u32 = 4096;

/// Who clients believe to have issued a token: our own address, as they know it.
#[derive(Clone, Debug)]
pub struct Issuer(pub String);

/// A token for a face, shown once.
#[derive(Clone, Debug)]
pub struct FaceIssued {
    /// The token.
    pub token: Plaintext,
    /// What it is good for.
    pub audience: Audience,
    /// When it was issued.
    pub issued: Timestamp,
    /// When it stops working.
    pub expires: Timestamp,
}

/// What a token is made from, and how long that lives itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct MadeFrom {
    pub(super) parent: TokenParent,
    pub(super) until: Option<Timestamp>,
}

/// What clients look at, by the names that they know.
#[derive(Serialize)]
struct Claims<'a> {
    aud: &'a str,
    iss: &'a str,
    iat: i64,
    nbf: i64,
    exp: i64,
    ver: &'static str,
    tid: String,
    oid: String,
    sub: String,
    appid: String,
    idtyp: &'static str,
    name: &'a str,
    upn: &'a str,
    unique_name: &'a str,
    uti: String,
    /// That clients may be challenged for other claims.
    xms_cc: [&'static str; 1],
}

impl Identity<'_> {
    /// A token for whoever is signed in already. It dies with the caller's token, and never outlives it.
    pub async fn face_token(&self, caller: &Caller, audience: &Audience, issuer: &Issuer) -> Result<FaceIssued> {
        let from = MadeFrom { parent: TokenParent::Token(caller.token.id), until: caller.token.expires };
        let mint = async |caller: &Caller| {
            let record = caller.record(self.app.now(), AuditAction::TokenIssued);
            self.face_mint(&caller.known, from, caller.authority(), record, audience, issuer).await
        };
        match mint(caller).await {
            // Its rights moved since it signed in, perhaps to no avail: clients do not ask twice.
            Err(kluis_store::Error::Stale { .. }) => mint(&self.app.caller_again(caller).await?).await,
            done => done,
        }
        .map_err(taken_meanwhile)
    }

    /// Makes and stores one. `record` says who asked.
    pub(super) async fn face_mint(
        &self,
        known: &Known,
        from: MadeFrom,
        by: Authority,
        record: AuditRecord,
        audience: &Audience,
        issuer: &Issuer,
    ) -> Result<FaceIssued, kluis_store::Error> {
        let (app, now) = (self.app, record.time);
        let expires = now.plus(LIFE);
        let expires = from.until.map_or(expires, |until| until.min(expires));
        let id = TokenId::generate(&*app.rng);
        let claims = self.claims(known, id, audience, issuer, now, expires);
        let text = face::generate(&claims, &*app.rng);
        let row = TokenRow {
            id,
            principal: known.principal.id,
            kind: TokenKind::Face { audience: audience.as_str().to_owned(), parent: from.parent },
            label: "Azure face".to_owned(),
            hash: app.vault.lookup_hash(face::PURPOSE, &text),
            created: now,
            expires: Some(expires),
            revision: 1,
        };
        let record = AuditRecord {
            credential: Some(id),
            subject: Some(known.principal.id),
            revision: Some(row.revision),
            name: Some(audience.as_str().to_owned()),
            ..record
        };
        let token = app.authenticated(row, TokenRow::canonical);
        let write = Write::new(by, app.vault.audit_entry(record), FaceTokenInsert { token, now, most: MOST });
        app.store.face_token_insert(write).await?;
        let token = Plaintext::from_text(&text).expect("a token is short");
        Ok(FaceIssued { token, audience: audience.clone(), issued: now, expires })
    }

    fn claims(
        &self,
        known: &Known,
        token: TokenId,
        audience: &Audience,
        issuer: &Issuer,
        now: Timestamp,
        expires: Timestamp,
    ) -> Zeroizing<Vec<u8>> {
        let principal = &known.principal;
        let id = guid(principal.id.as_bytes());
        let seconds = |time: Timestamp| time.millis().div_euclid(1000);
        let claims = Claims {
            aud: audience.as_str(),
            iss: &issuer.0,
            iat: seconds(now),
            nbf: seconds(now),
            exp: seconds(expires),
            ver: "1.0",
            tid: guid(self.app.installation.as_bytes()),
            oid: id.clone(),
            sub: id.clone(),
            appid: id,
            idtyp: if principal.kind == PrincipalKind::User { "user" } else { "app" },
            name: principal.name.as_str(),
            upn: principal.name.as_str(),
            unique_name: principal.name.as_str(),
            uti: token.to_string(),
            xms_cc: ["CP1"],
        };
        Zeroizing::new(serde_json::to_vec(&claims).expect("texts and numbers become JSON"))
    }
}

/// An id as Azure's clients write one: 8-4-4-4-12 hex digits.
pub(crate) fn guid(id: &[u8; 16]) -> String {
    let hex = HEXLOWER.encode(id);
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}
