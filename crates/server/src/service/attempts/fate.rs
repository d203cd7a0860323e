//! What an agent says of an attempt: that its engine runs the job, and how it fared. Saying a thing twice is harmless, for
//! agents repeat what was not answered.

use kluis_core::api::agents::{ConfirmAttempt, EngineEvent, ReportAttempt};
use kluis_core::audit::{AuditAction, AuditRecord};
use kluis_core::run::{Blame, RunEvent, RunStatus};
use kluis_store::attempts::{AttemptConfirm, AttemptReport, AttemptRow};
use kluis_store::{Error as StoreError, Write};

use super::{Attempts, record};
use crate::caller::Caller;
use crate::error::{Error, Result};

/// The longest handle, in bytes.
const MAX_HANDLE: usize = 1000;
/// The longest description of the engine's job, in bytes.
const MAX_JOB: usize = 255;
/// The longest reason, in bytes.
const MAX_REASON: usize = 1000;
/// How often a decision is made anew when the run moves meanwhile.
const TRIES: usize = 5;

impl Attempts<'_> {
    /// The engine runs the job: the attempt's tickets work from now on, for as long as the settings say.
    pub async fn confirm(&self, caller: &Caller, confirm: ConfirmAttempt) -> Result<()> {
        let row = self.attempt_of(caller, &confirm.attempt).await?;
        bounded("handle", &confirm.handle, MAX_HANDLE)?;
        bounded("engine_job", &confirm.engine_job, MAX_JOB)?;
        let now = self.app.now();
        let entry = by(caller, record(now, AuditAction::RunConfirmed, row.workspace, &row.run, row.attempt));
        let change = AttemptConfirm {
            workspace: row.workspace,
            run: row.run,
            attempt: row.attempt,
            compute: row.compute,
            handle: confirm.handle,
            engine_job: confirm.engine_job,
            now,
        };
        let write = Write::new(caller.authority(), self.app.vault.audit_entry(entry), change);
        self.app.store.attempt_confirm(write).await.map_err(|e| Error::from(e).missing("attempt"))
    }

    /// How the attempt fared on its engine.
    pub async fn report(&self, caller: &Caller, report: ReportAttempt) -> Result<()> {
        bounded("reason", &report.reason, MAX_REASON)?;
        for _ in 0..TRIES {
            let row = self.attempt_of(caller, &report.attempt).await?;
            let Some(fate) = fate(&row, report.event)? else { return Ok(()) };
            let reason = if report.reason.is_empty() { fate.reason } else { &report.reason };
            let entries = fate.record(&row, self.app.now()).map(|entry| by(caller, entry));
            let write = Write {
                authority: caller.authority(),
                audit: self.app.entries(entries),
                change: fate.change(&row, reason, self.app.now()),
            };
            match self.app.store.attempt_report(write).await {
                Ok(_) => return Ok(()),
                Err(StoreError::Moved(_)) => {}
                Err(e) => return Err(Error::from(e).missing("attempt")),
            }
        }
        Err(Error::conflict("the attempt keeps changing; look at it again"))
    }
}

/// A record with who said it.
pub(super) fn by(caller: &Caller, record: AuditRecord) -> AuditRecord {
    AuditRecord {
        principal: Some(caller.id()),
        token: Some(caller.token.id),
        source: Some(caller.source.to_string()),
        ..record
    }
}

fn bounded(field: &'static str, text: &str, most: usize) -> Result<()> {
    if text.len() <= most && !text.contains('\0') {
        Ok(())
    } else {
        Err(Error::bad_request(format!("`{field}` is longer than {most} bytes, or holds a NUL character")))
    }
}

/// What becomes of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fate {
    /// `None`: the run has ended already, only the attempt is closed.
    event: Option<RunEvent>,
    blame: Option<Blame>,
    /// When the agent gave no reason.
    reason: &'static str,
}

impl Fate {
    /// The run goes back to the queue: nothing was started.
    pub(super) const RETURNED: Self =
        Self { event: Some(RunEvent::LeaseReturned), blame: None, reason: "the agent did not confirm the job in time" };

    /// Another attempt if the run has one left, or else this end.
    pub(super) fn retry_or(row: &AttemptRow, event: RunEvent, blame: Blame, reason: &'static str) -> Self {
        if row.retries + 1 < row.max_attempts {
            Self { event: Some(RunEvent::Retry), blame: None, reason }
        } else {
            Self { event: Some(event), blame: Some(blame), reason }
        }
    }

