//! A small world for tests: one installation, people in it, and a way to ask.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use kluis_core::clock::{ManualClock, Timestamp};
use kluis_core::name::PrincipalName;
use kluis_core::rng::CountingRng;
use kluis_server::app::App;
use kluis_server::caller::Peer;
use kluis_server::{Server, ServerOptions, faces};
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt;

/// When every test begins.
pub(crate) const START: Timestamp = Timestamp::from_seconds(1_795_530_000);
/// The plaintext that must be nowhere but in answers to those who may read it.
pub(crate) const CANARY: &str = "kluis-canary-7f3a9c:Zq/+&=ünïcode";

/// One installation.
pub(crate) struct World {
    pub(crate) app: App,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) folder: TempDir,
    /// The owner's token.
    pub(crate) owner: String,
    router: Router,
    requests: AtomicU64,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_| ()).await
    }

    /// A world whose server has other options.
    pub(crate) async fn with(change: impl FnOnce(&mut ServerOptions)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(START));
        let mut options = options(&folder, &clock);
        change(&mut options);
        let (app, first) = Server::open(&options).await.unwrap();
        let owner = first.expect("the folder was empty").token.expose().to_owned();
        let router = faces::router(app.clone());
        Self { app, clock, folder, owner, router, requests: AtomicU64::new(0) }
    }

    /// The same people and clock over another server process. It has no folder of its own.
    pub(crate) fn over(&self, app: App) -> Self {
        let router = faces::router(app.clone());
        let folder = tempfile::tempdir().unwrap();
        Self { app, clock: self.clock.clone(), folder, owner: self.owner.clone(), router, requests: AtomicU64::new(0) }
    }

    /// A streamed answer: whole, or what had come when it was cut off.
    pub(crate) async fn stream(&self, path: &str, token: &str) -> Result<Vec<u8>, Vec<u8>> {
        let request = Request::builder().header(AUTHORIZATION, format!("Bearer {token}"));
        let request = request.uri(format!("/api/v1{path}")).body(Body::empty()).unwrap();
        let response = self.router.clone().oneshot(request).await.expect("the router always answers");
        assert!(response.status().is_success(), "{}", response.status());
        let (mut body, mut out) = (response.into_body(), Vec::new());
        while let Some(frame) = body.frame().await {
            match frame.map(hyper::body::Frame::into_data) {
                Ok(Ok(data)) => out.extend_from_slice(&data),
                Ok(Err(_)) => {}
                Err(_) => return Err(out),
            }
        }
        Ok(out)
    }

    /// Asks with a token and a JSON body.
    pub(crate) async fn call(&self, method: &str, path: &str, token: Option<&str>, body: Option<Value>) -> Answer {
        let mut request = Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap());
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
        self.send(request.uri(format!("/api/v1{path}")).body(body).unwrap()).await
    }

    /// Asks with anything.
    pub(crate) async fn send(&self, mut request: Request<Body>) -> Answer {
        self.requests.fetch_add(1, Ordering::Relaxed);
        request.extensions_mut().insert(Peer(std::net::Ipv4Addr::LOCALHOST.into()));
        let response = self.router.clone().oneshot(request).await.expect("the router always answers");
        let (parts, body) = response.into_parts();
        let body = body.collect().await.expect("the body is whole").to_bytes().to_vec();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub(crate) async fn get(&self, path: &str, token: &str) -> Answer {
        self.call("GET", path, Some(token), None).await
    }

    pub(crate) async fn post(&self, path: &str, token: &str, body: Value) -> Answer {
        self.call("POST", path, Some(token), Some(body)).await
    }

    pub(crate) async fn put(&self, path: &str, token: &str, body: Value) -> Answer {
        self.call("PUT", path, Some(token), Some(body)).await
    }

    pub(crate) async fn patch(&self, path: &str, token: &str, body: Value) -> Answer {
        self.call("PATCH", path, Some(token), Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str, token: &str) -> Answer {
        self.call("DELETE", path, Some(token), None).await
    }

    /// A new user, signed in by invitation, with this role in this workspace if one is given. Returns the token.
    pub(crate) async fn user(&self, name: &str, membership: Option<(&str, &str)>) -> String {
        let mut invite = json!({ "name": name, "kind": "user" });
        if let Some((workspace, role)) = membership {
            invite["membership"] = json!({ "workspace": workspace, "role": role });
        }
        self.invited(invite).await
    }

    /// A new agent of a compute target, signed in by invitation.
    pub(crate) async fn agent(&self, name: &str, compute: &str) -> String {
        self.invited(json!({ "name": name, "kind": "agent", "compute": compute })).await
    }

    async fn invited(&self, invite: Value) -> String {
        let invite = self.post("/invites", &self.owner, invite).await.ok();
        let redeem = json!({ "code": invite["code"], "label": "test" });
        let issued = self.call("POST", "/login/invite", None, Some(redeem)).await.ok();
        issued["token"].as_str().unwrap().to_owned()
    }

    /// Makes a principal another owner of the installation: there is no route for that, on purpose.
    pub(crate) async fn make_installation_owner(&self, principal: &str) {
        use kluis_core::access::{Effect, Grant, Role, Scope};
        let grant = Grant {
            principal: principal.parse().unwrap(),
            scope: Scope::Installation,
            role: Role::Owner,
            effect: Effect::Allow,
            revision: 1,
        };
        let change = self.app.authenticated(grant, Grant::canonical);
        let write = kluis_store::Write { authority: kluis_store::Authority::server(), audit: Vec::new(), change };
        self.app.store.grant_set(write).await.unwrap();
    }

    /// A new workspace of the owner's.
    pub(crate) async fn workspace(&self, name: &str) {
        self.post("/workspaces", &self.owner, json!({ "name": name })).await.ok();
    }

    /// A service principal with its id and a secret.
    pub(crate) async fn service_principal(&self, name: &str) -> (String, String) {
        self.post("/principals", &self.owner, json!({ "name": name, "kind": "service_principal" })).await.ok();
        let secret = self.call("POST", &format!("/principals/{name}/secrets"), Some(&self.owner), None).await.ok();
        (text(&secret["client_id"]), text(&secret["client_secret"]))
    }

    /// The time now, in seconds since 1970.
    pub(crate) fn clock_seconds(&self) -> i64 {
        self.app.now().millis() / 1000
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    /// The audit records of the installation, as `action` texts, newest last.
    pub(crate) async fn actions(&self) -> Vec<String> {
        let page = self.get("/audit?last=200", &self.owner).await.ok();
        page["items"].as_array().unwrap().iter().map(|r| text(&r["action"])).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // The folder goes away with the world; the files must be closed first.
        self.app.stopping.cancel();
        self.app.store.close();
    }
}

/// The options of every test's server.
pub(crate) fn options(folder: &TempDir, clock: &Arc<ManualClock>) -> ServerOptions {
    let mut options = ServerOptions::new(folder.path().join("data"), PrincipalName::parse("owner").unwrap());
    options.clock = clock.clone();
    options.rng = Arc::new(CountingRng::new(1));
    options.settings.blobs.least_free_percent = 0;
    options
}

impl Answer {
    /// The body of a success.
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert!(self.status.is_success(), "{} {}", self.status, self.text());
        serde_json::from_slice(&self.body).expect("a success is JSON")
    }

    /// Status and code of a refusal, which must be Problem JSON.
    #[track_caller]
    pub(crate) fn refused(&self) -> (u16, String) {
        assert!(!self.status.is_success(), "{}", self.text());
        assert_eq!(self.headers[CONTENT_TYPE], "application/problem+json", "{}", self.text());
        let problem: Value = serde_json::from_slice(&self.body).expect("a refusal is JSON");
        assert_eq!(problem["status"], self.status.as_u16());
        assert_eq!(problem["request_id"].as_str(), self.headers["kluis-request-id"].to_str().ok());
        (self.status.as_u16(), text(&problem["code"]))
    }

    /// The refusal's text for people.
    pub(crate) fn detail(&self) -> String {
        let problem: Value = serde_json::from_slice(&self.body).unwrap();
        text(&problem["detail"])
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Writes to the rows behind the server's back.
pub(crate) fn tamper(data: &std::path::Path, statements: &str) {
    let database = rusqlite::Connection::open(data.join("kluis.db")).unwrap();
    database.busy_timeout(Duration::from_secs(10)).unwrap();
    database.execute_batch(statements).unwrap();
}

/// A JSON text.
#[track_caller]
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is not a text")).to_owned()
}

/// Asserts status and code of a refusal.
#[track_caller]
pub(crate) fn refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.refused(), (status, code.to_owned()), "{}", answer.text());
}
