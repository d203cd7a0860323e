//! What `azureml-core` asks of its services inside a run, over plain http: where the services are, the run and its children,
//! secrets, metrics. Each question is put to the broker's desk in the broker's words. The dialect itself is in
//! `kluis_core::api::azureml`; what a run may not, and what is not served, is refused in it, with a list of details.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use kluis_core::api::azureml::{
    ChangeRunDocument, ErrorBody, ExperimentDocument, Listed, MetricsBatch, MetricsPosted, NamedSecrets, RunDocument,
    RunEventDocument, RunTokenDocument, SecretDocument, SecretDocuments, data_container, discovery, event,
    numbers_as_texts, status_text,
};
use kluis_core::api::broker::{Answer, BrokerError, Request as Ask};
use kluis_core::api::code;
use kluis_core::api::runs::ChangeRun;
use kluis_core::api::session::{CreateChild, EndChild, RunContext};
use kluis_core::clock::{Clock, Timestamp};
use kluis_core::name::{RunId, SecretName};
use kluis_core::run::RunStatus;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::http::{self, Reply};
use super::peers;
use super::tokens::{Token, Tokens};
use crate::broker::Desk;
use crate::clock::SteadyClock;
use crate::membership::Member;

/// The launcher knows neither of them; clients only repeat them.
const SUBSCRIPTION: &str = "00000000-0000-0000-0000-000000000000";
const GROUP: &str = "kluis";
const DISCOVERY: &str = "/discovery";
/// The largest body, in bytes: fifty metrics of the largest size.
const MAX_BODY: usize = 8 * 1024 * 1024;
/// Children that are remembered; there are not more in a run.
const MOST_CHILDREN: usize = 100_000;

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

/// A child run, as far as this launcher made it.
#[derive(Clone, Debug)]
struct Child {
    number: u64,
    parent: RunId,
    created: Timestamp,
    status: RunStatus,
    display_name: Option<String>,
    tags: BTreeMap<String, String>,
    properties: BTreeMap<String, String>,
    /// Said before its end.
    reason: Option<String>,
}

