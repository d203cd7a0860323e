//! Who asks comes first: the first request of every client has no token and no body, and wants to hear where to get one.

use std::time::Duration;

use axum::body::Body;
use data_encoding::BASE64;
use http::Request;
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH};
use kluis_server::Server;
use serde_json::{Value, json};

use super::{HERE, RESOURCE, call, call_at, challenge, face_token, get, refused, set};
use crate::world::{World, options};

const PLAIN: &str = "Bearer authorization=\"https://localhost:8443/adfs\", resource=\"https://vault.localhost:8443\"";

#[tokio::test]
async fn without_a_token_everything_else_is_left_alone() {
    let world = World::new().await;
    for (method, path, body) in [
        ("PUT", "/secrets/a", None),
        ("PUT", "/secrets/a", Some(json!({ "value": "v" }))),
        ("PUT", "/secrets/a?api-version=nonsense", Some(json!("no secret"))),
        ("GET", "/secrets/a_b/", None),
        ("GET", "/secrets?", None),
        ("BREW", "/coffee", None),
        ("POST", "/secrets/restore", Some(json!({ "value": "x".repeat(100_000) }))),
    ] {
        let answer = call(&world, method, path, None, body).await;
        assert_eq!(challenge(&answer), PLAIN, "{method} {path}");
        let message = refused(&answer, 401, "Unauthorized", None);
        assert_eq!(message, "AKV10000: Request is missing a Bearer or PoP token.");
    }
    let unknown = call_at(&world, "https://nobody.vault.localhost:8443", "GET", "/secrets", None, None).await;
    assert_eq!(challenge(&unknown), PLAIN, "a stranger does not learn which vaults there are");
}

#[tokio::test]
async fn an_empty_put_keeps_its_connection_and_a_refused_body_closes_it() {
    let world = World::new().await;
    let ask = |body: &'static str| {
        Request::put(format!("{HERE}/secrets/a?api-version=7.6"))
            .header(CONTENT_LENGTH, body.len())
            .body(Body::from(body))
    };
    let answer = world.send(ask("").unwrap()).await;
    assert_eq!((answer.status.as_u16(), answer.headers.get(CONNECTION)), (401, None));
    let answer = world.send(ask("{\"value\":\"v\"}").unwrap()).await;
    assert_eq!((answer.status.as_u16(), &answer.headers[CONNECTION]), (401, &"close".parse().unwrap()));
    let refused = world.call("PUT", "/workspaces/default/secrets/a", None, Some(json!({ "value": "v" }))).await;
    assert_eq!(refused.headers[CONNECTION], "close", "on the native face too");
    let done = world.put("/workspaces/default/secrets/a", &world.owner, json!({ "value": "v" })).await;
    assert_eq!((done.status.as_u16(), done.headers.get(CONNECTION)), (200, None));
}

#[tokio::test]
async fn a_token_for_this_vault_signs_in_and_one_for_something_else_does_not() {
    let world = World::new().await;
    set(&world, "a", "v").await;
    let good = face_token(&world, &world.owner, RESOURCE).await;
    assert_eq!(call(&world, "GET", "/secrets/a/", Some(&good), None).await.ok()["value"], "v");
    let elsewhere = face_token(&world, &world.owner, "https://localhost:8443").await;
    let answer = call(&world, "GET", "/secrets/a/", Some(&elsewhere), None).await;
    assert_eq!(challenge(&answer), PLAIN);
    assert_eq!(
        refused(&answer, 401, "Unauthorized", None),
        "AKV10022: Invalid audience. Expected https://vault.localhost:8443, found: https://localhost:8443."
    );
    // The same server under another port is another resource.
    let answer = call_at(&world, "https://default.vault.localhost", "GET", "/secrets/a/", Some(&good), None).await;
    let message = refused(&answer, 401, "Unauthorized", None);
    assert!(message.contains("Expected https://vault.localhost, found: https://vault.localhost:8443."), "{message}");
}

#[tokio::test]
async fn the_usual_port_may_be_said_or_left_out() {
    let world = World::new().await;
    set(&world, "a", "v").await;
    let token = face_token(&world, &world.owner, "https://vault.localhost:443").await;
    for vault in
        ["https://default.vault.localhost", "https://default.vault.localhost:443", "https://Default.VAULT.localhost"]
    {
        let bundle = call_at(&world, vault, "GET", "/secrets/a/", Some(&token), None).await.ok();
        assert!(bundle["id"].as_str().unwrap().starts_with(&format!("{vault}/secrets/a/")), "{bundle}");
    }
}

