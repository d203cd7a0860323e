//! `/principals` and `/invites`: for the installation's owners.

use serde_json::json;

use crate::world::{World, refused, text};

#[tokio::test]
async fn a_disabled_principal_is_out_at_once_and_may_come_back() {
    let world = World::new().await;
    let ada = world.user("ada", Some(("default", "owner"))).await;
    let disabled = world.patch("/principals/ada", &world.owner, json!({ "enabled": false })).await.ok();
    assert_eq!(disabled["enabled"], false);
    let answer = world.get("/whoami", &ada).await;
    refused(&answer, 401, "unauthenticated");
    assert!(answer.detail().contains("disabled"));
    world.patch("/principals/ADA", &world.owner, json!({ "enabled": true })).await.ok();
    world.get("/whoami", &ada).await.ok();
}

#[tokio::test]
async fn the_last_owner_of_the_installation_can_not_be_disabled() {
    let world = World::new().await;
    let answer = world.patch("/principals/owner", &world.owner, json!({ "enabled": false })).await;
    refused(&answer, 409, "conflict");
    world.get("/whoami", &world.owner).await.ok();
}

#[tokio::test]
async fn principals_are_listed_by_name_without_case() {
    let world = World::new().await;
    world.user("Zoe", None).await;
    world.user("ada", None).await;
    world.service_principal("CI").await;
    let page = world.get("/principals", &world.owner).await.ok();
    let names: Vec<_> = page["items"].as_array().unwrap().iter().map(|p| text(&p["name"])).collect();
    assert_eq!(names, ["ada", "CI", "owner", "Zoe"]);
    let taken = json!({ "name": "ci", "kind": "service_principal" });
    refused(&world.post("/principals", &world.owner, taken).await, 409, "conflict");
}

#[tokio::test]
async fn users_and_agents_come_by_invitation_only() {
    let world = World::new().await;
    for kind in ["user", "agent"] {
        let create = json!({ "name": "x", "kind": kind });
        refused(&world.post("/principals", &world.owner, create).await, 400, "bad_request");
    }
    refused(&world.call("POST", "/principals/owner/secrets", Some(&world.owner), None).await, 409, "conflict");
    for invite in [
        json!({ "name": "x", "kind": "service_principal" }),
        json!({ "name": "x", "kind": "agent" }),
        json!({ "name": "x", "kind": "user", "compute": "server" }),
        json!({ "name": "x", "kind": "agent", "compute": "server", "membership": { "workspace": "default", "role": "owner" } }),
        json!({ "name": "x", "kind": "user", "membership": { "workspace": "default", "role": "agent" } }),
        json!({ "name": "x", "kind": "user", "life_seconds": 0 }),
        json!({ "name": "x", "kind": "user", "life_seconds": 30 * 24 * 3600 + 1 }),
    ] {
        refused(&world.post("/invites", &world.owner, invite).await, 400, "bad_request");
    }
    for invite in [
        json!({ "name": "x", "kind": "agent", "compute": "nowhere" }),
        json!({ "name": "x", "kind": "user", "membership": { "workspace": "nowhere", "role": "owner" } }),
    ] {
        refused(&world.post("/invites", &world.owner, invite).await, 404, "not_found");
    }
}

#[tokio::test]
async fn changes_leave_records() {
    let world = World::new().await;
    world.user("ada", Some(("default", "reader"))).await;
    world.service_principal("ci").await;
    world.patch("/principals/ada", &world.owner, json!({ "enabled": false })).await.ok();
    insta::assert_json_snapshot!(world.actions().await);
}
