//! What a run says of itself and of its child runs. A child run belongs to its parent's session: it has no launcher, no
//! ticket and no secrets of its own.

use kluis_core::api::runs::ChangeRun;
use kluis_core::api::session::{ChildCreated, CreateChild, EndChild};
use kluis_core::audit::{AuditAction, AuditRecord};
use kluis_core::name::RunId;
use kluis_core::run::RunStatus;
use kluis_store::Write;
use kluis_store::runs::{ChildEnd, ChildInsert, RunChange};

use super::{Sessions, alive, record, refusal, text};
use crate::error::{Error, Result};
use crate::service::runs::submission;
use crate::signed::SessionCaller;

impl Sessions<'_> {
    /// Changes tags, properties and the display name of the run, or of a child of it.
    pub async fn change(&self, session: &SessionCaller, run: Option<RunId>, change: ChangeRun) -> Result<()> {
        alive(&session.row)?;
        submission::check_change(&change)?;
        self.app.blobs.room()?;
        let mut record = record(session, self.app.now(), AuditAction::RunChanged);
        record.name = run.as_ref().map(ToString::to_string);
        let run = run.unwrap_or_else(|| session.row.run.clone());
        let limits = self.app.settings.run_limits;
        let change = RunChange { workspace: session.row.workspace, run, change, limit: submission::MAX_TAGS, limits };
        let write = Write::new(session.authority(), self.app.vault.audit_entry(record), change);
        self.app.store.run_change(write).await.map_err(|e| refusal(e).missing("child run"))?;
        Ok(())
    }

    /// Makes a child run. The same id again is the same child.
    pub async fn child_create(&self, session: &SessionCaller, create: CreateChild) -> Result<ChildCreated> {
        alive(&session.row)?;
        submission::tags(&create.tags)?;
        create.display_name.as_deref().map_or(Ok(()), submission::display_name)?;
        self.app.blobs.room()?;
        let now = self.app.now();
        let id = match create.run {
            Some(id) => id,
            None => RunId::generate(&self.run_of(&session.row).await?.experiment, now, &*self.app.rng),
        };
        let name = Some(id.to_string());
        let record = AuditRecord { name, ..record(session, now, AuditAction::ChildCreated) };
        let limits = self.app.settings.run_limits;
        let change = ChildInsert { id, display_name: create.display_name, tags: create.tags, now, limits };
        let write = Write::new(session.authority(), self.app.vault.audit_entry(record), change);
        let inserted = self.app.store.child_insert(write).await.map_err(refusal)?;
        Ok(ChildCreated { run: inserted.run.id, number: inserted.run.number })
    }

    /// Ends a child run. The same end again is harmless.
    pub async fn child_end(&self, session: &SessionCaller, run: &RunId, end: EndChild) -> Result<()> {
        alive(&session.row)?;
        text("reason", end.reason.as_deref())?;
        if !matches!(end.status, RunStatus::Completed | RunStatus::Failed | RunStatus::Canceled) {
            return Err(Error::bad_request("`status` is `completed`, `failed` or `canceled`"));
        }
        let now = self.app.now();
        let name = Some(run.to_string());
        let record = AuditRecord { name, ..record(session, now, AuditAction::ChildEnded) };
        let change = ChildEnd { run: run.clone(), status: end.status, reason: end.reason, now };
        let write = Write::new(session.authority(), self.app.vault.audit_entry(record), change);
        match self.app.store.child_end(write).await {
            Ok(_) => Ok(()),
            // The child's end, not the session's.
            Err(kluis_store::Error::Run(e)) => Err(Error::conflict(format!("the child run is {} already", e.from))),
            Err(e) => Err(refusal(e).missing("child run")),
        }
    }
}
