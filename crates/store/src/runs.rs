//! Experiments and runs. A run's status moves only through `RunStatus::advance`; whatever ends an attempt also voids its
//! tickets, kills its sessions and lets go of its pins, in the same unit of work.

use std::collections::BTreeMap;

use kluis_core::api::runs::{ChangeRun, Leak, SubmitRun};
use kluis_core::clock::Timestamp;
use kluis_core::id::{PrincipalId, WorkspaceId};
use kluis_core::name::{ComputeName, ExperimentName, PrincipalName, RunId};
use kluis_core::run::{Blame, ExitStatus, RunStatus};
use kluis_core::sealed::{Canonical, Mac, sha256};

use crate::sqlite::sql::json;
use crate::sqlite::{runs as sqlite, runs_end};
use crate::{After, Authenticated, Error, Listed, Store, Write};

/// A run.
#[derive(Clone, Debug, PartialEq)]
pub struct RunRow {
    /// Its place in the store; pages of runs go by it.
    pub seq: u64,
    /// Its workspace.
    pub workspace: WorkspaceId,
    /// Its id, unique in the workspace.
    pub id: RunId,
    /// Its experiment.
    pub experiment: ExperimentName,
    /// Counts the experiment's runs, from 1.
    pub number: u64,
    /// The run that made it, for child runs.
    pub parent: Option<RunId>,
    /// Where it stands.
    pub status: RunStatus,
    /// Whether somebody asked for its end.
    pub cancel_requested: bool,
    /// Who submitted it.
    pub submitted_by: PrincipalId,
    /// By name.
    pub submitter: PrincipalName,
    /// Where it runs.
    pub compute: ComputeName,
    /// What was submitted; `None` for child runs.
    pub spec: Option<SubmitRun>,
    /// The SHA-256 of the submission as it is stored; `None` for child runs.
    pub spec_hash: Option<[u8; 32]>,
    /// The MAC the run was stored with; `None` for child runs, which grant nothing: they are their parent's.
    pub mac: Option<Mac>,
    /// How many attempts are allowed when the engine loses one.
    pub max_attempts: u32,
    /// How many attempts were lost and tried again; another one may be while this plus 1 is below `max_attempts`.
    pub retries: u32,
    /// The current attempt, from 1; 0 before the first.
    pub attempt: u32,
    /// When it was submitted.
    pub created: Timestamp,
    /// When a launcher first took over.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// The last sign of life.
    pub last_contact: Option<Timestamp>,
    /// How the process ended.
    pub exit: Option<ExitStatus>,
    /// Who is to blame.
    pub blame: Option<Blame>,
    /// Why, in words.
    pub reason: Option<String>,
    /// What it is doing.
    pub phase: String,
    /// The engine's name for the job.
    pub engine_job: Option<String>,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// Properties.
    pub properties: BTreeMap<String, String>,
    /// A name for people.
    pub display_name: Option<String>,
    /// What the masker caught.
    pub leaks: Vec<Leak>,
    /// Counts what a heartbeat should be told: changes of its secrets, of its submitter's rights, of its status.
    pub notices: u64,
    /// Moves with every change but notices and contact.
    pub revision: u64,
}

impl RunRow {
    /// What the row MAC covers; `None` for a child run.
    pub fn canonical(&self) -> Option<Vec<u8>> {
        let grants = Grants {
            workspace: self.workspace,
            run: &self.id,
            submitted_by: self.submitted_by,
            compute: &self.compute,
            max_attempts: self.max_attempts,
            created: self.created,
            spec_hash: self.spec_hash?,
        };
        Some(grants.canonical())
    }
}

/// What of a run grants: whose rights it has, where it may be leased, what it executes and may read. It never changes
/// after the submission, so there is no revision in it.
struct Grants<'a> {
    workspace: WorkspaceId,
    run: &'a RunId,
    submitted_by: PrincipalId,
    compute: &'a ComputeName,
    max_attempts: u32,
    created: Timestamp,
    spec_hash: [u8; 32],
}

