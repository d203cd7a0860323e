//! A workspace in the middle of its life, everybody who might come to its door, and for each route a request that whoever
//! may make it makes in vain for no other reason.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::body::Body;
use http::Request;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use serde_json::{Value, json};

use super::routes::{By, Route};
use crate::session::launcher::{Launcher, record};
use crate::session::stage::spec;
use crate::world::{Answer, World, text};

/// A plaintext that no encoding hides: its letters and digits survive quoting and escaping, the rest is quoted and
/// escaped by all of them.
pub(crate) const VALUE: &str = "\"cAnArY5e7d19cAnArY\\ +/&=%\tünï";

/// Who comes to the door, in the order of the columns of access.txt.
pub(crate) const CALLERS: [&str; 21] = [
    // Nobody we know, with nothing or with what does not sign in (any more).
    "nobody", "garbage", "expired", "revoked", "disabled", "invite",
    // Known, and not of this workspace; `agent` serves `cluster`, `agent2` another target; `root` owns the installation.
    "outsider", "agent", "agent2", "root",
    // Members. `service` is a service principal that contributes, `lead` owns the workspace, `first` the installation too.
    "reader", "writer", "contrib", "service", "lead", "first",
    // Launchers: of the run that is asked about, with another key, of another run, of a run that has ended, and one that
    // has only a ticket.
    "run", "forged", "run2", "ended", "ticket",
];

/// One world with all of them in it.
pub(crate) struct Scene {
    pub(crate) world: World,
    tokens: BTreeMap<&'static str, String>,
    launchers: BTreeMap<&'static str, Launcher>,
    run: String,
    snapshot: String,
    made: AtomicU32,
}

/// A request without its credentials.
#[derive(Clone)]
pub(crate) struct Ask {
    pub(crate) route: Route,
    /// With prefix and query.
    pub(crate) address: String,
    pub(crate) content_type: Option<&'static str>,
    pub(crate) body: Vec<u8>,
    /// The launcher to be `run` or `run2` for this one request: a session can be ended only once.
    pub(super) own: Option<Arc<Launcher>>,
}

impl Ask {
    /// Of an address that is no route of the native API.
    pub(crate) fn at(method: &str, address: String, body: &Value) -> Self {
        let route = Route { path: address.clone(), method: method.to_owned(), by: By::Token, body: !body.is_null() };
        let (content_type, body) = match body {
            Value::Null => (None, Vec::new()),
            json => (Some("application/json"), json.to_string().into_bytes()),
        };
        Self { route, address, content_type, body, own: None }
    }
}

impl Scene {
    pub(crate) async fn new() -> Self {
        let world = World::new().await;
        let mut tokens = BTreeMap::new();
        world.workspace("team").await;
        world.workspace("elsewhere").await;
        world.post("/computes", &world.owner, json!({ "name": "cluster" })).await.ok();
        world.post("/computes", &world.owner, json!({ "name": "gpu", "open": false })).await.ok();
        for (caller, role) in
            [("reader", "reader"), ("writer", "secrets-writer"), ("contrib", "contributor"), ("lead", "owner")]
        {
            tokens.insert(caller, world.user(caller, Some(("team", role))).await);
        }
        tokens.insert("first", world.owner.clone());
        tokens.insert("outsider", world.user("outsider", Some(("elsewhere", "owner"))).await);
        tokens.insert("agent", world.agent("agent", "cluster").await);
        tokens.insert("agent2", world.agent("agent2", "gpu").await);
        tokens.insert("root", world.user("root", None).await);
        let root = world.get("/whoami", &tokens["root"]).await.ok();
        world.make_installation_owner(&text(&root["principal"]["id"])).await;

        tokens.insert("garbage", "kls_usr_garbage".into());
        let short = json!({ "label": "short", "life_seconds": 60 });
        tokens.insert("expired", text(&world.post("/tokens", &tokens["lead"], short).await.ok()["token"]));
        world.advance(Duration::from_secs(60));
        let revoked = world.post("/tokens", &tokens["lead"], json!({ "label": "revoked" })).await.ok();
        world.delete(&format!("/tokens/{}", text(&revoked["view"]["id"])), &tokens["lead"]).await.ok();
        tokens.insert("revoked", text(&revoked["token"]));
        tokens.insert("disabled", world.user("disabled", Some(("team", "owner"))).await);
        world.patch("/principals/disabled", &world.owner, json!({ "enabled": false })).await.ok();
        let invite = world.post("/invites", &world.owner, json!({ "name": "somebody", "kind": "user" })).await.ok();
        tokens.insert("invite", text(&invite["code"]));
        let (client_id, client_secret) = world.service_principal("service").await;
        let role = json!({ "role": "contributor" });
        world.put("/workspaces/team/members/service", &world.owner, role).await.ok();
        let login = json!({ "client_id": client_id, "client_secret": client_secret });
        tokens.insert("service", text(&world.call("POST", "/login/client", None, Some(login)).await.ok()["token"]));

        let scene = Self {
            world,
            tokens,
            launchers: BTreeMap::new(),
            run: String::new(),
            snapshot: String::new(),
            made: AtomicU32::new(0),
        };
        scene.with_runs().await
    }

