//! Leasing: an agent takes the oldest queued run of its target for one attempt, and gets the attempt's tickets. They are
//! made here, once; what is kept of them is a keyed hash.

use std::time::Duration;

use kluis_core::access::{Action, Resource};
use kluis_core::api::agents::{AttemptId, JobSpec, Lease, LeaseAnswer, LeaseRequest};
use kluis_core::audit::{AuditAction, AuditRecord};
use kluis_core::id::{TicketId, WorkspaceId};
use kluis_core::name::RunId;
use kluis_core::plaintext::Plaintext;
use kluis_store::attempts::{LeaseFilter, LeaseTake, Leased, TicketRow};
use kluis_store::runs::RunRow;
use kluis_store::workspaces::ComputeSeen;
use kluis_store::{Authority, Error as StoreError, Hint, Write};
use kluis_vault::{TicketPlace, token};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::fate::by;
use super::{Attempts, NODES, Standing, record};
use crate::app::App;
use crate::caller::Caller;
use crate::error::{Error, Result};
use crate::service::wait::Hints;

/// The longest wait for work.
const MAX_WAIT: u32 = 30;
/// How often a waiting agent looks by itself.
const LOOK: Duration = Duration::from_secs(5);

impl Attempts<'_> {
    /// A queued run for an attempt, if there is one within the time that the caller waits.
    pub async fn lease(&self, caller: &Caller, request: LeaseRequest) -> Result<LeaseAnswer> {
        let mut filter = self.filter(caller, &request).await?;
        self.seen(&request).await?;
        let deadline = Instant::now() + Duration::from_secs(u64::from(request.wait_seconds.min(MAX_WAIT)));
        // Before the first look: a run queued after it wakes the wait.
        let mut hints = Hints::new(self.app);
        let mut caller = caller.clone();
        loop {
            if let Some(filter) = &filter
                && let Some(lease) = self.take(&caller, filter.clone()).await?
            {
                return Ok(LeaseAnswer { lease: Some(lease) });
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(LeaseAnswer::default());
            }
            let queued = |hint: &Hint| matches!(hint, Hint::RunQueued { compute } if *compute == request.compute);
            hints.next(left.min(LOOK), queued).await?;
            // Rights may have ended while it waited.
            caller = self.app.caller_again(&caller).await?;
            filter = self.filter(&caller, &request).await?;
        }
    }

    /// Which runs the caller may take. A person's own machine takes one named run of that person. `None`: none at all.
    async fn filter(&self, caller: &Caller, request: &LeaseRequest) -> Result<Option<LeaseFilter>> {
        let standing = self.standing(caller, &request.compute).await?;
        let only = match &request.run {
            None => None,
            Some(run) if standing == Standing::Agent => {
                // Whether there is such a workspace is not an agent's to know: it waits as for a run that does not come.
                let Some(workspace) = self.app.workspace_named(&run.workspace).await? else { return Ok(None) };
                Some((workspace.id, run.run.clone()))
            }
            Some(run) => {
                let workspace = self.app.workspace_for(caller, &run.workspace, Action::RunSubmit).await?;
                Some((workspace.id, run.run.clone()))
            }
        };
        if request.compute.is_local() && only.is_none() {
            return Err(Error::bad_request("`local` leases one run: give it as `run`"));
        }
        let submitter = match standing {
            Standing::Agent => request.mine.then(|| caller.id()),
            Standing::Owner(principal) if request.mine || request.compute.is_local() => Some(principal),
            Standing::Owner(_) => {
                self.app.refused(caller, None, Action::ComputeServe).await;
                return Err(Error::Forbidden("serve the compute target; without that, `mine` leases your own runs"));
            }
        };
        if request.compute.is_local() {
            self.own_run(caller, only.as_ref()).await?;
        }
        Ok(Some(LeaseFilter { compute: request.compute.clone(), only, submitter, after: 0 }))
    }

    /// A local run of somebody else is refused at once, not waited for.
    async fn own_run(&self, caller: &Caller, only: Option<&(WorkspaceId, RunId)>) -> Result<()> {
        let Some((workspace, run)) = only else { return Ok(()) };
        let row = self.app.store.run_get(*workspace, run).await?.ok_or(Error::NotFound("run"))?;
        if row.submitted_by != caller.id() {
            self.app.refused(caller, Some(*workspace), Action::ComputeServe).await;
            return Err(Error::Forbidden("run somebody else's run on your machine"));
        }
        if row.status.is_terminal() {
            return Err(Error::RunEnded(row.status));
        }
        Ok(())
    }

    /// Members see when an agent last asked.
    async fn seen(&self, request: &LeaseRequest) -> Result<()> {
        if let Some(compute) = self.app.compute_named(&request.compute).await? {
            let change = ComputeSeen { compute: compute.id, now: self.app.now() };
            self.app.store.compute_seen(Write { authority: Authority::server(), audit: Vec::new(), change }).await?;
        }
        Ok(())
    }

    /// Takes the next run; `None` when the queue is empty. What can not be taken is passed over: another agent was faster,
    /// the run's row is damaged, or its submitter may not run it any more. So each run is looked at once.
    async fn take(&self, caller: &Caller, mut filter: LeaseFilter) -> Result<Option<Lease>> {
        while let Some(next) = self.app.store.lease_next(filter.clone()).await? {
            filter.after = next.run.seq;
            match self.take_one(caller, &filter, &next).await {
                Ok(Some(lease)) => return Ok(Some(lease)),
                Ok(None) => {}
                Err(error @ Error::Inconsistent { .. }) => {
                    tracing::error!(run = %next.run.id, %error, "a queued run is not leased");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Takes this run, if it may be.
    async fn take_one(&self, caller: &Caller, filter: &LeaseFilter, next: &Leased) -> Result<Option<Lease>> {
        let run = &next.run;
        let spec = self.app.submitted(run)?;
        let asked = filter.only.as_ref().is_none_or(|(workspace, id)| run.workspace == *workspace && run.id == *id);
        if run.compute != filter.compute || !asked {
            return Err(Error::Inconsistent { table: "run", row: run.seq.to_string() });
        }
        if !self.may_run(run).await? {
            return Ok(None);
        }
        let tickets: Vec<_> = (0..NODES).map(|_| token::generate(token::Kind::Ticket, &*self.app.rng)).collect();
        let now = self.app.now();
        let expires = now.plus(self.app.settings.lease);
        let attempt = run.attempt + 1;
        let row = |(node, ticket): (u32, &Zeroizing<String>)| TicketRow {
            id: TicketId::generate(&*self.app.rng),
            hash: self
                .app
                .vault
                .ticket_hash(TicketPlace { workspace: run.workspace, run: &run.id, attempt, node }, ticket),
        };
        let leased = record(now, AuditAction::RunLeased, run.workspace, &run.id, attempt);
        let leased =
            AuditRecord { subject: Some(run.submitted_by), name: Some(run.compute.to_string()), ..by(caller, leased) };
        let change = LeaseTake {
            workspace: run.workspace,
            run: run.id.clone(),
            attempt,
            agent: caller.id(),
            tickets: (0..NODES).zip(&tickets).map(row).collect(),
            now,
            expires,
        };
        let write = Write::new(caller.authority(), self.app.vault.audit_entry(leased), change);
        match self.app.store.lease_take(write).await {
            Ok(_) => {}
            Err(StoreError::Moved(_) | StoreError::Run(_)) => return Ok(None),
            Err(e) => return Err(e.into()),
        }
        // What was verified, not what the command read again.
        let job = JobSpec {
            experiment: run.experiment.clone(),
            submitted_by: run.submitted_by,
            submitter: run.submitter.clone(),
            program: spec.program.clone(),
            python: spec.python.clone(),
            resources: spec.resources.clone(),
            engine_options: spec.engine_options.clone(),
        };
        let tickets = tickets.iter().map(|t| Plaintext::from_text(t).expect("a ticket is short")).collect();
        let attempt = AttemptId { workspace: next.workspace_name.clone(), run: run.id.clone(), attempt };
        Ok(Some(Lease { attempt, job, tickets, expires }))
    }

    /// Whether a run's submitter may (still) run it: in its workspace, and on its compute target.
    async fn may_run(&self, run: &RunRow) -> Result<bool> {
        if !self.app.may_submit(run).await? {
            return Ok(false);
        }
        if run.compute.is_local() {
            return Ok(true);
        }
        let Some(compute) = self.app.compute_named(&run.compute).await? else { return Ok(false) };
        let submitter = self.app.known(run.submitted_by).await?;
        Ok(compute.open || submitter.may(Action::ComputeUse, Resource::Compute(compute.id)))
    }
}

impl App {
    /// Whether a run's submitter is enabled and may (still) submit runs in the run's workspace.
    pub(crate) async fn may_submit(&self, run: &RunRow) -> Result<bool> {
        let submitter = match self.known(run.submitted_by).await {
            Ok(known) => known,
            Err(Error::NotFound(_)) => return Ok(false),
            Err(e) => return Err(e),
        };
        Ok(submitter.principal.enabled && submitter.may(Action::RunSubmit, Resource::Workspace(run.workspace)))
    }
}
