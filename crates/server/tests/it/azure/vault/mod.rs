//! The vault face: one file for each of its addresses, and what holds for all of them.

use axum::body::Body;
use http::Request;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use kluis_server::service::identity::Issuer;
use serde_json::{Value, json};

use crate::world::{Answer, World, text};

mod access;
mod backup;
mod challenge;
mod deletedsecrets;
mod hosts;
mod lists;
mod refusals;
mod secrets;
mod values;

/// The vault of the workspace `default`.
const HERE: &str = "https://default.vault.localhost:8443";
/// What tokens for it are made out for.
const RESOURCE: &str = "https://vault.localhost:8443";

/// Asks the vault of `default`; the version of the interface is added.
async fn call(world: &World, method: &str, path: &str, token: Option<&str>, body: Option<Value>) -> Answer {
    call_at(world, HERE, method, path, token, body).await
}

async fn call_at(
    world: &World,
    vault: &str,
    method: &str,
    path: &str,
    token: Option<&str>,
    body: Option<Value>,
) -> Answer {
    let query = if path.contains('?') { "" } else { "?api-version=7.6" };
    let mut request = Request::builder().method(method).uri(format!("{vault}{path}{query}"));
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    let body = match body {
        None => Body::empty(),
        Some(body) => {
            request = request.header(CONTENT_TYPE, "application/json");
            Body::from(body.to_string())
        }
    };
    world.send(request.body(body).unwrap()).await
}

/// As the owner.
async fn get(world: &World, path: &str) -> Answer {
    call(world, "GET", path, Some(&world.owner), None).await
}

async fn put(world: &World, path: &str, body: Value) -> Answer {
    call(world, "PUT", path, Some(&world.owner), Some(body)).await
}

async fn patch(world: &World, path: &str, body: Value) -> Answer {
    call(world, "PATCH", path, Some(&world.owner), Some(body)).await
}

async fn post(world: &World, path: &str) -> Answer {
    call(world, "POST", path, Some(&world.owner), None).await
}

async fn delete(world: &World, path: &str) -> Answer {
    call(world, "DELETE", path, Some(&world.owner), None).await
}

/// Sets a secret; its version.
async fn set(world: &World, name: &str, value: &str) -> String {
    let bundle = put(world, &format!("/secrets/{name}"), json!({ "value": value, "attributes": {} })).await.ok();
    version(&bundle)
}

/// The version in an id.
#[track_caller]
fn version(bundle: &Value) -> String {
    let id = text(&bundle["id"]);
    let version = id.rsplit('/').next().unwrap().to_owned();
    assert_eq!(version.len(), 32, "{id}");
    version
}

/// A token as clients of Azure have it, for this resource.
async fn face_token(world: &World, native: &str, resource: &str) -> String {
    let caller = world.app.sign_in(native, std::net::Ipv4Addr::LOCALHOST.into()).await.unwrap();
    let audience = world.app.audience(resource).unwrap();
    let issuer = Issuer("https://localhost:8443/adfs".into());
    let issued = world.app.identity().face_token(&caller, &audience, &issuer).await.unwrap();
    issued.token.expose().to_owned()
}

/// Asserts status, code and nearer code of a refusal; its message.
#[track_caller]
fn refused(answer: &Answer, status: u16, code: &str, inner: Option<&str>) -> String {
    let said = answer.text();
    assert_eq!(answer.status, status, "{said}");
    assert_eq!(answer.headers[CONTENT_TYPE], "application/json; charset=utf-8", "{said}");
    let body: Value = serde_json::from_slice(&answer.body).expect("a refusal is JSON");
    assert_eq!(body["error"]["code"], code, "{said}");
    assert_eq!(body["error"]["innererror"]["code"].as_str(), inner, "{said}");
    text(&body["error"]["message"])
}

/// What `www-authenticate` says.
#[track_caller]
fn challenge(answer: &Answer) -> String {
    assert_eq!(answer.status, 401, "{}", answer.text());
    answer.headers["www-authenticate"].to_str().unwrap().to_owned()
}
