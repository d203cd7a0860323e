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

#[tokio::test]
async fn a_client_secret_that_leaked_is_revoked_and_nobody_signs_in_with_it() {
    let world = World::new().await;
    let (id, secret) = world.service_principal("ci").await;
    let hour = world.call("POST", "/principals/ci/secrets?life_seconds=3600", Some(&world.owner), None).await.ok();
    for life in ["0", "315360001", "x"] {
        let path = format!("/principals/ci/secrets?life_seconds={life}");
        refused(&world.call("POST", &path, Some(&world.owner), None).await, 400, "bad_request");
    }
    let listed = world.get("/principals/ci/secrets", &world.owner).await.ok();
    let ids: Vec<_> = listed["items"].as_array().unwrap().iter().map(|s| text(&s["id"])).collect();
    assert_eq!(ids.len(), 2, "{listed}");
    assert!(!listed.to_string().contains(&secret), "a list shows no secret");
    let items = listed["items"].as_array().unwrap();
    assert!(items.iter().any(|s| s["id"] == hour["id"] && s["expires"] == hour["expires"]), "{listed}");

    let leaked = ids.iter().find(|id| **id != text(&hour["id"])).unwrap();
    world.delete(&format!("/principals/ci/secrets/{leaked}"), &world.owner).await.ok();
    let login = |secret: &str| {
        let login = json!({ "client_id": id, "client_secret": secret });
        world.call("POST", "/login/client", None, Some(login))
    };
    refused(&login(&secret).await, 401, "unauthenticated");
    login(&text(&hour["client_secret"])).await.ok();
    refused(&world.delete(&format!("/principals/ci/secrets/{leaked}"), &world.owner).await, 404, "not_found");
    world.advance(std::time::Duration::from_hours(1));
    refused(&login(&text(&hour["client_secret"])).await, 401, "unauthenticated");
    assert_eq!(world.get("/principals/ci/secrets", &world.owner).await.ok()["items"], json!([]));
    assert!(world.actions().await.contains(&"client_secret.revoked".to_owned()));
}

#[tokio::test]
async fn anybodys_token_is_taken_by_an_owner_and_by_nobody_else() {
    let world = World::new().await;
    let ada = world.user("ada", None).await;
    let listed = world.get("/principals/ada/tokens", &world.owner).await.ok();
    let id = text(&listed["items"][0]["id"]);
    refused(&world.get("/principals/owner/tokens", &ada).await, 403, "forbidden");
    refused(&world.delete(&format!("/principals/ada/tokens/{id}"), &ada).await, 403, "forbidden");
    refused(&world.delete(&format!("/principals/owner/tokens/{id}"), &world.owner).await, 404, "not_found");
    world.delete(&format!("/principals/ada/tokens/{id}"), &world.owner).await.ok();
    refused(&world.get("/whoami", &ada).await, 401, "unauthenticated");
}

#[tokio::test]
async fn an_invitation_is_taken_back_before_it_is_used() {
    let world = World::new().await;
    let invite = world.post("/invites", &world.owner, json!({ "name": "eve", "kind": "user" })).await.ok();
    let ada = world.user("ada", None).await;
    let listed = world.get("/invites", &world.owner).await.ok();
    assert_eq!(listed["items"], json!([invite["invite"]]), "used ones are not listed");
    let path = format!("/invites/{}", text(&invite["invite"]["id"]));
    refused(&world.delete(&path, &ada).await, 403, "forbidden");
    world.delete(&path, &world.owner).await.ok();
    refused(&world.delete(&path, &world.owner).await, 404, "not_found");
    let redeem = json!({ "code": invite["code"], "label": "x" });
    refused(&world.call("POST", "/login/invite", None, Some(redeem)).await, 401, "unauthenticated");
}
