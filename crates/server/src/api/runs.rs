//! `/workspaces/{workspace}/runs` and `/experiments`: submitting, watching and steering runs. Logs and outputs are
//! streamed; everything else is small.

use axum::extract::State;
use kluis_core::api::runs::{
    ChangeRun, ExperimentView, LogsQuery, MetricsPage, OutputView, RunSecretView, RunView, RunsQuery, SubmitRun,
};
use kluis_core::api::{Page, PageQuery, Problem};
use kluis_core::name::{RunId, WorkspaceName};
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::download::{Download, JsonLines};
use super::{Json, Path, Query};
use crate::app::App;
use crate::caller::Caller;
use crate::error::Result;

/// This noun's routes.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(experiments))
        .routes(routes!(submit, list))
        .routes(routes!(show, change))
        .routes(routes!(cancel))
        .routes(routes!(logs))
        .routes(routes!(metrics))
        .routes(routes!(secrets))
        .routes(routes!(outputs))
        .routes(routes!(output))
}

#[derive(Debug, Deserialize)]
struct InWorkspace {
    workspace: WorkspaceName,
}

#[derive(Debug, Deserialize)]
struct OfRun {
    workspace: WorkspaceName,
    run: RunId,
}

#[derive(Debug, Deserialize)]
struct OfOutput {
    workspace: WorkspaceName,
    run: RunId,
    path: String,
}

/// Lists experiments by name.
#[utoipa::path(get, path = "/workspaces/{workspace}/experiments", tag = "runs", security(("token" = [])),
    params(("workspace" = WorkspaceName, Path), PageQuery),
    responses((status = 200, body = Page<ExperimentView>), (status = "default", body = Problem)))]
async fn experiments(
    State(app): State<App>,
    caller: Caller,
    Path(at): Path<InWorkspace>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<ExperimentView>>> {
    Ok(Json(app.runs().experiments(&caller, &at.workspace, page).await?))
}

/// Submits a run. Answers when it is queued. The same client-chosen id and body again is the same run.
#[utoipa::path(post, path = "/workspaces/{workspace}/runs", tag = "runs", security(("token" = [])),
    params(("workspace" = WorkspaceName, Path)), request_body = SubmitRun,
    responses((status = 200, body = RunView), (status = "default", body = Problem)))]
async fn submit(
    State(app): State<App>,
    caller: Caller,
    Path(at): Path<InWorkspace>,
    Json(spec): Json<SubmitRun>,
) -> Result<Json<RunView>> {
    Ok(Json(app.runs().submit(&caller, &at.workspace, spec).await?))
}

/// Lists runs, newest first.
#[utoipa::path(get, path = "/workspaces/{workspace}/runs", tag = "runs", security(("token" = [])),
    params(("workspace" = WorkspaceName, Path), RunsQuery),
    responses((status = 200, body = Page<RunView>), (status = "default", body = Problem)))]
async fn list(
    State(app): State<App>,
    caller: Caller,
    Path(at): Path<InWorkspace>,
    Query(query): Query<RunsQuery>,
) -> Result<Json<Page<RunView>>> {
    Ok(Json(app.runs().list(&caller, &at.workspace, query).await?))
}

/// Shows a run.
#[utoipa::path(get, path = "/workspaces/{workspace}/runs/{run}", tag = "runs", security(("token" = [])),
    params(("workspace" = WorkspaceName, Path), ("run" = RunId, Path)),
    responses((status = 200, body = RunView), (status = "default", body = Problem)))]
async fn show(State(app): State<App>, caller: Caller, Path(at): Path<OfRun>) -> Result<Json<RunView>> {
    Ok(Json(app.runs().show(&caller, &at.workspace, &at.run).await?))
}

/// Changes a run's tags, properties or display name.
#[utoipa::path(patch, path = "/workspaces/{workspace}/runs/{run}", tag = "runs", security(("token" = [])),
    params(("workspace" = WorkspaceName, Path), ("run" = RunId, Path)), request_body = ChangeRun,
    responses((status = 200, body = RunView), (status = "default", body = Problem)))]
