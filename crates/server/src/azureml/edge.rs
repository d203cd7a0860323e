//! The edge of this face: as the native one's, but a refusal is told in the words of this dialect. It never asks to be
//! repeated for what is decided: this client repeats 408, 429 and most of 5xx for half a minute and more.

use std::panic::AssertUnwindSafe;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use kluis_core::api::azureml::ErrorBody;

use crate::api::problem::{self, HEADER_REQUEST_ID};
use crate::app::App;
use crate::error::Error;

/// What handlers answer.
pub(super) type Result<T, E = Refusal> = std::result::Result<T, E>;

/// An error with the words of this dialect, where they differ.
#[derive(Debug)]
pub(super) struct Refusal {
    error: Error,
    words: Option<Words>,
}

/// Other words for an error. They may hold a name that has proved to be one.
#[derive(Clone, Debug)]
struct Words(String);

impl Refusal {
    /// The error, told like this.
    pub(super) fn told(error: Error, words: String) -> Self {
        Self { error, words: Some(Words(words)) }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self { error, words: None }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = self.error.into_response();
        if let Some(words) = self.words {
            response.extensions_mut().insert(words);
        }
        response
    }
}

/// Wraps every route.
pub(super) async fn edge(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let id = problem::request_id(&*app.rng);
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let mut response = match problem::prepare(&mut request) {
        Err(e) => e.into_response(),
        Ok(()) => AssertUnwindSafe(next.run(request))
            .catch_unwind()
            .await
            .unwrap_or_else(|_| Error::internal("a handler panicked").into_response()),
    };
    if let Some(error) = response.extensions_mut().remove::<Error>() {
        problem::log(&error, &id, &method, route.as_ref());
        let words = response.extensions_mut().remove::<Words>();
        response = render(&app, &error, words, &id);
    }
    let headers = response.headers_mut();
    headers.insert(HEADER_REQUEST_ID, HeaderValue::try_from(id).expect("hex digits make a header"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn render(app: &App, error: &Error, words: Option<Words>, id: &str) -> Response {
    let status = error.status();
    let code = if status.is_server_error() { "ServiceError" } else { "UserError" };
    let message = words.map_or_else(|| error.to_string(), |Words(words)| words);
    let mut body = ErrorBody::new(code, message, Some(error.code()), app.now());
    body.correlation.insert("RequestId".to_owned(), id.to_owned());
    let body = serde_json::to_vec(&body).expect("texts become JSON");
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    if let Some(after) = error.retry_after() {
        headers.insert(RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    }
    if status == http::StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"kluis\""));
    }
    response
}
