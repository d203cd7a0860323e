//! Runs as members see them: submitted, listed, watched, changed, cancelled. What agents say about them stands in
//! [`super::attempts`], what their launchers say in [`super::sessions`].
//!
//! | | |
//! |---|---|
//! | `submission` | what a submission may look like, pure |
//! | `submit` | submitting |
//! | `follow`, `chunk` | logs as a stream |
//! | `results` | metrics, outputs, the secrets a run was given |
//! | `pointers` | logs and files by an address that carries its own permission |

use std::time::Duration;

use kluis_core::access::Action;
use kluis_core::api::runs::{ChangeRun, ExperimentView, RunView, RunsQuery};
use kluis_core::api::{Page, PageQuery};
use kluis_core::audit::{AuditAction, AuditRecord};
use kluis_core::name::{ExperimentName, RunId, WorkspaceName};
use kluis_store::runs::{ExperimentRow, RunCancel, RunChange, RunFilter, RunRow};
use kluis_store::workspaces::Workspace;
use kluis_store::{After, Hint, Write};

use crate::api::limit;
use crate::app::App;
use crate::caller::Caller;
use crate::error::{Error, Result};
use crate::service::wait::Hints;

pub mod chunk;
mod follow;
mod pointers;
mod results;
pub mod submission;
mod submit;

pub(super) use follow::DRAIN;
pub use follow::LogFollower;
pub use pointers::{Pointed, Pointer, SYSTEM_LOG, USER_LOG};

/// How often it is looked whether a run has appeared.
const APPEARS: Duration = Duration::from_millis(500);

/// Runs.
#[derive(Clone, Copy, Debug)]
pub struct Runs<'a> {
    app: &'a App,
}

impl App {
    /// Runs.
    pub fn runs(&self) -> Runs<'_> {
        Runs { app: self }
    }

    /// A run of a workspace, or [`Error::NotFound`].
    pub(super) async fn run_row(&self, workspace: &Workspace, run: &RunId) -> Result<RunRow> {
        self.store.run_get(workspace.id, run).await?.ok_or(Error::NotFound("run"))
    }
}