async fn change(
    State(app): State<App>,
    caller: Caller,
    Path(at): Path<OfRun>,
    Json(change): Json<ChangeRun>,
) -> Result<Json<RunView>> {
    Ok(Json(app.runs().change(&caller, &at.workspace, &at.run, change).await?))
}

/// Cancels a run. It reads no secret from the moment of the answer; its process is ended by its launcher. Cancelling a
/// run that has ended changes nothing.
#[utoipa::path(post, path = "/workspaces/{workspace}/runs/{run}/cancel", tag = "runs", security(("token" = [])),
    params(("workspace" = WorkspaceName, Path), ("run" = RunId, Path)),
    responses((status = 200, body = RunView), (status = "default", body = Problem)))]
async fn cancel(State(app): State<App>, caller: Caller, Path(at): Path<OfRun>) -> Result<Json<RunView>> {
    Ok(Json(app.runs().cancel(&caller, &at.workspace, &at.run).await?))
}

/// Streams a run's log: JSON lines, one `LogRecord` each.
#[utoipa::path(get, path = "/workspaces/{workspace}/runs/{run}/logs", tag = "runs", security(("token" = [])),
    params(("workspace" = WorkspaceName, Path), ("run" = RunId, Path), LogsQuery),
    responses((status = 200, body = String, content_type = "application/jsonl"),
        (status = "default", body = Problem)))]
async fn logs(
    State(app): State<App>,
    caller: Caller,
    Path(at): Path<OfRun>,
    Query(query): Query<LogsQuery>,
) -> Result<JsonLines> {
    Ok(JsonLines::new(app.runs().logs(&caller, &at.workspace, &at.run, query).await?.into_stream()))
}

/// Lists a run's metrics, in the order logged.
#[utoipa::path(get, path = "/workspaces/{workspace}/runs/{run}/metrics", tag = "runs", security(("token" = [])),
    params(("workspace" = WorkspaceName, Path), ("run" = RunId, Path), PageQuery),
    responses((status = 200, body = MetricsPage), (status = "default", body = Problem)))]
async fn metrics(
    State(app): State<App>,
    caller: Caller,
    Path(at): Path<OfRun>,
    Query(page): Query<PageQuery>,
) -> Result<Json<MetricsPage>> {
    Ok(Json(app.runs().metrics(&caller, &at.workspace, &at.run, page).await?))
}

/// Lists the secrets that a run was given, with the versions.
#[utoipa::path(get, path = "/workspaces/{workspace}/runs/{run}/secrets", tag = "runs", security(("token" = [])),
    params(("workspace" = WorkspaceName, Path), ("run" = RunId, Path), PageQuery),
    responses((status = 200, body = Page<RunSecretView>), (status = "default", body = Problem)))]
async fn secrets(
    State(app): State<App>,
    caller: Caller,
    Path(at): Path<OfRun>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<RunSecretView>>> {
    Ok(Json(app.runs().secrets(&caller, &at.workspace, &at.run, page).await?))
}

/// Lists a run's files by path.
#[utoipa::path(get, path = "/workspaces/{workspace}/runs/{run}/outputs", tag = "runs", security(("token" = [])),
    params(("workspace" = WorkspaceName, Path), ("run" = RunId, Path), PageQuery),
    responses((status = 200, body = Page<OutputView>), (status = "default", body = Problem)))]
async fn outputs(
    State(app): State<App>,
    caller: Caller,
    Path(at): Path<OfRun>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<OutputView>>> {
    Ok(Json(app.runs().outputs(&caller, &at.workspace, &at.run, page).await?))
}

/// Downloads one of a run's files.
#[utoipa::path(get, path = "/workspaces/{workspace}/runs/{run}/outputs/{*path}", tag = "runs",
    security(("token" = [])),
    params(("workspace" = WorkspaceName, Path), ("run" = RunId, Path), ("path" = String, Path)),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = "default", body = Problem)))]
async fn output(State(app): State<App>, caller: Caller, Path(at): Path<OfOutput>) -> Result<Download> {
    Ok(Download(app.runs().output(&caller, &at.workspace, &at.run, &at.path).await?))
}
