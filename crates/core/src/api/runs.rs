//! Experiments and runs: what is submitted, what can be seen, logs, metrics, outputs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::id::{BlobId, PrincipalId, VersionId};
use crate::name::{ComputeName, ExperimentName, PrincipalName, RunId, SecretName, WorkspaceName};
use crate::run::{Blame, ExitStatus, RunStatus};

/// The largest snapshot, in bytes of the packed tree: 300 MiB.
pub const MAX_SNAPSHOT_BYTES: u64 = 300 * 1024 * 1024;
/// The most files, folders and links in a snapshot.
pub const MAX_SNAPSHOT_ENTRIES: usize = 200_000;
/// Left out of every snapshot, wherever they stand.
pub const SNAPSHOT_ALWAYS_OUT: [&str; 7] =
    [".git", ".venv", "node_modules", "__pycache__", ".ipynb_checkpoints", ".env", ".kluis"];
/// Left out of every snapshot at its root: a run makes its own.
pub const SNAPSHOT_ROOT_OUT: [&str; 2] = ["outputs", "logs"];

/// What a run executes: a script of the snapshot under a Python, or any command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Program {
    /// `python SCRIPT ARGUMENTS`.
    Script {
        /// The script's path inside the snapshot, with `/`.
        path: String,
        /// Its arguments.
        #[serde(default)]
        arguments: Vec<String>,
    },
    /// A command and its arguments, found on the run's PATH.
    Command {
        /// At least one entry.
        argv: Vec<String>,
    },
}

/// What a run needs of its machine. Each engine translates it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Resources {
    /// Whole devices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpus: Option<u32>,
    /// Whole cores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<u32>,
    /// Bytes, written `16GiB` by the clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Seconds, after which the run is ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_seconds: Option<u64>,
}

/// A submission: `POST /workspaces/{workspace}/runs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SubmitRun {
    /// The experiment; made when it does not exist.
    pub experiment: ExperimentName,
    /// The tree to run in; absent for `kluis exec`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<BlobId>,
    /// What to execute.
    pub program: Program,
    /// Where: a compute target, or `local` for the submitter's own machine.
    pub compute: ComputeName,
    /// The secrets it may read, at most 1000; absent: whatever its submitter may read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<Vec<SecretName>>,
    /// Environment variables that will hold a secret. Each must be declared.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secret_env: BTreeMap<String, SecretName>,
    /// Files, relative to the run's private secrets folder, that will hold a secret. Each must be declared.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secret_files: BTreeMap<String, SecretName>,
    /// Plain environment variables. References (`secret://...`) are refused here: use `secret_env`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// The interpreter for a script; absent: the target's own choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub python: Option<String>,
    /// What it needs.
    #[serde(default)]
    pub resources: Resources,
    /// Engine-specific options, checked against the engine's allow-list.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub engine_options: BTreeMap<String, String>,
    /// Tags.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// How many attempts are allowed when the engine loses one; 1 to 10, 1 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// An id chosen by the client, for an exactly-once submission: the same id and body again is the same run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
}

/// A run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RunView {
    /// Its id.
    pub id: RunId,
    /// Counts the workspace's runs of the experiment, from 1.
    pub number: u64,
    /// Its workspace.
    pub workspace: WorkspaceName,
    /// Its experiment.
    pub experiment: ExperimentName,
    /// The run that made it, for child runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<RunId>,
    /// Where it stands.
    pub status: RunStatus,
    /// Whether somebody asked for its end.
    pub cancel_requested: bool,
    /// Who submitted it.
    pub submitted_by: PrincipalId,
    /// By name.
    pub submitter: PrincipalName,
    /// What it executes; absent for child runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<Program>,
    /// Where.
    pub compute: ComputeName,
    /// The tree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<BlobId>,
    /// The declared secrets, if any were declared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<Vec<SecretName>>,
    /// The environment variables that hold a secret, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secret_env: BTreeMap<String, SecretName>,
    /// The files that hold a secret, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secret_files: BTreeMap<String, SecretName>,
    /// Its plain environment variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// The interpreter that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub python: Option<String>,
    /// The current attempt, from 1; 0 while none was started.
    pub attempt: u32,
    /// When it was submitted.
    pub created: Timestamp,
    /// When its launcher took over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// The last sign of life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_contact: Option<Timestamp>,
    /// How the process ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<ExitStatus>,
    /// Who is to blame for an end nobody wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blame: Option<Blame>,
    /// Why it ended so, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What it is doing: `queued`, `handed over`, `fetching the snapshot`, `running`, `uploading outputs`, `ended`.
    pub phase: String,
    /// The engine's name for the job, such as a process id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_job: Option<String>,
    /// Tags.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Properties: like tags, but a key once set stays.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// What the masker caught, when something was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaks: Vec<Leak>,
    /// Moves with every change.
    pub revision: u64,
}

