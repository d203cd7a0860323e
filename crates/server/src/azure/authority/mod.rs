//! The token authority: what Azure's clients sign in at when they are told that we are theirs. Two shapes of address serve
//! the same: that of the tenant literally called `adfs`, for which clients ask nobody else whether we may be trusted, and
//! that of an ordinary tenant, for clients that are told not to ask. Which tenant is named changes nothing: there is one
//! installation.
//!
//! | | |
//! |---|---|
//! | `discovery` | where everything is |
//! | `token` | the grants: client credentials (secret or assertion), device code, refresh token |
//! | `device` | a login that somebody approves elsewhere |
//! | `managed` | what a client takes for its machine's managed identity |
//! | `form` | requests: forms, tenants, resources |
//! | `answer` | answers, and refusals as OAuth has them |

use std::panic::AssertUnwindSafe;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::FutureExt;
use http::HeaderValue;
use http::header::{CACHE_CONTROL, PRAGMA, X_CONTENT_TYPE_OPTIONS};

use crate::api::problem;
use crate::app::App;
use crate::error::Error;

mod answer;
mod device;
mod discovery;
mod form;
mod managed;
mod token;

/// Its routes, with their own way of telling errors.
pub(crate) fn router(app: App) -> Router {
    Router::new()
        .route("/adfs/.well-known/openid-configuration", get(discovery::adfs))
        .route("/adfs/oauth2/token", post(token::adfs))
        .route("/{tenant}/v2.0/.well-known/openid-configuration", get(discovery::tenant))
        .route("/{tenant}/oauth2/v2.0/token", post(token::tenant))
        .route("/adfs/oauth2/devicecode", post(device::start))
        .route("/{tenant}/oauth2/v2.0/devicecode", post(device::start_of_tenant))
        .route("/azure/device", get(device::page))
        .route("/azure/identity/token", get(managed::token))
        .route("/azure/identity/token/", get(managed::token))
        .method_not_allowed_fallback(|| async { Error::MethodNotAllowed })
        .layer(from_fn_with_state(app.clone(), edge))
        .with_state(app)
}

/// Every answer has an id and is not kept by anybody; a panic becomes an answer; an [`Error`] becomes what OAuth's clients
/// read, and one line in the log.
async fn edge(State(app): State<App>, request: Request, next: Next) -> Response {
    let id = problem::request_id(&*app.rng);
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let answer = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    let mut response = answer.unwrap_or_else(|_| Error::internal("a handler panicked").into_response());
    if let Some(error) = response.extensions_mut().remove::<Error>() {
        problem::log(&error, &id, &method, route.as_ref());
        response = answer::refused(&error);
    }
    let headers = response.headers_mut();
    headers.insert(problem::HEADER_REQUEST_ID, HeaderValue::try_from(id).expect("hex digits make a header"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
