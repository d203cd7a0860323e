//! What `azureml-core` asks of its services inside a run, over plain http: where the services are, the run and its children,
//! secrets, metrics. Each question is put to the broker's desk in the broker's words. The dialect itself is in
//! `kluis_core::api::azureml`; what a run may not, and what is not served, is refused in it, with a list of details.

mod runs;
mod secrets;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use kluis_core::api::azureml::{
    ErrorBody, Listed, MetricsBatch, MetricsPosted, discovery, numbers_as_texts, run_of_container,
};
use kluis_core::api::broker::{Answer, BrokerError, Request as Ask};
use kluis_core::api::code;
use kluis_core::api::session::RunContext;
use kluis_core::clock::{Clock, Timestamp};
use kluis_core::name::RunId;
use serde::de::DeserializeOwned;

use super::files::Files;
use super::http::{self, Reply};
use super::peers;
use super::tokens::{Token, Tokens};
use crate::broker::Desk;
use crate::clock::SteadyClock;
use crate::files::output_name;
use crate::membership::Member;
use runs::Child;

/// The launcher knows neither of them; clients only repeat them.
const SUBSCRIPTION: &str = "00000000-0000-0000-0000-000000000000";
const GROUP: &str = "kluis";
const DISCOVERY: &str = "/discovery";
/// The largest body, in bytes: fifty metrics of the largest size.
const MAX_BODY: usize = 8 * 1024 * 1024;

/// What `Run.get_context()` reads. Without one of the first seven it is silently offline.
pub(super) fn variables(base: &str, context: &RunContext, token: &Token) -> Vec<(&'static str, String)> {
    vec![
        ("AZUREML_ARM_SUBSCRIPTION", SUBSCRIPTION.to_owned()),
        ("AZUREML_ARM_RESOURCEGROUP", GROUP.to_owned()),
        ("AZUREML_ARM_WORKSPACE_NAME", context.workspace.to_string()),
        ("AZUREML_ARM_PROJECT_NAME", context.experiment.to_string()),
        ("AZUREML_RUN_ID", context.run.to_string()),
        ("AZUREML_RUN_TOKEN", token.text.to_string()),
        ("AZUREML_SERVICE_ENDPOINT", base.to_owned()),
        // In words: from the number in the token the client would make local time and take it for UTC.
        ("AZUREML_RUN_TOKEN_EXPIRY", token.expires.to_string()),
        ("AZUREML_DISCOVERY_SERVICE_ENDPOINT", format!("{base}{DISCOVERY}")),
        ("AZUREML_EXPERIMENT_ID", context.experiment.to_string()),
        ("AZUREML_WORKSPACE_ID", context.workspace.to_string()),
    ]
}

/// The services.
pub(super) struct History {
    desk: Arc<Desk>,
    files: Arc<Files>,
    tokens: Arc<Tokens>,
    clock: Arc<SteadyClock>,
    began: Timestamp,
    properties: Mutex<BTreeMap<String, String>>,
    children: Mutex<BTreeMap<RunId, Child>>,
}

/// Why a question is not answered.
enum Refusal {
    /// Not served, or not there.
    NotFound(String),
    /// Not for a run.
    Forbidden(String),
    /// Not well-formed.
    Bad(String),
    /// By the broker.
    Broker(BrokerError),
}

type Outcome = Result<Reply, Refusal>;

impl From<BrokerError> for Refusal {
    fn from(error: BrokerError) -> Self {
        Self::Broker(error)
    }
}

#[expect(clippy::unnecessary_wraps, reason = "it is what a handler ends with")]
fn ok(body: &impl serde::Serialize) -> Outcome {
    Ok(http::json(StatusCode::OK, body))
}

fn not_served() -> Refusal {
    Refusal::NotFound("This is not served inside a run of Kluis.".to_owned())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics with the lock held")
}

async fn read<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Refusal> {
    let bad = |why: String| Refusal::Bad(why);
    let body = http::body(request.into_body(), MAX_BODY).await;
    let body = body.ok_or_else(|| bad(format!("The body is larger than {MAX_BODY} bytes, or did not arrive.")))?;
    // This client writes numbers that JSON does not have.
    let as_texts = numbers_as_texts(&body);
    serde_json::from_slice(as_texts.as_deref().unwrap_or(&body)).map_err(|error| {
        bad(format!("The body is not what is expected (line {}, column {}).", error.line(), error.column()))
    })
}

impl History {
    pub(super) fn new(desk: Arc<Desk>, files: Arc<Files>, tokens: Arc<Tokens>, clock: Arc<SteadyClock>) -> Self {
        let began = clock.now();
        let (properties, children) = (Mutex::default(), Mutex::default());
        Self { desk, files, tokens, clock, began, properties, children }
    }

