//! `/computes`: queues that agents serve.

use serde_json::json;

use crate::world::{World, refused, text};

async fn names(world: &World, token: &str) -> Vec<String> {
    let page = world.get("/computes", token).await.ok();
    page["items"].as_array().unwrap().iter().map(|c| text(&c["name"])).collect()
}

#[tokio::test]
async fn a_closed_target_is_seen_by_its_users_only() {
    let world = World::new().await;
    let ada = world.user("ada", Some(("default", "contributor"))).await;
    world.post("/computes", &world.owner, json!({ "name": "gpu" })).await.ok();
    world.post("/computes", &world.owner, json!({ "name": "mine", "open": false })).await.ok();
    assert_eq!(names(&world, &world.owner).await, ["gpu", "mine", "server"]);
    assert_eq!(names(&world, &ada).await, ["gpu"]);
    refused(&world.get("/computes/mine", &ada).await, 404, "not_found");

    world.call("PUT", "/computes/mine/users/ada", Some(&world.owner), None).await.ok();
    world.call("PUT", "/computes/mine/users/ada", Some(&world.owner), None).await.ok();
    assert_eq!(world.get("/computes/mine", &ada).await.ok()["open"], false);
    world.delete("/computes/mine/users/ada", &world.owner).await.ok();
    refused(&world.get("/computes/mine", &ada).await, 404, "not_found");
    refused(&world.delete("/computes/mine/users/ada", &world.owner).await, 404, "not_found");
}

#[tokio::test]
async fn only_the_installations_owners_manage_targets() {
    let world = World::new().await;
    let ada = world.user("ada", Some(("default", "owner"))).await;
    refused(&world.post("/computes", &ada, json!({ "name": "gpu" })).await, 403, "forbidden");
    refused(&world.delete("/computes/server", &ada).await, 403, "forbidden");
}

#[tokio::test]
async fn local_is_everybodys_own_machine() {
    let world = World::new().await;
    refused(&world.post("/computes", &world.owner, json!({ "name": "LOCAL" })).await, 409, "conflict");
    refused(&world.post("/computes", &world.owner, json!({ "name": "Server" })).await, 409, "conflict");
}

#[tokio::test]
async fn a_deleted_target_is_gone() {
    let world = World::new().await;
    world.post("/computes", &world.owner, json!({ "name": "gpu" })).await.ok();
    world.delete("/computes/gpu", &world.owner).await.ok();
    refused(&world.get("/computes/gpu", &world.owner).await, 404, "not_found");
    refused(&world.delete("/computes/gpu", &world.owner).await, 404, "not_found");
}

#[tokio::test]
async fn an_agent_keeps_serving_when_it_is_asked_to_be_a_user() {
    let world = World::new().await;
    world.post("/computes", &world.owner, json!({ "name": "gpu" })).await.ok();
    let agent = world.agent("node-1", "gpu").await;
    world.get("/computes/gpu", &agent).await.ok();
    refused(&world.call("PUT", "/computes/gpu/users/node-1", Some(&world.owner), None).await, 409, "conflict");
}
