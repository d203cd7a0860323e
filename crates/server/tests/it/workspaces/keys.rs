//! `/workspaces/{workspace}/keys:rotate`: a new generation, and everything readable all the while.

use serde_json::json;

use crate::world::{World, refused, text};

#[tokio::test]
async fn everything_stays_readable_while_and_after_a_rotation() {
    let world = World::new().await;
    for i in 0..20 {
        let path = format!("/workspaces/default/secrets/s{i}");
        world.put(&path, &world.owner, json!({ "value": format!("old {i}") })).await.ok();
        world.put(&path, &world.owner, json!({ "value": format!("new {i}") })).await.ok();
    }
    let before = world.app.store.workspace_keys_all().await.unwrap();
    world.call("POST", "/workspaces/default/keys:rotate", Some(&world.owner), None).await.ok();
    let read_all = async |when: &str| {
        for i in 0..20 {
            let answer = world.get(&format!("/workspaces/default/secrets/s{i}"), &world.owner).await.ok();
            assert_eq!(answer["value"], format!("new {i}"), "{when}");
        }
    };
    read_all("before the rewrap").await;
    world.put("/workspaces/default/secrets/s0", &world.owner, json!({ "value": "new 0" })).await.ok();
    world.app.workspaces().rewrap_all().await.unwrap();
    read_all("after the rewrap").await;
    let actions = world.actions().await;
    assert!(actions.contains(&"key.workspace_rotated".into()) && actions.contains(&"key.workspace_rewrapped".into()));

    // Nothing needs the old generation any more: without it, all is still there.
    let workspace = before[0].workspace;
    world.app.vault.workspace_key_forget(workspace, before[0].id);
    read_all("without the old key").await;
    let versions = world.get("/workspaces/default/secrets/s7/versions", &world.owner).await.ok();
    for version in versions["items"].as_array().unwrap() {
        let path = format!("/workspaces/default/secrets/s7?version={}", text(&version["version"]));
        world.get(&path, &world.owner).await.ok();
    }
}

#[tokio::test]
async fn a_rewrap_that_was_interrupted_goes_on() {
    let world = World::new().await;
    world.put("/workspaces/default/secrets/a", &world.owner, json!({ "value": "v" })).await.ok();
    for _ in 0..3 {
        world.call("POST", "/workspaces/default/keys:rotate", Some(&world.owner), None).await.ok();
    }
    world.app.workspaces().rewrap_all().await.unwrap();
    world.app.workspaces().rewrap_all().await.unwrap();
    let rewrapped = world.actions().await.iter().filter(|a| *a == "key.workspace_rewrapped").count();
    assert_eq!(rewrapped, 1, "a round with nothing to do says nothing");
    assert_eq!(world.get("/workspaces/default/secrets/a", &world.owner).await.ok()["value"], "v");
}

#[tokio::test]
async fn only_owners_rotate() {
    let world = World::new().await;
    let ada = world.user("ada", Some(("default", "contributor"))).await;
    refused(&world.call("POST", "/workspaces/default/keys:rotate", Some(&ada), None).await, 403, "forbidden");
}
