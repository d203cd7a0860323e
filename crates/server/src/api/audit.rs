//! The audit log.

use axum::extract::State;
use kluis_core::api::audit::{AuditPage, AuditQuery};
use kluis_core::audit::SignedCheckpoint;
use kluis_core::name::WorkspaceName;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::document::Problems;
use super::{Json, Path, Query};
use crate::app::App;
use crate::caller::Caller;
use crate::error::Result;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(audit_all))
        .routes(routes!(audit_of_workspace))
        .routes(routes!(audit_checkpoint))
}

/// Records of the whole installation. `after` is the number of the last record seen.
#[utoipa::path(get, path = "/audit", tag = "audit", params(AuditQuery),
    responses((status = 200, body = AuditPage), Problems))]
async fn audit_all(State(app): State<App>, caller: Caller, Query(query): Query<AuditQuery>) -> Result<Json<AuditPage>> {
    Ok(Json(app.audit().all(&caller, &query).await?))
}

/// Records of one workspace. `after` is the number of the last record seen.
#[utoipa::path(get, path = "/workspaces/{workspace}/audit", tag = "audit",
    params(("workspace" = WorkspaceName, Path), AuditQuery),
    responses((status = 200, body = AuditPage), Problems))]
async fn audit_of_workspace(
    State(app): State<App>,
    caller: Caller,
    Path(workspace): Path<WorkspaceName>,
    Query(query): Query<AuditQuery>,
) -> Result<Json<AuditPage>> {
    Ok(Json(app.audit().of_workspace(&caller, &workspace, &query).await?))
}

/// The log as it is now, signed: remember it, and a rollback shows.
#[utoipa::path(get, path = "/audit/checkpoint", tag = "audit",
    responses((status = 200, body = SignedCheckpoint), Problems))]
async fn audit_checkpoint(State(app): State<App>, _caller: Caller) -> Result<Json<SignedCheckpoint>> {
    Ok(Json(app.audit().checkpoint().await?))
}
