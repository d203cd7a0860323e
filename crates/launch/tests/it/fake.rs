//! A server with one run: the session's routes, what they were told, and levers to misbehave. It checks no signatures
//! (the client's and the server's tests do) but insists on the headers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch, post, put};
use kluis_client::trust::CaPin;
use kluis_core::api::runs::{ChangeRun, LogRecord, Stream};
use kluis_core::api::session::{
    AppendLogs, AppendMetrics, CreateChild, EndRun, Heartbeat, OutputQuery, ReadRecord, ReadSecrets, RedeemTicket,
    RunMetric,
};
use kluis_core::api::{PREFIX, Problem};
use kluis_core::clock::{Clock, SystemClock};
use serde_json::{Value, json};
use tokio::sync::Notify;

/// What the server was told, and what it will say.
#[derive(Default)]
pub(crate) struct Told {
    /// The run's context, as JSON.
    pub(crate) context: Value,
    pub(crate) snapshot: Vec<u8>,
    /// Name to value; a version per read.
    pub(crate) secrets: BTreeMap<String, String>,
    /// Refuse reads of these with `secret_undeclared`.
    pub(crate) undeclared: Vec<String>,
    pub(crate) reads_of_secrets: Vec<ReadSecrets>,
    /// Say `ticket_not_confirmed` so many times.
    pub(crate) unconfirmed: u32,
    pub(crate) cache_seconds: Option<u64>,
    pub(crate) redeemed_with: Vec<String>,
    /// Answer everything with 503.
    pub(crate) down: bool,
    /// What the next heartbeats say.
    pub(crate) notices: VecDeque<Value>,
    /// Answer heartbeats with this refusal.
    pub(crate) refuse_heartbeats: Option<&'static str>,
    pub(crate) heartbeats: u32,
    pub(crate) phases: Vec<String>,
    pub(crate) reads: Vec<ReadRecord>,
    pub(crate) logs: Vec<LogRecord>,
    pub(crate) metrics: Vec<RunMetric>,
    pub(crate) changes: Vec<ChangeRun>,
    pub(crate) outputs: BTreeMap<String, Vec<u8>>,
    partial: BTreeMap<String, Vec<u8>>,
    pub(crate) children: Vec<CreateChild>,
    pub(crate) end: Option<EndRun>,
}

/// The server. Stops when dropped.
pub(crate) struct Fake {
    pub(crate) address: String,
    pub(crate) pin: String,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

struct Shared {
    told: Mutex<Told>,
    changed: Notify,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fake {
    pub(crate) async fn start() -> Self {
        let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca_key = rcgen::KeyPair::generate().unwrap();
        let ca = params.self_signed(&ca_key).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let issuer = rcgen::Issuer::new(params, ca_key);
        let leaf =
            rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        let pin = CaPin::of_certificate(ca.der()).to_string();
        let tls = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![leaf.der().clone(), ca.der().clone()],
                rustls_pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            )
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("https://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared { told: Mutex::new(Told::default()), changed: Notify::new() });
        let router = routes(shared.clone());
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, router) = (acceptor.clone(), router.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = hyper_util::service::TowerToHyperService::new(router);
                    let builder = hyper_util::server::conn::auto::Builder::new(hyper_util::rt::TokioExecutor::new());
                    let _ended = builder.serve_connection(hyper_util::rt::TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, pin, shared, task }
    }

    /// What the server was told; also to set what it will say.
    pub(crate) fn told(&self) -> MutexGuard<'_, Told> {
        self.shared.told.lock().unwrap()
    }

    /// Makes the heartbeat that waits answer this now.
    pub(crate) fn notice(&self, notice: Value) {
        self.told().notices.push_back(notice);
        self.shared.changed.notify_waiters();
    }

