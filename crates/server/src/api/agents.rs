//! `/agent`: what an agent asks and says. It can act for runs of its own compute target and nothing else.

use axum::extract::State;
use kluis_core::api::agents::{AttemptView, AttemptsQuery, ConfirmAttempt, LeaseAnswer, LeaseRequest, ReportAttempt};
use kluis_core::api::{Done, Page, Problem};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Json, Query};
use crate::app::App;
use crate::caller::Caller;
use crate::error::Result;

/// This noun's routes.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(lease))
        .routes(routes!(confirm))
        .routes(routes!(report))
        .routes(routes!(attempts))
}

/// Asks for work: a queued run, for one attempt, with its tickets. Waits at most `wait_seconds` for one.
#[utoipa::path(post, path = "/agent/leases", tag = "agents", security(("token" = [])), request_body = LeaseRequest,
    responses((status = 200, body = LeaseAnswer), (status = "default", body = Problem)))]
async fn lease(State(app): State<App>, caller: Caller, Json(request): Json<LeaseRequest>) -> Result<Json<LeaseAnswer>> {
    Ok(Json(app.attempts().lease(&caller, request).await?))
}

/// Says that the engine runs the attempt's job: its ticket works from now on, for 120 s.
#[utoipa::path(post, path = "/agent/confirm", tag = "agents", security(("token" = [])),
    request_body = ConfirmAttempt,
    responses((status = 200, body = Done), (status = "default", body = Problem)))]
async fn confirm(State(app): State<App>, caller: Caller, Json(confirm): Json<ConfirmAttempt>) -> Result<Json<Done>> {
    app.attempts().confirm(&caller, confirm).await?;
    Ok(Json(Done {}))
}

/// Says how an attempt fares on its engine.
#[utoipa::path(post, path = "/agent/report", tag = "agents", security(("token" = [])), request_body = ReportAttempt,
    responses((status = 200, body = Done), (status = "default", body = Problem)))]
async fn report(State(app): State<App>, caller: Caller, Json(report): Json<ReportAttempt>) -> Result<Json<Done>> {
    app.attempts().report(&caller, report).await?;
    Ok(Json(Done {}))
}

/// Lists the attempts of a compute target that are believed to be alive: what a restarted agent looks after.
#[utoipa::path(get, path = "/agent/attempts", tag = "agents", security(("token" = [])), params(AttemptsQuery),
    responses((status = 200, body = Page<AttemptView>), (status = "default", body = Problem)))]
async fn attempts(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<AttemptsQuery>,
) -> Result<Json<Page<AttemptView>>> {
    Ok(Json(app.attempts().active(&caller, query).await?))
}
