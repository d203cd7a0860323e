//! The run history: the run itself and the children that it makes. What is remembered of them here is what the broker cannot be
//! asked for.

use std::collections::BTreeMap;

use hyper::body::Incoming;
use hyper::{Method, Request};
use kluis_core::api::azureml::{
    ChangeRunDocument, CreatedBy, ExperimentDocument, Listed, RunDocument, RunEventDocument, RunTokenDocument,
    data_container, event, status_text,
};
use kluis_core::api::broker::{Answer, Request as Ask};
use kluis_core::api::runs::ChangeRun;
use kluis_core::api::session::{CreateChild, EndChild};
use kluis_core::clock::Timestamp;
use kluis_core::name::RunId;
use kluis_core::run::RunStatus;
use serde_json::json;

use super::{History, Outcome, Refusal, lock, not_served, ok, read};
use crate::membership::Member;

/// Children that are remembered; there are not more in a run.
const MOST_CHILDREN: usize = 100_000;

/// A child run, as far as this launcher made it.
#[derive(Clone, Debug)]
pub(super) struct Child {
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

impl History {
    pub(super) async fn history(&self, rest: &[&str], request: Request<Incoming>, member: Member) -> Outcome {
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
                ok(&json!({"errors": []}))
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
            created_by: Some(self.submitter()),
            error: None,
        })
    }

    fn submitter(&self) -> CreatedBy {
        let context = &self.desk.context;
        CreatedBy { user_object_id: context.submitted_by.to_string(), user_name: context.submitter.to_string() }
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
            created_by: Some(self.submitter()),
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
}
