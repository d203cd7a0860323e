//! Content by address: logs and files are fetched without credentials, with a permission in the address that is good
//! for minutes. And the few calls about snapshots that come before a submission; the tree itself comes with that.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::stream::StreamExt;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use kluis_core::access::Action;
use kluis_core::api::runs::RunView;
use kluis_core::name::{RunId, WorkspaceName};
use serde::Deserialize;
use serde_json::{Value, json};

use super::edge::Result;
use super::wire::{By, Ignored, InWorkspace, Origin, at};
use crate::api::Path;
use crate::api::download::Download;
use crate::app::App;
use crate::caller::{Caller, Source};
use crate::error::Error;
use crate::service::runs::{Pointed, Pointer, SYSTEM_LOG, USER_LOG};

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/files/{pointer}/{run}/{*path}", get(fetch))
        .route(&at("/content/v1.0", "/snapshots/latest/metadata"), get(latest))
        .route(&at("/content/v2.0", "/snapshots/getblob"), post(blobs))
        .route(&at("/content/v2.0", "/snapshots/{snapshot}"), post(created))
}

#[derive(Debug, Deserialize)]
struct File {
    pointer: String,
    run: RunId,
    path: String,
}

async fn fetch(State(app): State<App>, Source(source): Source, Path(at): Path<File>) -> Result<Response> {
    let pointer = Pointer::parse(&at.pointer).ok_or(Error::NotFound("address"))?;
    Ok(match app.runs().pointed(&pointer, &at.run, &at.path, source).await? {
        Pointed::File(file) => Download(file).into_response(),
        Pointed::Log(log) => {
            let lines = log.into_stream().inspect(|item| {
                if let Err(error) = item {
                    tracing::warn!(%error, "a log was cut off");
                }
            });
            let kind = HeaderValue::from_static("text/plain; charset=utf-8");
            ([(CONTENT_TYPE, kind)], Body::from_stream(lines)).into_response()
        }
    })
}

/// Addresses of files of a run.
pub(super) async fn addresses(
    app: &App,
    caller: &Caller,
    origin: &Origin,
    workspace: &WorkspaceName,
    run: &RunId,
    paths: &[&str],
) -> Result<Vec<String>> {
    let pointers = app.runs().pointers(caller, workspace, run, paths).await?;
    let base = origin.services();
    let address = |(pointer, path): (Pointer, &&str)| format!("{base}/files/{pointer}/{run}/{}", encoded(path));
    Ok(pointers.into_iter().zip(paths).map(address).collect())
}

/// The logs of a run that has begun: the client follows the last of those it knows, which is the user's.
pub(super) async fn logs(
    app: &App,
    caller: &Caller,
    origin: &Origin,
    workspace: &WorkspaceName,
    run: &RunView,
) -> Result<BTreeMap<&'static str, String>> {
    if run.started.is_none() {
        return Ok(BTreeMap::new());
    }
    let names = [USER_LOG, SYSTEM_LOG];
    let addresses = addresses(app, caller, origin, workspace, &run.id, &names).await?;
    Ok(names.into_iter().zip(addresses).collect())
}

/// A path in an address: its parts encoded, its separators kept.
fn encoded(path: &str) -> String {
    let byte = |b: u8| match b {
        b'/' | b'-' | b'_' | b'.' | b'~' => char::from(b).to_string(),
        b if b.is_ascii_alphanumeric() => char::from(b).to_string(),
        b => format!("%{b:02X}"),
    };
    path.bytes().map(byte).collect()
}

/// An empty tree: the client then sends all of its own, with the submission.
async fn latest(State(app): State<App>, By(caller): By, Path(at): Path<InWorkspace>) -> Result<Json<Value>> {
    app.workspace_for(&caller, &at.workspace, Action::RunSubmit).await?;
    Ok(Json(json!({
        "id": "00000000-0000-0000-0000-000000000000",
        "root": { "name": "", "type": "Directory", "hash": "", "timestamp": app.now(), "children": {} },
    })))
}

/// Nowhere: files come with the submission, not one by one through a blob store.
async fn blobs(State(app): State<App>, By(caller): By, Path(at): Path<InWorkspace>, _: Ignored) -> Result<Json<Value>> {
    app.workspace_for(&caller, &at.workspace, Action::RunSubmit).await?;
    Ok(Json(json!({ "fileNodes": [] })))
}

/// A list of files, for a snapshot that is none of ours.
async fn created(
    State(app): State<App>,
    By(caller): By,
    Path(at): Path<InWorkspace>,
    _: Ignored,
) -> Result<Json<Value>> {
    app.workspace_for(&caller, &at.workspace, Action::RunSubmit).await?;
    Ok(Json(json!({})))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_in_an_address() {
        assert_eq!(encoded("outputs/a b%/é.txt"), "outputs/a%20b%25/%C3%A9.txt");
    }
}