    /// Waits until the server was told something; at most 30 s.
    pub(crate) async fn until(&self, what: &str, is: impl Fn(&Told) -> bool) {
        let wait = async {
            while !is(&self.told()) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(30), wait).await;
        assert!(
            waited.is_ok(),
            "waited for {what}; the log: {}\n{}",
            self.log(Stream::System),
            self.log(Stream::Stderr)
        );
    }

    /// One stream of the log.
    pub(crate) fn log(&self, stream: Stream) -> String {
        let told = self.told();
        let bytes: Vec<u8> =
            told.logs.iter().filter(|r| r.stream == stream).flat_map(|r| r.data.iter().copied()).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

type Shares = State<Arc<Shared>>;

fn routes(shared: Arc<Shared>) -> Router {
    let session = Router::new()
        .route("/redeem", post(redeem))
        .route("/secrets", post(secrets))
        .route("/heartbeat", post(heartbeat))
        .route("/snapshot", get(snapshot))
        .route("/logs", post(logs))
        .route("/metrics", post(metrics))
        .route("/run", patch(change))
        .route("/outputs/{*path}", put(output))
        .route("/children", post(child))
        .route("/children/{run}/end", post(done))
        .route("/end", post(end))
        .layer(axum::extract::DefaultBodyLimit::max(8 << 20))
        .layer(axum::middleware::from_fn_with_state(shared.clone(), door));
    Router::new().nest(&format!("{PREFIX}/session"), session).with_state(shared)
}

/// Every request is signed, and a server that is down answers none.
async fn door(State(shared): Shares, headers: HeaderMap, request: Request, next: Next) -> Response {
    if shared.told.lock().unwrap().down {
        return refusal(503, "unavailable");
    }
    let signed = headers.get("kluis-signature").is_some_and(|s| s.len() == 128) && headers.contains_key("kluis-time");
    if signed { next.run(request).await } else { refusal(401, "unauthenticated") }
}

fn refusal(status: u16, code: &str) -> Response {
    let title = format!("refused: {code}");
    let problem = Problem { status, code: code.to_owned(), title, detail: None, request_id: None };
    let body = serde_json::to_vec(&problem).unwrap();
    (StatusCode::from_u16(status).unwrap(), [("content-type", "application/problem+json")], body).into_response()
}

fn parse<T: serde::de::DeserializeOwned>(body: &Bytes) -> T {
    serde_json::from_slice(body).expect("the launcher sends wire types")
}

async fn redeem(State(shared): Shares, body: Bytes) -> Response {
    let request: RedeemTicket = parse(&body);
    let mut told = shared.told.lock().unwrap();
    if told.unconfirmed > 0 {
        told.unconfirmed -= 1;
        return refusal(409, "ticket_not_confirmed");
    }
    assert_eq!(request.ticket.expose(), "kls_tkt_test");
    told.redeemed_with.push(request.public_key);
    axum::Json(json!({
        "session": "0123456789abcdef0123456789abcdef", "context": told.context, "now": SystemClock.now(),
        "cache_without_contact_seconds": told.cache_seconds.unwrap_or(3600),
    }))
    .into_response()
}

async fn secrets(State(shared): Shares, body: Bytes) -> Response {
    let request: ReadSecrets = parse(&body);
    let mut told = shared.told.lock().unwrap();
    told.reads_of_secrets.push(request.clone());
    if request.names.iter().any(|name| told.undeclared.contains(&name.to_string())) {
        return refusal(403, "secret_undeclared");
    }
    let (found, missing): (Vec<_>, Vec<_>) =
        request.names.into_iter().partition(|name| told.secrets.contains_key(name.key()));
    let items: Vec<Value> = found
        .iter()
        .map(|n| json!({"name": n, "version": "00000000000000000000000000000007", "value": told.secrets[n.key()]}))
        .collect();
    axum::Json(json!({"items": items, "missing": missing})).into_response()
}

/// What was told before is told again when its answer has not arrived.
fn note_reads(told: &mut Told, reads: Vec<ReadRecord>) {
    for read in reads {
        if told.reads.last().is_none_or(|last| last.sequence < read.sequence) {
            told.reads.push(read);
        }
    }
}

async fn heartbeat(State(shared): Shares, body: Bytes) -> Response {
    let request: Heartbeat = parse(&body);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(u64::from(request.wait_seconds));
    {
        let mut told = shared.told.lock().unwrap();
        told.heartbeats += 1;
        told.phases.extend(request.phase);
        note_reads(&mut told, request.reads);
    }
    loop {
        let changed = shared.changed.notified();
        {
            let mut told = shared.told.lock().unwrap();
            if let Some(code) = told.refuse_heartbeats {
                return refusal(403, code);
            }
            let over = tokio::time::Instant::now() >= deadline;
            if over || !told.notices.is_empty() || !told.reads.is_empty() && request.wait_seconds == 0 {
                let mut answer = json!({
                    "status": "running", "reads_received": told.reads.last().map_or(0, |read| read.sequence),
                    "notices": 1, "now": SystemClock.now(),
                });
                let notice = told.notices.pop_front().unwrap_or(json!({}));
                answer.as_object_mut().unwrap().extend(notice.as_object().unwrap().clone());
                return axum::Json(answer).into_response();
            }
        }
        let _either = tokio::time::timeout_at(deadline, changed).await;
    }
}

async fn snapshot(State(shared): Shares) -> Vec<u8> {
    shared.told.lock().unwrap().snapshot.clone()
}

async fn logs(State(shared): Shares, body: Bytes) -> Response {
    let request: AppendLogs = parse(&body);
    let mut told = shared.told.lock().unwrap();
    for record in request.records {
        if record.seq == told.logs.len() as u64 {
            told.logs.push(record);
        }
    }
    axum::Json(json!({"next": told.logs.len()})).into_response()
}

async fn metrics(State(shared): Shares, body: Bytes) -> Response {
    let request: AppendMetrics = parse(&body);
    let mut told = shared.told.lock().unwrap();
    let names_a_stranger = |m: &RunMetric| m.run.as_ref().is_some_and(|run| run.as_str() == "stranger");
    if request.metrics.iter().any(names_a_stranger) {
        return refusal(404, "not_found");
    }
    assert!(request.first <= told.metrics.len() as u64, "a gap in the numbers");
    let known = told.metrics.len() as u64 - request.first;
    told.metrics.extend(request.metrics.into_iter().skip(known as usize));
    axum::Json(json!({"next": told.metrics.len()})).into_response()
}

async fn change(State(shared): Shares, body: Bytes) -> Response {
    shared.told.lock().unwrap().changes.push(parse(&body));
    axum::Json(json!({})).into_response()
}

async fn output(
    State(shared): Shares,
    Path(path): Path<String>,
    Query(query): Query<OutputQuery>,
    body: Bytes,
) -> Response {
    let mut told = shared.told.lock().unwrap();
    let partial = told.partial.entry(path.clone()).or_default();
    if query.offset == 0 {
        partial.clear();
    }
    if query.offset != partial.len() as u64 {
        return refusal(409, "conflict");
    }
    partial.extend_from_slice(&body);
    if query.last {
        let whole = told.partial.remove(&path).unwrap();
        told.outputs.insert(path, whole);
    }
    axum::Json(json!({})).into_response()
}

async fn child(State(shared): Shares, body: Bytes) -> Response {
    let request: CreateChild = parse(&body);
    let answer = json!({"run": request.run, "number": 2});
    shared.told.lock().unwrap().children.push(request);
    axum::Json(answer).into_response()
}

async fn end(State(shared): Shares, body: Bytes) -> Response {
    let request: EndRun = parse(&body);
    let mut told = shared.told.lock().unwrap();
    note_reads(&mut told, request.reads.clone());
    told.end = Some(request);
    axum::Json(json!({})).into_response()
}

async fn done() -> Response {
    axum::Json(json!({})).into_response()
}
