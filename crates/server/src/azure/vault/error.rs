//! The second renderer of the one error: as the real service's clients expect it. Texts that they search stand in
//! `kluis_core::api::keyvault`; what has none there is told in our own words under the nearest code.

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, StatusCode};
use kluis_core::api::keyvault::{ErrorBody, Refusal, VaultUrl};
use kluis_core::clock::Timestamp;
use kluis_core::id::PrincipalId;

use super::operation::Operation;
use crate::error::{Error, Unauthenticated};

/// As the real service says it.
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

/// What is known of a request, as far as it was understood.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) vault: VaultUrl,
    pub(super) method: Method,
    /// Whether it came with a token that a client can be told to exchange for a younger one.
    pub(super) renewable: bool,
    /// For what the token is, when it is for something else.
    pub(super) audience: Option<String>,
    pub(super) principal: Option<PrincipalId>,
    pub(super) operation: Option<Operation>,
}

impl Asked {
    pub(super) const fn new(vault: VaultUrl, method: Method) -> Self {
        Self { vault, method, renewable: false, audience: None, principal: None, operation: None }
    }

    /// For the log.
    pub(super) fn route(&self) -> &'static str {
        self.operation.as_ref().map_or("vault", Operation::route)
    }
}

/// An error as an answer.
pub(super) fn render(error: &Error, asked: &Asked, now: Timestamp) -> Response {
    let body = serde_json::to_vec(&body(error, asked)).expect("texts become JSON");
    let mut response = (status(error, asked), body).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    if let Some(after) = error.retry_after() {
        headers.insert(RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    }
    if let Error::Unauthenticated(why) = error {
        let challenge = match why {
            Unauthenticated::Unknown | Unauthenticated::Expired | Unauthenticated::Disabled if asked.renewable => {
                asked.vault.claims_challenge(now)
            }
            _ => asked.vault.challenge(),
        };
        headers.insert(WWW_AUTHENTICATE, HeaderValue::try_from(challenge).expect("a host's bytes make a header"));
    }
    response
}

/// What is deleted is not there for whoever does not ask for what is deleted, except that its name is taken.
fn status(error: &Error, asked: &Asked) -> StatusCode {
    match error {
        Error::NotDeleted => StatusCode::NOT_FOUND,
        Error::SecretDeleted { .. } if !matches!(asked.operation, Some(Operation::Set(_))) => StatusCode::NOT_FOUND,
        other => other.status(),
    }
}

fn body(error: &Error, asked: &Asked) -> ErrorBody {
    let set = matches!(asked.operation, Some(Operation::Set(_)));
    let name = asked.operation.as_ref().and_then(Operation::about).map(|(name, _)| name);
    match error {
        Error::Unauthenticated(Unauthenticated::Missing) => Refusal::NoToken.body(),
        Error::Unauthenticated(Unauthenticated::Audience) => {
            let found = asked.audience.as_deref().unwrap_or_default();
            Refusal::WrongAudience { expected: &asked.vault.resource(), found }.body()
        }
        Error::SecretDeleted { .. } if set => match name {
            Some(name) => Refusal::Deleted(name).body(),
            None => other(error),
        },
        Error::SecretNotFound
        | Error::NotDeleted
        | Error::SecretDeleted { .. }
        | Error::NotFound("version of this secret") => not_found(error, asked),
        Error::SecretExists(name) => Refusal::RestoreConflict { id: &asked.vault.secret_id(name, None) }.body(),
        Error::SecretDisabled("disabled") => Refusal::Disabled.body(),
        Error::SecretDisabled(why) => {
            let message = format!("Operation get is not allowed: this version of the secret is {why}.");
            ErrorBody::new("Forbidden", message, Some("SecretDisabled"))
        }
        Error::Forbidden(_) => Refusal::AccessDenied {
            principal: &asked.principal.map(|id| id.to_string()).unwrap_or_default(),
            permission: asked.operation.as_ref().map_or("any", Operation::permission),
            vault: asked.vault.name(),
        }
        .body(),
        Error::BackupRefused => Refusal::MalformedBackup.body(),
        Error::InvalidName(reason) => Refusal::InvalidName(reason).body(),
        Error::MethodNotAllowed => Refusal::MethodNotAllowed(plain(&asked.method)).body(),
        _ => other(error),
    }
}

fn not_found(error: &Error, asked: &Asked) -> ErrorBody {
    match asked.operation.as_ref().and_then(|o| Some((o, o.about()?))) {
        Some((operation, (name, _))) if operation.is_about_deleted() => Refusal::DeletedSecretNotFound(name).body(),
        Some((_, (name, None))) => Refusal::SecretNotFound { id: name.as_str() }.body(),
        Some((_, (name, Some(version)))) => Refusal::SecretNotFound { id: &format!("{name}/{version}") }.body(),
        None => other(error),
    }
}

/// In our own words.
fn other(error: &Error) -> ErrorBody {
    let code = match error.status().as_u16() {
        400 | 413 => "BadParameter",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 if matches!(error, Error::NotFound("workspace")) => "VaultNotFound",
        404 => "NotFound",
        409 => "Conflict",
        429 => "Throttled",
        503 => "ServiceUnavailable",
        507 => "InsufficientStorage",
        _ => "InternalServerError",
    };
    ErrorBody::new(code, error.to_string(), None)
}

/// A method that HTTP has; whatever else came in is not repeated.
fn plain(method: &Method) -> &str {
    let known = [Method::GET, Method::PUT, Method::POST, Method::PATCH, Method::DELETE, Method::HEAD, Method::OPTIONS];
    if known.contains(method) { method.as_str() } else { "method" }
}