    /// Answers one request.
    pub(super) async fn answer(&self, request: Request<Incoming>, member: Member) -> Reply {
        if request.method() == Method::GET && request.uri().path() == DISCOVERY {
            return self.discovery(&request);
        }
        if !http::bearer(&request).is_some_and(|token| self.tokens.accepts(token)) {
            let body =
                ErrorBody::user("Only a token of this run is accepted here.", Some(code::UNAUTHENTICATED), self.now());
            return http::json(StatusCode::UNAUTHORIZED, &body);
        }
        let outcome = match http::segments(request.uri().path().trim_end_matches('/')) {
            Some(segments) => {
                let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
                self.route(&segments, request, member).await
            }
            None => Err(not_served()),
        };
        outcome.unwrap_or_else(|refusal| self.refuse(refusal))
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn discovery<B>(&self, request: &Request<B>) -> Reply {
        let host = request.headers().get(hyper::header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        http::json(StatusCode::OK, &discovery(&format!("http://{host}")))
    }

    fn refuse(&self, refusal: Refusal) -> Reply {
        let (status, message, inner) = match refusal {
            Refusal::NotFound(message) => (StatusCode::NOT_FOUND, message, None),
            Refusal::Forbidden(message) => (StatusCode::FORBIDDEN, message, Some(code::FORBIDDEN.to_owned())),
            Refusal::Bad(message) => (StatusCode::BAD_REQUEST, message, None),
            Refusal::Broker(error) => {
                let status = match error.code.as_str() {
                    code::UNAVAILABLE => StatusCode::SERVICE_UNAVAILABLE,
                    code::NOT_FOUND | code::SECRET_NOT_FOUND => StatusCode::NOT_FOUND,
                    code::CONFLICT => StatusCode::CONFLICT,
                    code::BAD_REQUEST | code::INVALID_NAME | code::INVALID_VALUE | code::TOO_LARGE => {
                        StatusCode::BAD_REQUEST
                    }
                    // The run's limits too: repeating does not help.
                    _ => StatusCode::FORBIDDEN,
                };
                (status, error.detail, Some(error.code))
            }
        };
        let kind = if status == StatusCode::SERVICE_UNAVAILABLE { "ServiceError" } else { "UserError" };
        http::json(status, &ErrorBody::new(kind, message, inner.as_deref(), self.now()))
    }

    async fn route(&self, segments: &[&str], request: Request<Incoming>, member: Member) -> Outcome {
        let [service, _version, scope @ ..] = segments else { return Err(not_served()) };
        let ["subscriptions", subscription, groups, group, "providers", provider, "workspaces", workspace, rest @ ..] =
            scope
        else {
            return Err(not_served());
        };
        let ours = *subscription == SUBSCRIPTION
            && groups.eq_ignore_ascii_case("resourceGroups")
            && *group == GROUP
            && provider.eq_ignore_ascii_case("Microsoft.MachineLearningServices")
            && workspace.eq_ignore_ascii_case(self.desk.context.workspace.as_str());
        if !ours {
            return Err(Refusal::NotFound("Inside a run only its own workspace is served.".to_owned()));
        }
        match *service {
            "credential" => self.credential(rest, request, member).await,
            "history" => self.history(rest, request, member).await,
            "metric" => match (request.method(), rest) {
                (&Method::POST, ["runs", run, "batch"]) => self.metrics(run, request, member).await,
                _ => Err(Refusal::NotFound("Inside a run metrics are logged and not read.".to_owned())),
            },
            "artifact" => self.artifact(rest, request).await,
            _ => Err(not_served()),
        }
    }

    /// Files are uploaded and listed; nothing of a run is downloaded in it.
    async fn artifact(&self, rest: &[&str], request: Request<Incoming>) -> Outcome {
        let run = |container: &str| match run_of_container(container) {
            Some(run) => self.known(run.as_str()),
            None => Err(not_served()),
        };
        match (request.method(), rest) {
            (&Method::POST, ["artifacts", "batch", "metadata", "ExperimentRun", container]) => {
                #[derive(serde::Deserialize)]
                struct Asked {
                    paths: Vec<AskedPath>,
                }
                #[derive(serde::Deserialize)]
                struct AskedPath {
                    path: String,
                }
                let run = run(container)?;
                let asked: Asked = read(request).await?;
                let paths: Vec<String> = asked.paths.into_iter().map(|asked| asked.path).collect();
                if paths.iter().any(|path| output_name(path).is_none()) {
                    return Err(Refusal::Bad("Not a name for a file of the run.".to_owned()));
                }
                ok(&self.files.places(&run, &paths))
            }
            (&Method::GET, ["artifacts", "ExperimentRun", container]) => ok(&self.files.list(&run(container)?)),
            // Logs, for `get_details`.
            (&Method::GET, ["artifacts", "prefix", "contentinfo", "ExperimentRun", container, ..]) => {
                run(container)?;
                ok(&Listed::<()>::whole(Vec::new()))
            }
            _ => Err(Refusal::NotFound(
                "Inside a run its files are not read: what lies in ./outputs is uploaded at its end, and what lies in ./logs \
                 while it runs."
                    .to_owned(),
            )),
        }
    }

    async fn done(&self, ask: Ask, member: Member) -> Result<(), Refusal> {
        match self.desk.answer(ask, member).await {
            Answer::Error(error) => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// The run itself or a child of it.
    fn known(&self, run: &str) -> Result<RunId, Refusal> {
        let unknown = || Refusal::NotFound("There is no such run in this run.".to_owned());
        let run = RunId::parse(run).map_err(|_| unknown())?;
        if run == self.desk.context.run || lock(&self.children).contains_key(&run) { Ok(run) } else { Err(unknown()) }
    }

    fn own(&self, run: &str) -> Result<(), Refusal> {
        let run = self.known(run)?;
        if run == self.desk.context.run { Ok(()) } else { Err(not_served()) }
    }

    /// As the broker names a run: the run itself is nobody else.
    fn target(&self, run: &RunId) -> Option<RunId> {
        (*run != self.desk.context.run).then(|| run.clone())
    }

    async fn metrics(&self, run: &str, request: Request<Incoming>, member: Member) -> Outcome {
        let run = self.known(run)?;
        let batch: MetricsBatch = read(request).await?;
        let mut metrics = Vec::new();
        for document in batch.values {
            metrics.extend(document.into_metrics(self.now()).map_err(|error| Refusal::Bad(error.to_string()))?);
        }
        if !metrics.is_empty() {
            self.done(Ask::LogMetrics { run: self.target(&run), metrics }, member).await?;
        }
        ok(&MetricsPosted::default())
    }
}
