//! Attempts, as agents know them: a run is leased for one attempt, its engine's job confirmed, its fate reported. An agent
//! acts for runs of the compute target that it serves and for nothing else; a person acts for runs of their own.
//!
//! | | |
//! |---|---|
//! | `lease` | taking a queued run, with fresh tickets |
//! | `fate` | confirming and reporting |
//! | `sweep` | what happens when nobody says anything |
//! | `clean` | sessions and blobs that outlived what they were for |

use kluis_core::access::{Action, Resource};
use kluis_core::api::Page;
use kluis_core::api::agents::{AttemptId, AttemptView, AttemptsQuery};
use kluis_core::audit::{AuditAction, AuditRecord};
use kluis_core::clock::Timestamp;
use kluis_core::id::{PrincipalId, WorkspaceId};
use kluis_core::name::{ComputeName, RunId};
use kluis_store::After;
use kluis_store::attempts::AttemptRow;

use super::runs::number;
use crate::app::App;
use crate::caller::Caller;
use crate::error::{Error, Result};

mod clean;
mod fate;
mod lease;
pub mod sweep;

pub use sweep::watch;

/// How many nodes an attempt has, and so how many tickets. One, until an engine places more.
pub(super) const NODES: u32 = 1;
/// The most attempts in an answer.
const PAGE: u32 = kluis_core::api::MAX_PAGE;

/// Attempts.
#[derive(Clone, Copy, Debug)]
pub struct Attempts<'a> {
    app: &'a App,
}

impl App {
    /// Attempts.
    pub fn attempts(&self) -> Attempts<'_> {
        Attempts { app: self }
    }
}

/// In which role a caller acts on a compute target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It serves the target: every run in its queue.
    Agent,
    /// It may use the target (or it is the caller's own machine): the caller's own runs.
    Owner(PrincipalId),
}

impl Attempts<'_> {
    /// The attempts of a compute target that are believed to be alive; for who only uses the target, those of their own
    /// runs.
    pub async fn active(&self, caller: &Caller, query: AttemptsQuery) -> Result<Page<AttemptView>> {
        let standing = self.standing(caller, &query.compute).await?;
        let submitter = match standing {
            Standing::Agent => None,
            Standing::Owner(principal) => Some(principal),
        };
        let after = After { after: number(query.after.as_deref())?, limit: PAGE };
        let listed = self.app.store.attempts_active(&query.compute, submitter, after).await?;
        let items = listed.items.into_iter().map(view).collect();
        Ok(Page { items, next: listed.next.map(|n| n.to_string()) })
    }

    /// What the caller is to a compute target. Who neither serves nor may use it does not hear that it exists.
    async fn standing(&self, caller: &Caller, compute: &ComputeName) -> Result<Standing> {
        if compute.is_local() {
            return Ok(Standing::Owner(caller.id()));
        }
        let row = self.app.compute_named(compute).await?;
        match row {
            Some(row) if caller.may(Action::ComputeServe, Resource::Compute(row.id)) => Ok(Standing::Agent),
            Some(row) if row.open || caller.may(Action::ComputeUse, Resource::Compute(row.id)) => {
                Ok(Standing::Owner(caller.id()))
            }
            _ => {
                self.app.refused(caller, None, Action::ComputeServe).await;
                Err(Error::NotFound("compute target"))
            }
        }
    }

    /// An attempt that the caller may speak for: of a target it serves, or one of its own runs that it leased itself.
    async fn attempt_of(&self, caller: &Caller, id: &AttemptId) -> Result<AttemptRow> {
        let found = match self.app.workspace_named(&id.workspace).await? {
            Some(workspace) => self.app.store.attempt_get(workspace.id, &id.run, id.attempt).await?,
            None => None,
        };
        let workspace = found.as_ref().map(|row| row.workspace);
        if let Some(row) = found
            && self.speaks_for(caller, &row).await?
        {
            return Ok(row);
        }
        self.app.refused(caller, workspace, Action::ComputeServe).await;
        match workspace {
            Some(id) if caller.may(Action::RunRead, Resource::Workspace(id)) => Err(Error::Forbidden(
                "speak for an attempt: only its compute target's agent does, or who leased their own",
            )),
            _ => Err(Error::NotFound("attempt")),
        }
    }

    async fn speaks_for(&self, caller: &Caller, row: &AttemptRow) -> Result<bool> {
        let may_use = if row.compute.is_local() {
            true
        } else {
            let compute = self.app.compute_named(&row.compute).await?;
            let Some(compute) = compute else { return Ok(false) };
            if caller.may(Action::ComputeServe, Resource::Compute(compute.id)) {
                return Ok(true);
            }
            compute.open || caller.may(Action::ComputeUse, Resource::Compute(compute.id))
        };
        // Having leased it is not enough: an agent that serves no more speaks for nobody's run but its own.
        let own = async || {
            let Some(run) = self.app.store.run_get(row.workspace, &row.run).await? else { return Ok(false) };
            self.app.submitted(&run)?;
            Ok::<_, Error>(run.submitted_by == caller.id())
        };
        Ok(may_use && row.agent == caller.id() && own().await?)
    }
}

fn view(row: AttemptRow) -> AttemptView {
    AttemptView {
        attempt: AttemptId { workspace: row.workspace_name, run: row.run, attempt: row.attempt },
        handle: row.handle,
        status: row.status,
        cancel_requested: row.cancel_requested,
        last_contact: row.last_contact,
    }
}

/// A record about an attempt, by the server itself until somebody is filled in.
fn record(now: Timestamp, action: AuditAction, workspace: WorkspaceId, run: &RunId, attempt: u32) -> AuditRecord {
    AuditRecord {
        workspace: Some(workspace),
        run: Some(run.clone()),
        attempt: Some(attempt),
        ..AuditRecord::new(now, action)
    }
}