impl Grants<'_> {
    fn canonical(&self) -> Vec<u8> {
        Canonical::new("kluis/row/run/1")
            .bytes(self.workspace.as_bytes())
            .text(self.run.as_str())
            .bytes(self.submitted_by.as_bytes())
            .text(self.compute.as_str())
            .number(self.max_attempts.into())
            .signed(self.created.millis())
            .bytes(&self.spec_hash)
            .finish()
    }
}

/// A submission.
#[derive(Clone, Debug)]
pub struct RunInsert {
    /// Its workspace.
    pub workspace: WorkspaceId,
    /// Its id: the client's, or a new one.
    pub id: RunId,
    /// What was submitted.
    pub spec: SubmitRun,
    /// A hash of the request as the client sent it: the same id and hash again is the same run.
    pub request_hash: [u8; 32],
    /// Who submits.
    pub submitted_by: PrincipalId,
    /// How many attempts are allowed, at least 1.
    pub max_attempts: u32,
    /// The workspace's revision when the submission was checked; [`Error::Moved`] when it is another.
    pub workspace_revision: u64,
    /// How many runs may be open.
    pub limits: OpenLimits,
    /// Now.
    pub now: Timestamp,
}

impl RunInsert {
    /// What the row MAC covers.
    pub fn canonical(&self) -> Vec<u8> {
        let grants = Grants {
            workspace: self.workspace,
            run: &self.id,
            submitted_by: self.submitted_by,
            compute: &self.spec.compute,
            max_attempts: self.max_attempts,
            created: self.now,
            spec_hash: sha256(json(&self.spec).as_bytes()),
        };
        grants.canonical()
    }
}

/// How many runs that have not ended there may be before a submission is refused. Children are not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenLimits {
    /// Of one submitter, in all workspaces.
    pub of_submitter: u64,
    /// Of one workspace.
    pub of_workspace: u64,
}

/// What a submission led to.
#[derive(Clone, Debug, PartialEq)]
pub struct RunInserted {
    /// The run.
    pub run: RunRow,
    /// Whether it existed already: then nothing was changed or recorded.
    pub existed: bool,
}

/// Which runs to list. Every condition narrows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunFilter {
    /// Only this experiment's.
    pub experiment: Option<ExperimentName>,
    /// Only this run's children; without it child runs are left out.
    pub parent: Option<RunId>,
    /// Only runs in this status.
    pub status: Option<RunStatus>,
}

/// An experiment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExperimentRow {
    /// Its name.
    pub name: ExperimentName,
    /// When its first run was submitted.
    pub created: Timestamp,
    /// How many runs it has, children left out.
    pub runs: u64,
}

/// A change to a run by a member, or by the run itself to itself or a child.
#[derive(Clone, Debug)]
pub struct RunChange {
    /// Its workspace.
    pub workspace: WorkspaceId,
    /// The run.
    pub run: RunId,
    /// The change.
    pub change: ChangeRun,
    /// The most tags and the most properties a run may have.
    pub limit: usize,
    /// How much the code in the run may make in all; what its members change is not counted.
    pub limits: RunLimits,
}

/// How much the code in a run may make in all its attempts and child runs: rows, beside its log and outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunLimits {
    /// Metrics.
    pub metrics: u64,
    /// Child runs.
    pub children: u64,
    /// Changes of tags, properties and display names, and ends of child runs.
    pub changes: u64,
    /// Bytes of names, values and tags in all of these.
    pub bytes: u64,
}

impl Default for RunLimits {
    fn default() -> Self {
        Self { metrics: 1_000_000, children: 10_000, changes: 20_000, bytes: 256 * 1024 * 1024 }
    }
}

/// Somebody asks for a run's end.
#[derive(Clone, Debug)]
pub struct RunCancel {
    /// Its workspace.
    pub workspace: WorkspaceId,
    /// The run.
    pub run: RunId,
    /// Why, in words.
    pub reason: String,
    /// Now.
    pub now: Timestamp,
}

