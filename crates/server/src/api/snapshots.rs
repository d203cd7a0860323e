//! `/workspaces/{workspace}/snapshots`: packed source trees, named by their content.

use axum::body::Body;
use axum::extract::State;
use kluis_core::api::Problem;
use kluis_core::api::runs::SnapshotStored;
use kluis_core::id::BlobId;
use kluis_core::name::WorkspaceName;
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::download::Download;
use super::{Json, Path};
use crate::app::App;
use crate::caller::Caller;
use crate::error::Result;

/// This noun's routes.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default().routes(routes!(upload)).routes(routes!(download))
}

#[derive(Debug, Deserialize)]
struct InWorkspace {
    workspace: WorkspaceName,
}

#[derive(Debug, Deserialize)]
struct OfSnapshot {
    workspace: WorkspaceName,
    snapshot: BlobId,
}

/// Stores a packed tree of at most 300 MiB. The same tree again is the same snapshot.
#[utoipa::path(post, path = "/workspaces/{workspace}/snapshots", tag = "runs", security(("token" = [])),
    params(("workspace" = WorkspaceName, Path)),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = SnapshotStored), (status = "default", body = Problem)))]
async fn upload(
    State(app): State<App>,
    caller: Caller,
    Path(at): Path<InWorkspace>,
    body: Body,
) -> Result<Json<SnapshotStored>> {
    Ok(Json(app.snapshots().store(&caller, &at.workspace, body).await?))
}

/// Downloads a packed tree.
#[utoipa::path(get, path = "/workspaces/{workspace}/snapshots/{snapshot}", tag = "runs", security(("token" = [])),
    params(("workspace" = WorkspaceName, Path), ("snapshot" = BlobId, Path)),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = "default", body = Problem)))]
async fn download(State(app): State<App>, caller: Caller, Path(at): Path<OfSnapshot>) -> Result<Download> {
    Ok(Download(app.snapshots().open(&caller, &at.workspace, at.snapshot).await?))
}
