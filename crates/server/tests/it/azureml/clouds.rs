//! How a client finds its workspace: the cloud, its subscriptions, the workspace, the services.

use std::time::Duration;

use serde_json::{Value, json};

use super::{ask, at, face_token, refused};
use crate::session::stage::Stage;
use crate::world::text;

const WORKSPACE: &str = "/subscriptions/sub-1/resourceGroups/rg/providers/Microsoft.MachineLearningServices/workspaces";

#[tokio::test]
async fn a_client_is_led_from_the_metadata_to_its_workspace_and_its_services() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let clouds = ask(world, "GET", "/azure/metadata?subscription=sub-1", None, None).await.ok();
    let [cloud] = &clouds.as_array().unwrap()[..] else { panic!("{clouds} is not one cloud") };
    assert_eq!(cloud["name"], "AzureCloud");
    let arm = text(&cloud["resourceManager"]);
    assert_eq!(arm, "https://localhost:8443/azure/arm/sub-1");
    let everywhere = cloud.to_string();
    assert!(!everywhere.contains("microsoft") && !everywhere.contains("azure.com"), "{everywhere}");

    let arm = arm.strip_prefix("https://localhost:8443").unwrap();
    let token = face_token(world, &stage.ada).await;
    let path = format!("{arm}/subscriptions?api-version=2022-12-01");
    let subscriptions = ask(world, "GET", &path, Some(&token), None).await.ok();
    assert_eq!(subscriptions["value"][0]["subscriptionId"], "sub-1");
    let path = format!("{arm}{WORKSPACE}/team?api-version=2022-05-01");
    let workspace = ask(world, "GET", &path, Some(&token), None).await.ok();
    assert_eq!(workspace["id"], format!("{WORKSPACE}/team"));
    let discovery = text(&workspace["properties"]["discoveryUrl"]);
    let services = ask(world, "GET", discovery.strip_prefix("https://localhost:8443").unwrap(), None, None).await.ok();
    for service in ["api", "modelmanagement", "experimentation", "hyperdrive", "studio", "history"] {
        assert_eq!(services[service], "https://localhost:8443/azure/ml", "{service}");
    }
    let listed = ask(world, "GET", &format!("{arm}{WORKSPACE}"), Some(&token), None).await.ok();
    assert_eq!(listed["value"][0]["name"], "team");
    let path = format!("{arm}/subscriptions/sub-1/resources?api-version=2025-04-01");
    assert_eq!(ask(world, "GET", &path, Some(&token), None).await.ok()["value"][0]["name"], "team");
}

#[tokio::test]
async fn what_is_public_tells_nothing_of_what_there_is() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let services = |name: &'static str| async move {
        let answer = ask(world, "GET", &format!("/azure/ml/discovery/workspaces/{name}"), None, None).await;
        (answer.status, answer.body)
    };
    assert_eq!(services("team").await, services("nobody-has-it").await);
    for hostile in ["a/../b", "a%2Fb", "%0d%0aX", "%3Cscript%3E", &"a".repeat(65), &["a"; 17].join(",")] {
        let answer = ask(world, "GET", &format!("/azure/metadata?subscription={hostile}"), None, None).await;
        assert_eq!(refused(&answer).0, 400, "{hostile}");
        assert!(!answer.text().contains("script"), "{}", answer.text());
    }
}

#[tokio::test]
async fn the_subscription_and_the_group_authorize_nothing() {
    let stage = Stage::new().await;
    let world = &stage.world;
    world.workspace("secretive").await;
    let arm = "/azure/arm/sub-1";
    let path = format!("{arm}{WORKSPACE}/secretive");
    assert_eq!(refused(&ask(world, "GET", &path, Some(&stage.ada), None).await).0, 404);
    let other = path.replace("sub-1", "another").replace("/rg/", "/other/");
    assert_eq!(refused(&ask(world, "GET", &other, Some(&stage.ada), None).await).0, 404);
    let other = other.replace("secretive", "team");
    assert_eq!(ask(world, "GET", &other, Some(&stage.ada), None).await.ok()["name"], "team");
}

#[tokio::test]
async fn a_token_is_good_for_the_address_that_it_was_issued_for_and_not_for_longer() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let path = at("credential/v2.0", "/secrets");
    let token = face_token(world, &stage.ada).await;
    ask(world, "GET", &path, Some(&token), None).await.ok();

    let source = std::net::Ipv4Addr::LOCALHOST.into();
    let caller = world.app.sign_in(&stage.ada, source).await.unwrap();
    let vault = world.app.audience("https://vault.localhost:8443").unwrap();
    let issuer = kluis_server::service::identity::Issuer("https://localhost:8443/adfs".into());
    let of_vaults = world.app.identity().face_token(&caller, &vault, &issuer).await.unwrap();
    assert_eq!(refused(&ask(world, "GET", &path, Some(of_vaults.token.expose()), None).await).0, 401);

    let mut forged = token.clone();
    forged.replace_range(token.len() - 4.., "AAAA");
    assert_eq!(refused(&ask(world, "GET", &path, Some(&forged), None).await).0, 401);
    world.advance(Duration::from_mins(16));
    assert_eq!(refused(&ask(world, "GET", &path, Some(&token), None).await).0, 401);
    assert_eq!(refused(&ask(world, "GET", &path, None, None).await).0, 401);
}

#[tokio::test]
async fn an_experiment_is_one_from_its_first_run_on() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let path = at("history/v1.0", "/experiments/churn");
    assert_eq!(refused(&ask(world, "GET", &path, Some(&stage.ada), None).await).0, 404);
    let made = ask(world, "POST", &path, Some(&stage.ada), None).await.ok();
    assert_eq!((&made["name"], &made["experimentId"]), (&json!("churn"), &json!("churn")));
    assert_eq!(refused(&ask(world, "GET", &path, Some(&stage.ada), None).await).0, 404);
    stage.run(json!({})).await;
    let found = ask(world, "GET", &path, Some(&stage.ada), None).await.ok();
    assert_eq!(found["name"], "churn");
    let by_id = ask(world, "GET", &at("history/v1.0", "/experimentids/churn"), Some(&stage.ada), None).await.ok();
    assert_eq!(by_id, found);
    let all = at("history/v1.0", "/experiments:query");
    let listed: Value = ask(world, "POST", &all, Some(&stage.ada), Some(json!({}))).await.ok();
    assert_eq!(listed["value"][0], found);
    assert_eq!(listed["continuationToken"], Value::Null);
}
