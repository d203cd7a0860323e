//! Experiments. One is made by its first run; until then it is a name that nobody has stored, and asking for it says
//! so.

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use kluis_core::api::PageQuery;
use kluis_core::api::azureml::{ExperimentDocument, Listed};
use kluis_core::api::runs::ExperimentView;
use serde::Deserialize;

use super::edge::Result;
use super::wire::{Body, By, Ignored, InExperiment, InWorkspace, at};
use crate::api::Path;
use crate::app::App;
use crate::error::Error;

pub(super) fn routes() -> Router<App> {
    let here = |rest| at("/history/v1.0", rest);
    Router::new()
        .route(&here("/experiments/{experiment}"), get(show).post(create))
        .route(&here("/experimentids/{experiment}"), get(show))
        .route(&here("/experiments:query"), post(list))
}

/// How a list is asked for. What it is to be ordered by is passed over: it is by name.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Query {
    filter: Option<String>,
    continuation_token: Option<String>,
}

async fn show(
    State(app): State<App>,
    By(caller): By,
    Path(at): Path<InExperiment>,
) -> Result<Json<ExperimentDocument>> {
    Ok(Json(document(app.runs().experiment(&caller, &at.workspace, &at.experiment).await?)))
}

/// The client makes an experiment before it submits to it. There is nothing to store yet.
async fn create(
    State(app): State<App>,
    By(caller): By,
    Path(at): Path<InExperiment>,
    _: Ignored,
) -> Result<Json<ExperimentDocument>> {
    match app.runs().experiment(&caller, &at.workspace, &at.experiment).await {
        Ok(found) => Ok(Json(document(found))),
        Err(Error::NotFound("experiment")) => Ok(Json(ExperimentDocument::new(at.experiment, app.now()))),
        Err(e) => Err(e.into()),
    }
}

async fn list(
    State(app): State<App>,
    By(caller): By,
    Path(at): Path<InWorkspace>,
    Body(query): Body<Query>,
) -> Result<Json<Listed<ExperimentDocument>>> {
    if query.filter.as_deref().is_some_and(|filter| !filter.is_empty()) {
        return Err(Error::bad_request("experiments are not filtered here; list them all").into());
    }
    let page = PageQuery { limit: None, after: query.continuation_token };
    let listed = app.runs().experiments(&caller, &at.workspace, page).await?;
    let value = listed.items.into_iter().map(document).collect();
    Ok(Json(Listed { value, continuation_token: listed.next }))
}

fn document(view: ExperimentView) -> ExperimentDocument {
    ExperimentDocument::new(view.name, view.created)
}
