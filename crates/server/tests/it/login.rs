//! `/login/invite` and `/login/client`: codes that work once, secrets that work for a quarter of an hour.

use std::time::Duration;

use serde_json::json;

use crate::world::{World, refused, text};

const DAY: Duration = Duration::from_hours(24);

#[tokio::test]
async fn an_invitation_works_once() {
    let world = World::new().await;
    let invite = world.post("/invites", &world.owner, json!({ "name": "ada", "kind": "user" })).await.ok();
    let redeem = json!({ "code": invite["code"], "label": "laptop" });
    let issued = world.call("POST", "/login/invite", None, Some(redeem.clone())).await.ok();
    assert_eq!(issued["principal"]["name"], "ada");
    assert_eq!(issued["view"]["label"], "laptop");
    let whoami = world.get("/whoami", &text(&issued["token"])).await.ok();
    assert_eq!(whoami["principal"]["installation_owner"], false);

    let again = world.call("POST", "/login/invite", None, Some(redeem)).await;
    refused(&again, 401, "unauthenticated");
}

#[tokio::test]
async fn an_invitation_makes_a_member_at_once() {
    let world = World::new().await;
    let ada = world.user("ada", Some(("default", "reader"))).await;
    let whoami = world.get("/whoami", &ada).await.ok();
    assert_eq!(whoami["workspaces"], json!([{ "workspace": "default", "role": "reader" }]));
}

#[tokio::test]
async fn an_invitation_to_somebody_who_exists_gives_another_login() {
    let world = World::new().await;
    let first = world.user("ada", None).await;
    let second = world.user("ADA", Some(("default", "contributor"))).await;
    assert_ne!(first, second);
    let [a, b] = [world.get("/whoami", &first).await.ok(), world.get("/whoami", &second).await.ok()];
    assert_eq!(a["principal"]["id"], b["principal"]["id"]);
    assert_eq!(a["workspaces"], b["workspaces"]);
    let wrong_kind = json!({ "name": "ada", "kind": "agent", "compute": "server" });
    refused(&world.post("/invites", &world.owner, wrong_kind).await, 409, "conflict");
}

/// Nor does it raise one: a code may be weeks old, and a member's role is changed by its workspace's owners.
#[tokio::test]
async fn an_invitation_changes_no_members_role() {
    let world = World::new().await;
    let ada = world.user("ada", Some(("default", "owner"))).await;
    world.delete("/workspaces/default/members/owner", &ada).await.ok();
    let again = world.user("ada", Some(("default", "reader"))).await;
    let whoami = world.get("/whoami", &again).await.ok();
    assert_eq!(whoami["workspaces"], json!([{ "workspace": "default", "role": "owner" }]));
    world.user("bob", Some(("default", "reader"))).await;
    let bob = world.user("bob", Some(("default", "contributor"))).await;
    let whoami = world.get("/whoami", &bob).await.ok();
    assert_eq!(whoami["workspaces"], json!([{ "workspace": "default", "role": "reader" }]));
}

#[tokio::test]
async fn what_a_stranger_sends_is_small() {
    let world = World::new().await;
    let redeem = |code: String| {
        let body = json!({ "code": code, "label": "x" });
        world.call("POST", "/login/invite", None, Some(body))
    };
    refused(&redeem("x".repeat(15_000)).await, 401, "unauthenticated");
    refused(&redeem("x".repeat(17_000)).await, 413, "too_large");
}

#[tokio::test]
async fn a_used_expired_unknown_or_foreign_code_looks_the_same() {
    let world = World::new().await;
    let invite = world.post("/invites", &world.owner, json!({ "name": "ada", "kind": "user" })).await.ok();
    world.advance(DAY);
    let other = World::new().await;
    let foreign = other.post("/invites", &other.owner, json!({ "name": "eve", "kind": "user" })).await.ok();
    let mut details = Vec::new();
    for code in [text(&invite["code"]), text(&foreign["code"]), world.owner.clone(), "x".into(), String::new()] {
        let redeem = json!({ "code": code, "label": "x" });
        let answer = world.call("POST", "/login/invite", None, Some(redeem)).await;
        refused(&answer, 401, "unauthenticated");
        details.push(answer.detail());
    }
    details.dedup();
    assert_eq!(details, ["the credentials are not accepted"]);
}

