//! Where a workspace's services are, all of them here. Asked for without credentials, so the workspace in the address
//! is not looked up: the answer is the same whether it exists or not.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use kluis_core::api::azureml;
use serde_json::Value;

use super::edge::Result;
use super::wire::{By, InWorkspace, Origin, at};
use crate::api::Path;
use crate::app::App;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/discovery/workspaces/{workspace}", get(services))
        .route(&at("/rp/workspaces", "/computes/{compute}"), get(compute))
}

async fn services(
    State(_): State<App>,
    origin: Origin,
    Path(_): Path<InWorkspace>,
) -> Json<BTreeMap<&'static str, String>> {
    Json(azureml::discovery(&origin.services()))
}

/// Asked before a submission, which goes on without an answer; that the target may be used is seen then.
async fn compute(State(_): State<App>, By(_): By) -> Result<Json<Value>> {
    Err(crate::error::Error::NotFound("compute target of this kind").into())
}
