//! Secrets and their versions.

use axum::extract::State;
use kluis_core::api::secrets::{
    ChangeVersion, GetSecretQuery, GetSecrets, SecretValue, SecretValues, SecretView, SecretsSet, SetSecret,
    SetSecrets, VersionView,
};
use kluis_core::api::{Done, Page, PageQuery};
use kluis_core::name::{SecretName, WorkspaceName};
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::document::Problems;
use super::{Json, Path, Query};
use crate::app::App;
use crate::caller::Caller;
use crate::error::Result;
use crate::service::secrets::Described;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(secret_list))
        .routes(routes!(secret_get, secret_set, secret_delete))
        .routes(routes!(version_list))
        .routes(routes!(version_change))
        .routes(routes!(secrets_set))
        .routes(routes!(secrets_get))
        .routes(routes!(deleted_secret_list))
        .routes(routes!(deleted_secret_purge))
        .routes(routes!(deleted_secret_recover))
}

/// A secret's place.
#[derive(Debug, Deserialize)]
struct At {
    workspace: WorkspaceName,
    name: SecretName,
}

fn rendered<T: From<Described>>(page: Page<Described>) -> Page<T> {
    Page { items: page.items.into_iter().map(Into::into).collect(), next: page.next }
}

/// Active secrets by name, without values.
#[utoipa::path(get, path = "/workspaces/{workspace}/secrets", tag = "secrets",
    params(("workspace" = WorkspaceName, Path), PageQuery),
    responses((status = 200, body = Page<SecretView>), Problems))]
async fn secret_list(
    State(app): State<App>,
    caller: Caller,
    Path(workspace): Path<WorkspaceName>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<SecretView>>> {
    Ok(Json(rendered(app.secrets().list(&caller, &workspace, &page).await?)))
}

/// A value: of the current version, or of the one asked for. The delivery is on record before this answers.
#[utoipa::path(get, path = "/workspaces/{workspace}/secrets/{name}", tag = "secrets",
    params(("workspace" = WorkspaceName, Path), ("name" = SecretName, Path), GetSecretQuery),
    responses((status = 200, body = SecretValue), Problems))]
async fn secret_get(
    State(app): State<App>,
    caller: Caller,
    Path(at): Path<At>,
    Query(query): Query<GetSecretQuery>,
) -> Result<Json<SecretValue>> {
    Ok(Json(app.secrets().read(&caller, &at.workspace, &at.name, query.version).await?.into()))
}

/// A new version; the secret is made when it does not exist.
#[utoipa::path(put, path = "/workspaces/{workspace}/secrets/{name}", tag = "secrets",
    params(("workspace" = WorkspaceName, Path), ("name" = SecretName, Path)), request_body = SetSecret,
    responses((status = 200, body = SecretView), Problems))]
async fn secret_set(
    State(app): State<App>,
    caller: Caller,
    Path(at): Path<At>,
    Json(set): Json<SetSecret>,
) -> Result<Json<SecretView>> {
    Ok(Json(app.secrets().set(&caller, &at.workspace, &at.name, &set).await?.into()))
}

/// Delete softly: it can be recovered until its retention ends, and its name stays taken.
#[utoipa::path(delete, path = "/workspaces/{workspace}/secrets/{name}", tag = "secrets",
    params(("workspace" = WorkspaceName, Path), ("name" = SecretName, Path)),
    responses((status = 200, body = SecretView), Problems))]
async fn secret_delete(State(app): State<App>, caller: Caller, Path(at): Path<At>) -> Result<Json<SecretView>> {
    Ok(Json(app.secrets().delete(&caller, &at.workspace, &at.name).await?.into()))
}

/// A secret's versions, newest first, without values.
#[utoipa::path(get, path = "/workspaces/{workspace}/secrets/{name}/versions", tag = "secrets",
    params(("workspace" = WorkspaceName, Path), ("name" = SecretName, Path), PageQuery),
    responses((status = 200, body = Page<VersionView>), Problems))]
