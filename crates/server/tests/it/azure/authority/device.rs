//! Signing in by device code: at the native API, and as Azure's clients do.

use std::time::Duration;

use serde_json::{Value, json};

use super::{SCOPE, VAULT, assert_refused, claims, form, holder};
use crate::world::{Answer, World, refused, text};

const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
const CLIENT: &str = "04b07795-8ddb-461a-bbee-02f9e1bf7b46";

async fn start(world: &World) -> Value {
    world.call("POST", "/login/device", None, Some(json!({ "label": "a node" }))).await.ok()
}

/// A program's interval passes; only here does time not go by itself.
async fn wait() {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(5)).await;
    tokio::time::resume();
}

/// Asks, a while after the last time.
async fn poll(world: &World, started: &Value) -> Value {
    let poll = json!({ "device_code": started["device_code"] });
    wait().await;
    world.call("POST", "/login/device/token", None, Some(poll)).await.ok()
}

async fn decide(world: &World, by: &str, started: &Value, approve: bool) -> Answer {
    world.post("/login/device/decide", by, json!({ "user_code": started["user_code"], "approve": approve })).await
}

async fn azure_start(world: &World) -> Value {
    let scope = format!("{SCOPE} openid profile offline_access");
    form(world, "/adfs/oauth2/devicecode", &[("client_id", CLIENT), ("scope", &scope)]).await.ok()
}

async fn azure_poll(world: &World, started: &Value) -> Answer {
    wait().await;
    let code = text(&started["device_code"]);
    form(world, "/adfs/oauth2/token", &[("grant_type", GRANT), ("client_id", CLIENT), ("device_code", &code)]).await
}

#[tokio::test]
async fn a_login_is_approved_elsewhere_and_given_once() {
    let world = World::new().await;
    let ada = world.user("ada", Some(("default", "reader"))).await;
    let started = start(&world).await;
    let code = text(&started["user_code"]);
    assert_eq!((code.len(), &code[4..5]), (9, "-"));
    assert_eq!(poll(&world, &started).await, json!({ "status": "waiting" }));

    let typed = json!({ "user_code": code.to_lowercase().replace('-', " ") });
    let shown = world.post("/login/device/show", &ada, typed).await.ok();
    let seen = json!({ "label": "a node", "source": "127.0.0.1", "purpose": "login" });
    for (field, value) in seen.as_object().unwrap() {
        assert_eq!(&shown[field], value);
    }
    decide(&world, &ada, &started, true).await.ok();
    refused(&decide(&world, &ada, &started, false).await, 404, "not_found");

    let signed_in = poll(&world, &started).await;
    assert_eq!(signed_in["status"], "signed_in");
    let issued = &signed_in["issued"];
    assert_eq!((&issued["view"]["label"], issued["view"].get("expires")), (&json!("a node"), None));
    let whoami = world.get("/whoami", &text(&issued["token"])).await.ok();
    assert_eq!(whoami["principal"]["name"], "ada");
    assert_eq!(poll(&world, &started).await, json!({ "status": "ended" }));

    let actions = world.actions().await;
    assert_eq!(actions[actions.len() - 2..], ["login.approved", "token.issued"]);
    let log = world.get("/audit?last=200", &world.owner).await.ok().to_string();
    assert!(!log.contains(&code) && !log.contains("a node"), "what a stranger said is in no record");
}

#[tokio::test]
async fn a_denied_expired_or_foreign_login_is_none() {
    let world = World::new().await;
    let denied = start(&world).await;
    decide(&world, &world.owner, &denied, false).await.ok();
    assert_eq!(poll(&world, &denied).await, json!({ "status": "denied" }));
    assert_eq!(world.actions().await.last().unwrap(), "login.denied");

    let late = start(&world).await;
    decide(&world, &world.owner, &late, true).await.ok();
    world.advance(Duration::from_mins(10));
    assert_eq!(poll(&world, &late).await, json!({ "status": "ended" }));
    refused(&decide(&world, &world.owner, &late, true).await, 404, "not_found");

    let other = World::new().await;
    let foreign = start(&other).await;
    for code in [text(&foreign["device_code"]), world.owner.clone(), "hunter2".into()] {
        assert_eq!(poll(&world, &json!({ "device_code": code })).await, json!({ "status": "ended" }));
    }
}

#[tokio::test]
async fn a_program_asks_at_its_interval() {
    let world = World::new().await;
    let started = start(&world).await;
    let ask = json!({ "device_code": started["device_code"] });
    poll(&world, &started).await;
    let soon = world.call("POST", "/login/device/token", None, Some(ask)).await.ok();
    assert_eq!(soon, json!({ "status": "too_soon" }));
    assert_eq!(poll(&world, &started).await, json!({ "status": "waiting" }));
}

#[tokio::test]
async fn an_approval_gives_no_more_than_the_approver_has() {
    let world = World::new().await;
    // A short login makes no long one.
    let short = world.post("/tokens", &world.owner, json!({ "label": "short", "life_seconds": 3600 })).await.ok();
    let started = start(&world).await;
    decide(&world, &text(&short["token"]), &started, true).await.ok();
    let issued = poll(&world, &started).await;
    assert_eq!(issued["issued"]["view"]["expires"], short["view"]["expires"]);

    // What was approved with a token that was taken is not approved.
    let started = start(&world).await;
    decide(&world, &text(&short["token"]), &started, true).await.ok();
    world.delete(&format!("/tokens/{}", text(&short["view"]["id"])), &world.owner).await.ok();
    assert_eq!(poll(&world, &started).await, json!({ "status": "denied" }));

    let ada = world.user("ada", None).await;
    let started = start(&world).await;
    decide(&world, &ada, &started, true).await.ok();
    world.patch("/principals/ada", &world.owner, json!({ "enabled": false })).await.ok();
    assert_eq!(poll(&world, &started).await, json!({ "status": "denied" }));
}