#[tokio::test]
async fn an_invitation_dies_with_its_makers_rights() {
    let world = World::new().await;
    let invite = world.post("/invites", &world.owner, json!({ "name": "ada", "kind": "user" })).await.ok();
    // Another owner, so that the first one can be disabled.
    let second = world.user("second", None).await;
    let id = text(&world.get("/whoami", &second).await.ok()["principal"]["id"]);
    world.make_installation_owner(&id).await;
    world.patch("/principals/owner", &second, json!({ "enabled": false })).await.ok();
    let redeem = json!({ "code": invite["code"], "label": "x" });
    refused(&world.call("POST", "/login/invite", None, Some(redeem)).await, 401, "unauthenticated");
}

#[tokio::test]
async fn a_client_login_lives_a_quarter_of_an_hour() {
    let world = World::new().await;
    let (id, secret) = world.service_principal("ci").await;
    let login = json!({ "client_id": id, "client_secret": secret });
    let issued = world.call("POST", "/login/client", None, Some(login.clone())).await.ok();
    let token = text(&issued["token"]);
    assert!(token.starts_with("kls_svc_"));
    world.get("/whoami", &token).await.ok();
    world.advance(Duration::from_mins(15));
    let answer = world.get("/whoami", &token).await;
    refused(&answer, 401, "unauthenticated");
    assert!(answer.detail().contains("expired"), "{}", answer.detail());
    world.call("POST", "/login/client", None, Some(login)).await.ok();
}

#[tokio::test]
async fn a_wrong_client_secret_looks_like_an_unknown_client() {
    let world = World::new().await;
    let (id, secret) = world.service_principal("ci").await;
    let (other, other_secret) = world.service_principal("cd").await;
    let unknown = "0".repeat(32);
    let mut answers = Vec::new();
    for (id, secret) in [(&id, &other_secret), (&other, &secret), (&unknown, &secret), (&id, &world.owner), (&id, &id)]
    {
        let login = json!({ "client_id": id, "client_secret": secret });
        let answer = world.call("POST", "/login/client", None, Some(login)).await;
        refused(&answer, 401, "unauthenticated");
        answers.push(answer.detail());
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert!(world.app.throttle.total() >= 5, "failures are counted");
    assert!(!world.actions().await.contains(&"refused".to_owned()), "and not recorded one by one");
}

#[tokio::test]
async fn a_disabled_service_principal_does_not_sign_in() {
    let world = World::new().await;
    let (id, secret) = world.service_principal("ci").await;
    world.patch("/principals/ci", &world.owner, json!({ "enabled": false })).await.ok();
    let login = json!({ "client_id": id, "client_secret": secret });
    refused(&world.call("POST", "/login/client", None, Some(login)).await, 401, "unauthenticated");
}

#[tokio::test(start_paused = true)]
async fn who_fails_often_is_slowed_down_and_nobody_else() {
    let world = World::new().await;
    let (id, secret) = world.service_principal("ci").await;
    let (other, other_secret) = world.service_principal("cd").await;
    let bad = json!({ "client_id": id, "client_secret": other_secret });
    for _ in 0..10 {
        refused(&world.call("POST", "/login/client", None, Some(bad.clone())).await, 401, "unauthenticated");
    }
    let good = json!({ "client_id": id, "client_secret": secret });
    let slowed = world.call("POST", "/login/client", None, Some(good.clone())).await;
    refused(&slowed, 429, "throttled");
    assert!(slowed.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() <= 60);
    let others = json!({ "client_id": other, "client_secret": other_secret });
    world.call("POST", "/login/client", None, Some(others)).await.ok();
    tokio::time::advance(Duration::from_mins(1)).await;
    world.call("POST", "/login/client", None, Some(good)).await.ok();
}
