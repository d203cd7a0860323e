//! `/azure/arm/SUBSCRIPTIONS`: the resource manager, as far as it takes to find a workspace.

use std::fmt;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use kluis_core::api::PageQuery;
use kluis_core::api::workspaces::WorkspaceView;
use kluis_core::name::{ComputeName, WorkspaceName};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::edge::Result;
use super::wire::{By, Origin, SCOPE};
use crate::api::Path;
use crate::app::App;
use crate::error::Error;

/// The name of the part of the address that lists subscriptions.
pub(super) const SUBSCRIPTIONS: &str = "subscriptions";
/// Where workspaces are.
const PROVIDER: &str = "/providers/Microsoft.MachineLearningServices/workspaces";
/// How many subscriptions an address may list.
const MOST: usize = 16;
/// The longest of them.
const MAX_SUBSCRIPTION: usize = 64;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/subscriptions", get(subscriptions))
        .route(SCOPE, get(workspace))
        .route(&format!("{SCOPE}/computes/{{compute}}"), get(compute))
        .route(&format!("/subscriptions/{{subscription}}{PROVIDER}"), get(workspaces))
        .route(&format!("/subscriptions/{{subscription}}/resourceGroups/{{group}}{PROVIDER}"), get(workspaces))
        // The package lists resources of all kinds and asks for those of this one; there is no other.
        .route("/subscriptions/{subscription}/resources", get(workspaces))
        .route("/subscriptions/{subscription}/resourceGroups/{group}/resources", get(workspaces))
}

/// The subscriptions that a client says are its own: letters, digits and `-`, with commas between them. They are listed
/// to that client and mean nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subscriptions(Vec<String>);

impl Subscriptions {
    fn parse(text: &str) -> std::result::Result<Self, &'static str> {
        let good = |id: &str| {
            (1..=MAX_SUBSCRIPTION).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        let ids: Vec<_> = text.split(',').map(ToOwned::to_owned).collect();
        if ids.len() <= MOST && ids.iter().all(|id| good(id)) {
            Ok(Self(ids))
        } else {
            Err("not an id: subscriptions are 1 to 16 texts of letters, digits and -, with commas between them")
        }
    }
}

/// For a client that did not say.
impl Default for Subscriptions {
    fn default() -> Self {
        Self(vec!["00000000-0000-0000-0000-000000000000".to_owned()])
    }
}

impl fmt::Display for Subscriptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

impl<'de> Deserialize<'de> for Subscriptions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[derive(Debug, Deserialize)]
struct Listed {
    subscriptions: Subscriptions,
}

#[derive(Debug, Deserialize)]
struct Group {
    subscription: String,
    #[serde(default)]
    group: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Place {
    subscription: String,
    group: String,
    workspace: WorkspaceName,
}

#[derive(Debug, Deserialize)]
struct ComputePlace {
    compute: ComputeName,
}

async fn subscriptions(State(_): State<App>, By(_): By, Path(at): Path<Listed>) -> Result<Json<Value>> {
    let one = |id: &String| {
        json!({
            "id": format!("/subscriptions/{id}"),
            "subscriptionId": id,
            "displayName": format!("Kluis ({id})"),
            "state": "Enabled",
            "tenantId": "kluis",
            "subscriptionPolicies": {},
            "authorizationSource": "RoleBased",
        })
    };
    Ok(Json(json!({ "value": at.subscriptions.0.iter().map(one).collect::<Vec<_>>() })))
}

async fn workspace(
    State(app): State<App>,
    By(caller): By,
    origin: Origin,
    Path(at): Path<Place>,
) -> Result<Json<Value>> {
    let found = app.workspaces().show(&caller, &at.workspace).await?;
    Ok(Json(resource(&origin, &at.subscription, &at.group, found)))
}

/// All that the caller sees, in whatever resource group they were asked for.
async fn workspaces(
    State(app): State<App>,
    By(caller): By,
    origin: Origin,
    Path(at): Path<Group>,
) -> Result<Json<Value>> {
    let (mut found, mut page) = (Vec::new(), PageQuery::default());
    loop {
        let listed = app.workspaces().list(&caller, &page).await?;
        found.extend(listed.items);
        let Some(next) = listed.next else { break };
        page.after = Some(next);
    }
    let group = at.group.as_deref().unwrap_or("kluis");
    let found: Vec<_> = found.into_iter().map(|w| resource(&origin, &at.subscription, group, w)).collect();
    Ok(Json(json!({ "value": found })))
}

/// A compute target that the caller may use, or none.
async fn compute(State(app): State<App>, By(caller): By, Path(at): Path<ComputePlace>) -> Result<Json<Value>> {
    let found = app.computes().show(&caller, &at.compute).await?;
    // The package has a class for each kind of Azure's machines, and none that is not Azure's.
    Err(Error::conflict(format!(
        "{} is a compute target of Kluis, which this package has no class for; give its name as `compute_target`",
        found.name
    ))
    .into())
}

fn resource(origin: &Origin, subscription: &str, group: &str, workspace: WorkspaceView) -> Value {
    let WorkspaceView { id, name, created, .. } = workspace;
    json!({
        "id": format!(
            "/subscriptions/{subscription}/resourceGroups/{group}/providers/\
             Microsoft.MachineLearningServices/workspaces/{name}"
        ),
        "name": name,
        "type": "Microsoft.MachineLearningServices/workspaces",
        "location": "kluis",
        "tags": {},
        "sku": { "name": "Basic", "tier": "Basic" },
        "identity": { "type": "None", "principalId": null, "tenantId": null },
        "properties": {
            "workspaceId": id,
            "friendlyName": name,
            "description": "",
            "creationTime": created,
            "discoveryUrl": format!("{}/discovery/workspaces/{name}", origin.services()),
            "keyVault": null,
            "storageAccount": null,
            "applicationInsights": null,
            "containerRegistry": null,
            "hbiWorkspace": false,
            "provisioningState": "Succeeded",
            "v1LegacyMode": true,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscriptions_are_plain_words() {
        for text in ["a", "00000000-0000-0000-0000-000000000000", "a,b", "sub-1"] {
            assert_eq!(Subscriptions::parse(text).unwrap().to_string(), text);
        }
        let long = "a".repeat(65);
        let many = vec!["a"; 17].join(",");
        for text in ["", ",", "a,", "a/b", "a b", "a%2fb", "é", "a?b", &long, &many] {
            assert!(Subscriptions::parse(text).is_err(), "{text}");
        }
    }
}
