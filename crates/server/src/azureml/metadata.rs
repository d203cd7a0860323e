//! `/azure/metadata`: the list of clouds, of which there is one, ours, by the name that the package looks for. Asked
//! for before anybody has signed in, so it tells nothing that the question did not hold. The client accepts a workspace
//! only when its own subscription is among those listed; which one that is only the client knows, so it says so here,
//! and the address of the resource manager carries it from then on.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::arm::Subscriptions;
use super::edge::Result;
use super::wire::Origin;
use crate::api::Query;
use crate::app::App;

/// The name under which the package looks for its cloud unless it is told another.
const CLOUD: &str = "AzureCloud";

pub(super) fn routes() -> Router<App> {
    Router::new().route("/azure/metadata", get(clouds))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// The subscriptions of the client's configuration, with commas.
    #[serde(default)]
    subscription: Option<Subscriptions>,
    /// Sent by some; means nothing.
    #[serde(default, rename = "api-version")]
    _version: Option<String>,
}

async fn clouds(State(_): State<App>, origin: Origin, Query(asked): Query<Asked>) -> Result<Json<Value>> {
    let here = &origin.0;
    let arm = format!("{here}/azure/arm/{}", asked.subscription.unwrap_or_default());
    Ok(Json(json!([{
        "name": CLOUD,
        "portal": format!("{here}/azure/portal"),
        "resourceManager": arm,
        "authentication": {
            "loginEndpoint": here,
            "audiences": [here],
            "tenant": "common",
            "identityProvider": "AAD",
        },
        "graphAudience": here,
        "graph": here,
        "gallery": format!("{here}/azure/gallery"),
        "batch": format!("{here}/azure/batch"),
        "media": format!("{here}/azure/media"),
        "sqlManagement": format!("{here}/azure/sql"),
        "vmImageAliasDoc": format!("{here}/azure/images"),
        // Names that resolve nowhere: nothing is to be looked for outside.
        "suffixes": {
            "storage": "storage.invalid",
            "keyVaultDns": "vault.invalid",
            "acrLoginServer": "registry.invalid",
            "sqlServerHostname": "sql.invalid",
            "azureDataLakeStoreFileSystem": "lake.invalid",
            "azureDataLakeAnalyticsCatalogAndJob": "analytics.invalid",
        },
    }])))
}