    /// Why, when nobody said it better.
    pub(super) fn reason(&self) -> &'static str {
        self.reason
    }

    /// The command.
    pub(super) fn change(&self, row: &AttemptRow, reason: &str, now: kluis_core::clock::Timestamp) -> AttemptReport {
        AttemptReport {
            workspace: row.workspace,
            run: row.run.clone(),
            attempt: row.attempt,
            compute: row.compute.clone(),
            seen: row.status,
            event: self.event,
            blame: self.blame,
            reason: reason.to_owned(),
            now,
        }
    }

    /// What stands in the audit log; nothing when only an ended run's attempt is closed.
    pub(super) fn record(&self, row: &AttemptRow, now: kluis_core::clock::Timestamp) -> Option<AuditRecord> {
        let next = row.status.advance(self.event?).ok()?;
        let action = if next.is_terminal() { AuditAction::RunEnded } else { AuditAction::RunRequeued };
        let entry = record(now, action, row.workspace, &row.run, row.attempt);
        Some(AuditRecord { name: Some(next.as_str().to_owned()), ..entry })
    }
}

/// What a report means for an attempt; `None` when it was heard before. A run's later attempt is not touched by what is
/// said of an earlier one.
fn fate(row: &AttemptRow, event: EngineEvent) -> Result<Option<Fate>> {
    use EngineEvent as E;
    use RunStatus as S;
    if row.current != row.attempt {
        return Ok(None);
    }
    let fate = match (row.status, event) {
        // Given back before, and not taken again yet.
        (S::Queued, _) => return Ok(None),
        (status, _) if status.is_terminal() => {
            if row.ended.is_some() {
                return Ok(None);
            }
            Fate { event: None, blame: None, reason: "" }
        }
        (S::Starting, E::Returned) => Fate { reason: "the agent gave the run back", ..Fate::RETURNED },
        (S::Starting, E::Refused) => {
            Fate { event: Some(RunEvent::Failed), blame: Some(Blame::Engine), reason: "the engine refused the job" }
        }
        (S::Starting, E::LauncherFailed) => {
            Fate::retry_or(row, RunEvent::Failed, Blame::Kluis, "the launcher could not be started")
        }
        (_, E::Returned | E::Refused) => {
            return Err(Error::conflict("the job has started: its launcher holds a session; report it as `gone`"));
        }
        (_, E::Gone | E::LauncherFailed) => {
            Fate::retry_or(row, RunEvent::Lost, Blame::Engine, "the engine's job is gone")
        }
    };
    Ok(Some(fate))
}

#[cfg(test)]
mod tests {
    use kluis_core::clock::Timestamp;
    use kluis_core::id::{PrincipalId, WorkspaceId};
    use kluis_core::name::{ComputeName, RunId, WorkspaceName};

    use super::*;

    fn row(status: RunStatus, attempt: u32, max_attempts: u32) -> AttemptRow {
        AttemptRow {
            workspace: WorkspaceId::from_bytes([1; 16]),
            workspace_name: WorkspaceName::parse("w").unwrap(),
            run: RunId::parse("r").unwrap(),
            attempt,
            compute: ComputeName::parse("cluster").unwrap(),
            agent: PrincipalId::from_bytes([2; 16]),
            leased: Timestamp::default(),
            expires: Timestamp::default(),
            confirmed: None,
            handle: None,
            ended: None,
            status,
            current: attempt,
            retries: attempt - 1,
            max_attempts,
            cancel_requested: false,
            last_contact: None,
        }
    }

    #[test]
    fn every_report_means_something_in_every_status_and_never_an_impossible_step() {
        for status in RunStatus::ALL {
            for event in [EngineEvent::Returned, EngineEvent::Refused, EngineEvent::LauncherFailed, EngineEvent::Gone] {
                for (attempt, most) in [(1, 1), (1, 2)] {
                    let row = row(status, attempt, most);
                    let Ok(Some(fate)) = fate(&row, event) else { continue };
                    if let Some(event) = fate.event {
                        let next = status.advance(event).unwrap_or_else(|e| panic!("{e}"));
                        assert!(next == RunStatus::Queued || next.is_terminal(), "{status} {event:?}");
                        assert_eq!(fate.blame.is_some(), next.is_terminal(), "an end names who is to blame");
                    } else {
                        assert!(status.is_terminal());
                    }
                }
            }
        }
    }

    #[test]
    fn a_lost_job_is_tried_again_only_within_the_limit() {
        let event = |row: &AttemptRow| fate(row, EngineEvent::Gone).unwrap().unwrap().event;
        assert_eq!(event(&row(RunStatus::Running, 1, 2)), Some(RunEvent::Retry));
        assert_eq!(event(&row(RunStatus::Running, 2, 2)), Some(RunEvent::Lost));
    }

    #[test]
    fn what_is_said_of_an_earlier_attempt_does_not_touch_the_later_one() {
        let earlier = AttemptRow { current: 2, ..row(RunStatus::Running, 1, 3) };
        assert_eq!(fate(&earlier, EngineEvent::Gone), Ok(None));
    }
}
