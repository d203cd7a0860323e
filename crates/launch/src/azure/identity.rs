//! The managed identity of a run, in two flavours that clients know: Azure ML's (`MSI_ENDPOINT`, header `secret`) and App
//! Service's (`IDENTITY_ENDPOINT`, header `X-IDENTITY-HEADER`). Both give a token for this run's vault and for nothing else:
//! another resource is refused at once and as JSON, so that a chain of credentials goes on to the next one.

use hyper::{Method, Request, StatusCode};
use serde::Serialize;
use zeroize::Zeroizing;

use super::http::{self, Reply};
use super::names::Names;
use super::tokens::{Tokens, same};

/// Where both are.
pub(super) const PATH: &str = "/msi/token";
/// Clients print it; it is nobody's.
const CLIENT: &str = "00000000-0000-0000-0000-000000000000";

/// A token, in the form that satisfies every client: numbers as texts.
#[derive(Serialize)]
struct Identity<'t> {
    access_token: &'t str,
    expires_on: String,
    expires_in: String,
    resource: String,
    token_type: &'static str,
    client_id: &'static str,
}

/// Why there is none. `Message` is what older clients show.
#[derive(Serialize)]
struct Refusal<'t> {
    error: &'static str,
    error_description: &'t str,
}

fn refusal(status: StatusCode, error: &'static str, error_description: &str) -> Reply {
    http::json(status, &Refusal { error, error_description })
}

/// Answers a request for a token.
pub(super) fn answer<B>(request: &Request<B>, names: &Names, secret: &Zeroizing<String>, tokens: &Tokens) -> Reply {
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let shown = header("secret").or_else(|| header("x-identity-header"));
    if !shown.is_some_and(|shown| same(shown, secret)) {
        return refusal(
            StatusCode::UNAUTHORIZED,
            "invalid_secret",
            "the header `secret` or `X-IDENTITY-HEADER` must hold this run's own, from its environment",
        );
    }
    if request.method() != Method::GET {
        return refusal(StatusCode::BAD_REQUEST, "invalid_request", "a token is asked for with GET");
    }
    let resource = http::parameter(request.uri().query(), "resource").unwrap_or_default();
    if !names.is_resource(&resource) {
        let only = format!("a run's identity is good for its own vault alone: resource={}", names.url.resource());
        return refusal(StatusCode::BAD_REQUEST, "invalid_resource", &only);
    }
    let token = tokens.issue();
    http::json(
        StatusCode::OK,
        &Identity {
            access_token: &token.text,
            expires_on: token.expires.seconds().to_string(),
            expires_in: token.left.as_secs().to_string(),
            resource,
            token_type: "Bearer",
            client_id: CLIENT,
        },
    )
}
