//! A launcher for tests: a key, and requests signed with it.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use axum::body::Body;
use data_encoding::HEXLOWER;
use http::Request;
use kluis_core::api::session::{HEADER_SESSION, HEADER_SIGNATURE, HEADER_TIME, signed_bytes};
use serde_json::{Value, json};

use crate::world::{Answer, World, text};

/// A launcher. Two with the same number have the same key.
pub(crate) struct Launcher {
    key: Ed25519KeyPair,
    pub(crate) session: String,
}

impl Launcher {
    pub(crate) fn new(number: u8) -> Self {
        let key = Ed25519KeyPair::from_seed_unchecked(&[number; 32]).unwrap();
        Self { key, session: String::new() }
    }

    /// The public half of its key, as a redemption brings it.
    pub(crate) fn public_key(&self) -> String {
        HEXLOWER.encode(self.key.public_key().as_ref())
    }

    /// Presents a ticket.
    pub(crate) async fn redeem(&mut self, world: &World, lease: &Value) -> Answer {
        self.session.clear();
        let body = json!({
            "attempt": lease["attempt"],
            "ticket": lease["tickets"][0],
            "public_key": self.public_key(),
            "host": "node-1",
            "version": "0.1.0",
        });
        let answer = self.post(world, "/session/redeem", body).await;
        if answer.status.is_success() {
            let opened: Value = serde_json::from_slice(&answer.body).unwrap();
            self.session = text(&opened["session"]);
        }
        answer
    }

    pub(crate) async fn post(&self, world: &World, path: &str, body: Value) -> Answer {
        self.send(world, "POST", path, body.to_string().as_bytes()).await
    }

    pub(crate) async fn patch(&self, world: &World, path: &str, body: Value) -> Answer {
        self.send(world, "PATCH", path, body.to_string().as_bytes()).await
    }

    pub(crate) async fn get(&self, world: &World, path: &str) -> Answer {
        self.send(world, "GET", path, b"").await
    }

    /// A piece of an output.
    pub(crate) async fn piece(&self, world: &World, path: &str, offset: u64, last: bool, bytes: &[u8]) -> Answer {
        let path = format!("/session/outputs/{path}?offset={offset}&last={last}");
        self.send(world, "PUT", &path, bytes).await
    }

    pub(crate) async fn read(&self, world: &World, names: &[&str]) -> Answer {
        self.post(world, "/session/secrets", json!({ "names": names })).await
    }

    pub(crate) async fn beat(&self, world: &World) -> Answer {
        self.post(world, "/session/heartbeat", json!({})).await
    }

    /// Reports an exit code.
    pub(crate) async fn end(&self, world: &World, code: i32) -> Answer {
        self.post(world, "/session/end", json!({ "exit": { "code": code } })).await
    }

    pub(crate) async fn log(&self, world: &World, first: u64, lines: &[&str]) -> Answer {
        let records: Vec<Value> =
            lines.iter().enumerate().map(|(i, line)| record(first + i as u64, "stdout", line.as_bytes())).collect();
        self.post(world, "/session/logs", json!({ "records": records })).await
    }

    pub(crate) async fn send(&self, world: &World, method: &str, path: &str, body: &[u8]) -> Answer {
        let path = format!("/api/v1{path}");
        world.send(self.sign(world.app.now().millis(), method, &path, &path, body)).await
    }

    /// A request for one address, signed for (perhaps) another.
    pub(crate) fn sign(&self, time: i64, method: &str, signed: &str, sent: &str, body: &[u8]) -> Request<Body> {
        let signature = self.key.sign(&signed_bytes(method, signed, &self.session, time, body));
        Request::builder()
            .method(method)
            .uri(sent)
            .header("content-type", "application/json")
            .header(HEADER_SESSION, &self.session)
            .header(HEADER_TIME, time.to_string())
            .header(HEADER_SIGNATURE, HEXLOWER.encode(signature.as_ref()))
            .body(Body::from(body.to_vec()))
            .unwrap()
    }
}

/// A log record.
pub(crate) fn record(seq: u64, stream: &str, data: &[u8]) -> Value {
    json!({
        "seq": seq,
        "time": "2026-11-24T14:20:00.000Z",
        "rank": 0,
        "stream": stream,
        "data": data_encoding::BASE64.encode(data),
    })
}
