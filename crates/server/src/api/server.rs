//! What a stranger may know: that a server is there, its authority's certificate, and how to speak to it.

use std::sync::OnceLock;

use axum::extract::State;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use kluis_store::Integrity;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Json;
use super::document::Problems;
use crate::app::App;
use crate::error::{Error, Result};
use crate::version;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default().routes(routes!(health)).routes(routes!(ca)).routes(routes!(openapi))
}

/// Whether the server works.
#[derive(Clone, Debug, Serialize, ToSchema)]
struct Health {
    /// `ok`, or `damaged` when stored rows are not what was written; `kluis admin doctor` says which.
    status: &'static str,
    /// The server's version.
    version: &'static str,
}

/// Whether the server works. Public.
#[utoipa::path(get, path = "/health", tag = "server", security(()), responses((status = 200, body = Health), Problems))]
async fn health(State(app): State<App>) -> Json<Health> {
    let health = app.store.health();
    let sound = health.integrity != Integrity::Damaged && health.findings.is_empty();
    Json(Health { status: if sound { "ok" } else { "damaged" }, version: version::OWN })
}

/// The certificate of the authority that vouches for this server, as PEM. Public; trust it only when its SHA-256 is the one you were given.
#[utoipa::path(get, path = "/ca", tag = "server", security(()),
    responses((status = 200, body = String, content_type = "application/x-pem-file"), Problems))]
async fn ca(State(app): State<App>) -> Result<([(http::HeaderName, &'static str); 1], String)> {
    let ca = app.ca.as_ref().ok_or(Error::NotFound("certificate authority"))?;
    Ok(([(CONTENT_TYPE, "application/x-pem-file")], ca.pem.clone()))
}

/// This document. Public.
#[utoipa::path(get, path = "/openapi.json", tag = "server", security(()),
    responses((status = 200, content_type = "application/json"), Problems))]
async fn openapi() -> ([(http::HeaderName, &'static str); 1], Bytes) {
    // Anybody may ask, and it never changes.
    static DOCUMENT: OnceLock<Bytes> = OnceLock::new();
    let document = DOCUMENT.get_or_init(|| serde_json::to_vec(&super::document()).expect("it is JSON").into());
    ([(CONTENT_TYPE, "application/json")], document.clone())
}
