//! The native face: JSON under `/api/v1`. Handlers extract, call a service and render; the OpenAPI document is generated
//! from them and pinned in docs/openapi.json. To add an endpoint: a type in `kluis_core::api`, a service method, a handler
//! in its noun's file, a test at the URL's path, then accept the snapshot.

use axum::Router;
use axum::middleware::from_fn_with_state;
use kluis_core::api::PREFIX;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use crate::app::App;
use crate::azure;
use crate::azureml;
use crate::error::{Error, Result};

mod agents;
mod audit;
mod computes;
pub(crate) mod document;
pub(crate) mod download;
mod identity;
pub mod json;
pub mod path;
pub mod problem;
mod runs;
mod secrets;
mod server;
mod session;
mod snapshots;
mod workspaces;

pub use json::Json;
pub use path::{Path, Query};

/// Every route, ready to serve.
pub fn router(app: App) -> Router {
    let (router, _) = routes().split_for_parts();
    let azure = azure::authority::router(app.clone());
    router
        .fallback(|| async { Err::<(), _>(Error::NotFound("address")) })
        .method_not_allowed_fallback(|| async { Err::<(), _>(Error::MethodNotAllowed) })
        .layer(from_fn_with_state(app.clone(), problem::edge))
        .with_state(app.clone())
        .merge(azure)
        .merge(azureml::router(app))
}

/// The OpenAPI document.
pub fn document() -> OpenApi {
    document::secured(routes().into_openapi())
}

fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(document::base()).nest(PREFIX, nouns())
}

fn nouns() -> OpenApiRouter<App> {
    [
        server::routes(),
        identity::routes(),
        workspaces::routes(),
        secrets::routes(),
        computes::routes(),
        audit::routes(),
        snapshots::routes(),
        runs::routes(),
        agents::routes(),
        session::routes(),
    ]
    .into_iter()
    .fold(OpenApiRouter::default(), OpenApiRouter::merge)
}

/// A page's limit: 1 to 200, 200 when absent.
pub(crate) fn limit(asked: Option<u32>) -> Result<u32> {
    match asked {
        None => Ok(kluis_core::api::MAX_PAGE),
        Some(n @ 1..=kluis_core::api::MAX_PAGE) => Ok(n),
        Some(_) => Err(Error::bad_request("`limit` must be 1 to 200")),
    }
}