/// A secret value that the masker caught in the run's output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Leak {
    /// Which secret.
    pub secret: SecretName,
    /// In which encoding, such as `raw` or `base64`.
    pub encoding: String,
    /// On which stream.
    pub stream: Stream,
    /// By which rank.
    pub rank: u32,
    /// How often.
    pub count: u64,
    /// When first.
    pub first: Timestamp,
}

/// Which runs: `GET /workspaces/{workspace}/runs`. Newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "openapi", into_params(parameter_in = Query))]
#[serde(deny_unknown_fields)]
pub struct RunsQuery {
    /// At most this many, 1 to 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// A previous page's `next`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Only this experiment's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experiment: Option<ExperimentName>,
    /// Only this run's children. Without it, child runs are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<RunId>,
    /// Only runs in this status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<RunStatus>,
}

/// A change to a run by a member: `PATCH /workspaces/{workspace}/runs/{run}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct ChangeRun {
    /// Tags to set.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Tags to remove.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove_tags: Vec<String>,
    /// Properties to add; a key that is set already is refused.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
    /// A name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
}

/// An experiment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ExperimentView {
    /// Its name.
    pub name: ExperimentName,
    /// When its first run was submitted.
    pub created: Timestamp,
    /// How many runs it has, children left out.
    pub runs: u64,
}

/// A stored snapshot: the answer to `POST /workspaces/{workspace}/snapshots`, whose body is the packed tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SnapshotStored {
    /// Its content address: a keyed hash, different in each workspace.
    pub snapshot: BlobId,
    /// Its packed size, in bytes.
    pub bytes: u64,
}

/// Where a log record comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// The user's standard output.
    Stdout,
    /// The user's standard error.
    Stderr,
    /// Kluis: what the launcher did.
    System,
}

/// A piece of a run's log, masked before it left the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct LogRecord {
    /// Counts the records of the attempt's node, from 0.
    pub seq: u64,
    /// When it was captured.
    pub time: Timestamp,
    /// By which rank.
    pub rank: u32,
    /// From where.
    pub stream: Stream,
    /// The bytes, base64 in JSON; at most 64 KiB.
    #[serde(with = "super::base64_bytes")]
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = Byte))]
    pub data: Vec<u8>,
}

/// Which part of a log: `GET /workspaces/{workspace}/runs/{run}/logs`.
///
/// The answer is a stream of JSON lines, one [`LogRecord`] each, in order of arrival. With `follow` it stays open until
/// the run has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "openapi", into_params(parameter_in = Query))]
#[serde(deny_unknown_fields, default)]
pub struct LogsQuery {
    /// Stay open until the run has ended.
    pub follow: bool,
    /// Our own log instead of the user's.
    pub system: bool,
    /// Only this attempt's; the last one's when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Skip records below this number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// Only the last so many lines (at most 10,000).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tail: Option<u32>,
}

/// One logged metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Metric {
    /// Its name, 1 to 255 bytes.
    pub name: String,
    /// A number, a text, a list of them, or for a row an object of them; at most 64 KiB of JSON.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub value: serde_json::Value,
    /// What it is.
    pub kind: MetricKind,
    /// The step, when the script gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<i64>,
    /// When it was logged.
    pub time: Timestamp,
}

/// How a metric was logged, which decides how several of one name are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum MetricKind {
    /// `log`: one value, or a list of them when logged again.
    Scalar,
    /// `log_list`.
    List,
    /// `log_row`: rows of named columns.
    Row,
    /// `log_table`.
    Table,
}

/// A run's metrics: `GET /workspaces/{workspace}/runs/{run}/metrics`, in the order logged.
pub type MetricsPage = super::Page<Metric>;

/// A file of a run's outputs or logs folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OutputView {
    /// Its path, such as `outputs/model.pkl`.
    pub path: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// When it was uploaded.
    pub time: Timestamp,
}

/// A secret that a run was given: `GET /workspaces/{workspace}/runs/{run}/secrets`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RunSecretView {
    /// Its name.
    pub name: SecretName,
    /// The version pinned for the attempt.
    pub version: VersionId,
    /// The attempt.
    pub attempt: u32,
    /// When it was first delivered.
    pub first: Timestamp,
}