#[tokio::test]
async fn only_people_approve_and_guessing_codes_is_slowed_down() {
    let world = World::new().await;
    let started = start(&world).await;
    let agent = world.agent("node", "server").await;
    let (id, secret) = world.service_principal("ci").await;
    let service = super::native(&world, &id, &secret).await;
    for program in [&agent, &service] {
        refused(&decide(&world, program, &started, true).await, 403, "forbidden");
        let show = world.post("/login/device/show", program, json!({ "user_code": started["user_code"] })).await;
        refused(&show, 403, "forbidden");
    }
    let ada = world.user("ada", None).await;
    for _ in 0..10 {
        let wrong = world.post("/login/device/show", &ada, json!({ "user_code": "BBBB-BBBB" })).await;
        refused(&wrong, 404, "not_found");
    }
    refused(&decide(&world, &ada, &started, true).await, 429, "throttled");
    decide(&world, &world.owner, &started, true).await.ok();
}

#[tokio::test]
async fn strangers_fill_no_database() {
    let world = World::new().await;
    for _ in 0..128 {
        start(&world).await;
    }
    let more = world.call("POST", "/login/device", None, Some(json!({ "label": "x" }))).await;
    refused(&more, 429, "throttled");
    world.advance(Duration::from_mins(10));
    start(&world).await;
    let bad = world.call("POST", "/login/device", None, Some(json!({ "label": "a\u{1b}[31m" }))).await;
    refused(&bad, 400, "bad_request");
}

#[tokio::test]
async fn an_azure_client_signs_a_person_in_and_stays_so() {
    let world = World::new().await;
    let ada = world.user("ada", None).await;
    let started = azure_start(&world).await;
    assert!(text(&started["message"]).ends_with(&text(&started["user_code"])));
    assert_eq!((&started["interval"], &started["expires_in"]), (&json!(5), &json!(600)));
    assert_refused(&azure_poll(&world, &started).await, 400, "authorization_pending");
    let code = text(&started["device_code"]);
    let soon = form(&world, "/adfs/oauth2/token", &[("grant_type", GRANT), ("device_code", &code)]).await;
    assert_refused(&soon, 400, "slow_down");
    // Its code is none of the native API's, which would give it a login without an end.
    assert_eq!(poll(&world, &started).await, json!({ "status": "ended" }));

    let shown = world.post("/login/device/show", &ada, json!({ "user_code": started["user_code"] })).await.ok();
    assert_eq!(shown["purpose"], "azure");
    decide(&world, &ada, &started, true).await.ok();
    let issued = azure_poll(&world, &started).await.ok();
    assert_eq!(holder(&world, &issued["access_token"]).await, "ada");
    let account = claims(&issued["id_token"]);
    assert_eq!((&account["aud"], &account["preferred_username"]), (&json!(CLIENT), &json!("ada")));
    assert_eq!(account["iss"], "https://localhost:8443/adfs");
    assert!(issued["client_info"].is_string());
    assert_eq!(issued["scope"], format!("{SCOPE} openid profile offline_access"), "clients keep it under this");
    assert_refused(&azure_poll(&world, &started).await, 400, "expired_token");

    let refresh = text(&issued["refresh_token"]);
    let again = async || {
        let fields =
            [("grant_type", "refresh_token"), ("client_id", CLIENT), ("refresh_token", &*refresh), ("scope", SCOPE)];
        form(&world, "/adfs/oauth2/token", &fields).await
    };
    let second = again().await.ok();
    assert_eq!(holder(&world, &second["access_token"]).await, "ada");
    // The login has a name, an end and can be taken; with it goes all that came from it.
    let listed = world.get("/tokens", &ada).await.ok();
    let login = listed["items"].as_array().unwrap().iter().find(|t| text(&t["label"]).contains("Azure")).unwrap();
    assert!(login["expires"].is_string());
    world.delete(&format!("/tokens/{}", text(&login["id"])), &ada).await.ok();
    assert_refused(&again().await, 400, "invalid_grant");
    for token in [&issued["access_token"], &second["access_token"]] {
        assert!(world.app.sign_in_face(&text(token), super::HERE, VAULT).await.is_err());
    }
}

#[tokio::test]
async fn an_azure_client_hears_of_refusals_as_the_standard_has_them() {
    let world = World::new().await;
    let started = azure_start(&world).await;
    decide(&world, &world.owner, &started, false).await.ok();
    assert_refused(&azure_poll(&world, &started).await, 400, "access_denied");
    let native = start(&world).await;
    decide(&world, &world.owner, &native, true).await.ok();
    assert_refused(&azure_poll(&world, &native).await, 400, "expired_token");
    assert_eq!(poll(&world, &native).await["status"], "signed_in", "it was not used up");
    let other =
        form(&world, "/adfs/oauth2/devicecode", &[("client_id", CLIENT), ("scope", "https://a/.default")]).await;
    assert_refused(&other, 400, "invalid_target");
}
