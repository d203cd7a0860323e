//! The token authority: what Azure's clients sign in at.

use std::net::{IpAddr, Ipv4Addr};

use axum::body::Body;
use data_encoding::BASE64URL_NOPAD;
use http::Request;
use http::header::{CONTENT_TYPE, HOST};
use serde_json::{Value, json};

use crate::world::{Answer, World, text};

mod callers;
mod device;
mod discovery;
mod faces;
mod managed;
mod token;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const VAULT: &str = "https://vault.localhost:8443";
const SCOPE: &str = "https://vault.localhost:8443/.default";

/// Sends a form, as a client does that knows us as `localhost:8443`.
async fn form(world: &World, path: &str, fields: &[(&str, &str)]) -> Answer {
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    let request = Request::post(path)
        .header(HOST, "localhost:8443")
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded; charset=utf-8")
        .body(Body::from(body));
    world.send(request.unwrap()).await
}

async fn get(world: &World, address: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::get(address).header(HOST, "localhost:8443");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    world.send(request.body(Body::empty()).unwrap()).await
}

/// What a client with a secret sends.
fn by_secret<'a>(id: &'a str, secret: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("client_id", id),
        ("client_secret", secret),
        ("grant_type", "client_credentials"),
        ("scope", SCOPE),
        ("client_info", "1"),
        ("claims", r#"{"access_token": {"xms_cc": {"values": ["CP1"]}}}"#),
    ]
}

/// The refusal's status and code; its texts are ours alone.
#[track_caller]
fn refusal(answer: &Answer) -> (u16, String) {
    assert!(!answer.status.is_success(), "{}", answer.text());
    assert_eq!(answer.headers[CONTENT_TYPE], "application/json", "{}", answer.text());
    assert_eq!(answer.headers["cache-control"], "no-store");
    let body: Value = serde_json::from_slice(&answer.body).expect("a refusal is JSON");
    assert!(!text(&body["error_description"]).is_empty());
    (answer.status.as_u16(), text(&body["error"]))
}

#[track_caller]
fn assert_refused(answer: &Answer, status: u16, error: &str) {
    assert_eq!(refusal(answer), (status, error.to_owned()), "{}", answer.text());
}

/// Who a token's holder is at the vaults.
async fn holder(world: &World, token: &Value) -> String {
    let caller = world.app.sign_in_face(&text(token), HERE, VAULT).await.expect("it signs in");
    caller.known.principal.name.to_string()
}

fn claims(token: &Value) -> Value {
    let token = text(token);
    let claims = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64URL_NOPAD.decode(claims.as_bytes()).unwrap()).unwrap()
}

/// An id as Azure's clients are given it.
fn guid(id: &str) -> String {
    [&id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]].join("-").to_ascii_uppercase()
}

/// A native token of a service principal.
async fn native(world: &World, id: &str, secret: &str) -> String {
    let login = json!({ "client_id": id, "client_secret": secret });
    text(&world.call("POST", "/login/client", None, Some(login)).await.ok()["token"])
}