impl Runs<'_> {
    /// Experiments, by name.
    pub async fn experiments(
        &self,
        caller: &Caller,
        workspace: &WorkspaceName,
        page: PageQuery,
    ) -> Result<Page<ExperimentView>> {
        let workspace = self.app.workspace_for(caller, workspace, Action::RunRead).await?;
        let after = After { after: page.after, limit: limit(page.limit)? };
        let listed = self.app.store.experiment_list(workspace.id, after).await?;
        let view = |ExperimentRow { name, created, runs }| ExperimentView { name, created, runs };
        Ok(Page { items: listed.items.into_iter().map(view).collect(), next: listed.next })
    }

    /// One experiment.
    pub async fn experiment(
        &self,
        caller: &Caller,
        workspace: &WorkspaceName,
        name: &ExperimentName,
    ) -> Result<ExperimentView> {
        let workspace = self.app.workspace_for(caller, workspace, Action::RunRead).await?;
        let found = self.app.store.experiment_get(workspace.id, name).await?;
        let ExperimentRow { name, created, runs } = found.ok_or(Error::NotFound("experiment"))?;
        Ok(ExperimentView { name, created, runs })
    }

    /// Runs, newest first; child runs only when their parent is asked for.
    pub async fn list(&self, caller: &Caller, workspace: &WorkspaceName, query: RunsQuery) -> Result<Page<RunView>> {
        let workspace = self.app.workspace_for(caller, workspace, Action::RunRead).await?;
        let RunsQuery { limit: most, after, experiment, parent, status } = query;
        let page = After { after: number(after.as_deref())?, limit: limit(most)? };
        let filter = RunFilter { experiment, parent, status };
        let listed = self.app.store.run_list(workspace.id, filter, page).await?;
        let items = listed.items.into_iter().map(|run| view(&workspace.name, run)).collect();
        Ok(Page { items, next: listed.next.map(|n| n.to_string()) })
    }

    /// One run.
    pub async fn show(&self, caller: &Caller, workspace: &WorkspaceName, run: &RunId) -> Result<RunView> {
        let workspace = self.app.workspace_for(caller, workspace, Action::RunRead).await?;
        Ok(view(&workspace.name, self.app.run_row(&workspace, run).await?))
    }

    /// A run that is about to be submitted by somebody else; `None` when it was not within this time.
    pub async fn appears(
        &self,
        caller: &Caller,
        workspace: &WorkspaceName,
        run: &RunId,
        within: Duration,
    ) -> Result<Option<RunView>> {
        let workspace = self.app.workspace_for(caller, workspace, Action::RunRead).await?;
        let until = tokio::time::Instant::now() + within;
        let mut hints = Hints::new(self.app);
        loop {
            if let Some(row) = self.app.store.run_get(workspace.id, run).await? {
                return Ok(Some(view(&workspace.name, row)));
            }
            let left = until.saturating_duration_since(tokio::time::Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            // A submission is told by a hint about its compute target, which for a local one says little.
            hints.next(left.min(APPEARS), |hint| matches!(hint, Hint::RunQueued { .. })).await?;
        }
    }

    /// Changes tags, properties and the display name.
    pub async fn change(
        &self,
        caller: &Caller,
        workspace: &WorkspaceName,
        run: &RunId,
        change: ChangeRun,
    ) -> Result<RunView> {
        let workspace = self.app.workspace_for(caller, workspace, Action::RunManage).await?;
        submission::check_change(&change)?;
        let record = AuditRecord {
            workspace: Some(workspace.id),
            run: Some(run.clone()),
            ..caller.record(self.app.now(), AuditAction::RunChanged)
        };
        let limits = self.app.settings.run_limits;
        let change =
            RunChange { workspace: workspace.id, run: run.clone(), change, limit: submission::MAX_TAGS, limits };
        let write = Write::new(caller.authority(), self.app.vault.audit_entry(record), change);
        let run = self.app.store.run_change(write).await.map_err(|e| Error::from(e).missing("run"))?;
        Ok(view(&workspace.name, run))
    }

    /// Ends a run that has not ended. It is given no secret from the commit on; its launcher is told, ends the process
    /// and may still send what is left of log and outputs.
    pub async fn cancel(&self, caller: &Caller, workspace: &WorkspaceName, run: &RunId) -> Result<RunView> {
        let workspace = self.app.workspace_for(caller, workspace, Action::RunManage).await?;
        let row = self.app.run_row(&workspace, run).await?;
        if row.status.is_terminal() {
            return Ok(view(&workspace.name, row));
        }
        let now = self.app.now();
        let record = AuditRecord {
            workspace: Some(workspace.id),
            run: Some(row.id.clone()),
            attempt: Some(row.attempt).filter(|n| *n > 0),
            ..caller.record(now, AuditAction::RunCanceled)
        };
        let reason = format!("cancelled by {}", caller.known.principal.name);
        let change = RunCancel { workspace: workspace.id, run: row.id.clone(), reason, now };
        let write = Write::new(caller.authority(), self.app.vault.audit_entry(record), change);
        match self.app.store.run_cancel(write).await {
            Ok(row) => Ok(view(&workspace.name, row)),
            // It ended by itself in the meantime.
            Err(kluis_store::Error::Run(e)) if e.from.is_terminal() => self.show(caller, &workspace.name, run).await,
            Err(e) => Err(Error::from(e).missing("run")),
        }
    }
}

impl From<submission::Invalid> for Error {
    fn from(invalid: submission::Invalid) -> Self {
        Self::bad_request(invalid.0)
    }
}

/// A page of a list that goes by numbers.
pub(super) fn number(after: Option<&str>) -> Result<Option<u64>> {
    let parse = |text: &str| text.parse().map_err(|_| Error::bad_request("`after` is not a previous page's `next`"));
    after.map(parse).transpose()
}

/// A run as it is shown.
pub(super) fn view(workspace: &WorkspaceName, run: RunRow) -> RunView {
    // Child runs have none.
    let (program, snapshot, secrets, secret_env, secret_files, environment, python) = run
        .spec
        .map(|s| (Some(s.program), s.snapshot, s.secrets, s.secret_env, s.secret_files, s.environment, s.python))
        .unwrap_or_default();
    RunView {
        id: run.id,
        number: run.number,
        workspace: workspace.clone(),
        experiment: run.experiment,
        parent: run.parent,
        status: run.status,
        cancel_requested: run.cancel_requested,
        submitted_by: run.submitted_by,
        submitter: run.submitter,
        program,
        compute: run.compute,
        snapshot,
        secrets,
        secret_env,
        secret_files,
        environment,
        python,
        attempt: run.attempt,
        created: run.created,
        started: run.started,
        ended: run.ended,
        last_contact: run.last_contact,
        exit: run.exit,
        blame: run.blame,
        reason: run.reason,
        phase: run.phase,
        engine_job: run.engine_job,
        tags: run.tags,
        properties: run.properties,
        display_name: run.display_name,
        leaks: run.leaks,
        revision: run.revision,
    }
}
