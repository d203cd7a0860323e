//! The face of `azureml-core`: what the package sends, and what it needs to hear.

use axum::body::Body;
use http::Request;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use kluis_server::service::identity::Issuer;
use serde_json::Value;

use crate::world::{Answer, World, text};

mod access;
mod clouds;
mod forms;
mod results;
mod secrets;
mod submitted;
mod trees;

/// By which name clients come here.
pub(super) const HERE: &str = "localhost:8443";

/// An address of a service, in the workspace `team`.
pub(super) fn at(service: &str, rest: &str) -> String {
    at_workspace(service, "team", rest)
}

pub(super) fn at_workspace(service: &str, workspace: &str, rest: &str) -> String {
    format!(
        "/azure/ml/{service}/subscriptions/sub-1/resourceGroups/rg/providers/Microsoft.MachineLearningServices/\
         workspaces/{workspace}{rest}"
    )
}

/// Asks as the package does.
pub(super) async fn ask(world: &World, method: &str, path: &str, token: Option<&str>, body: Option<Value>) -> Answer {
    let mut request = Request::builder().method(method).uri(path).header(HOST, HERE);
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    let body = match body {
        None => Body::empty(),
        Some(body) => {
            request = request.header(CONTENT_TYPE, "application/json; charset=utf-8");
            Body::from(body.to_string())
        }
    };
    world.send(request.body(body).unwrap()).await
}

/// A token of the authority, for this address, made from a native one.
pub(super) async fn face_token(world: &World, native: &str) -> String {
    let source = std::net::Ipv4Addr::LOCALHOST.into();
    let caller = world.app.sign_in(native, source).await.unwrap();
    let audience = world.app.audience(&format!("https://{HERE}")).unwrap();
    let issuer = Issuer(format!("https://{HERE}/adfs"));
    world.app.identity().face_token(&caller, &audience, &issuer).await.unwrap().token.expose().to_owned()
}

/// Status, code and words of a refusal, which must be one that the package can read.
#[track_caller]
pub(super) fn refused(answer: &Answer) -> (u16, String, String) {
    assert!(!answer.status.is_success(), "{}", answer.text());
    let body: Value = serde_json::from_slice(&answer.body).expect("a refusal is JSON");
    // Without this list the package fails while it says what failed.
    assert_eq!(body["error"]["details"], serde_json::json!([]), "{}", answer.text());
    assert_eq!(body["correlation"]["RequestId"].as_str(), answer.headers["kluis-request-id"].to_str().ok());
    let repeated = [408, 429, 500, 502, 503, 504, 530];
    assert!(!repeated.contains(&answer.status.as_u16()), "the package would repeat this: {}", answer.text());
    (answer.status.as_u16(), text(&body["error"]["innerError"]["code"]), text(&body["error"]["message"]))
}