async fn version_list(
    State(app): State<App>,
    caller: Caller,
    Path(at): Path<At>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<VersionView>>> {
    Ok(Json(rendered(app.secrets().versions(&caller, &at.workspace, &at.name, &page).await?)))
}

/// Change a version's attributes; what is left out stays as it is.
#[utoipa::path(patch, path = "/workspaces/{workspace}/secrets/{name}/versions/{version}", tag = "secrets",
    params(("workspace" = WorkspaceName, Path), ("name" = SecretName, Path),
        ("version" = String, Path, description = "a version's id, or `current`")),
    request_body = ChangeVersion, responses((status = 200, body = VersionView), Problems))]
async fn version_change(
    State(app): State<App>,
    caller: Caller,
    Path((workspace, name, version)): Path<(WorkspaceName, SecretName, String)>,
    Json(change): Json<ChangeVersion>,
) -> Result<Json<VersionView>> {
    Ok(Json(app.secrets().version_change(&caller, &workspace, &name, &version, &change).await?.into()))
}

/// Set several secrets: all of them, or none.
#[utoipa::path(post, path = "/workspaces/{workspace}/secrets:set", tag = "secrets",
    params(("workspace" = WorkspaceName, Path)), request_body = SetSecrets,
    responses((status = 200, body = SecretsSet), Problems))]
async fn secrets_set(
    State(app): State<App>,
    caller: Caller,
    Path(workspace): Path<WorkspaceName>,
    Json(set): Json<SetSecrets>,
) -> Result<Json<SecretsSet>> {
    Ok(Json(app.secrets().set_many(&caller, &workspace, &set).await?))
}

/// Read several secrets. Missing ones are named; one that is refused refuses all.
#[utoipa::path(post, path = "/workspaces/{workspace}/secrets:get", tag = "secrets",
    params(("workspace" = WorkspaceName, Path)), request_body = GetSecrets,
    responses((status = 200, body = SecretValues), Problems))]
async fn secrets_get(
    State(app): State<App>,
    caller: Caller,
    Path(workspace): Path<WorkspaceName>,
    Json(get): Json<GetSecrets>,
) -> Result<Json<SecretValues>> {
    Ok(Json(app.secrets().read_many(&caller, &workspace, &get.names).await?))
}

/// Deleted secrets that can be recovered, by name.
#[utoipa::path(get, path = "/workspaces/{workspace}/deleted-secrets", tag = "secrets",
    params(("workspace" = WorkspaceName, Path), PageQuery),
    responses((status = 200, body = Page<SecretView>), Problems))]
async fn deleted_secret_list(
    State(app): State<App>,
    caller: Caller,
    Path(workspace): Path<WorkspaceName>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<SecretView>>> {
    Ok(Json(rendered(app.secrets().list_deleted(&caller, &workspace, &page).await?)))
}

/// Purge a deleted secret with all its versions, for good. Its name is free then.
#[utoipa::path(delete, path = "/workspaces/{workspace}/deleted-secrets/{name}", tag = "secrets",
    params(("workspace" = WorkspaceName, Path), ("name" = SecretName, Path)),
    responses((status = 200, body = Done), Problems))]
async fn deleted_secret_purge(State(app): State<App>, caller: Caller, Path(at): Path<At>) -> Result<Json<Done>> {
    app.secrets().purge(&caller, &at.workspace, &at.name).await?;
    Ok(Json(Done {}))
}

/// Recover a deleted secret with all its versions.
#[utoipa::path(post, path = "/workspaces/{workspace}/deleted-secrets/{name}/recover", tag = "secrets",
    params(("workspace" = WorkspaceName, Path), ("name" = SecretName, Path)),
    responses((status = 200, body = SecretView), Problems))]
async fn deleted_secret_recover(
    State(app): State<App>,
    caller: Caller,
    Path(at): Path<At>,
) -> Result<Json<SecretView>> {
    Ok(Json(app.secrets().recover(&caller, &at.workspace, &at.name).await?.into()))
}
