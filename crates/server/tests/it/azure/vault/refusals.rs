//! What is not understood is refused with a text of our own, and nothing of it is repeated.

use axum::body::Body;
use http::Request;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use serde_json::json;

use super::{HERE, call, get, patch, put, refused, set};
use crate::world::{Answer, World};

/// Stands in every bad part of a request.
const MARKER: &str = "mArKeR7f3a9c";

#[track_caller]
fn silent(answer: &Answer) {
    assert!(answer.status.is_client_error(), "{}", answer.text());
    assert!(!answer.text().contains(MARKER), "{}", answer.text());
    assert!(!format!("{:?}", answer.headers).contains(MARKER), "{:?}", answer.headers);
}

#[tokio::test]
async fn addresses_that_are_none() {
    let world = World::new().await;
    for path in [
        format!("/secrets/{MARKER}_x/"),
        format!("/secrets/{MARKER}%20/"),
        format!("/secrets/a/{MARKER}"),
        format!("/{MARKER}"),
        format!("/secrets/a/b/c/{MARKER}"),
        format!("/secrets?api-version={MARKER}"),
        format!("/secrets?api-version=7.6&maxresults={MARKER}"),
        format!("/secrets?api-version=7.6&$skiptoken={MARKER}!"),
        format!("/secrets/{}/", MARKER.repeat(20)),
    ] {
        silent(&get(&world, &path).await);
    }
    assert_eq!(
        refused(&get(&world, "/keys").await, 404, "NotFound", None),
        "no such address, or it is not yours to see"
    );
    let message = refused(&put(&world, "/secrets/", json!({ "value": "v" })).await, 405, "MethodNotAllowed", None);
    assert_eq!(message, "HTTP PUT not allowed");
    let answer = call(&world, MARKER, "/secrets", Some(&world.owner), None).await;
    assert_eq!(refused(&answer, 405, "MethodNotAllowed", None), "HTTP method not allowed");
    let message = refused(&get(&world, "/secrets/a.b/").await, 400, "BadParameter", None);
    assert!(
        message.starts_with("The request URI contains an invalid name: a secret's name has a character at position 1")
    );
}

#[tokio::test]
async fn every_version_of_the_interface_is_taken_and_none_is_not() {
    let world = World::new().await;
    for version in ["2016-10-01", "7.0", "7.6", "7.6-preview.1", "2025-07-01", "2026-04-01", "2031-01-01-preview"] {
        get(&world, &format!("/secrets?api-version={version}")).await.ok();
        get(&world, &format!("/secrets?api%2Dversion={version}")).await.ok();
    }
    let message = refused(&get(&world, "/secrets?").await, 400, "BadParameter", None);
    assert_eq!(message, "the parameter api-version is missing");
}

#[tokio::test]
async fn bodies_that_are_none() {
    let world = World::new().await;
    set(&world, "a", "v").await;
    for body in [
        json!({}),
        json!([MARKER]),
        json!(MARKER),
        json!({ "value": null }),
        json!({ "value": [MARKER] }),
        json!({ "value": 17 }),
        json!({ "value": MARKER, "tags": MARKER }),
        json!({ "value": MARKER, "tags": { MARKER: 1 } }),
        json!({ "value": MARKER, "tags": { MARKER.repeat(30): "v" } }),
        json!({ "value": MARKER, "contentType": MARKER.repeat(30) }),
        json!({ "value": MARKER, "attributes": { "enabled": MARKER } }),
        json!({ "value": MARKER, "attributes": { "exp": MARKER } }),
        json!({ "value": MARKER, "attributes": { "exp": 1.5 } }),
        json!({ "value": MARKER, "attributes": [MARKER] }),
        json!({ "value": MARKER.repeat(3000) }),
    ] {
        let answer = put(&world, "/secrets/a", body.clone()).await;
        silent(&answer);
        refused(&answer, 400, "BadParameter", None);
    }
    let tags: serde_json::Map<_, _> = (0..16).map(|n| (format!("{MARKER}{n}"), json!("v"))).collect();
    silent(&patch(&world, "/secrets/a/", json!({ "tags": tags })).await);
    for (raw, why) in [
        (String::new(), "the request has no body"),
        (format!("{{\"value\":\"{MARKER}"), "ends too early"),
        (format!("{{\"value\":\"{MARKER}\"}} {MARKER}"), "not JSON"),
        (format!("{{\"value\":\"{MARKER}\",\"value\":\"{MARKER}\"}}"), "duplicate field `value`"),
    ] {
        let request = Request::put(format!("{HERE}/secrets/a?api-version=7.6"));
        let request = request.header(AUTHORIZATION, format!("Bearer {}", world.owner));
        let request = request.header(CONTENT_TYPE, "application/json").body(Body::from(raw)).unwrap();
        let answer = world.send(request).await;
        silent(&answer);
        let message = refused(&answer, 400, "BadParameter", None);
        assert!(message.contains(why), "{message}");
    }
    let answer = put(&world, "/secrets/a", json!({ "value": "v", "junk": "x".repeat(300_000) })).await;
    refused(&answer, 413, "BadParameter", None);
    let versions = get(&world, "/secrets/a/versions").await.ok();
    assert_eq!(versions["value"].as_array().unwrap().len(), 1, "nothing was set");
}

#[tokio::test]
async fn what_clients_send_back_of_what_they_were_given_is_passed_over() {
    let world = World::new().await;
    let body = json!({ "value": "v", "id": "https://x/secrets/a/1", "managed": true, "kid": "k",
        "attributes": { "enabled": true, "created": 1, "updated": 2, "recoveryLevel": "Purgeable", "recoverableDays": 0 } });
    let bundle = put(&world, "/secrets/a", body).await.ok();
    assert_eq!(bundle["attributes"]["recoverableDays"], 90);
}

#[tokio::test]
async fn a_damaged_row_is_told_without_a_detail_of_it() {
    let world = World::new().await;
    set(&world, "a", "v").await;
    crate::world::tamper(&world.folder.path().join("data"), "UPDATE version SET enabled = 0");
    let message = refused(&get(&world, "/secrets/a/").await, 409, "Conflict", None);
    assert!(message.contains("damaged"), "{message}");
    assert_eq!(get(&world, "/secrets").await.ok()["value"], json!([]));
    let answer = call(&world, "POST", "/secrets/a/backup", Some(&world.owner), None).await;
    refused(&answer, 409, "Conflict", None);
}
