//! `/health`, `/ca`, `/openapi.json`, and addresses that are none.

use axum::body::Body;
use http::Request;
use http::header::USER_AGENT;
use kluis_server::api;

use crate::world::{World, refused};

#[tokio::test]
async fn a_stranger_learns_that_a_server_is_there() {
    let world = World::new().await;
    let health = world.call("GET", "/health", None, None).await.ok();
    assert_eq!(health, serde_json::json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION") }));
    let ca = world.call("GET", "/ca", None, None).await;
    assert_eq!(ca.headers["content-type"], "application/x-pem-file");
    assert!(ca.text().starts_with("-----BEGIN CERTIFICATE-----"));
    assert_eq!(world.call("GET", "/openapi.json", None, None).await.ok()["info"]["title"], "Kluis");
}

#[tokio::test]
async fn clients_of_ours_are_accepted_one_minor_version_apart() {
    let world = World::new().await;
    let own: Vec<u64> = env!("CARGO_PKG_VERSION").split('.').map(|part| part.parse().unwrap()).collect();
    let ask = |agent: String| Request::get("/api/v1/whoami").header(USER_AGENT, agent).body(Body::empty()).unwrap();
    let version = |minor: u64| format!("kluis/{}.{minor}.0", own[0]);
    for agent in [version(own[1]), version(own[1] + 1), "curl/8".into(), "kluisish/9.0.0".into()] {
        refused(&world.send(ask(agent)).await, 401, "unauthenticated");
    }
    for agent in [version(own[1] + 2), format!("kluis/{}.{}.0", own[0] + 1, own[1]), "kluis/new".into()] {
        let answer = world.send(ask(agent)).await;
        refused(&answer, 400, "version_skew");
        assert!(answer.text().contains(env!("CARGO_PKG_VERSION")), "it says its own version");
    }
}

/// A new route, field or status is a decision: look at the difference, then accept it with `KLUIS_ACCEPT=1`.
#[test]
fn the_openapi_document_is_the_one_that_is_pinned() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
    let mut now = serde_json::to_string_pretty(&api::document()).unwrap();
    now.push('\n');
    #[expect(clippy::disallowed_methods, reason = "accepting a snapshot is said from outside")]
    if std::env::var_os("KLUIS_ACCEPT").is_some() {
        std::fs::write(path, &now).unwrap();
    }
    let pinned = std::fs::read_to_string(path).unwrap_or_default();
    let first = pinned.lines().zip(now.lines()).enumerate().find(|(_, (a, b))| a != b);
    assert!(pinned == now, "docs/openapi.json differs from the handlers, first at {first:?}");
}

#[tokio::test]
async fn addresses_that_are_none_and_methods_that_do_not_fit_are_problems_too() {
    let world = World::new().await;
    for path in ["/", "/api", "/api/v1/nothing", "/api/v2/health", "/index.html"] {
        let answer = world.send(Request::get(path).body(Body::empty()).unwrap()).await;
        let code = if path == "/" { (400, "bad_request") } else { (404, "not_found") };
        refused(&answer, code.0, code.1);
    }
    refused(&world.call("DELETE", "/health", None, None).await, 405, "method_not_allowed");
    refused(&world.call("TRACE", "/whoami", None, None).await, 405, "method_not_allowed");
}

#[tokio::test]
async fn addresses_are_refused_and_not_cleaned_up() {
    let world = World::new().await;
    for path in [
        "/api/v1//whoami",
        "/api/v1/whoami/",
        "/api/v1/./whoami",
        "/api/v1/x/../whoami",
        "/api/v1/%2e%2e/whoami",
        "/api/v1/workspaces/default/secrets/a%2Fb",
        "/api/v1/workspaces/default/secrets/a%5Cb",
        "/api/v1/workspaces/default/secrets/a%00",
        "/api/v1/workspaces/default/secrets/%ff",
    ] {
        let request = Request::get(path).header("authorization", format!("Bearer {}", world.owner));
        refused(&world.send(request.body(Body::empty()).unwrap()).await, 400, "bad_request");
    }
}

#[tokio::test]
async fn every_answer_has_an_id_and_is_kept_by_nobody() {
    let world = World::new().await;
    for answer in [world.call("GET", "/health", None, None).await, world.call("GET", "/whoami", None, None).await] {
        assert_eq!(answer.headers["kluis-request-id"].len(), 16);
        assert_eq!(answer.headers["cache-control"], "no-store");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
    }
}