    /// Three runs: one with all that a run can have, another, and one that has ended.
    async fn with_runs(mut self) -> Self {
        self.set("db-password").await;
        let tree = Request::post("/api/v1/workspaces/team/snapshots")
            .header(AUTHORIZATION, format!("Bearer {}", self.token("contrib")))
            .body(Body::from(VALUE))
            .unwrap();
        self.snapshot = text(&self.world.send(tree).await.ok()["snapshot"]);
        let (run, launcher) = self.running(1).await;
        launcher.log(&self.world, 0, &[VALUE, "\n"]).await.ok();
        launcher.piece(&self.world, "outputs/model.pkl", 0, true, VALUE.as_bytes()).await.ok();
        launcher.read(&self.world, &["db-password"]).await.ok();
        let (_, ended) = self.running(2).await;
        ended.end(&self.world, 0).await.ok();
        let (_, other) = self.running(3).await;
        let mut forged = Launcher::new(4);
        forged.session.clone_from(&launcher.session);
        self.run = run;
        self.launchers = BTreeMap::from([
            ("run", launcher),
            ("forged", forged),
            ("run2", other),
            ("ended", ended),
            ("ticket", Launcher::new(5)),
        ]);
        self
    }

    pub(crate) fn token(&self, caller: &str) -> &str {
        &self.tokens[caller]
    }

    /// Everything that signs in, or did.
    pub(crate) fn credentials(&self) -> impl Iterator<Item = &str> {
        self.tokens.values().map(String::as_str)
    }