/// A child run, made by its parent's session.
#[derive(Clone, Debug)]
pub struct ChildInsert {
    /// Its id: the script's, or a new one.
    pub id: RunId,
    /// A name for people.
    pub display_name: Option<String>,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// Now.
    pub now: Timestamp,
    /// How much the code in the run may make in all.
    pub limits: RunLimits,
}

/// A child run's end.
#[derive(Clone, Debug)]
pub struct ChildEnd {
    /// Which.
    pub run: RunId,
    /// `Completed`, `Failed` or `Canceled`.
    pub status: RunStatus,
    /// Why, in words.
    pub reason: Option<String>,
    /// Now.
    pub now: Timestamp,
}

impl Store {
    /// Submits a run, making its experiment when there is none. The same id, request and submitter again answers the run
    /// that exists. [`Error::Conflict`] when the id is another run's, or too many runs are open.
    pub async fn run_insert(&self, write: Write<Authenticated<RunInsert>>) -> Result<RunInserted, Error> {
        match self {
            Self::Sqlite(s) => s.write(write, sqlite::run_insert).await,
        }
    }

    /// One run.
    pub async fn run_get(&self, workspace: WorkspaceId, run: &RunId) -> Result<Option<RunRow>, Error> {
        let key = run.key().to_owned();
        match self {
            Self::Sqlite(s) => s.read(move |c| sqlite::run_get(c, workspace, &key)).await,
        }
    }

    /// Runs, newest first.
    pub async fn run_list(
        &self,
        workspace: WorkspaceId,
        filter: RunFilter,
        page: After<u64>,
    ) -> Result<Listed<RunRow, u64>, Error> {
        match self {
            Self::Sqlite(s) => s.list(move |c| sqlite::run_list(c, workspace, &filter, &page)).await,
        }
    }

    /// An experiment.
    pub async fn experiment_get(
        &self,
        workspace: WorkspaceId,
        name: &ExperimentName,
    ) -> Result<Option<ExperimentRow>, Error> {
        let key = name.key().to_owned();
        match self {
            Self::Sqlite(s) => s.read(move |c| sqlite::experiment_get(c, workspace, &key)).await,
        }
    }

    /// Experiments, by name.
    pub async fn experiment_list(
        &self,
        workspace: WorkspaceId,
        page: After<String>,
    ) -> Result<Listed<ExperimentRow>, Error> {
        match self {
            Self::Sqlite(s) => s.list(move |c| sqlite::experiment_list(c, workspace, &page)).await,
        }
    }

    /// Changes tags, properties and the display name. A session may change its own run and that run's children.
    /// [`Error::Conflict`] when a property is set already to something else, or there would be too many.
    pub async fn run_change(&self, write: Write<RunChange>) -> Result<RunRow, Error> {
        match self {
            Self::Sqlite(s) => s.write(write, sqlite::run_change).await,
        }
    }

    /// Cancels a run. No read is answered from now on; until its launcher has ended, or was drained, it may still send
    /// logs, outputs and its end. [`Error::Run`] when the run has ended.
    pub async fn run_cancel(&self, write: Write<RunCancel>) -> Result<RunRow, Error> {
        match self {
            Self::Sqlite(s) => s.write(write, runs_end::run_cancel).await,
        }
    }

    /// Makes a child run, running, of the session's run. The same id again answers the child that exists.
    /// [`Error::Conflict`] when the id is another run's.
    pub async fn child_insert(&self, write: Write<ChildInsert>) -> Result<RunInserted, Error> {
        match self {
            Self::Sqlite(s) => s.write(write, sqlite::child_insert).await,
        }
    }

    /// Ends a child of the session's run. The same end again is harmless; [`Error::Run`] on another one.
    pub async fn child_end(&self, write: Write<ChildEnd>) -> Result<RunRow, Error> {
        match self {
            Self::Sqlite(s) => s.write(write, runs_end::child_end).await,
        }
    }
}