/// The services.
pub(super) struct History {
    desk: Arc<Desk>,
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
    pub(super) fn new(desk: Arc<Desk>, tokens: Arc<Tokens>, clock: Arc<SteadyClock>) -> Self {
        let began = clock.now();
        let (properties, children) = (Mutex::default(), Mutex::default());
        Self { desk, tokens, clock, began, properties, children }
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
            // `Run.get_details` looks for logs here, and falls over what is no list.
            "artifact" if request.method() == Method::GET && rest.starts_with(&["artifacts", "prefix", "contentinfo"]) => {
                ok(&Listed::<RunDocument>::whole(Vec::new()))
            }
            "artifact" => Err(Refusal::NotFound(
                "Files of a run are not served inside it: what lies in ./outputs is uploaded at its end, and what lies in \
                 ./logs while it runs."
                    .to_owned(),
            )),
            _ => Err(not_served()),
        }
    }

    async fn credential(&self, rest: &[&str], request: Request<Incoming>, member: Member) -> Outcome {
        match (request.method(), rest) {
            (&Method::GET, ["secrets", name]) => {
                let name = SecretName::parse(name).map_err(|error| Refusal::NotFound(error.to_string()))?;
                let (found, _) = self.secrets(vec![name.clone()], member).await?;
                let secret = found.into_iter().next().ok_or_else(|| missing(&name))?;
                let size = 512 + 6 * secret.value.as_ref().map_or(0, kluis_core::plaintext::Plaintext::len);
                Ok(http::sized_json(StatusCode::OK, &secret, size))
            }
            (&Method::POST, ["secrets:getbatch"]) => {
                let asked: NamedSecrets = read(request).await?;
                let names = asked.secrets.into_iter().map(|asked| asked.name).collect();
                let (secrets, not_found_secrets) = self.secrets(names, member).await?;
                let values = secrets.iter().filter_map(|secret| secret.value.as_ref());
                let size = 512 + values.map(|value| 512 + 6 * value.len()).sum::<usize>();
                Ok(http::sized_json(StatusCode::OK, &SecretDocuments { secrets, not_found_secrets }, size))
            }
            (_, [first, ..]) if *first == "secrets" || first.starts_with("secrets:") => {
                let message = format!(
                    "The run {} may read secrets of the workspace {} and do nothing else with them. Set, list and delete \
                     secrets outside of a run.",
                    self.desk.context.run, self.desk.context.workspace
                );
                Err(Refusal::Forbidden(message))
            }
            _ => Err(not_served()),
        }
    }

    async fn secrets(
        &self,
        names: Vec<SecretName>,
        member: Member,
    ) -> Result<(Vec<SecretDocument>, Vec<SecretName>), Refusal> {
        let rank = peers::rank(member, self.desk.context.node);
        let ask = Ask::GetSecrets { names, refresh: false, rank, timeout_ms: None };
        match self.desk.answer(ask, member).await {
            Answer::Secrets(read) => {
                let document = |item: kluis_core::api::session::ReadValue| {
                    // When it was set is not told to runs.
                    SecretDocument::new(item.name, Some(item.value), None, self.began, self.began)
                };
                Ok((read.items.into_iter().map(document).collect(), read.missing))
            }
            Answer::Error(error) => Err(error.into()),
            _ => Err(not_served()),
        }
    }

    async fn history(&self, rest: &[&str], request: Request<Incoming>, member: Member) -> Outcome {
        let context = &self.desk.context;
        let is_own = |experiment: &str| experiment.eq_ignore_ascii_case(context.experiment.as_str());
        match (request.method().clone(), rest) {
            (_, ["experiments" | "experimentids", experiment, ..]) if !is_own(experiment) => {
                Err(Refusal::NotFound("Inside a run only its own experiment is served.".to_owned()))
            }
            (Method::GET, ["experiments" | "experimentids", _]) => {
                ok(&ExperimentDocument::new(context.experiment.clone(), self.began))
            }
            (Method::POST, ["experiments" | "experimentids", _, "batch", "events"]) => {
                #[derive(serde::Deserialize)]
                struct Events {
                    events: Vec<RunEventDocument>,
                }
                let events: Events = read(request).await?;
                for event in events.events {
                    let run = event.data["RunId"].as_str().map(str::to_owned).unwrap_or_default();
                    self.event(&run, event, member).await?;
                }
                ok(&json!({}))
            }
            (Method::PATCH | Method::POST, ["experiments" | "experimentids", _, "batch", "runs"]) => {
                self.create_many(read(request).await?, member).await
            }
            (method, ["experiments" | "experimentids", _, "runs", run, rest @ ..] | ["runs", run, rest @ ..]) => {
                self.run(&method, run, rest, request, member).await
            }
            _ => Err(not_served()),
        }
    }

    async fn run(
        &self,
        method: &Method,
        run: &str,
        rest: &[&str],
        request: Request<Incoming>,
        member: Member,
    ) -> Outcome {
        match (method, rest) {
            (&Method::GET, []) => ok(&self.document(run, member).await?),
            (&Method::PATCH, []) => {
                let change: ChangeRunDocument = read(request).await?;
                self.change(run, change, member).await?;
                ok(&self.document(run, member).await?)
            }
            (&Method::GET, ["token"]) => {
                self.own(run)?;
                let token = self.tokens.issue();
                ok(&RunTokenDocument { token: token.text.to_string(), expiry_time_utc: token.expires })
            }
            (&Method::GET, ["details"]) => {
                let document = self.document(run, member).await?;
                ok(&json!({
                    "runId": document.run_id, "target": document.target, "status": document.status,
                    "startTimeUtc": document.start_time_utc, "properties": document.properties, "logFiles": {},
                    "inputDatasets": [], "outputDatasets": [],
                }))
            }
            (&Method::GET, ["children"]) => {
                let parent = self.known(run)?;
                let children = lock(&self.children).clone();
                let documents = children.iter().filter(|(_, child)| child.parent == parent);
                ok(&Listed::whole(documents.map(|(id, child)| self.child_document(id, child)).collect()))
            }
            (&Method::DELETE, ["tags"]) => {
                let remove_tags: Vec<String> = read(request).await?;
                self.remove_tags(run, remove_tags, member).await?;
                ok(&self.document(run, member).await?)
            }
            (&Method::POST, ["events"]) => {
                let event = read(request).await?;
                self.event(run, event, member).await?;
                ok(&json!({}))
            }
            (&Method::GET, ["metricsingest", "wait"]) => {
                self.known(run)?;
                self.done(Ask::Flush {}, member).await?;
                ok(&json!({}))
            }
            _ => Err(not_served()),
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

    async fn document(&self, run: &str, member: Member) -> Result<RunDocument, Refusal> {
        let run = self.known(run)?;
        if let Some(child) = lock(&self.children).get(&run) {
            return Ok(self.child_document(&run, child));
        }
        let (status, tags) = match self.desk.answer(Ask::Status {}, member).await {
            Answer::Status { status, tags } => (status, tags),
            _ => (RunStatus::Running, BTreeMap::new()),
        };
        let context = &self.desk.context;
        Ok(RunDocument {
            run_number: context.number,
            root_run_id: run.clone(),
            experiment_id: context.experiment.clone(),
            data_container_id: data_container(&run),
            run_id: run,
            parent_run_id: None,
            status: status_text(status).to_owned(),
            created_utc: self.began,
            start_time_utc: Some(self.began),
            end_time_utc: None,
            display_name: None,
            hidden: false,
            target: "kluis".to_owned(),
            script_name: None,
            tags,
            properties: lock(&self.properties).clone(),
            created_by: None,
            error: None,
        })
    }

    fn child_document(&self, run: &RunId, child: &Child) -> RunDocument {
        RunDocument {
            run_number: child.number,
            root_run_id: self.desk.context.run.clone(),
            experiment_id: self.desk.context.experiment.clone(),
            run_id: run.clone(),
            parent_run_id: Some(child.parent.clone()),
            status: status_text(child.status).to_owned(),
            created_utc: child.created,
            start_time_utc: Some(child.created),
            end_time_utc: None,
            display_name: child.display_name.clone(),
            data_container_id: data_container(run),
            hidden: false,
            target: "kluis".to_owned(),
            script_name: None,
            tags: child.tags.clone(),
            properties: child.properties.clone(),
            created_by: None,
            error: None,
        }
    }

    fn masked(&self, map: Option<BTreeMap<String, Option<String>>>, keep_null: bool) -> BTreeMap<String, String> {
        let pairs = map.unwrap_or_default().into_iter();
        let given = pairs.filter_map(|(key, value)| match value {
            None if !keep_null => None,
            value => Some((key, value.unwrap_or_default())),
        });
        given.map(|(key, value)| (self.desk.masking.text(&key), self.desk.masking.text(&value))).collect()
    }

    /// Changes a run, and makes it first when it is a new child.
    async fn change(&self, run: &str, change: ChangeRunDocument, member: Member) -> Result<(), Refusal> {
        let run = RunId::parse(run).map_err(|error| Refusal::Bad(error.to_string()))?;
        let tags = self.masked(change.tags, true);
        let properties = self.masked(change.properties, false);
        let display_name = change.display_name.or(change.name).map(|name| self.desk.masking.text(&name));
        let is_new = self.known(run.as_str()).is_err();
        if is_new {
            // Nobody makes another run's child from in here.
            let parent = match change.parent_run_id.as_deref() {
                Some(parent) => self.known(parent)?,
                None => return Err(Refusal::NotFound("There is no such run in this run.".to_owned())),
            };
            self.create(run.clone(), parent, display_name, tags, member).await?;
            if properties.is_empty() {
                return Ok(());
            }
            let change = ChangeRun { properties: properties.clone(), ..ChangeRun::default() };
            self.done(Ask::Change { run: self.target(&run), change }, member).await?;
        } else {
            let change = ChangeRun {
                tags: tags.clone(),
                remove_tags: Vec::new(),
                properties: properties.clone(),
                display_name: display_name.clone(),
            };
            if change != ChangeRun::default() {
                self.done(Ask::Change { run: self.target(&run), change }, member).await?;
            }
            if let Some(child) = lock(&self.children).get_mut(&run) {
                child.tags.extend(tags);
                child.display_name = display_name.or(child.display_name.take());
            }
        }
        match lock(&self.children).get_mut(&run) {
            Some(child) => child.properties.extend(properties),
            None => lock(&self.properties).extend(properties),
        }
        Ok(())
    }

    async fn create(
        &self,
        run: RunId,
        parent: RunId,
        display_name: Option<String>,
        tags: BTreeMap<String, String>,
        member: Member,
    ) -> Result<(), Refusal> {
        if lock(&self.children).len() >= MOST_CHILDREN {
            return Err(Refusal::Forbidden("The run has too many child runs.".to_owned()));
        }
        let create = CreateChild { run: Some(run), display_name: display_name.clone(), tags: tags.clone() };
        let made = match self.desk.answer(Ask::CreateChild(create), member).await {
            Answer::Child(made) => made,
            Answer::Error(error) => return Err(error.into()),
            _ => return Err(not_served()),
        };
        let child = Child {
            number: made.number,
            parent,
            created: self.now(),
            status: RunStatus::Running,
            display_name,
            tags,
            properties: BTreeMap::new(),
            reason: None,
        };
        lock(&self.children).insert(made.run, child);
        Ok(())
    }

    async fn create_many(&self, body: serde_json::Value, member: Member) -> Outcome {
        let mut runs = BTreeMap::new();
        for given in body["runs"].as_array().into_iter().flatten() {
            let Some(run) = given["runId"].as_str().map(str::to_owned) else {
                return Err(Refusal::Bad("A run without `runId`.".to_owned()));
            };
            let change = serde_json::from_value(given.clone())
                .map_err(|_| Refusal::Bad("A run is not what is expected.".to_owned()))?;
            self.change(&run, change, member).await?;
            let document = self.document(&run, member).await?;
            runs.insert(run, document);
        }
        ok(&json!({"runs": runs, "errors": {}}))
    }

    async fn remove_tags(&self, run: &str, remove_tags: Vec<String>, member: Member) -> Result<(), Refusal> {
        let run = self.known(run)?;
        let change = ChangeRun { remove_tags: remove_tags.clone(), ..ChangeRun::default() };
        self.done(Ask::Change { run: self.target(&run), change }, member).await?;
        if let Some(child) = lock(&self.children).get_mut(&run) {
            child.tags.retain(|key, _| !remove_tags.contains(key));
        }
        Ok(())
    }

    /// Children end by events. The run itself ends with its process, so what is said of its end is passed over.
    async fn event(&self, run: &str, event: RunEventDocument, member: Member) -> Result<(), Refusal> {
        let run = self.known(run)?;
        let Some(target) = self.target(&run) else { return Ok(()) };
        let status = match event.name.as_str() {
            event::COMPLETED => RunStatus::Completed,
            event::FAILED => RunStatus::Failed,
            event::CANCELED => RunStatus::Canceled,
            event::ERROR => {
                let said = &event.data["ErrorResponse"]["error"]["message"];
                let reason = said.as_str().map(|text| crate::broker::shortened(self.desk.masking.text(text)));
                if let Some(child) = lock(&self.children).get_mut(&run) {
                    child.reason = reason;
                }
                return Ok(());
            }
            _ => return Ok(()),
        };
        let reason = lock(&self.children).get(&run).and_then(|child| child.reason.clone());
        self.done(Ask::EndChild { run: target, end: EndChild { status, reason } }, member).await?;
        if let Some(child) = lock(&self.children).get_mut(&run) {
            child.status = status;
        }
        Ok(())
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

fn missing(name: &SecretName) -> Refusal {
    Refusal::Broker(BrokerError {
        code: code::SECRET_NOT_FOUND.to_owned(),
        detail: format!("Secret {name} not found."),
    })
}
