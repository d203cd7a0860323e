//! The dialect of `azureml-core`, as far as both the server (a laptop's client) and a run's launcher (the client in the
//! run) speak it: discovery, the run history, errors. Secrets and metrics have modules of their own. Names are theirs,
//! `camelCase`; requests may hold more than we read, for that client sends many fields that say nothing here.
//!
//! What the client wants of each answer is told where it is not obvious: it was found by trying the package, not in a
//! specification.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock::Timestamp;
use crate::name::{ExperimentName, RunId};
use crate::run::RunStatus;

mod metrics;
#[cfg(feature = "plaintext")]
mod secrets;

pub use metrics::{
    InvalidMetrics, ListMetrics, MetricDefinition, MetricDefinitions, MetricDocument, MetricKey, MetricProperties,
    MetricRow, MetricsBatch, MetricsPosted, ReadMetric, numbers_as_texts,
};
#[cfg(feature = "plaintext")]
pub use secrets::{
    AskedSecret, GivenSecret, GivenSecrets, ListedSecret, NamedSecrets, SecretDocument, SecretDocuments, SecretPage,
};

/// A refusal. The client raises from `str()` unless `details` is a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorBody {
    /// What happened.
    pub error: RootError,
    /// Ids to look it up by: `RequestId`.
    pub correlation: BTreeMap<String, String>,
    /// Which installation: always `kluis`.
    pub environment: String,
    /// Where it is: always `kluis`.
    pub location: String,
    /// When.
    pub time: Timestamp,
}

/// What happened, in a refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RootError {
    /// For programs: `UserError` for all that repeating does not help, else `ServiceError`.
    pub code: String,
    /// For people. Shown as `(code) message`.
    pub message: String,
    /// Always there, and empty.
    pub details: Vec<Self>,
    /// Our own code, one of [`code`](super::code)'s texts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inner_error: Option<InnerError>,
}

/// A finer code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InnerError {
    /// The code.
    pub code: String,
}

impl ErrorBody {
    /// A refusal that repeating does not change.
    pub fn user(message: impl Into<String>, inner: Option<&str>, time: Timestamp) -> Self {
        Self::new("UserError", message, inner, time)
    }

    /// A refusal with this code.
    pub fn new(code: &str, message: impl Into<String>, inner: Option<&str>, time: Timestamp) -> Self {
        let inner_error = inner.map(|code| InnerError { code: code.to_owned() });
        Self {
            error: RootError { code: code.to_owned(), message: message.into(), details: Vec::new(), inner_error },
            correlation: BTreeMap::new(),
            environment: "kluis".to_owned(),
            location: "kluis".to_owned(),
            time,
        }
    }
}

/// Where the services are: the answer to the discovery URL, which is asked without credentials. The client fails with a
/// bare `KeyError` for each of these names that is missing, so there are more of them than we serve.
pub fn discovery(base: &str) -> BTreeMap<&'static str, String> {
    const SERVICES: [&str; 16] = [
        "api",
        "artifacts",
        "assets",
        "catalog",
        "experimentation",
        "execution",
        "gallery",
        "history",
        "hyperdrive",
        "metrics",
        "mlflow",
        "modelmanagement",
        "pipelines",
        "projectcontent",
        "rl",
        "studio",
    ];
    SERVICES.into_iter().map(|service| (service, base.to_owned())).collect()
}

/// A status as that client names it. One it does not know would count as running for ever.
pub fn status_text(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Queued => "Queued",
        RunStatus::Starting => "Starting",
        RunStatus::Running => "Running",
        RunStatus::Unresponsive => "NotResponding",
        RunStatus::Completed => "Completed",
        RunStatus::Canceled => "Canceled",
        RunStatus::Failed | RunStatus::Lost | RunStatus::Compromised => "Failed",
    }
}

/// The name of a run's files in addresses: the run's id, marked.
pub fn data_container(run: &RunId) -> String {
    format!("dcid.{run}")
}

/// The run of a data container's name.
pub fn run_of_container(container: &str) -> Option<RunId> {
    RunId::parse(container.strip_prefix("dcid.")?).ok()
}

/// An experiment. Its id is its name: names are unique in a workspace and never change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExperimentDocument {
    /// The name once more.
    pub experiment_id: ExperimentName,
    /// The name.
    pub name: ExperimentName,
    /// When its first run was submitted; now, when there is none.
    pub created_utc: Timestamp,
    /// None.
    pub tags: BTreeMap<String, String>,
}

impl ExperimentDocument {
    /// An experiment.
    pub fn new(name: ExperimentName, created_utc: Timestamp) -> Self {
        Self { experiment_id: name.clone(), name, created_utc, tags: BTreeMap::new() }
    }
}

