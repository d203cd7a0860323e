//! `/session`: a launcher and its run. Every request is signed; there is no token. Answers to a session that is over are
//! definite (401, 403, 409), never "try again". The signature is checked first: what else is wrong with a request is told
//! only to whom it belongs.

use axum::extract::State;
use kluis_core::api::runs::ChangeRun;
use kluis_core::api::session::{
    AppendLogs, AppendMetrics, Appended, ChildCreated, CreateChild, EndChild, EndRun, Heartbeat, HeartbeatAnswer,
    OutputQuery, ReadSecrets, RedeemTicket, SecretsRead, SessionOpened,
};
use kluis_core::api::{Done, Problem};
use kluis_core::name::RunId;
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::download::Download;
use super::{Json, Path, Query};
use crate::app::App;
use crate::error::Result;
use crate::signed::{Redeeming, Signed, SignedBytes};

/// This noun's routes.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(redeem))
        .routes(routes!(snapshot))
        .routes(routes!(secrets))
        .routes(routes!(heartbeat))
        .routes(routes!(logs))
        .routes(routes!(metrics))
        .routes(routes!(change))
        .routes(routes!(output))
        .routes(routes!(child))
        .routes(routes!(child_end))
        .routes(routes!(end))
}

#[derive(Debug, Deserialize)]
struct OfPath {
    path: String,
}

#[derive(Debug, Deserialize)]
struct OfChild {
    run: RunId,
}

/// Of which run: the session's own, or a child of it.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct WhichRun {
    /// A child run of this run; the run itself when absent.
    #[serde(default)]
    run: Option<RunId>,
}

/// Redeems a ticket. The same ticket and key again get the same session; another key is theft, and ends the run.
#[utoipa::path(post, path = "/session/redeem", tag = "session", request_body = RedeemTicket,
    responses((status = 200, body = SessionOpened), (status = "default", body = Problem)))]
async fn redeem(State(app): State<App>, redeeming: Redeeming) -> Result<Json<SessionOpened>> {
    Ok(Json(app.sessions().redeem(redeeming).await?))
}

/// Downloads the run's packed tree.
#[utoipa::path(get, path = "/session/snapshot", tag = "session",
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = "default", body = Problem)))]
async fn snapshot(State(app): State<App>, signed: SignedBytes) -> Result<Download> {
    Ok(Download(app.sessions().snapshot(&signed.session).await?))
}

/// Reads secrets as the run. Recorded and committed before it is answered.
#[utoipa::path(post, path = "/session/secrets", tag = "session", operation_id = "session_secrets", request_body = ReadSecrets,
    responses((status = 200, body = SecretsRead), (status = "default", body = Problem)))]
async fn secrets(State(app): State<App>, signed: Signed<ReadSecrets>) -> Result<Json<SecretsRead>> {
    Ok(Json(app.sessions().read(&signed.session, signed.body).await?))
}

/// A sign of life. Noted at once; answered when there is something to say, or after `wait_seconds`.
#[utoipa::path(post, path = "/session/heartbeat", tag = "session", request_body = Heartbeat,
    responses((status = 200, body = HeartbeatAnswer), (status = "default", body = Problem)))]
async fn heartbeat(State(app): State<App>, signed: Signed<Heartbeat>) -> Result<Json<HeartbeatAnswer>> {
    Ok(Json(app.sessions().heartbeat(&signed.session, signed.body).await?))
}

/// Appends log records. Sending some again is harmless.
#[utoipa::path(post, path = "/session/logs", tag = "session", operation_id = "session_logs", request_body = AppendLogs,
    responses((status = 200, body = Appended), (status = "default", body = Problem)))]
async fn logs(State(app): State<App>, signed: Signed<AppendLogs>) -> Result<Json<Appended>> {
    Ok(Json(app.sessions().append_logs(&signed.session, signed.body).await?))
}

/// Appends metrics. Sending some again is harmless.
#[utoipa::path(post, path = "/session/metrics", tag = "session", operation_id = "session_metrics", request_body = AppendMetrics,
    responses((status = 200, body = Appended), (status = "default", body = Problem)))]
async fn metrics(State(app): State<App>, signed: Signed<AppendMetrics>) -> Result<Json<Appended>> {
    Ok(Json(app.sessions().append_metrics(&signed.session, signed.body).await?))
}

/// Changes tags, properties or display name, of the run or of a child run.
#[utoipa::path(patch, path = "/session/run", tag = "session", operation_id = "session_change", params(WhichRun), request_body = ChangeRun,
    responses((status = 200, body = Done), (status = "default", body = Problem)))]
async fn change(
    State(app): State<App>,
    which: Result<Query<WhichRun>>,
    signed: Signed<ChangeRun>,
) -> Result<Json<Done>> {
    app.sessions().change(&signed.session, which?.0.run, signed.body).await?;
    Ok(Json(Done {}))
}

/// Uploads a piece of a file, at most 4 MiB. Pieces come in order; the file appears with the last one.
#[utoipa::path(put, path = "/session/outputs/{*path}", tag = "session", operation_id = "session_output",
    params(("path" = String, Path), OutputQuery),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = Done), (status = "default", body = Problem)))]
async fn output(
    State(app): State<App>,
    at: Result<Path<OfPath>>,
    piece: Result<Query<OutputQuery>>,
    signed: SignedBytes,
) -> Result<Json<Done>> {
    app.sessions().output(&signed.session, &at?.0.path, piece?.0, &signed.body).await?;
    Ok(Json(Done {}))
}

/// Creates a child run. The same id again is the same child.
#[utoipa::path(post, path = "/session/children", tag = "session", request_body = CreateChild,
    responses((status = 200, body = ChildCreated), (status = "default", body = Problem)))]
async fn child(State(app): State<App>, signed: Signed<CreateChild>) -> Result<Json<ChildCreated>> {
    Ok(Json(app.sessions().child_create(&signed.session, signed.body).await?))
}

/// Ends a child run.
#[utoipa::path(post, path = "/session/children/{run}/end", tag = "session", params(("run" = RunId, Path)),
    request_body = EndChild,
    responses((status = 200, body = Done), (status = "default", body = Problem)))]
async fn child_end(State(app): State<App>, at: Result<Path<OfChild>>, signed: Signed<EndChild>) -> Result<Json<Done>> {
    app.sessions().child_end(&signed.session, &at?.0.run, signed.body).await?;
    Ok(Json(Done {}))
}

/// Reports the run's end. With the answer the session is dead; saying it again is harmless.
#[utoipa::path(post, path = "/session/end", tag = "session", request_body = EndRun,
    responses((status = 200, body = Done), (status = "default", body = Problem)))]
async fn end(State(app): State<App>, signed: Signed<EndRun>) -> Result<Json<Done>> {
    app.sessions().end(&signed.session, signed.body).await?;
    Ok(Json(Done {}))
}
