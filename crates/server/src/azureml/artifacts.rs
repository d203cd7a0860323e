//! Files that a run has left, and its logs among them. They are fetched by addresses of their own, see `content`; files
//! come in from the run alone.

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use kluis_core::api::PageQuery;
use kluis_core::api::azureml::{Listed, data_container, run_of_container};
use kluis_core::api::runs::OutputView;
use kluis_core::name::{RunId, WorkspaceName};
use serde::Deserialize;
use serde_json::{Value, json};

use super::content;
use super::edge::{Refusal, Result};
use super::wire::{By, Origin, at, unsupported};
use crate::api::Path;
use crate::app::App;
use crate::caller::Caller;
use crate::error::Error;
use crate::service::runs::{SYSTEM_LOG, USER_LOG};

/// Where a run's files are, in this client's words.
const ORIGIN: &str = "ExperimentRun";

pub(super) fn routes() -> Router<App> {
    let here = |rest| at("/artifact/v2.0", rest);
    Router::new()
        .route(&here("/artifacts/{origin}/{container}"), get(list))
        .route(&here("/artifacts/contentinfo/{origin}/{container}/{*path}"), get(one))
        .route(&here("/artifacts/prefix/contentinfo/{origin}/{container}/{*path}"), get(below))
        .route(&here("/artifacts/batch/metadata/{origin}/{container}"), post(upload))
}

#[derive(Debug, Deserialize)]
struct Place {
    workspace: WorkspaceName,
    origin: String,
    container: String,
    #[serde(default)]
    path: String,
}

impl Place {
    fn run(&self) -> Result<RunId> {
        let run = run_of_container(&self.container).filter(|_| self.origin == ORIGIN);
        Ok(run.ok_or(Error::NotFound("run with such files"))?)
    }
}

async fn list(State(app): State<App>, By(caller): By, Path(at): Path<Place>) -> Result<Json<Listed<Value>>> {
    let run = at.run()?;
    let files = files(&app, &caller, &at.workspace, &run).await?;
    let one = |(path, time): (String, _)| {
        let container = data_container(&run);
        json!({
            "artifactId": format!("{ORIGIN}/{container}/{path}"),
            "origin": ORIGIN,
            "container": container,
            "path": path,
            "createdTime": time,
        })
    };
    Ok(Json(Listed::whole(files.into_iter().map(one).collect())))
}

async fn one(State(app): State<App>, By(caller): By, origin: Origin, Path(at): Path<Place>) -> Result<Json<Value>> {
    let run = at.run()?;
    let found = files(&app, &caller, &at.workspace, &run).await?;
    if !found.iter().any(|(path, _)| *path == at.path) {
        return Err(Refusal::told(Error::NotFound("file"), "The run has no file of this path.".to_owned()));
    }
    let found = infos(&app, &caller, &origin, &at.workspace, &run, &[&at.path]).await?;
    Ok(Json(found.into_iter().next().unwrap_or_default()))
}

async fn below(
    State(app): State<App>,
    By(caller): By,
    origin: Origin,
    Path(at): Path<Place>,
) -> Result<Json<Listed<Value>>> {
    let run = at.run()?;
    let folder = format!("{}/", at.path.trim_end_matches('/'));
    let found = files(&app, &caller, &at.workspace, &run).await?;
    let below: Vec<&str> =
        found.iter().map(|(path, _)| &**path).filter(|path| path.starts_with(&folder) || *path == at.path).collect();
    Ok(Json(Listed::whole(infos(&app, &caller, &origin, &at.workspace, &run, &below).await?)))
}

async fn upload(By(_): By) -> Result<Json<Value>> {
    unsupported("files are uploaded by the run itself: write them into ./outputs in the run")
}

/// The logs and all outputs, by path.
async fn files(
    app: &App,
    caller: &Caller,
    workspace: &WorkspaceName,
    run: &RunId,
) -> Result<Vec<(String, kluis_core::clock::Timestamp)>> {
    let view = app.runs().show(caller, workspace, run).await?;
    let mut files = Vec::new();
    if let Some(started) = view.started {
        files.extend([(USER_LOG.to_owned(), started), (SYSTEM_LOG.to_owned(), started)]);
    }
    let mut page = PageQuery::default();
    loop {
        let listed = app.runs().outputs(caller, workspace, run, page).await?;
        files.extend(listed.items.into_iter().map(|OutputView { path, time, .. }| (path, time)));
        let Some(next) = listed.next else { break };
        page = PageQuery { after: Some(next), limit: None };
    }
    Ok(files)
}

async fn infos(
    app: &App,
    caller: &Caller,
    origin: &Origin,
    workspace: &WorkspaceName,
    run: &RunId,
    paths: &[&str],
) -> Result<Vec<Value>> {
    let addresses = content::addresses(app, caller, origin, workspace, run, paths).await?;
    let container = data_container(run);
    let info = |(path, address): (&&str, String)| {
        let origin = ORIGIN;
        json!({ "contentUri": address, "origin": origin, "container": container, "path": path })
    };
    Ok(paths.iter().zip(addresses).map(info).collect())
}
