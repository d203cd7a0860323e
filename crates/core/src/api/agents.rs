//! An agent and the server: lease, confirm, report. An agent can act for runs of its own target and nothing else.

use serde::{Deserialize, Serialize};

use super::runs::{Program, Resources};
use crate::clock::Timestamp;
use crate::id::PrincipalId;
use crate::name::{ComputeName, ExperimentName, PrincipalName, RunId, WorkspaceName};
use crate::run::RunStatus;

/// Asking for work: `POST /agent/leases`. Answers at once, or after at most `wait_seconds` with nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct LeaseRequest {
    /// Whose queue. With `local` only the caller's own runs are leased, and `run` must be given.
    pub compute: ComputeName,
    /// Only this run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<LocalRun>,
    /// Only the caller's own runs (`kluis agent --mine`).
    #[serde(default)]
    pub mine: bool,
    /// How long to wait for work, at most 30 s.
    #[serde(default)]
    pub wait_seconds: u32,
}

/// A run by workspace and id.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct LocalRun {
    /// The workspace.
    pub workspace: WorkspaceName,
    /// The run.
    pub run: RunId,
}

/// One try of a run on an engine, as agent and server name it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct AttemptId {
    /// The workspace.
    pub workspace: WorkspaceName,
    /// The run.
    pub run: RunId,
    /// The attempt, from 1.
    pub attempt: u32,
}

/// What the engine needs to know to place a job. Holds no value and no reference to one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobSpec {
    /// The experiment.
    pub experiment: ExperimentName,
    /// Who submitted it.
    pub submitted_by: PrincipalId,
    /// By name: an agent for several users maps it to a uid.
    pub submitter: PrincipalName,
    /// What it executes, for the job's name and for the engine's listing.
    pub program: Program,
    /// The interpreter asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub python: Option<String>,
    /// What it needs.
    pub resources: Resources,
    /// Engine-specific options.
    #[serde(default)]
    pub engine_options: std::collections::BTreeMap<String, String>,
}

/// The agent says that the engine runs the job: `POST /agent/confirm`. From now on, for 120 s, the ticket works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ConfirmAttempt {
    /// Which.
    pub attempt: AttemptId,
    /// The engine's handle, opaque to the server, at most 1000 bytes: what a restarted agent finds the job by.
    pub handle: String,
    /// For people, such as `process 4242 on host gpu-1`.
    pub engine_job: String,
}

/// The agent says how an attempt fares on its engine: `POST /agent/report`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ReportAttempt {
    /// Which.
    pub attempt: AttemptId,
    /// What happened.
    pub event: EngineEvent,
    /// In words, for `run show`; at most 1000 bytes.
    pub reason: String,
}

/// What an agent can report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum EngineEvent {
    /// Nothing was started; another agent may take it.
    Returned,
    /// The engine refused the job, for good.
    Refused,
    /// The launcher could not be started or died before it redeemed its ticket.
    LauncherFailed,
    /// The job is gone without having reported its end.
    Gone,
}

/// An attempt that the server believes to be alive: an item of `GET /agent/attempts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AttemptView {
    /// Which.
    pub attempt: AttemptId,
    /// The handle from its confirmation; absent when it was never confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handle: Option<String>,
    /// Where the run stands.
    pub status: RunStatus,
    /// Whether its end was asked for.
    pub cancel_requested: bool,
    /// The last sign of life from its launcher.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_contact: Option<Timestamp>,
}

/// How a launcher keeps the user's process away from covered folders and from other processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Confine {
    /// Bubblewrap, or Landlock where namespaces are closed, or a refusal.
    #[default]
    Auto,
    /// Bubblewrap, or a refusal.
    Bwrap,
    /// Landlock, or a refusal.
    Landlock,
    /// Nothing: the operator has said that runs may see what their uid may see.
    None,
}

/// Whose attempts: `GET /agent/attempts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "openapi", into_params(parameter_in = Query))]
#[serde(deny_unknown_fields)]
pub struct AttemptsQuery {
    /// The compute target.
    pub compute: ComputeName,
    /// A previous page's `next`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// Where a command that somebody waits for has its standard streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Console {
    /// The size of the terminal that the command gets; absent: it gets pipes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<TerminalSize>,
}

/// How large a terminal is, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

#[cfg(feature = "plaintext")]
mod carrying {
    use super::{AttemptId, Deserialize, JobSpec, Serialize, Timestamp};
    use crate::plaintext::Plaintext;

    /// A leased run: the answer to [`super::LeaseRequest`].
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
    pub struct Lease {
        /// Which attempt of which run.
        pub attempt: AttemptId,
        /// What to place.
        pub job: JobSpec,
        /// One ticket per node, `kls_tkt_...`. Inert until confirmed.
        #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
        pub tickets: Vec<Plaintext>,
        /// Confirm before this, or the lease is given to another: 60 s from now.
        pub expires: Timestamp,
    }

    /// What `POST /agent/leases` answers.
    #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
    #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
    pub struct LeaseAnswer {
        /// Work, if there was some.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub lease: Option<Lease>,
    }

    /// What an engine gives a launcher on its standard input, as JSON, and nothing else does: an agent starts the
    /// launcher by path and never links it, so the two meet in this type.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct HandOver {
        /// The server's address, such as `https://kluis.example.org:8443`.
        pub address: String,
        /// The pin of its CA: 64 hex digits.
        pub ca_sha256: String,
        /// Which attempt of which run.
        pub attempt: AttemptId,
        /// The node's ticket, `kls_tkt_...`.
        pub ticket: Plaintext,
        /// The run's own folder on this node: exists, is private (0700) and empty.
        pub work_dir: std::path::PathBuf,
        /// Folders and files that the user's process must not see: absolute, and there, or the hand-over is refused.
        /// The run's own folder stays visible even inside one of them.
        #[serde(default)]
        pub covered: Vec<std::path::PathBuf>,
        /// The interpreter that this machine uses for scripts; the run's own wish counts when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub python: Option<String>,
        /// Seconds between SIGTERM and SIGKILL; 30 when absent.
        #[serde(default = "grace_seconds")]
        pub grace_seconds: u64,
        /// How the user's process is confined.
        #[serde(default)]
        pub confine: super::Confine,
        /// Present for `kluis exec`: the launcher's standard output is a connection to whoever typed the command.
        /// Absent: standard input of the user's process is empty, and what it writes goes to the log alone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub console: Option<super::Console>,
    }

    fn grace_seconds() -> u64 {
        30
    }
}
#[cfg(feature = "plaintext")]
pub use carrying::*;
