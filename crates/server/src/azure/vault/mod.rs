//! Key Vault's secrets: twelve operations on a host of its own for each workspace. Who asks comes before everything else
//! that a request says, its body above all: clients send their first request without a token to be told where to get one.
//!
//! | | |
//! |---|---|
//! | `operation` | which operation, and with which parameters |
//! | `perform` | each operation: read the body, call the service, render |
//! | `error` | the same for refusals |

use std::panic::AssertUnwindSafe;

use axum::extract::Request;
use axum::response::Response;
use futures_util::FutureExt;
use http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{HeaderName, HeaderValue};
use kluis_core::api::keyvault::VaultUrl;
use kluis_core::name::WorkspaceName;
use kluis_vault::token;

use self::error::Asked;
use self::operation::{Operation, Parameters};
use self::perform::Face;
use crate::api::problem::{self, HEADER_REQUEST_ID};
use crate::app::App;
use crate::caller::{self, Caller};
use crate::error::{Error, Result, Unauthenticated};

mod error;
mod operation;
mod perform;

/// The answer's header with the request's id, as the real service calls it.
const AZURE_REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-request-id");

/// Answers a request to a vault.
pub(crate) async fn answer(app: &App, vault: VaultUrl, request: Request) -> Response {
    let id = problem::request_id(&*app.rng);
    let mut asked = Asked::new(vault, request.method().clone());
    let done = AssertUnwindSafe(perform(app, request, &mut asked)).catch_unwind().await;
    let done = done.unwrap_or_else(|_| Err(Error::internal("a handler panicked")));
    let mut response = done.unwrap_or_else(|e| {
        problem::log_as(&e, &id, &asked.method, asked.route());
        error::render(&e, &asked, app.now())
    });
    let headers = response.headers_mut();
    let id = HeaderValue::try_from(id).expect("hex digits make a header");
    headers.insert(HEADER_REQUEST_ID, id.clone());
    headers.insert(AZURE_REQUEST_ID, id);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

async fn perform(app: &App, request: Request, asked: &mut Asked) -> Result<Response> {
    let (parts, body) = request.into_parts();
    let signed_in = sign_in(app, &parts, asked).await;
    if let Err(Error::Unauthenticated(_)) = signed_in {
        app.throttle.count();
    }
    let caller = signed_in?;
    asked.principal = Some(caller.id());
    let parameters = Parameters::parse(&parts.uri)?;
    let operation = Operation::parse(&parts.method, parts.uri.path())?;
    asked.operation = Some(operation.clone());
    let workspace = WorkspaceName::parse(asked.vault.name()).map_err(|_| Error::NotFound("workspace"))?;
    let face = Face { app, vault: &asked.vault, caller: &caller, workspace: &workspace };
    face.perform(operation, &parameters, Request::from_parts(parts, body)).await
}

/// A token that was made out for this vault; or a native one of a user or a service principal, for whoever has no client
/// that knows where to get the other.
async fn sign_in(app: &App, parts: &Parts, asked: &mut Asked) -> Result<Caller> {
    let (text, source) = (caller::bearer(&parts.headers)?, caller::source(parts));
    if text.starts_with("kls_") {
        return match token::check(text) {
            Ok(token::Kind::User | token::Kind::ServicePrincipal) => app.sign_in(text, source).await,
            Ok(_) => Err(Unauthenticated::Kind.into()),
            Err(e) => Err(Unauthenticated::Form(e).into()),
        };
    }
    asked.renewable = true;
    let signed_in = app.sign_in_face(text, source, &asked.vault.resource()).await;
    if let Err(Error::Unauthenticated(Unauthenticated::Audience)) = signed_in {
        let known = app.sign_in_face_for_any(text, source).await?;
        asked.audience = known.token.kind.audience().map(ToOwned::to_owned);
    }
    signed_in
}
