//! A launcher and the server. The launcher redeems its ticket with a fresh Ed25519 key and signs every request with it
//! from then on; the session is bound to run, attempt, node and key.
//!
//! A signed request carries three headers: [`HEADER_SESSION`], [`HEADER_TIME`] (the launcher's idea of the server's time,
//! in milliseconds) and [`HEADER_SIGNATURE`] (hex) over [`signed_bytes`]. The server refuses a time more than five minutes
//! off. Redeeming is signed the same way, with an empty session, so the ticket alone is not enough.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::runs::{Leak, LogRecord, Metric, Program, Resources};
use crate::clock::Timestamp;
use crate::id::{BlobId, PrincipalId, SessionId, VersionId};
use crate::name::{ExperimentName, PrincipalName, RunId, SecretName, WorkspaceName};
use crate::run::{Blame, ExitStatus, RunStatus};
use crate::sealed::Canonical;

/// Which session signs.
pub const HEADER_SESSION: &str = "kluis-session";
/// When, in milliseconds since the epoch by the server's clock.
pub const HEADER_TIME: &str = "kluis-time";
/// The signature, 128 hex digits.
pub const HEADER_SIGNATURE: &str = "kluis-signature";
/// How far [`HEADER_TIME`] may be off.
pub const MAX_SKEW: std::time::Duration = std::time::Duration::from_mins(5);
/// How often a launcher gives a sign of life.
pub const HEARTBEAT: std::time::Duration = std::time::Duration::from_secs(15);
/// The largest piece of an output or snapshot in one request, in bytes.
pub const MAX_PIECE: usize = 4 * 1024 * 1024;

/// What a request's signature covers: method, path with query, session (empty for redeem), time and body.
pub fn signed_bytes(method: &str, path_and_query: &str, session: &str, time_millis: i64, body: &[u8]) -> Vec<u8> {
    Canonical::new("kluis/request/1")
        .text(method)
        .text(path_and_query)
        .text(session)
        .signed(time_millis)
        .bytes(&Sha256::digest(body))
        .finish()
}

/// The run as its launcher and its processes know it. No value, no reference beyond names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RunContext {
    /// The workspace.
    pub workspace: WorkspaceName,
    /// The experiment.
    pub experiment: ExperimentName,
    /// The run.
    pub run: RunId,
    /// Counts the experiment's runs, from 1.
    pub number: u64,
    /// The attempt, from 1.
    pub attempt: u32,
    /// The node, from 0.
    pub node: u32,
    /// How many nodes the attempt has.
    pub nodes: u32,
    /// Who submitted it.
    pub submitted_by: PrincipalId,
    /// By name.
    pub submitter: PrincipalName,
    /// What to execute.
    pub program: Program,
    /// The tree to run in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<BlobId>,
    /// The declared secrets, if any were declared: the launcher preloads them into its masker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<Vec<SecretName>>,
    /// Environment variables that hold a secret.
    #[serde(default)]
    pub secret_env: BTreeMap<String, SecretName>,
    /// Files that hold a secret.
    #[serde(default)]
    pub secret_files: BTreeMap<String, SecretName>,
    /// Plain environment variables.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// The interpreter asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub python: Option<String>,
    /// What it needs; `time_seconds` is enforced by the launcher.
    #[serde(default)]
    pub resources: Resources,
    /// Tags at the start.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

/// A session: the answer to redeeming a ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionOpened {
    /// Its id.
    pub session: SessionId,
    /// The run.
    pub context: RunContext,
    /// The server's time now, for [`HEADER_TIME`].
    pub now: Timestamp,
    /// Keep fetched values this long without contact, in seconds.
    pub cache_without_contact_seconds: u64,
}

/// Secrets to read: `POST /session/secrets`. At most 1000 names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ReadSecrets {
    /// The names.
    pub names: Vec<SecretName>,
    /// Move the attempt's pin to the current version.
    #[serde(default)]
    pub refresh: bool,
}

/// A sign of life: `POST /session/heartbeat`. The server notes the contact at once and answers when there is
/// something to say, or after `wait_seconds`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {
    /// Reads since the last heartbeat, in sequence.
    #[serde(default)]
    pub reads: Vec<ReadRecord>,
    /// What the launcher is doing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Wait for a notice, at most 20 s.
    #[serde(default)]
    pub wait_seconds: u32,
    /// The last notice number seen; 0 at first.
    #[serde(default)]
    pub notices_seen: u64,
}