    /// Who may certainly ask a route.
    pub(crate) fn who_may(route: &Route) -> &'static str {
        match route.by {
            By::Nobody => "nobody",
            By::Session => "run",
            By::OwnKey => "ticket",
            By::Token if route.path.starts_with("/api/v1/agent/") => "agent",
            By::Token if route.path == "/api/v1/tokens/{token}" => "contrib",
            By::Token => "first",
        }
    }

    pub(crate) async fn send(&self, caller: &str, ask: &Ask) -> Answer {
        self.world.send(self.request(caller, ask)).await
    }

    /// The request with this caller's credentials.
    pub(crate) fn request(&self, caller: &str, ask: &Ask) -> Request<Body> {
        let Ask { route, address, content_type, body, own } = ask;
        let launcher =
            own.as_deref().filter(|_| matches!(caller, "run" | "run2")).or_else(|| self.launchers.get(caller));
        if let Some(launcher) = launcher {
            let mut request = launcher.sign(self.world.app.now().millis(), &route.method, address, address, body);
            request.headers_mut().remove(CONTENT_TYPE);
            if let Some(content_type) = content_type {
                request.headers_mut().insert(CONTENT_TYPE, content_type.parse().unwrap());
            }
            return request;
        }
        let mut request = Request::builder().method(&*route.method).uri(address);
        if let Some(token) = self.tokens.get(caller) {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(content_type) = content_type {
            request = request.header(CONTENT_TYPE, *content_type);
        }
        request.body(Body::from(body.clone())).unwrap()
    }

    /// A request to a route that succeeds when the right caller makes it, with whatever it needs made for it alone.
    ///
    /// # Panics
    /// When the route has a parameter or a body that nobody has said here how to fill.
    pub(crate) async fn ask(&self, route: &Route) -> Ask {
        let name = route.name().replacen(" /api/v1", " ", 1);
        let name = name.replace("/workspaces/{workspace}", "W");
        let mut own = None;
        let mut path = BTreeMap::from([
            ("workspace", "team".to_owned()),
            ("run", self.run.clone()),
            ("name", "db-password".to_owned()),
            ("version", "current".to_owned()),
            ("compute", "gpu".to_owned()),
            ("snapshot", self.snapshot.clone()),
            ("*path", "outputs/model.pkl".to_owned()),
            ("principal", "service".to_owned()),
        ]);
        let mut set = |key, value| drop(path.insert(key, value));
        let mut query = String::new();
        // What the route needs beyond these: a thing of its own when it changes or ends it.
        let body = match name.as_str() {
            "GET /agent/attempts" => {
                query = "?compute=cluster".into();
                Value::Null
            }
            "POST /agent/leases" => json!({ "compute": "cluster" }),
            "POST /agent/confirm" => {
                json!({ "attempt": self.leased().await["attempt"], "handle": "h", "engine_job": "process 1" })
            }
            "POST /agent/report" => {
                json!({ "attempt": self.leased().await["attempt"], "event": "returned", "reason": "" })
            }
            "POST /computes" => json!({ "name": self.fresh("compute") }),
            "DELETE /computes/{compute}" => {
                let compute = self.fresh("compute");
                self.first("POST", "/computes", json!({ "name": compute })).await;
                set("compute", compute);
                Value::Null
            }
            "PUT /computes/{compute}/users/{principal}" => {
                set("principal", self.principal().await);
                Value::Null
            }
            "DELETE /computes/{compute}/users/{principal}" => {
                let principal = self.principal().await;
                self.first("PUT", &format!("/computes/gpu/users/{principal}"), Value::Null).await;
                set("principal", principal);
                Value::Null
            }
            "POST /invites" => json!({ "name": self.fresh("user"), "kind": "user" }),
            "POST /login/invite" => {
                let invite = json!({ "name": self.fresh("user"), "kind": "user" });
                json!({ "code": self.first("POST", "/invites", invite).await["code"], "label": "x" })
            }
            "POST /login/client" => {
                let secrets = format!("/principals/{}/secrets", self.principal().await);
                let made = self.first("POST", &secrets, Value::Null).await;
                json!({ "client_id": made["client_id"], "client_secret": made["client_secret"] })
            }
            "POST /login/device" => json!({ "label": "x" }),
            "POST /login/device/token" => {
                let made = self.first("POST", "/login/device", json!({ "label": "x" })).await;
                json!({ "device_code": made["device_code"] })
            }
            "POST /login/device/show" => {
                let made = self.first("POST", "/login/device", json!({ "label": "x" })).await;
                json!({ "user_code": made["user_code"] })
            }
            "POST /login/device/decide" => {
                let made = self.first("POST", "/login/device", json!({ "label": "x" })).await;
                json!({ "user_code": made["user_code"], "approve": true })
            }
            "POST /principals" => json!({ "name": self.fresh("principal"), "kind": "service_principal" }),
            "PATCH /principals/{principal}" => {
                set("principal", self.principal().await);
                json!({ "enabled": false })
            }
            "POST /principals/{principal}/secrets" => {
                set("principal", self.principal().await);
                Value::Null
            }
            "DELETE /principals/{principal}/secrets/{secret}" => {
                let principal = self.principal().await;
                let made = self.first("POST", &format!("/principals/{principal}/secrets"), Value::Null).await;
                set("principal", principal);
                set("secret", text(&made["id"]));
                Value::Null
            }
            "DELETE /principals/{principal}/tokens/{token}" => {
                let made = self.world.post("/tokens", self.token("contrib"), json!({ "label": "x" })).await.ok();
                set("principal", "contrib".into());
                set("token", text(&made["view"]["id"]));
                Value::Null
            }
            "DELETE /invites/{invite}" => {
                let invite = json!({ "name": self.fresh("user"), "kind": "user" });
                set("invite", text(&self.first("POST", "/invites", invite).await["invite"]["id"]));
                Value::Null
            }
            "POST /tokens" => json!({ "label": "x" }),
            "DELETE /tokens/{token}" => {
                // One of the contributor's: a token is its holder's business, whoever else owns everything.
                let made = self.world.post("/tokens", self.token("contrib"), json!({ "label": "x" })).await.ok();
                set("token", text(&made["view"]["id"]));
                Value::Null
            }
            "POST /workspaces" => json!({ "name": self.fresh("workspace") }),
            "PATCH W" => json!({ "retention_days": 30 }),
            "DELETE W" => {
                set("workspace", self.workspace().await);
                Value::Null
            }
            "PUT W/members/{principal}" => {
                set("principal", self.principal().await);
                json!({ "role": "reader" })
            }
            "DELETE W/members/{principal}" => {
                let principal = self.principal().await;
                let member = format!("/workspaces/team/members/{principal}");
                self.first("PUT", &member, json!({ "role": "reader" })).await;
                set("principal", principal);
                Value::Null
            }
            "PUT W/secrets/{name}" => {
                set("name", self.fresh("secret"));
                json!({ "value": VALUE, "attributes": {}, "if_revision": 0 })
            }
            "DELETE W/secrets/{name}" => {
                set("name", self.secret().await);
                Value::Null
            }
            "DELETE W/deleted-secrets/{name}" | "POST W/deleted-secrets/{name}/recover" => {
                let name = self.secret().await;
                self.first("DELETE", &format!("/workspaces/team/secrets/{name}"), Value::Null).await;
                set("name", name);
                Value::Null
            }
            "PATCH W/secrets/{name}/versions/{version}" => json!({ "enabled": true, "tags": { "a": "b" } }),
            "POST W/secrets:get" => json!({ "names": ["db-password"] }),
            "POST W/secrets:set" => json!({ "items": [{ "name": self.fresh("secret"), "value": VALUE }] }),
            "POST W/runs" => spec(json!({ "secrets": ["db-password"], "run": self.fresh("run") })),
            "PATCH W/runs/{run}" => json!({ "tags": { "a": "b" } }),
            "POST W/runs/{run}/cancel" => {
                set("run", self.queued().await);
                Value::Null
            }
            "POST W/snapshots" => json!(VALUE),
            "POST /session/redeem" => {
                let lease = self.leased().await;
                self.confirm(&lease).await;
                json!({ "attempt": lease["attempt"], "ticket": lease["tickets"][0], "host": "node",
                    "version": "0.1.0", "public_key": self.launchers["ticket"].public_key() })
            }
            "POST /session/secrets" => json!({ "names": ["db-password"] }),
            "POST /session/heartbeat" => json!({ "phase": "running" }),
            "POST /session/logs" => json!({ "records": [record(2, "stdout", b"x")] }),
            "POST /session/metrics" => json!({ "first": 0, "metrics": [{ "metric": {
                "name": "loss", "value": 1, "kind": "scalar", "time": "2026-11-24T14:20:00Z" } }] }),
            "PUT /session/outputs/{*path}" => {
                set("*path", format!("outputs/{}", self.fresh("file")));
                query = "?offset=0&last=true".into();
                json!(VALUE)
            }
            "PATCH /session/run" => json!({ "tags": { "a": "b" } }),
            "POST /session/children" => json!({ "run": self.fresh("child"), "display_name": "x" }),
            "POST /session/children/{run}/end" => {
                let child = json!({ "run": self.fresh("child") });
                let made = self.launchers["run"].post(&self.world, "/session/children", child).await.ok();
                set("run", text(&made["run"]));
                json!({ "status": "completed" })
            }
            "POST /session/end" => {
                own = Some(Arc::new(self.running(1).await.1));
                json!({ "exit": { "code": 0 } })
            }
            "POST W/keys:rotate" => Value::Null,
            _ if route.body || route.method != "GET" => {
                panic!("{}: say in Scene::ask what it is asked with and about", route.name())
            }
            _ => Value::Null,
        };
        let address = fill(&route.path, &path);
        let (content_type, body) = match body {
            Value::Null => (None, Vec::new()),
            Value::String(bytes) => (Some("application/octet-stream"), bytes.into_bytes()),
            json => (Some("application/json"), json.to_string().into_bytes()),
        };
        Ask { route: route.clone(), address: format!("{address}{query}"), content_type, body, own }
    }

    /// What can be seen of the installation, for saying that nothing changed.
    pub(crate) async fn seen(&self) -> Vec<(String, String)> {
        let run = format!("/workspaces/team/runs/{}", self.run);
        let mut paths: Vec<String> = ["/workspaces", "/principals", "/computes", "/tokens"].map(Into::into).into();
        for noun in ["", "/members", "/secrets", "/secrets/db-password/versions", "/deleted-secrets", "/runs"] {
            paths.push(format!("/workspaces/team{noun}"));
        }
        for noun in ["", "/logs", "/metrics", "/outputs", "/secrets"] {
            paths.push(format!("{run}{noun}"));
        }
        paths.push("/agent/attempts?compute=cluster".into());
        let mut seen = Vec::new();
        for path in paths {
            let who = if path.starts_with("/agent") { "agent" } else { "first" };
            let answer = self.world.get(&path, self.token(who)).await;
            assert!(answer.status.is_success(), "{path}: {}", answer.text());
            seen.push((path, answer.text()));
        }
        let tokens = self.world.get("/tokens", self.token("contrib")).await.text();
        seen.push(("the contributor's tokens".into(), tokens));
        seen
    }

    /// The audit records from one number on.
    pub(crate) async fn records(&self, mut after: Option<String>) -> Vec<Value> {
        let mut records = Vec::new();
        loop {
            let from = after.map(|seq| format!("?after={seq}")).unwrap_or_default();
            let page = self.world.get(&format!("/audit{from}"), self.token("first")).await.ok();
            records.extend(page["items"].as_array().unwrap().iter().cloned());
            match page["next"].as_str() {
                Some(next) => after = Some(next.to_owned()),
                None => return records,
            }
        }
    }

    /// The number of the last one.
    pub(crate) async fn last_record(&self) -> Option<String> {
        let page = self.world.get("/audit?last=1", self.token("first")).await.ok();
        Some(page["items"][0]["seq"].to_string())
    }

    async fn first(&self, method: &str, path: &str, body: Value) -> Value {
        let body = (!body.is_null()).then_some(body);
        self.world.call(method, path, Some(self.token("first")), body).await.ok()
    }

    fn fresh(&self, noun: &str) -> String {
        format!("{noun}-{}", self.made.fetch_add(1, Ordering::Relaxed))
    }

    async fn set(&self, name: &str) {
        self.first("PUT", &format!("/workspaces/team/secrets/{name}"), json!({ "value": VALUE })).await;
    }

    async fn secret(&self) -> String {
        let name = self.fresh("secret");
        self.set(&name).await;
        name
    }

    async fn principal(&self) -> String {
        let name = self.fresh("principal");
        self.first("POST", "/principals", json!({ "name": name, "kind": "service_principal" })).await;
        name
    }

    /// Another workspace with the same members.
    async fn workspace(&self) -> String {
        let name = self.fresh("workspace");
        self.first("POST", "/workspaces", json!({ "name": name })).await;
        for (who, role) in [
            ("reader", "reader"),
            ("writer", "secrets-writer"),
            ("contrib", "contributor"),
            ("service", "contributor"),
            ("lead", "owner"),
        ] {
            self.first("PUT", &format!("/workspaces/{name}/members/{who}"), json!({ "role": role })).await;
        }
        name
    }

    async fn queued(&self) -> String {
        let snapshot = (!self.snapshot.is_empty()).then_some(&self.snapshot);
        let run = spec(json!({ "snapshot": snapshot, "secrets": ["db-password"] }));
        text(&self.world.post("/workspaces/team/runs", self.token("contrib"), run).await.ok()["id"])
    }

    async fn leased(&self) -> Value {
        let run = json!({ "workspace": "team", "run": self.queued().await });
        let request = json!({ "compute": "cluster", "run": run });
        self.world.post("/agent/leases", self.token("agent"), request).await.ok()["lease"].clone()
    }

    async fn confirm(&self, lease: &Value) {
        let confirm = json!({ "attempt": lease["attempt"], "handle": "h", "engine_job": "process 1" });
        self.world.post("/agent/confirm", self.token("agent"), confirm).await.ok();
    }

    async fn running(&self, key: u8) -> (String, Launcher) {
        let lease = self.leased().await;
        self.confirm(&lease).await;
        let mut launcher = Launcher::new(key);
        launcher.redeem(&self.world, &lease).await.ok();
        (text(&lease["attempt"]["run"]), launcher)
    }
}

/// A route's path with its parameters filled in.
fn fill(path: &str, with: &BTreeMap<&str, String>) -> String {
    let part = |part: &str| match part.strip_prefix('{').and_then(|p| p.strip_suffix('}')) {
        None => part.to_owned(),
        Some(name) => with.get(name).unwrap_or_else(|| panic!("{path}: say in Scene::ask what {{{name}}} is")).clone(),
    };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}
