//! What a run has logged: first the names, then each whole. `get_metrics` asks so. Metrics come in from the run alone.

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use kluis_core::api::PageQuery;
use kluis_core::api::azureml::{ListMetrics, Listed, MetricDefinition, MetricDefinitions, MetricDocument, ReadMetric};
use serde_json::Value;

use super::edge::{Refusal, Result};
use super::wire::{Body, By, OfRun, at, unsupported};
use crate::api::Path;
use crate::app::App;
use crate::error::Error;

/// How many entries one answer holds at most; the types of a metric's columns are those of the first so many.
const AT_ONCE: usize = 20_000;

pub(super) fn routes() -> Router<App> {
    let run = |rest: &str| at("/metric/v2.0", &format!("/runs/{{run}}{rest}"));
    Router::new().route(&run("/list"), post(names)).route(&run("/full"), post(full)).route(&run("/batch"), post(batch))
}

async fn names(
    State(app): State<App>,
    By(caller): By,
    Path(at): Path<OfRun>,
    Body(asked): Body<ListMetrics>,
) -> Result<Json<MetricDefinitions>> {
    let page = PageQuery { limit: None, after: asked.continuation_token };
    let listed = app.runs().metric_names(&caller, &at.workspace, &at.run, page).await?;
    let value = listed.items.into_iter().map(MetricDefinition::new).collect();
    Ok(Json(Listed { value, continuation_token: listed.next }))
}

async fn full(
    State(app): State<App>,
    By(caller): By,
    Path(at): Path<OfRun>,
    Body(asked): Body<ReadMetric>,
) -> Result<Json<MetricDocument>> {
    let first = asked.continuation_token.is_none();
    let (mut logged, mut next) = (Vec::new(), asked.continuation_token);
    loop {
        let page = PageQuery { limit: None, after: next };
        let listed = app.runs().metrics_named(&caller, &at.workspace, &at.run, &asked.metric_name, page).await?;
        logged.extend(listed.items);
        next = listed.next;
        if next.is_none() || logged.len() >= AT_ONCE {
            break;
        }
    }
    if first && logged.is_empty() {
        return Err(Refusal::told(Error::NotFound("metric"), "The run has logged no metric of this name.".to_owned()));
    }
    Ok(Json(MetricDocument { continuation_token: next, ..MetricDocument::of(&asked.metric_name, &logged) }))
}

async fn batch(By(_): By) -> Result<Json<Value>> {
    unsupported("metrics are logged by the run itself, in the run")
}
