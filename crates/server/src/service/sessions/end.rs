//! The run's end: its last status and the session's death in one unit of work, so that nothing is read after it.

use kluis_core::api::session::EndRun;
use kluis_core::audit::{AuditAction, AuditRecord};
use kluis_core::run::{Blame, ExitStatus, RunEvent, RunStatus};
use kluis_store::attempts::{SessionEnd, SessionRow};
use kluis_store::{Error as StoreError, Write};

use super::{Sessions, TRIES, ended, record, refusal, text};
use crate::error::{Error, Result};
use crate::signed::SessionCaller;

/// The most leaks of one report.
const MAX_LEAKS: usize = 10_000;

impl Sessions<'_> {
    /// Ends the run and the session. Saying it again is harmless, for its answer may have been lost.
    pub async fn end(&self, session: &SessionCaller, end: EndRun) -> Result<()> {
        text("reason", end.reason.as_deref())?;
        if end.leaks.len() > MAX_LEAKS || end.leaks.iter().any(|leak| leak.encoding.len() > 64) {
            return Err(Error::bad_request(
                "`leaks` has more than 10000 entries, or an encoding of more than 64 bytes",
            ));
        }
        let mut row = session.row.clone();
        for _ in 0..TRIES {
            if !row.alive {
                return if said_before(&row) { Ok(()) } else { Err(ended(row.status)) };
            }
            let write = self.ending(session, &row, &end).await?;
            match self.app.store.session_end(write).await {
                Ok(_) => return Ok(()),
                // The run moved, another report of this session came first, or the session died just now.
                Err(StoreError::Moved(_) | StoreError::RunEnded { .. }) => {
                    row = self.app.store.session_get(row.id).await?.ok_or(Error::RunEnded(row.status))?;
                }
                Err(e) => return Err(refusal(e)),
            }
        }
        Err(Error::conflict("the session keeps changing; report the end again"))
    }

    async fn ending(&self, session: &SessionCaller, row: &SessionRow, end: &EndRun) -> Result<Write<SessionEnd>> {
        let now = self.app.now();
        let (mut records, last) = self.reads(session, row.reads_received, &end.reads).await?;
        for leak in &end.leaks {
            records.push(AuditRecord {
                rank: Some(leak.rank),
                count: Some(leak.count),
                name: Some(leak.secret.to_string()),
                ..record(session, now, AuditAction::RunLeak)
            });
        }
        let (event, blame) = verdict(end.exit, end.blame);
        // A canceled run stays canceled, and its end is on record since then.
        let status = if row.status.is_terminal() { row.status } else { row.status.advance(event)? };
        let entry = record(session, now, AuditAction::RunEnded);
        records.push(AuditRecord { name: Some(status.as_str().to_owned()), ..entry });
        let change = SessionEnd {
            seen: row.status,
            reads: (row.reads_received, last),
            event,
            exit: end.exit,
            blame,
            reason: end.reason.clone(),
            leaks: end.leaks.clone(),
            now,
        };
        Ok(Write { authority: session.authority(), audit: self.app.entries(records), change })
    }
}

/// A session that is over because its launcher said so, or might have: its run ended in a way that a launcher reports.
fn said_before(row: &SessionRow) -> bool {
    matches!(row.status, RunStatus::Completed | RunStatus::Failed | RunStatus::Canceled)
}

/// What an exit means. Only a process that ran and returned 0 is a success; without a process the launcher's own word
/// decides who is to blame.
fn verdict(exit: Option<ExitStatus>, blame: Option<Blame>) -> (RunEvent, Option<Blame>) {
    match exit {
        Some(exit) if exit.is_success() && blame.is_none() => (RunEvent::Succeeded, None),
        Some(_) => (RunEvent::Failed, Some(blame.unwrap_or(Blame::Script))),
        None => (RunEvent::Failed, Some(blame.unwrap_or(Blame::Kluis))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_that_is_no_success_names_who_is_to_blame() {
        let table = [
            (Some(ExitStatus::Code(0)), None, (RunEvent::Succeeded, None)),
            (Some(ExitStatus::Code(3)), None, (RunEvent::Failed, Some(Blame::Script))),
            (Some(ExitStatus::Signal(9)), Some(Blame::Engine), (RunEvent::Failed, Some(Blame::Engine))),
            (Some(ExitStatus::Code(0)), Some(Blame::Kluis), (RunEvent::Failed, Some(Blame::Kluis))),
            (None, None, (RunEvent::Failed, Some(Blame::Kluis))),
            (None, Some(Blame::Script), (RunEvent::Failed, Some(Blame::Script))),
        ];
        for (exit, blame, expected) in table {
            assert_eq!(verdict(exit, blame), expected, "{exit:?} {blame:?}");
        }
    }
}
