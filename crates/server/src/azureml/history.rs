//! The run history: runs as that client sees them.

use std::time::Duration;

use axum::extract::State;
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use kluis_core::api::azureml::{
    ChangeRunDocument, CreatedBy, ErrorBody, Listed, RunDocument, RunEventDocument, data_container, event, status_text,
};
use kluis_core::api::runs::{ChangeRun, Program, RunView, RunsQuery};
use kluis_core::name::{ExperimentName, RunId};
use kluis_core::run::RunStatus;
use serde::Deserialize;
use serde_json::{Value, json};

use super::content;
use super::edge::Result;
use super::filter::Filter;
use super::wire::{Body, By, InExperiment, OfRun, Origin, Texts, at, unsupported};
use crate::api::{Path, Query};
use crate::app::App;
use crate::caller::Caller;
use crate::error::Error;

/// What the client sets right after it has started a local run, whose own machine may still be about to submit it.
const SNAPSHOT: &str = "ContentSnapshotId";
/// How long that may take.
const LOCAL: Duration = Duration::from_secs(45);

pub(super) fn routes() -> Router<App> {
    let here = |rest: &str| at("/history/v1.0", rest);
    let run = |rest: &str| here(&format!("/experiments/{{experiment}}/runs/{{run}}{rest}"));
    Router::new()
        .route(&run(""), get(show).patch(change))
        .route(&here("/experimentids/{experiment}/runs/{run}"), get(show).patch(change))
        .route(&here("/runs/{run}"), get(show))
        .route(&here("/experiments/{experiment}/runs:query"), post(list))
        .route(&run("/details"), get(details))
        .route(&run("/children"), get(children))
        .route(&run("/events"), post(events))
        .route(&run("/tags"), delete(tags))
        .route(&run("/metricsingest/wait"), get(ingested))
        .route(&run("/token"), get(token))
}

/// How a list is asked for. What it is to be ordered by is passed over: the newest come first.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Asked {
    filter: Option<String>,
    continuation_token: Option<String>,
    top: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Page {
    #[serde(rename = "continuationToken")]
    continuation_token: Option<String>,
}

async fn show(State(app): State<App>, By(caller): By, Path(at): Path<OfRun>) -> Result<Json<RunDocument>> {
    Ok(Json(document(&app, found(&app, &caller, &at).await?)))
}

/// The run of this address, in the experiment of this address.
async fn found(app: &App, caller: &Caller, at: &OfRun) -> Result<RunView, Error> {
    let run = app.runs().show(caller, &at.workspace, &at.run).await?;
    if at.experiment.as_ref().is_none_or(|experiment| *experiment == run.experiment) {
        Ok(run)
    } else {
        Err(Error::NotFound("run"))
    }
}

async fn list(
    State(app): State<App>,
    By(caller): By,
    Path(at): Path<InExperiment>,
    Body(asked): Body<Asked>,
) -> Result<Json<Listed<RunDocument>>> {
    let filter = Filter::parse(asked.filter.as_deref())?;
    let experiment = Some(at.experiment.clone());
    if let Some(ids) = filter.ids() {
        let mut runs = Vec::new();
        for id in ids {
            let at = OfRun {
                workspace: at.workspace.clone(),
                run: RunId::parse(id).map_err(Error::from)?,
                experiment: experiment.clone(),
            };
            match found(&app, &caller, &at).await {
                Err(Error::NotFound("run")) => {}
                run => runs.push(document(&app, run?)),
            }
        }
        return Ok(Json(Listed::whole(runs)));
    }
    let parent = filter.root().map(RunId::parse).transpose().map_err(Error::from)?;
    let limit = asked.top.map(|top| top.clamp(1, kluis_core::api::MAX_PAGE));
    let query = RunsQuery { limit, after: asked.continuation_token, experiment, parent, status: None };
    let listed = app.runs().list(&caller, &at.workspace, query).await?;
    let value = listed.items.into_iter().filter(|run| filter.wants(run)).map(|run| document(&app, run)).collect();
    Ok(Json(Listed { value, continuation_token: listed.next }))
}

async fn children(
    State(app): State<App>,
    By(caller): By,
    Path(at): Path<OfRun>,
    Query(page): Query<Page>,
) -> Result<Json<Listed<RunDocument>>> {
    let query = RunsQuery { after: page.continuation_token, parent: Some(at.run), ..RunsQuery::default() };
    let listed = app.runs().list(&caller, &at.workspace, query).await?;
    let value = listed.items.into_iter().map(|run| document(&app, run)).collect();
    Ok(Json(Listed { value, continuation_token: listed.next }))
}

