//! Workspaces, their members, their keys.

use axum::extract::State;
use kluis_core::api::workspaces::{CreateWorkspace, MemberView, SetMember, WorkspaceSettings, WorkspaceView};
use kluis_core::api::{Done, Page, PageQuery};
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
        .routes(routes!(workspace_list, workspace_create))
        .routes(routes!(workspace_show, workspace_change, workspace_delete))
        .routes(routes!(member_list))
        .routes(routes!(member_set, member_remove))
        .routes(routes!(workspace_key_rotate))
}

/// The workspaces that the caller may know of, by name.
#[utoipa::path(get, path = "/workspaces", tag = "workspaces", params(PageQuery),
    responses((status = 200, body = Page<WorkspaceView>), Problems))]
async fn workspace_list(
    State(app): State<App>,
    caller: Caller,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<WorkspaceView>>> {
    Ok(Json(app.workspaces().list(&caller, &page).await?))
}

/// A new workspace; the caller becomes its owner.
#[utoipa::path(post, path = "/workspaces", tag = "workspaces", request_body = CreateWorkspace,
    responses((status = 200, body = WorkspaceView), Problems))]
async fn workspace_create(
    State(app): State<App>,
    caller: Caller,
    Json(create): Json<CreateWorkspace>,
) -> Result<Json<WorkspaceView>> {
    Ok(Json(app.workspaces().create(&caller, &create).await?))
}

/// One workspace.
#[utoipa::path(get, path = "/workspaces/{workspace}", tag = "workspaces", params(("workspace" = WorkspaceName, Path)),
    responses((status = 200, body = WorkspaceView), Problems))]
async fn workspace_show(
    State(app): State<App>,
    caller: Caller,
    Path(workspace): Path<WorkspaceName>,
) -> Result<Json<WorkspaceView>> {
    Ok(Json(app.workspaces().show(&caller, &workspace).await?))
}

/// New settings, all of them: what is left out gets its default.
#[utoipa::path(patch, path = "/workspaces/{workspace}", tag = "workspaces",
    params(("workspace" = WorkspaceName, Path)), request_body = WorkspaceSettings,
    responses((status = 200, body = WorkspaceView), Problems))]
async fn workspace_change(
    State(app): State<App>,
    caller: Caller,
    Path(workspace): Path<WorkspaceName>,
    Json(settings): Json<WorkspaceSettings>,
) -> Result<Json<WorkspaceView>> {
    Ok(Json(app.workspaces().change(&caller, &workspace, settings).await?))
}

/// Delete a workspace with everything in it. Refused while a run of it lives; its name stays taken.
#[utoipa::path(delete, path = "/workspaces/{workspace}", tag = "workspaces",
    params(("workspace" = WorkspaceName, Path)), responses((status = 200, body = Done), Problems))]
async fn workspace_delete(
    State(app): State<App>,
    caller: Caller,
    Path(workspace): Path<WorkspaceName>,
) -> Result<Json<Done>> {
    app.workspaces().delete(&caller, &workspace).await?;
    Ok(Json(Done {}))
}

/// Who is a member, by name.
#[utoipa::path(get, path = "/workspaces/{workspace}/members", tag = "workspaces",
    params(("workspace" = WorkspaceName, Path), PageQuery),
    responses((status = 200, body = Page<MemberView>), Problems))]
async fn member_list(
    State(app): State<App>,
    caller: Caller,
    Path(workspace): Path<WorkspaceName>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<MemberView>>> {
    Ok(Json(app.workspaces().members(&caller, &workspace, &page).await?))
}

/// Make somebody a member, or give a member another role.
#[utoipa::path(put, path = "/workspaces/{workspace}/members/{principal}", tag = "workspaces",
    params(("workspace" = WorkspaceName, Path), ("principal" = String, Path, description = "an id or a name")),
    request_body = SetMember, responses((status = 200, body = MemberView), Problems))]
async fn member_set(
    State(app): State<App>,
    caller: Caller,
    Path((workspace, principal)): Path<(WorkspaceName, String)>,
    Json(set): Json<SetMember>,
) -> Result<Json<MemberView>> {
    Ok(Json(app.workspaces().member_set(&caller, &workspace, &principal, set.role).await?))
}

/// End a membership. The last owner stays.
#[utoipa::path(delete, path = "/workspaces/{workspace}/members/{principal}", tag = "workspaces",
    params(("workspace" = WorkspaceName, Path), ("principal" = String, Path, description = "an id or a name")),
    responses((status = 200, body = Done), Problems))]
async fn member_remove(
    State(app): State<App>,
    caller: Caller,
    Path((workspace, principal)): Path<(WorkspaceName, String)>,
) -> Result<Json<Done>> {
    app.workspaces().member_remove(&caller, &workspace, &principal).await?;
    Ok(Json(Done {}))
}

/// A new key generation for the workspace. What is there is rewrapped in the background; all of it stays readable.
#[utoipa::path(post, path = "/workspaces/{workspace}/keys:rotate", tag = "workspaces",
    params(("workspace" = WorkspaceName, Path)), responses((status = 200, body = Done), Problems))]
async fn workspace_key_rotate(
    State(app): State<App>,
    caller: Caller,
    Path(workspace): Path<WorkspaceName>,
) -> Result<Json<Done>> {
    app.workspaces().key_rotate(&caller, &workspace).await?;
    Ok(Json(Done {}))
}