/// A process read a value from the launcher's broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ReadRecord {
    /// Counts the node's reads, from 1, without gaps.
    pub sequence: u64,
    /// When.
    pub time: Timestamp,
    /// Which secret.
    pub name: SecretName,
    /// Which version.
    pub version: VersionId,
    /// By which rank.
    pub rank: u32,
    /// By which process, as the launcher sees it.
    pub pid: u32,
}

/// What a heartbeat is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HeartbeatAnswer {
    /// Where the run stands.
    pub status: RunStatus,
    /// End the user's process, for this reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<String>,
    /// The read records received so far: everything up to this sequence number.
    pub reads_received: u64,
    /// The newest notice's number.
    pub notices: u64,
    /// Secrets of the pinned set that have a newer version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rotated: Vec<SecretName>,
    /// Secrets whose cached values must be dropped: disabled, deleted or no longer allowed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revoked: Vec<SecretName>,
    /// The server's time now.
    pub now: Timestamp,
}

/// Log records: `POST /session/logs`. Sending one again is harmless: the number decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct AppendLogs {
    /// In sequence.
    pub records: Vec<LogRecord>,
}

/// What has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Appended {
    /// Send from this number on.
    pub next: u64,
}

/// Metrics: `POST /session/metrics`. Numbered like log records, from 0 per node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct AppendMetrics {
    /// The number of the first.
    pub first: u64,
    /// The metrics, each with the child run it belongs to, if any.
    pub metrics: Vec<RunMetric>,
}

/// A metric and whose it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RunMetric {
    /// A child run of this run; the run itself when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// The metric.
    pub metric: Metric,
}

/// A piece of an output: query of `PUT /session/outputs/{path}`, whose body is the piece. The file appears when the last
/// piece is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "openapi", into_params(parameter_in = Query))]
#[serde(deny_unknown_fields)]
pub struct OutputQuery {
    /// Where the piece starts; must be where the last one ended (0 starts anew).
    pub offset: u64,
    /// Whether this is the last piece.
    pub last: bool,
    /// A child run of this run; the run itself when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
}

/// A child run: `POST /session/children`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateChild {
    /// An id chosen by the script; made by the server when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// Tags.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

/// A child run that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChildCreated {
    /// Its id.
    pub run: RunId,
    /// Its number in the experiment.
    pub number: u64,
}

/// A child run's end: `POST /session/children/{run}/end`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct EndChild {
    /// `completed`, `failed` or `canceled`.
    pub status: RunStatus,
    /// Why, in words; at most 1000 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The run's end: `POST /session/end`. With its acknowledgement the session is dead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct EndRun {
    /// How the user's process ended; absent when it never started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<ExitStatus>,
    /// Who is to blame, when it is not a success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blame: Option<Blame>,
    /// Why, in words; at most 1000 bytes; never from the user's output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Reads not yet sent.
    #[serde(default)]
    pub reads: Vec<ReadRecord>,
    /// What the masker caught.
    #[serde(default)]
    pub leaks: Vec<Leak>,
}

#[cfg(feature = "plaintext")]
mod carrying {
    use super::{Deserialize, SecretName, Serialize, VersionId};
    use crate::api::agents::AttemptId;
    use crate::plaintext::Plaintext;

    /// Redeeming a ticket: `POST /session/redeem`. Public; signed by the key it brings. The same ticket and key again
    /// get the same session; another key is theft.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
    #[serde(deny_unknown_fields)]
    pub struct RedeemTicket {
        /// Which attempt.
        pub attempt: AttemptId,
        /// `kls_tkt_...`.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        pub ticket: Plaintext,
        /// The fresh Ed25519 public key, 64 hex digits.
        pub public_key: String,
        /// The node's host name, for people; at most 255 bytes.
        pub host: String,
        /// The launcher's version.
        pub version: String,
    }

    /// Values for a run: the answer to [`super::ReadSecrets`].
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
    pub struct SecretsRead {
        /// The values, in the order asked.
        pub items: Vec<ReadValue>,
        /// Names that do not exist or are deleted.
        pub missing: Vec<SecretName>,
    }

    /// One value for a run.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
    pub struct ReadValue {
        /// The name, as asked.
        pub name: SecretName,
        /// The version, pinned for the attempt.
        pub version: VersionId,
        /// The value.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        pub value: Plaintext,
    }
}

#[cfg(feature = "plaintext")]
pub use carrying::*;
