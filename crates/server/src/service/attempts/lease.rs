//! Leasing: an agent takes the oldest queued run of its target for one attempt, and gets the attempt's tickets. They are
//! made here, once; what is kept of them is a keyed hash.

use std::time::Duration;

use kluis_core::access::Action;
use kluis_core::api::agents::{AttemptId, JobSpec, Lease, LeaseAnswer, LeaseRequest};
use kluis_core::audit::{AuditAction, AuditRecord};
use kluis_core::id::{TicketId, WorkspaceId};
use kluis_core::name::RunId;
use kluis_core::plaintext::Plaintext;
use kluis_store::attempts::{LeaseFilter, LeaseTake, Leased, TicketRow};
use kluis_store::workspaces::ComputeSeen;
use kluis_store::{Authority, Error as StoreError, Hint, Write};
use kluis_vault::token;
use tokio::time::Instant;

use super::fate::by;
use super::{Attempts, Standing, record};
use crate::caller::Caller;
use crate::error::{Error, Result};
use crate::service::wait::Hints;

/// The longest wait for work.
const MAX_WAIT: u32 = 30;
/// How often a waiting agent looks by itself.
const LOOK: Duration = Duration::from_secs(5);
/// How many nodes an attempt has, and so how many tickets. One, until an engine places more.
const NODES: usize = 1;

impl Attempts<'_> {
    /// A queued run for an attempt, if there is one within the time that the caller waits.
    pub async fn lease(&self, caller: &Caller, request: LeaseRequest) -> Result<LeaseAnswer> {
        let filter = self.filter(caller, &request).await?;
        self.seen(&request).await?;
        let deadline = Instant::now() + Duration::from_secs(u64::from(request.wait_seconds.min(MAX_WAIT)));
        // Before the first look: a run queued after it wakes the wait.
        let mut hints = Hints::new(self.app);
        let mut caller = caller.clone();
        loop {
            if let Some(lease) = self.take(&caller, &filter).await? {
                return Ok(LeaseAnswer { lease: Some(lease) });
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(LeaseAnswer::default());
            }
            let queued = |hint: &Hint| matches!(hint, Hint::RunQueued { compute } if *compute == filter.compute);
            hints.next(left.min(LOOK), queued).await?;
            // Rights may have ended while it waited.
            caller = self.app.caller_again(&caller).await?;
            self.filter(&caller, &request).await?;
        }
    }

    /// Which runs the caller may take. A person's own machine takes one named run of that person.
    async fn filter(&self, caller: &Caller, request: &LeaseRequest) -> Result<LeaseFilter> {
        let standing = self.standing(caller, &request.compute).await?;
        let only = match &request.run {
            None => None,
            Some(run) if standing == Standing::Agent => {
                let workspace = self.app.store.workspace_by_name(&run.workspace).await?;
                Some((workspace.ok_or(Error::NotFound("run"))?.id, run.run.clone()))
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
                self.app.refused(caller, None, Action::ComputeServe).await?;
                return Err(Error::Forbidden("serve the compute target; without that, `mine` leases your own runs"));
            }
        };
        if request.compute.is_local() {
            self.own_run(caller, only.as_ref()).await?;
        }
        Ok(LeaseFilter { compute: request.compute.clone(), only, submitter })
    }

    /// A local run of somebody else is refused at once, not waited for.
    async fn own_run(&self, caller: &Caller, only: Option<&(WorkspaceId, RunId)>) -> Result<()> {
        let Some((workspace, run)) = only else { return Ok(()) };
        let row = self.app.store.run_get(*workspace, run).await?.ok_or(Error::NotFound("run"))?;
        if row.submitted_by != caller.id() {
            self.app.refused(caller, Some(*workspace), Action::ComputeServe).await?;
            return Err(Error::Forbidden("run somebody else's run on your machine"));
        }
        if row.status.is_terminal() {
            return Err(Error::RunEnded(row.status));
        }
        Ok(())
    }

    /// Members see when an agent last asked.
    async fn seen(&self, request: &LeaseRequest) -> Result<()> {
        if let Some(compute) = self.app.store.compute_by_name(&request.compute).await? {
            let change = ComputeSeen { compute: compute.id, now: self.app.now() };
            self.app.store.compute_seen(Write { authority: Authority::server(), audit: Vec::new(), change }).await?;
        }
        Ok(())
    }

    /// Takes the next run; `None` when the queue is empty. Another agent may be faster, then the next one is tried.
    async fn take(&self, caller: &Caller, filter: &LeaseFilter) -> Result<Option<Lease>> {
        while let Some(next) = self.app.store.lease_next(filter.clone()).await? {
            let tickets: Vec<_> = (0..NODES).map(|_| token::generate(token::Kind::Ticket, &*self.app.rng)).collect();
            let now = self.app.now();
            let expires = now.plus(self.app.settings.lease);
            let attempt = next.run.attempt + 1;
            let row = |ticket: &str| TicketRow {
                id: TicketId::generate(&*self.app.rng),
                hash: self.app.vault.lookup_hash(token::Kind::Ticket.as_str(), ticket),
            };
            let leased = record(now, AuditAction::RunLeased, next.run.workspace, &next.run.id, attempt);
            let leased = AuditRecord {
                subject: Some(next.run.submitted_by),
                name: Some(next.run.compute.to_string()),
                ..by(caller, leased)
            };
            let change = LeaseTake {
                workspace: next.run.workspace,
                run: next.run.id.clone(),
                attempt,
                agent: caller.id(),
                tickets: tickets.iter().map(|ticket| row(ticket)).collect(),
                now,
                expires,
            };
            let write = Write::new(caller.authority(), self.app.vault.audit_entry(leased), change);
            match self.app.store.lease_take(write).await {
                Ok(Leased { run, workspace_name }) => {
                    let spec =
                        run.spec.ok_or_else(|| Error::Inconsistent { table: "run", row: run.seq.to_string() })?;
                    let job = JobSpec {
                        experiment: run.experiment,
                        submitted_by: run.submitted_by,
                        submitter: run.submitter,
                        program: spec.program,
                        python: spec.python,
                        resources: spec.resources,
                        engine_options: spec.engine_options,
                    };
                    let tickets = tickets.iter().map(|t| Plaintext::from_text(t).expect("a ticket is short")).collect();
                    let attempt = AttemptId { workspace: workspace_name, run: run.id, attempt: run.attempt };
                    return Ok(Some(Lease { attempt, job, tickets, expires }));
                }
                Err(StoreError::Moved(_) | StoreError::Run(_)) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(None)
    }
}
