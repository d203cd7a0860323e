//! Submitting. A tree comes with its submission, as a zip, and is a snapshot like any other; for a run on the
//! submitter's own machine, see `invocation`.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use kluis_core::access::Action;
use kluis_core::api::runs::MAX_SNAPSHOT_BYTES;
use kluis_core::name::RunId;
use serde::Deserialize;
use serde_json::{Value, json};

use super::definition::{Definition, MAX_BYTES, Wanted};
use super::edge::Result;
use super::form::Form;
use super::invocation::Invocation;
use super::wire::{By, InExperiment, Origin, at, unsupported};
use crate::api::json;
use crate::api::{Path, Query};
use crate::app::App;
use crate::error::Error;

/// The rest of a form beside its tree: the definition, and what keeps parts apart.
const BESIDE: u64 = 4 * 1024 * 1024;
/// What a local run's form may hold beside its definition: files of configuration, which are not read.
const LOCAL: u64 = 32 * 1024 * 1024;

pub(super) fn routes() -> Router<App> {
    let here = |what: &str| at("/execution/v1.0", &format!("/experiments/{{experiment}}/{what}"));
    Router::new()
        .route(&here("startrun"), post(start))
        .route(&here("localrun"), post(local))
        .route(&here("snapshotrun"), post(snapshot))
        .route(&here("clean"), post(clean))
}

#[derive(Debug, Deserialize)]
struct Asked {
    #[serde(rename = "runId")]
    run: RunId,
}

/// A run on a compute target, with its tree.
async fn start(
    State(app): State<App>,
    By(caller): By,
    Path(at): Path<InExperiment>,
    Query(asked): Query<Asked>,
    request: Request,
) -> Result<Json<Value>> {
    app.workspace_for(&caller, &at.workspace, Action::RunSubmit).await?;
    let mut form = Form::new(request, MAX_SNAPSHOT_BYTES + BESIDE)?;
    let (mut wanted, mut snapshot) = (None, None);
    while let Some(part) = form.next().await? {
        match part.name() {
            "runDefinitionFile" if wanted.is_none() => {
                let definition = part.whole(MAX_BYTES).await?;
                let parsed = parse(&definition)?;
                if parsed.compute.is_local() {
                    return unsupported(
                        "`local` is the submitter's own machine; the client submits to it in another way",
                    );
                }
                wanted = Some(parsed);
            }
            "projectZipFile" if snapshot.is_none() => {
                let stored = app.snapshots().store_zip(&caller, &at.workspace, part.into_stream()).await?;
                snapshot = Some(stored.snapshot);
            }
            _ => return Err(Error::bad_request("the form has a part that does not belong there").into()),
        }
    }
    let (Some(wanted), Some(snapshot)) = (wanted, snapshot) else {
        return Err(Error::bad_request("the form lacks `runDefinitionFile` or `projectZipFile`").into());
    };
    let submission = wanted.submission(at.experiment, Some(asked.run), snapshot);
    let run = app.runs().submit(&caller, &at.workspace, submission).await?;
    Ok(Json(json!({ "runId": run.id })))
}

/// A run on the submitter's machine: what that machine has to do. It comes back as anybody who submits.
async fn local(
    State(app): State<App>,
    By(caller): By,
    origin: Origin,
    Path(at): Path<InExperiment>,
    Query(asked): Query<Asked>,
    request: Request,
) -> Result<Response> {
    let workspace = app.workspace_for(&caller, &at.workspace, Action::RunSubmit).await?;
    let mut form = Form::new(request, LOCAL)?;
    let mut wanted = None;
    while let Some(part) = form.next().await? {
        if part.file_name() == "definition.json" && wanted.is_none() {
            wanted = Some(parse(&part.whole(MAX_BYTES).await?)?);
        }
    }
    let wanted = wanted.ok_or(Error::BadRequest("the form lacks `definition.json`".into()))?;
    let invocation = Invocation {
        origin: &origin.0,
        ca_sha256: app.ca.as_ref().map(|ca| &*ca.sha256),
        workspace: &workspace.name,
        experiment: &at.experiment,
        run: &asked.run,
        wanted: &wanted,
    };
    let kind = HeaderValue::from_static("application/zip");
    Ok(([(CONTENT_TYPE, kind)], invocation.zip()?).into_response())
}

async fn snapshot(By(_): By) -> Result<Json<Value>> {
    unsupported(
        "trees are taken as a zip here, not through a blob store: set AML_FORCE_EXECUTE_WITH_ZIP=1 and submit again",
    )
}

async fn clean(By(_): By) -> Result<Json<Value>> {
    unsupported("a run leaves nothing on its compute target that would have to be cleaned")
}

fn parse(definition: &[u8]) -> Result<Wanted, Error> {
    json::parse::<Definition>(definition)?.wanted()
}
