//! A process of a run and its launcher, over a UNIX socket that only processes of the run may use.
//!
//! Both directions carry frames: four bytes of length, most significant first, then that many bytes of JSON, at most
//! [`MAX_FRAME`]. A connection carries any number of requests, answered in order. The protocol is small enough for a
//! client in any language; the pure-Python one is the reference for that.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::runs::Metric;
use super::session::RunContext;
use crate::name::{RunId, SecretName};
use crate::run::RunStatus;

/// The largest frame, in bytes.
pub const MAX_FRAME: usize = 32 * 1024 * 1024;

/// What a process asks. `op` names the variant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Which run is this?
    Context {},
    /// Values. One refused name refuses all; a missing one is answered as missing.
    GetSecrets {
        /// The names, at most 1000.
        names: Vec<SecretName>,
        /// Move to the current versions.
        #[serde(default)]
        refresh: bool,
        /// The asking rank.
        #[serde(default)]
        rank: u32,
        /// Give up after this long when the server is away; 30,000 when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timeout_ms: Option<u64>,
    },
    /// Wait until one of the secrets that this run has read gets a newer version, or the time is over.
    WaitRotation {
        /// At most 60,000.
        timeout_ms: u64,
        /// The counter of a previous answer; 0 at first.
        #[serde(default)]
        after: u64,
    },
    /// Metrics. Masked, then sent with the next upload.
    LogMetrics {
        /// A child run; the run itself when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        run: Option<RunId>,
        /// The metrics.
        metrics: Vec<Metric>,
    },
    /// Tags, properties, display name. Masked.
    Change {
        /// A child run; the run itself when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        run: Option<RunId>,
        /// What to change.
        change: super::runs::ChangeRun,
    },
    /// Upload a file or, recursively, a folder.
    Upload {
        /// A child run; the run itself when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        run: Option<RunId>,
        /// Its path among the run's files, such as `outputs/model.pkl`.
        name: String,
        /// Where it lies: absolute.
        path: String,
    },
    /// A new child run.
    CreateChild(super::session::CreateChild),
    /// A child run's end.
    EndChild {
        /// Which.
        run: RunId,
        /// How.
        end: super::session::EndChild,
    },
    /// Send everything that waits, then answer.
    Flush {},
    /// Where does the run stand?
    Status {},
}

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerError {
    /// One of `kluis_core::api::code`'s texts; `unavailable` when the server could not be reached in time.
    pub code: String,
    /// What happened and what to do.
    pub detail: String,
}

/// A run's files, tags and metrics carry no secret; the rest of an answer does not either. Values exist only in
/// [`Answer::Secrets`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// To `Context`.
    Context(Box<RunContext>),
    /// To `GetSecrets`.
    Secrets(super::session::SecretsRead),
    /// To `WaitRotation`.
    Rotation {
        /// Give this as `after` next time.
        counter: u64,
        /// The names that have a newer version.
        names: Vec<SecretName>,
    },
    /// To `CreateChild`.
    Child(super::session::ChildCreated),
    /// To `Status`.
    Status {
        /// The status.
        status: RunStatus,
        /// The run's tags, as last known.
        #[serde(default)]
        tags: BTreeMap<String, String>,
    },
    /// To everything else.
    Done {},
    /// It was not done.
    Error(BrokerError),
}