/// Tags, properties, the name for people. A run that is not there is a local one that its machine is about to submit,
/// or one that a script on the laptop wants to be, and that is not offered.
async fn change(
    State(app): State<App>,
    By(caller): By,
    Path(at): Path<OfRun>,
    Body(given): Body<ChangeRunDocument>,
) -> Result<Json<RunDocument>> {
    let run = match found(&app, &caller, &at).await {
        Err(Error::NotFound("run")) if given.properties.as_ref().is_some_and(|p| p.contains_key(SNAPSHOT)) => {
            let waited = app.runs().appears(&caller, &at.workspace, &at.run, LOCAL).await?;
            waited.ok_or(Error::Conflict(
                "the run was not started on its own machine within 45 s: `kluis` must be there and signed in; \
                 RUN.kluis.log beside the run's folder, in azureml_runs in the folder for temporary files, tells more"
                    .into(),
            ))?
        }
        Err(Error::NotFound("run")) => {
            return unsupported(
                "runs are submitted here, not made by hand: use Experiment.submit with a ScriptRunConfig, and log \
                 from the script; Experiment.start_logging is not offered",
            );
        }
        found => found?,
    };
    let texts = |pairs: Option<std::collections::BTreeMap<String, Option<String>>>| pairs.unwrap_or_default();
    let tags = texts(given.tags).into_iter().map(|(key, value)| (key, value.unwrap_or_default()));
    let properties = texts(given.properties).into_iter().filter_map(|(key, value)| Some((key, value?)));
    let change = ChangeRun {
        tags: tags.collect(),
        properties: properties.collect(),
        display_name: given.display_name,
        ..ChangeRun::default()
    };
    if change == ChangeRun::default() {
        return Ok(Json(document(&app, run)));
    }
    Ok(Json(document(&app, app.runs().change(&caller, &at.workspace, &run.id, change).await?)))
}

async fn tags(
    State(app): State<App>,
    By(caller): By,
    Path(at): Path<OfRun>,
    Texts(tags): Texts,
) -> Result<Json<RunDocument>> {
    found(&app, &caller, &at).await?;
    let change = ChangeRun { remove_tags: tags, ..ChangeRun::default() };
    Ok(Json(document(&app, app.runs().change(&caller, &at.workspace, &at.run, change).await?)))
}

/// Only cancelling comes from outside; how a run goes and ends, its launcher tells.
async fn events(
    State(app): State<App>,
    By(caller): By,
    Path(at): Path<OfRun>,
    Body(told): Body<RunEventDocument>,
) -> Result<Json<Value>> {
    let run = found(&app, &caller, &at).await?;
    match &*told.name {
        event::CANCELED | event::CANCEL_REQUESTED => {
            app.runs().cancel(&caller, &at.workspace, &run.id).await?;
            Ok(Json(json!({})))
        }
        _ => unsupported("how a run goes and ends is told by the run itself; from outside it can be cancelled"),
    }
}

async fn details(State(app): State<App>, By(caller): By, origin: Origin, Path(at): Path<OfRun>) -> Result<Json<Value>> {
    let run = found(&app, &caller, &at).await?;
    let logs = content::logs(&app, &caller, &origin, &at.workspace, &run).await?;
    let leaks = run.leaks.iter().map(|leak| {
        let (secret, times) = (&leak.secret, leak.count);
        let message = format!("{secret} was masked in the output (times: {times}); rotate it");
        json!({ "source": "Kluis", "message": message })
    });
    let definition = match &run.program {
        Some(Program::Script { path, arguments }) => json!({ "script": path, "arguments": arguments }),
        Some(Program::Command { argv }) => json!({ "command": argv }),
        None => json!({}),
    };
    let warnings: Vec<_> = leaks.collect();
    let document = document(&app, run);
    Ok(Json(json!({
        "runId": document.run_id,
        "target": document.target,
        "status": document.status,
        "startTimeUtc": document.start_time_utc,
        "endTimeUtc": document.end_time_utc,
        "error": document.error,
        "warnings": warnings,
        "properties": document.properties,
        "inputDatasets": [],
        "outputDatasets": [],
        "runDefinition": definition,
        "logFiles": logs,
        "submittedBy": document.created_by.map(|by| by.user_name),
    })))
}

/// What was sent is stored when its sender was answered.
async fn ingested(State(app): State<App>, By(caller): By, Path(at): Path<OfRun>) -> Result<Json<Value>> {
    found(&app, &caller, &at).await?;
    Ok(Json(json!({})))
}

/// A run's token is its launcher's to give.
async fn token(State(app): State<App>, By(caller): By, Path(at): Path<OfRun>) -> Result<Json<Value>> {
    found(&app, &caller, &at).await?;
    Err(Error::Forbidden("have the token of a run; only the run itself has one").into())
}

/// A run in the client's words.
pub(super) fn document(app: &App, run: RunView) -> RunDocument {
    let error = failure(app, &run);
    let script_name = match &run.program {
        Some(Program::Script { path, .. }) => Some(path.clone()),
        _ => None,
    };
    let experiment_id: ExperimentName = run.experiment;
    RunDocument {
        run_number: run.number,
        root_run_id: run.parent.clone().unwrap_or_else(|| run.id.clone()),
        experiment_id,
        data_container_id: data_container(&run.id),
        run_id: run.id,
        parent_run_id: run.parent,
        status: status_text(run.status).to_owned(),
        created_utc: run.created,
        start_time_utc: run.started,
        end_time_utc: run.ended,
        display_name: run.display_name,
        hidden: false,
        target: run.compute.to_string(),
        script_name,
        tags: run.tags,
        properties: run.properties,
        created_by: Some(CreatedBy {
            user_object_id: run.submitted_by.to_string(),
            user_name: run.submitter.to_string(),
        }),
        error,
    }
}

fn failure(app: &App, run: &RunView) -> Option<ErrorBody> {
    let failed = matches!(run.status, RunStatus::Failed | RunStatus::Lost | RunStatus::Compromised);
    failed.then(|| {
        let reason = run.reason.clone().unwrap_or_else(|| "the run failed".to_owned());
        let message = match run.status {
            RunStatus::Failed => reason,
            other => format!("{other}: {reason}"),
        };
        ErrorBody::user(message, Some(run.status.as_str()), run.ended.unwrap_or_else(|| app.now()))
    })
}
