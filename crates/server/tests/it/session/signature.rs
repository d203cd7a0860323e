//! Signed requests: who may speak for a session.

use serde_json::json;

use super::launcher::Launcher;
use super::stage::Stage;
use crate::world::refused;

const SECRETS: &str = "/api/v1/session/secrets";
const HEARTBEAT: &str = "/api/v1/session/heartbeat";

#[tokio::test]
async fn a_wrong_key_a_wrong_body_or_another_address_does_not_fit() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let (_, launcher) = stage.running(json!({})).await;
    let body = br#"{"names":["db-password"]}"#;
    let now = world.app.now().millis();

    let mut stranger = Launcher::new(9);
    stranger.session.clone_from(&launcher.session);
    refused(&world.send(stranger.sign(now, "POST", SECRETS, SECRETS, body)).await, 401, "unauthenticated");
    // Replayed to another path, or with another query.
    refused(&world.send(launcher.sign(now, "POST", SECRETS, HEARTBEAT, body)).await, 401, "unauthenticated");
    let with_query = format!("{SECRETS}?x=1");
    refused(&world.send(launcher.sign(now, "POST", SECRETS, &with_query, body)).await, 401, "unauthenticated");
    // With another body.
    let (parts, _) = launcher.sign(now, "POST", SECRETS, SECRETS, body).into_parts();
    let other = http::Request::from_parts(parts, axum::body::Body::from(&br#"{"names":["hub-token"]}"#[..]));
    refused(&world.send(other).await, 401, "unauthenticated");
    // With another method.
    let mut other = launcher.sign(now, "POST", "/api/v1/session/run", "/api/v1/session/run", b"{}");
    *other.method_mut() = http::Method::PATCH;
    refused(&world.send(other).await, 401, "unauthenticated");
    world.send(launcher.sign(now, "POST", SECRETS, SECRETS, body)).await.ok();
}

#[tokio::test]
async fn a_time_more_than_five_minutes_off_is_refused() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let (_, launcher) = stage.running(json!({})).await;
    let now = world.app.now().millis();
    for (millis, good) in [(-300_000, true), (300_000, true), (-300_001, false), (300_001, false)] {
        let answer = world.send(launcher.sign(now + millis, "POST", HEARTBEAT, HEARTBEAT, b"{}")).await;
        if good { drop(answer.ok()) } else { refused(&answer, 401, "clock_skew") }
    }
}

#[tokio::test]
async fn without_a_signature_or_with_a_token_nobody_gets_in() {
    let stage = Stage::new().await;
    let world = &stage.world;
    stage.running(json!({})).await;
    let routes = [
        ("GET", "/session/snapshot"),
        ("POST", "/session/secrets"),
        ("POST", "/session/heartbeat"),
        ("POST", "/session/logs"),
        ("POST", "/session/metrics"),
        ("PATCH", "/session/run"),
        ("PUT", "/session/outputs/a?offset=0&last=true"),
        ("PUT", "/session/outputs/a"),
        ("POST", "/session/children"),
        ("POST", "/session/children/c/end"),
        ("POST", "/session/end"),
    ];
    for (method, path) in routes {
        for token in [None, Some(world.owner.as_str()), Some(stage.ada.as_str())] {
            let answer = world.call(method, path, token, Some(json!({}))).await;
            assert_eq!(answer.refused(), (401, "unauthenticated".to_owned()), "{method} {path}");
        }
        // A session that never was.
        let mut nobody = Launcher::new(1);
        nobody.session = "0".repeat(32);
        let answer = nobody.send(world, method, path, b"{}").await;
        assert_eq!(answer.refused(), (401, "unauthenticated".to_owned()), "{method} {path}");
    }
}
