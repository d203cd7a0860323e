//! `/workspaces`.

use serde_json::json;

use crate::world::{World, refused, text};

mod keys;
mod members;
mod secrets;

async fn names(world: &World, token: &str) -> Vec<String> {
    let page = world.get("/workspaces", token).await.ok();
    page["items"].as_array().unwrap().iter().map(|w| text(&w["name"])).collect()
}

#[tokio::test]
async fn members_see_their_workspaces_and_no_others() {
    let world = World::new().await;
    world.workspace("vision").await;
    let ada = world.user("ada", Some(("vision", "reader"))).await;
    assert_eq!(names(&world, &ada).await, ["vision"]);
    assert_eq!(names(&world, &world.owner).await, ["default", "vision"]);
    assert_eq!(world.get("/workspaces/VISION", &ada).await.ok()["role"], "reader");
    refused(&world.get("/workspaces/default", &ada).await, 404, "not_found");
    refused(&world.get("/workspaces/nowhere", &ada).await, 404, "not_found");
}

#[tokio::test]
async fn what_one_may_not_see_and_what_is_not_there_look_the_same() {
    let world = World::new().await;
    let ada = world.user("ada", None).await;
    let (there, not) = (world.get("/workspaces/default", &ada).await, world.get("/workspaces/nowhere", &ada).await);
    assert_eq!((there.status, there.detail()), (not.status, not.detail()));
    let refusals = world.actions().await.iter().filter(|a| *a == "refused").count();
    assert_eq!(refusals, 2, "both leave a record");
}

#[tokio::test]
async fn settings_are_kept_within_bounds() {
    let world = World::new().await;
    let changed = world.patch("/workspaces/default", &world.owner, json!({ "retention_days": 7 })).await.ok();
    assert_eq!(changed["settings"]["retention_days"], 7);
    assert_eq!(world.get("/workspaces/default", &world.owner).await.ok()["settings"], changed["settings"]);
    for days in [0, 6, 91] {
        let change = json!({ "retention_days": days });
        refused(&world.patch("/workspaces/default", &world.owner, change.clone()).await, 400, "bad_request");
        let create = json!({ "name": "w", "settings": change });
        refused(&world.post("/workspaces", &world.owner, create).await, 400, "bad_request");
    }
    refused(&world.patch("/workspaces/default", &world.owner, json!({ "retention": 7 })).await, 400, "bad_request");
    refused(&world.get("/workspaces/w", &world.owner).await, 404, "not_found");
}

#[tokio::test]
async fn a_name_is_taken_in_any_spelling() {
    let world = World::new().await;
    refused(&world.post("/workspaces", &world.owner, json!({ "name": "Default" })).await, 409, "conflict");
    for name in ["", "-a", "a b", "a_b", "a.b", &"a".repeat(64)] {
        refused(&world.post("/workspaces", &world.owner, json!({ "name": name })).await, 400, "invalid_name");
    }
}

#[tokio::test]
async fn a_deleted_workspace_is_gone_and_its_name_stays_taken() {
    let world = World::new().await;
    world.workspace("vision").await;
    let ada = world.user("ada", Some(("vision", "contributor"))).await;
    world.put("/workspaces/vision/secrets/a", &ada, json!({ "value": "v" })).await.ok();
    refused(&world.delete("/workspaces/vision", &ada).await, 403, "forbidden");
    world.delete("/workspaces/vision", &world.owner).await.ok();
    for token in [&ada, &world.owner] {
        refused(&world.get("/workspaces/vision", token).await, 404, "not_found");
        refused(&world.get("/workspaces/vision/secrets/a", token).await, 404, "not_found");
    }
    refused(&world.post("/workspaces", &world.owner, json!({ "name": "vision" })).await, 409, "conflict");
}
