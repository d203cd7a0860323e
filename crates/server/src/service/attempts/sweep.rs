//! What happens when nobody says anything: leases that were not confirmed go back to the queue, launchers that did not
//! come are given up, silent runs become unresponsive and after a day lost. Time in which the server could not listen does
//! not count against anybody.

use std::time::Duration;

use kluis_core::audit::{AuditAction, AuditRecord};
use kluis_core::clock::Timestamp;
use kluis_core::run::{Blame, RunEvent, RunStatus};
use kluis_store::attempts::{AttemptRow, RunSilent};
use kluis_store::{Authority, Error as StoreError, Write};

use super::fate::Fate;
use super::{Attempts, record};
use crate::app::App;
use crate::error::Result;
use crate::steady::SteadyClock;

/// How often the watch looks.
const ROUND: Duration = Duration::from_secs(5);
/// Every so many rounds it cleans up: a minute.
const CLEANING: u32 = 12;
/// Every so many rounds it looks through all stored objects: six hours.
const SEARCH: u32 = 6 * 60 * CLEANING;
/// How many rows one look takes; the next look takes the next ones.
const BATCH: u32 = 200;

/// Watches until it is dropped. One at a time.
pub async fn watch(app: &App) {
    let mut clock = SteadyClock::new(app.now());
    for round in 0_u32.. {
        tokio::time::sleep(ROUND).await;
        let now = app.now();
        // A machine that slept, or a clock that was set: nobody was silent in between.
        if clock.jumped(now) {
            app.listening.begin(now);
        }
        let due = |every: u32, first: u32| round % every == first && clock.is_steady();
        let swept = app.attempts().sweep(app.listening.since()).await;
        let cleaned = if due(CLEANING, 0) { app.attempts().clean().await } else { Ok(()) };
        let searched = if due(SEARCH, SEARCH / 2) { app.attempts().search().await } else { Ok(()) };
        if let Err(error) = swept.and(cleaned).and(searched) {
            tracing::error!(%error, "watching over runs failed; it is tried again");
        }
    }
}

impl Attempts<'_> {
    /// One look. `since` is when the server began to listen without a break.
    pub async fn sweep(&self, since: Timestamp) -> Result<()> {
        self.overdue(since).await?;
        self.silent(since).await?;
        self.lost(since).await
    }

    /// Leases without a confirmation, and confirmed attempts without a launcher.
    async fn overdue(&self, since: Timestamp) -> Result<()> {
        let now = self.app.now();
        let settings = &self.app.settings;
        let before = Timestamp::from_millis(now.millis().saturating_sub(millis(settings.ticket)));
        for row in self.app.store.attempts_overdue(now, before, BATCH).await? {
            let fate = match row.confirmed {
                None if now >= row.expires.max(since.plus(settings.lease)) => Fate::RETURNED,
                Some(confirmed) if now >= confirmed.max(since).plus(settings.ticket) => Fate::retry_or(
                    &row,
                    RunEvent::Failed,
                    Blame::Kluis,
                    "the engine started the job, but its launcher did not report within the time",
                ),
                _ => continue,
            };
            self.settle(&row, fate).await?;
        }
        Ok(())
    }

    /// Running runs without a sign of life.
    async fn silent(&self, since: Timestamp) -> Result<()> {
        let Some(before) = self.silent_for(self.app.settings.silent_after, since) else { return Ok(()) };
        for found in self.app.store.runs_silent(RunStatus::Running, before, BATCH).await? {
            let run = found.run;
            let Some(last_contact) = run.last_contact else { continue };
            let entry = record(self.app.now(), AuditAction::RunContact, run.workspace, &run.id, run.attempt);
            let entry = AuditRecord { name: Some(RunStatus::Unresponsive.as_str().to_owned()), ..entry };
            let change = RunSilent { workspace: run.workspace, run: run.id, last_contact };
            let write = Write::new(Authority::server(), self.app.vault.audit_entry(entry), change);
            match self.app.store.run_silent(write).await {
                // It spoke in the meantime.
                Ok(_) | Err(StoreError::Moved(_) | StoreError::Run(_) | StoreError::NotFound) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    /// Unresponsive runs after a day.
    async fn lost(&self, since: Timestamp) -> Result<()> {
        let Some(before) = self.silent_for(self.app.settings.lost_after, since) else { return Ok(()) };
        for found in self.app.store.runs_silent(RunStatus::Unresponsive, before, BATCH).await? {
            let run = found.run;
            let Some(row) = self.app.store.attempt_get(run.workspace, &run.id, run.attempt).await? else { continue };
            let reason = "nothing was heard of it for a day";
            let fate = Fate::retry_or(&row, RunEvent::Lost, Blame::Engine, reason);
            if row.status == RunStatus::Unresponsive && row.last_contact == run.last_contact {
                self.settle(&row, fate).await?;
            }
        }
        Ok(())
    }

    /// The moment before which a last sign of life is this long ago; `None` while the server has not listened that long.
    fn silent_for(self, time: Duration, since: Timestamp) -> Option<Timestamp> {
        let before = Timestamp::from_millis(self.app.now().millis().saturating_sub(millis(time)));
        (since <= before).then_some(before)
    }

    async fn settle(&self, row: &AttemptRow, fate: Fate) -> Result<()> {
        let now = self.app.now();
        let change = fate.change(row, fate.reason(), now);
        let audit = self.app.entries(fate.record(row, now));
        match self.app.store.attempt_report(Write { authority: Authority::server(), audit, change }).await {
            Ok(_) | Err(StoreError::Moved(_) | StoreError::Run(_) | StoreError::NotFound) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }
}

pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