#[tokio::test]
async fn a_native_login_is_taken_too_and_nothing_else_that_looks_like_one() {
    let world = World::new().await;
    set(&world, "a", "v").await;
    let (client_id, client_secret) = world.service_principal("ci").await;
    let role = json!({ "role": "contributor" });
    world.put("/workspaces/default/members/ci", &world.owner, role).await.ok();
    let login = json!({ "client_id": client_id, "client_secret": client_secret });
    let ci = world.call("POST", "/login/client", None, Some(login)).await.ok()["token"].as_str().unwrap().to_owned();
    assert_eq!(call(&world, "GET", "/secrets/a/", Some(&ci), None).await.ok()["value"], "v");
    world.post("/computes", &world.owner, json!({ "name": "cluster" })).await.ok();
    let agent = world.agent("agent", "cluster").await;
    for token in [&agent, &client_secret, "kls_usr_nonsense", "e30.e30.e30", "nonsense", ""] {
        let answer = call(&world, "GET", "/secrets/a/", Some(token), None).await;
        assert_eq!(challenge(&answer), PLAIN, "{token}");
    }
    for header in ["Basic dTpw", "Bearer", "bearer  "] {
        let request = Request::get(format!("{HERE}/secrets?api-version=7.6")).header(AUTHORIZATION, header);
        let answer = world.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(challenge(&answer), PLAIN, "{header}");
    }
}

/// What a claims challenge asks for.
#[track_caller]
fn claims(challenge: &str) -> Value {
    let start = "Bearer realm=\"\", authorization_uri=\"https://localhost:8443/adfs\", error=\"insufficient_claims\", claims=\"";
    let claims = challenge.strip_prefix(start).unwrap_or_else(|| panic!("{challenge}")).trim_end_matches('"');
    serde_json::from_slice(&BASE64.decode(claims.as_bytes()).unwrap()).unwrap()
}

#[tokio::test]
async fn a_client_whose_token_is_no_longer_good_is_told_to_get_another() {
    let world = World::new().await;
    let ada = world.user("ada", Some(("default", "contributor"))).await;
    let token = face_token(&world, &ada, RESOURCE).await;
    call(&world, "GET", "/secrets", Some(&token), None).await.ok();

    world.advance(Duration::from_mins(15));
    let answer = call(&world, "PUT", "/secrets/a", Some(&token), Some(json!({ "value": "v" }))).await;
    let asked = claims(&challenge(&answer));
    let now = world.app.now().seconds().to_string();
    assert_eq!(asked["access_token"]["nbf"], json!({ "essential": true, "value": now }));
    refused(&answer, 401, "Unauthorized", None);

    let token = face_token(&world, &ada, RESOURCE).await;
    let revoked = call(&world, "GET", "/secrets", Some(&token), None).await;
    revoked.ok();
    world.patch("/principals/ada", &world.owner, json!({ "enabled": false })).await.ok();
    claims(&challenge(&call(&world, "GET", "/secrets", Some(&token), None).await));
}

#[tokio::test]
async fn what_is_refused_by_policy_asks_nobody_to_sign_in_again() {
    let world = World::new().await;
    set(&world, "a", "v").await;
    let reader = world.user("reader", Some(("default", "reader"))).await;
    let token = face_token(&world, &reader, RESOURCE).await;
    let answer = call(&world, "GET", "/secrets/a/", Some(&token), None).await;
    assert_eq!(answer.headers.get("www-authenticate"), None);
    let message = refused(&answer, 403, "Forbidden", Some("AccessDenied"));
    assert!(message.contains("does not have secrets get permission on key vault 'default'"), "{message}");
    call(&world, "GET", "/secrets", Some(&token), None).await.ok();
    let taken = world.delete("/workspaces/default/members/reader", &world.owner).await;
    assert!(taken.status.is_success(), "{}", taken.text());
    let answer = call(&world, "GET", "/secrets", Some(&token), None).await;
    refused(&answer, 404, "VaultNotFound", None);
}

#[tokio::test]
async fn a_token_outlives_a_restart() {
    let mut world = World::new().await;
    set(&world, "a", "v").await;
    let token = face_token(&world, &world.owner, RESOURCE).await;
    world.app.store.close();
    let (app, _) = Server::open(&options(&world.folder, &world.clock)).await.unwrap();
    let again = world.over(app);
    assert_eq!(call(&again, "GET", "/secrets/a/", Some(&token), None).await.ok()["value"], "v");
    get(&again, "/secrets").await.ok();
    again.app.store.close();
    world.app = again.app.clone();
}
