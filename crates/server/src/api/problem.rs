//! The edge of the native API: every request gets an id, a panic becomes an answer, and an [`Error`] becomes Problem
//! JSON (RFC 9457) and one line in the log. Routes are logged by their pattern, never by what was asked for.

use std::panic::AssertUnwindSafe;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use data_encoding::HEXLOWER;
use futures_util::FutureExt;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, StatusCode};
use kluis_core::api::Problem;
use kluis_core::rng::Rng;

use super::path;
use crate::app::App;
use crate::error::{Error, Result};
use crate::version;

/// The answer's header with the request's id.
pub const HEADER_REQUEST_ID: &str = "kluis-request-id";

/// The request's path and query as they arrived: what a launcher signs.
#[derive(Clone, Debug)]
pub struct Arrived(pub String);

/// The error rides along until the edge renders it.
impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Wraps every route.
pub async fn edge(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let id = request_id(&*app.rng);
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let mut response = match prepare(&mut request) {
        Err(e) => e.into_response(),
        Ok(()) => AssertUnwindSafe(next.run(request))
            .catch_unwind()
            .await
            .unwrap_or_else(|_| Error::internal("a handler panicked").into_response()),
    };
    if let Some(error) = response.extensions_mut().remove::<Error>() {
        log(&error, &id, &method, route.as_ref());
        response = render(&error, &id);
    }
    let headers = response.headers_mut();
    headers.insert(HEADER_REQUEST_ID, HeaderValue::try_from(id).expect("hex digits make a header"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Looks at the client's version and the address, and keeps that as it arrived.
pub(crate) fn prepare(request: &mut Request) -> Result<()> {
    version::check(request.headers())?;
    path::check(request.uri())?;
    let arrived = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    request.extensions_mut().insert(Arrived(arrived));
    Ok(())
}

/// An error as Problem JSON.
fn render(error: &Error, id: &str) -> Response {
    let status = error.status();
    let problem = Problem {
        status: status.as_u16(),
        code: error.code().to_owned(),
        title: error.code().replace('_', " "),
        detail: Some(error.to_string()),
        request_id: Some(id.to_owned()),
    };
    let body = serde_json::to_vec(&problem).expect("texts and a number become JSON");
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    if let Some(after) = error.retry_after() {
        headers.insert(RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    }
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"kluis\""));
    }
    response
}

/// The one place where an error meets the log. What only the operator may know
/// ([`Error::Internal`]'s text) stands here and not in the answer.
pub(crate) fn log(error: &Error, id: &str, method: &Method, route: Option<&MatchedPath>) {
    log_as(error, id, method, route.map_or("-", MatchedPath::as_str));
}

/// The same for a face without patterns.
pub(crate) fn log_as(error: &Error, id: &str, method: &Method, route: &str) {
    let (status, code) = (error.status().as_u16(), error.code());
    match error {
        Error::Internal(what) => tracing::error!(request = id, %method, route, status, code, what = %what, "failed"),
        Error::Inconsistent { table, row } => {
            tracing::error!(request = id, %method, route, status, code, table, row, "a stored row is damaged");
        }
        Error::Unavailable(what) | Error::StorageFull(what) => {
            tracing::warn!(request = id, %method, route, status, code, what = %what, "not done");
        }
        _ => tracing::debug!(request = id, %method, route, status, code, "refused"),
    }
}

/// A new request's id.
pub(crate) fn request_id(rng: &dyn Rng) -> String {
    let mut bytes = [0; 8];
    rng.fill(&mut bytes);
    HEXLOWER.encode(&bytes)
}
