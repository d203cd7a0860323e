//! What the authority answers: tokens as OAuth has them (RFC 6749, 5.1), refusals likewise (5.2), in our own words: nothing
//! of the request stands in them.

use axum::response::{IntoResponse, Response};
use data_encoding::BASE64URL_NOPAD;
use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};
use kluis_core::plaintext::Plaintext;
use serde::Serialize;

use crate::api::Json;
use crate::error::Error;
use crate::service::identity::{Audience, FaceIssued};

/// Why there is no token.
#[derive(Debug)]
pub(super) enum Refusal {
    /// One of OAuth's own reasons: its code, and a text for people.
    OAuth(&'static str, &'static str),
    /// A service's.
    Error(Error),
}

pub(super) type Result<T> = std::result::Result<T, Refusal>;

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

#[derive(Serialize)]
struct Body<'a> {
    error: &'a str,
    error_description: &'a str,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::OAuth(code, text) => rendered(StatusCode::BAD_REQUEST, code, text),
            // The edge renders it.
            Self::Error(error) => error.into_response(),
        }
    }
}

/// A service's refusal as OAuth's clients read it. They repeat 429 and 5xx, so only those that pass are.
pub(super) fn refused(error: &Error) -> Response {
    let code = match error {
        Error::Unauthenticated(_) => "invalid_client",
        Error::Forbidden(_) => "unauthorized_client",
        Error::Throttled { .. } | Error::Unavailable(_) => "temporarily_unavailable",
        Error::Internal(_) => "server_error",
        _ => "invalid_request",
    };
    let mut response = rendered(error.status(), code, &error.to_string());
    if let Some(after) = error.retry_after() {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    }
    response
}

fn rendered(status: StatusCode, error: &str, error_description: &str) -> Response {
    (status, Json(Body { error, error_description })).into_response()
}

/// A token for an application, or for a person with what a client makes an account of. Without a `scope` a client keeps it
/// under what it asked for; asking for what came of a device code, it does not say what for, and has to be told.
#[derive(Serialize)]
pub(super) struct TokenAnswer {
    token_type: &'static str,
    expires_in: i64,
    ext_expires_in: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    access_token: Plaintext,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<Plaintext>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_info: Option<String>,
}

impl TokenAnswer {
    pub(super) fn new(issued: FaceIssued) -> Self {
        let expires_in = seconds_left(&issued);
        Self {
            token_type: "Bearer",
            expires_in,
            ext_expires_in: expires_in,
            scope: None,
            access_token: issued.token,
            refresh_token: None,
            id_token: None,
            client_info: None,
        }
    }

    /// With what it is good for.
    pub(super) fn scoped(self, audience: &Audience) -> Self {
        let scope = format!("{}/.default openid profile offline_access", audience.as_str());
        Self { scope: Some(scope), ..self }
    }

    /// With what a client that signs a person in keeps an account by.
    pub(super) fn of_a_person(self, account: &Account<'_>, refresh_token: Option<Plaintext>) -> Self {
        Self {
            refresh_token,
            id_token: Some(account.id_token()),
            client_info: Some(encoded(&ClientInfo { uid: account.oid, utid: account.tid })),
            ..self
        }
    }
}

/// Who signed in, as clients file it.
#[derive(Serialize)]
pub(super) struct Account<'a> {
    pub(super) aud: &'a str,
    pub(super) iss: &'a str,
    pub(super) iat: i64,
    pub(super) nbf: i64,
    pub(super) exp: i64,
    pub(super) oid: &'a str,
    pub(super) sub: &'a str,
    pub(super) tid: &'a str,
    pub(super) name: &'a str,
    pub(super) preferred_username: &'a str,
    pub(super) upn: &'a str,
    pub(super) ver: &'static str,
}

impl Account<'_> {
    /// Says who the client talks for, to the client alone; no service takes it. Its transport proves it, as OpenID Connect
    /// allows (Core, 3.1.3.7), so it is not signed.
    fn id_token(&self) -> String {
        let header = BASE64URL_NOPAD.encode(br#"{"typ":"JWT","alg":"none"}"#);
        format!("{header}.{}.", encoded(self))
    }
}

#[derive(Serialize)]
struct ClientInfo<'a> {
    uid: &'a str,
    utid: &'a str,
}

fn encoded(claims: &impl Serialize) -> String {
    BASE64URL_NOPAD.encode(&serde_json::to_vec(claims).expect("texts and numbers become JSON"))
}

/// What a client of a managed identity reads: numbers as texts, as Azure writes them.
#[derive(Serialize)]
pub(super) struct ManagedAnswer {
    access_token: Plaintext,
    expires_on: String,
    expires_in: String,
    not_before: String,
    resource: String,
    token_type: &'static str,
    client_id: String,
}

impl ManagedAnswer {
    pub(super) fn new(issued: FaceIssued, client_id: String) -> Self {
        Self {
            expires_on: issued.expires.millis().div_euclid(1000).to_string(),
            expires_in: seconds_left(&issued).to_string(),
            not_before: issued.issued.millis().div_euclid(1000).to_string(),
            resource: issued.audience.as_str().to_owned(),
            token_type: "Bearer",
            client_id,
            access_token: issued.token,
        }
    }
}

fn seconds_left(issued: &FaceIssued) -> i64 {
    (issued.expires.millis() - issued.issued.millis()).div_euclid(1000)
}
