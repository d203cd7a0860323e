//! Compute targets.

use axum::extract::State;
use kluis_core::api::workspaces::{ComputeView, CreateCompute};
use kluis_core::api::{Done, Page, PageQuery};
use kluis_core::name::ComputeName;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::document::Problems;
use super::{Json, Path, Query};
use crate::app::App;
use crate::caller::Caller;
use crate::error::Result;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(compute_list, compute_create))
        .routes(routes!(compute_show, compute_delete))
        .routes(routes!(compute_user_add, compute_user_remove))
}

/// The compute targets that the caller may use or serve, by name. A page may hold fewer than asked for.
#[utoipa::path(get, path = "/computes", tag = "computes", params(PageQuery),
    responses((status = 200, body = Page<ComputeView>), Problems))]
async fn compute_list(
    State(app): State<App>,
    caller: Caller,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<ComputeView>>> {
    Ok(Json(app.computes().list(&caller, &page).await?))
}

/// A new compute target.
#[utoipa::path(post, path = "/computes", tag = "computes", request_body = CreateCompute,
    responses((status = 200, body = ComputeView), Problems))]
async fn compute_create(
    State(app): State<App>,
    caller: Caller,
    Json(create): Json<CreateCompute>,
) -> Result<Json<ComputeView>> {
    Ok(Json(app.computes().create(&caller, &create).await?))
}

/// One compute target.
#[utoipa::path(get, path = "/computes/{compute}", tag = "computes", params(("compute" = ComputeName, Path)),
    responses((status = 200, body = ComputeView), Problems))]
async fn compute_show(
    State(app): State<App>,
    caller: Caller,
    Path(compute): Path<ComputeName>,
) -> Result<Json<ComputeView>> {
    Ok(Json(app.computes().show(&caller, &compute).await?))
}

/// Delete a compute target. Refused while a run waits for it or runs on it.
#[utoipa::path(delete, path = "/computes/{compute}", tag = "computes", params(("compute" = ComputeName, Path)),
    responses((status = 200, body = Done), Problems))]
async fn compute_delete(
    State(app): State<App>,
    caller: Caller,
    Path(compute): Path<ComputeName>,
) -> Result<Json<Done>> {
    app.computes().delete(&caller, &compute).await?;
    Ok(Json(Done {}))
}

/// Let a principal submit runs to a compute target that is not open.
#[utoipa::path(put, path = "/computes/{compute}/users/{principal}", tag = "computes",
    params(("compute" = ComputeName, Path), ("principal" = String, Path, description = "an id or a name")),
    responses((status = 200, body = Done), Problems))]
async fn compute_user_add(
    State(app): State<App>,
    caller: Caller,
    Path((compute, principal)): Path<(ComputeName, String)>,
) -> Result<Json<Done>> {
    app.computes().user_add(&caller, &compute, &principal).await?;
    Ok(Json(Done {}))
}

/// Take that, or an agent's right to serve it.
#[utoipa::path(delete, path = "/computes/{compute}/users/{principal}", tag = "computes",
    params(("compute" = ComputeName, Path), ("principal" = String, Path, description = "an id or a name")),
    responses((status = 200, body = Done), Problems))]
async fn compute_user_remove(
    State(app): State<App>,
    caller: Caller,
    Path((compute, principal)): Path<(ComputeName, String)>,
) -> Result<Json<Done>> {
    app.computes().user_remove(&caller, &compute, &principal).await?;
    Ok(Json(Done {}))
}
