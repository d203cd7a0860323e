//! `/workspaces/{workspace}/members`.

use serde_json::json;

use crate::world::{World, refused, text};

async fn members(world: &World) -> Vec<(String, String)> {
    let page = world.get("/workspaces/default/members", &world.owner).await.ok();
    let of = |m: &serde_json::Value| (text(&m["name"]), text(&m["role"]));
    page["items"].as_array().unwrap().iter().map(of).collect()
}

fn pair(name: &str, role: &str) -> (String, String) {
    (name.to_owned(), role.to_owned())
}

#[tokio::test]
async fn a_role_is_given_changed_and_taken() {
    let world = World::new().await;
    let ada = world.user("ada", None).await;
    world.put("/workspaces/default/members/ada", &world.owner, json!({ "role": "reader" })).await.ok();
    world.get("/workspaces/default/secrets", &ada).await.ok();
    world.put("/workspaces/default/members/ADA", &world.owner, json!({ "role": "secrets-writer" })).await.ok();
    world.put("/workspaces/default/members/ada", &world.owner, json!({ "role": "secrets-writer" })).await.ok();
    assert_eq!(members(&world).await, [pair("ada", "secrets-writer"), pair("owner", "owner")]);
    world.put("/workspaces/default/secrets/a", &ada, json!({ "value": "v" })).await.ok();
    world.delete("/workspaces/default/members/ada", &world.owner).await.ok();
    refused(&world.get("/workspaces/default/secrets", &ada).await, 404, "not_found");
    refused(&world.delete("/workspaces/default/members/ada", &world.owner).await, 404, "not_found");
}

#[tokio::test]
async fn the_last_owner_stays() {
    let world = World::new().await;
    let ada = world.user("ada", Some(("default", "owner"))).await;
    world.delete("/workspaces/default/members/owner", &ada).await.ok();
    refused(&world.delete("/workspaces/default/members/ada", &ada).await, 409, "conflict");
    let lower = json!({ "role": "reader" });
    refused(&world.put("/workspaces/default/members/ada", &ada, lower).await, 409, "conflict");
    assert_eq!(members(&world).await, [pair("ada", "owner")]);
}

#[tokio::test]
async fn an_owner_who_is_disabled_is_not_the_one_who_stays() {
    let world = World::new().await;
    let ada = world.user("ada", Some(("default", "owner"))).await;
    world.user("bob", Some(("default", "owner"))).await;
    world.patch("/principals/bob", &world.owner, json!({ "enabled": false })).await.ok();
    world.delete("/workspaces/default/members/owner", &ada).await.ok();
    refused(&world.delete("/workspaces/default/members/ada", &world.owner).await, 409, "conflict");
    world.put("/workspaces/default/members/owner", &world.owner, json!({ "role": "owner" })).await.ok();
    world.delete("/workspaces/default/members/ada", &world.owner).await.ok();
}

#[tokio::test]
async fn two_owners_can_not_remove_each_other_at_once() {
    let world = World::new().await;
    let ada = world.user("ada", Some(("default", "owner"))).await;
    for _ in 0..10 {
        let (a, b) = tokio::join!(
            world.delete("/workspaces/default/members/owner", &ada),
            world.delete("/workspaces/default/members/ada", &world.owner),
        );
        let left = members(&world).await;
        assert_eq!(left.len(), 1, "{a:?} {b:?}");
        for name in ["ada", "owner"] {
            let path = format!("/workspaces/default/members/{name}");
            world.put(&path, &world.owner, json!({ "role": "owner" })).await.ok();
        }
    }
}

#[tokio::test]
async fn an_installations_owner_reads_no_secret_before_it_is_a_member_on_record() {
    let world = World::new().await;
    let ada = world.user("ada", Some(("default", "owner"))).await;
    world.put("/workspaces/default/secrets/a", &ada, json!({ "value": "v" })).await.ok();
    world.delete("/workspaces/default/members/owner", &ada).await.ok();
    refused(&world.get("/workspaces/default/secrets/a", &world.owner).await, 403, "forbidden");
    refused(&world.get("/workspaces/default/secrets", &world.owner).await, 403, "forbidden");
    world.put("/workspaces/default/members/owner", &world.owner, json!({ "role": "contributor" })).await.ok();
    world.get("/workspaces/default/secrets/a", &world.owner).await.ok();
    let actions = world.actions().await;
    let (refusal, grant, delivery) = (
        actions.iter().rposition(|a| a == "refused").unwrap(),
        actions.iter().rposition(|a| a == "grant.set").unwrap(),
        actions.iter().rposition(|a| a == "secret.delivered").unwrap(),
    );
    assert!(refusal < grant && grant < delivery);
}

#[tokio::test]
async fn only_roles_of_members_are_given_and_only_to_principals() {
    let world = World::new().await;
    world.user("ada", None).await;
    let path = "/workspaces/default/members/ada";
    refused(&world.put(path, &world.owner, json!({ "role": "agent" })).await, 400, "bad_request");
    refused(&world.put(path, &world.owner, json!({ "role": "admin" })).await, 400, "bad_request");
    let nobody = "/workspaces/default/members/nobody";
    refused(&world.put(nobody, &world.owner, json!({ "role": "reader" })).await, 404, "not_found");
    let bad = "/workspaces/default/members/a%20b";
    refused(&world.put(bad, &world.owner, json!({ "role": "reader" })).await, 400, "invalid_name");
}