/// A run. The client needs `runNumber` and `rootRunId` at least.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunDocument {
    /// Counts the experiment's runs, from 1.
    pub run_number: u64,
    /// The run at the top of the tree, or the run itself.
    pub root_run_id: RunId,
    /// Its experiment, see [`ExperimentDocument`].
    pub experiment_id: ExperimentName,
    /// Its id.
    pub run_id: RunId,
    /// The run that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_run_id: Option<RunId>,
    /// See [`status_text`].
    pub status: String,
    /// When it was submitted.
    pub created_utc: Timestamp,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time_utc: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time_utc: Option<Timestamp>,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// Where its files are, see [`data_container`].
    pub data_container_id: String,
    /// Never.
    pub hidden: bool,
    /// The compute target.
    pub target: String,
    /// The script, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script_name: Option<String>,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// Properties.
    pub properties: BTreeMap<String, String>,
    /// Who submitted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<CreatedBy>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorBody>,
}

/// Who submitted a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreatedBy {
    /// The principal.
    pub user_object_id: String,
    /// By name.
    pub user_name: String,
}

/// A change of a run, or a new child: `PATCH .../runs/{run}`. Only what is read here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ChangeRunDocument {
    /// The run that makes this one.
    pub parent_run_id: Option<String>,
    /// A name for people.
    pub display_name: Option<String>,
    /// A child's name, an older word for the same.
    pub name: Option<String>,
    /// Tags to set; `null` is the empty text.
    pub tags: Option<BTreeMap<String, Option<String>>>,
    /// Properties to add. `null` says nothing: the client sends it for what it does not know.
    pub properties: Option<BTreeMap<String, Option<String>>>,
}

/// Something that happened to a run: `POST .../runs/{run}/events`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RunEventDocument {
    /// One of [`event`]'s texts, or one that we let pass.
    pub name: String,
    /// What belongs to it, such as `RunId`.
    pub data: Value,
}

/// Names of [`RunEventDocument`]s.
#[expect(missing_docs, reason = "the names say it")]
pub mod event {
    pub const START: &str = "Microsoft.MachineLearning.Run.Start";
    pub const COMPLETED: &str = "Microsoft.MachineLearning.Run.Completed";
    pub const FAILED: &str = "Microsoft.MachineLearning.Run.Failed";
    pub const CANCELED: &str = "Microsoft.MachineLearning.Run.Canceled";
    pub const CANCEL_REQUESTED: &str = "Microsoft.MachineLearning.Run.CancelRequested";
    pub const HEARTBEAT: &str = "Microsoft.MachineLearning.Run.Heartbeat";
    pub const WARNING: &str = "Microsoft.MachineLearning.Run.Warning";
    pub const ERROR: &str = "Microsoft.MachineLearning.Run.Error";
}

/// A fresh token for the run: `GET .../runs/{run}/token`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunTokenDocument {
    /// JWT-shaped.
    pub token: String,
    /// Until when it works.
    pub expiry_time_utc: Timestamp,
}

impl std::fmt::Debug for RunTokenDocument {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunTokenDocument").field("expiry_time_utc", &self.expiry_time_utc).finish_non_exhaustive()
    }
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed<T> {
    /// The items.
    pub value: Vec<T>,
    /// For the next page; `null` on the last, and it must be there.
    pub continuation_token: Option<String>,
}

impl<T> Listed<T> {
    /// A list on one page.
    pub fn whole(value: Vec<T>) -> Self {
        Self { value, continuation_token: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_always_has_a_list_of_details() {
        let body = ErrorBody::user("Secret nope not found.", Some("secret_not_found"), Timestamp::from_seconds(0));
        let json = serde_json::to_value(&body).unwrap();
        assert_eq!(json["error"]["details"], serde_json::json!([]));
        assert_eq!(json["error"]["innerError"]["code"], "secret_not_found");
        assert_eq!(json["time"], "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn a_container_names_its_run_and_nothing_else() {
        let run = RunId::parse("churn_1_ab").unwrap();
        assert_eq!(run_of_container(&data_container(&run)), Some(run));
        for text in ["", "dcid.", "churn_1_ab", "dcid.a/b", "dcid.."] {
            assert_eq!(run_of_container(text), None, "{text}");
        }
    }

    #[test]
    fn what_a_client_sends_beside_is_passed_over() {
        let sent =
            r#"{"runId":"a","properties":{"ContentSnapshotId":null},"tags":{"k":"v","e":null},"options":{"x":1}}"#;
        let change: ChangeRunDocument = serde_json::from_str(sent).unwrap();
        assert_eq!(change.tags.unwrap()["e"], None);
        assert_eq!(change.properties.unwrap()["ContentSnapshotId"], None);
    }
}
