//! What happens when nobody says anything: leases that were not confirmed go back to the queue, launchers that did not
//! come are given up, silent runs become unresponsive and after a day lost. Time in which the server could not listen does
//! not count against anybody: each run's silence is counted from a moment that moves on by it.

use std::time::Duration;

use kluis_core::audit::{AuditAction, AuditRecord};
use kluis_core::clock::Timestamp;
use kluis_core::run::{Blame, RunEvent, RunStatus};
use kluis_store::attempts::{AttemptRow, Listening, RunSilent};
use kluis_store::runs::RunRow;
use kluis_store::{Authority, Error as StoreError, Write};

use super::fate::Fate;
use super::{Attempts, record};
use crate::app::App;
use crate::error::Result;
use crate::steady::SteadyClock;

/// How often the watch looks.
const ROUND: Duration = Duration::from_secs(5);
/// Every so many rounds it cleans up, and notes that the server listens: a minute.
const CLEANING: u32 = 12;
/// Every so many rounds it looks through all stored objects: six hours.
const SEARCH: u32 = 6 * 60 * CLEANING;
/// How many rows one look takes; the next look takes the next ones.
const BATCH: u32 = 200;

/// Watches until it is dropped. One at a time.
pub async fn watch(app: &App) {
    let attempts = app.attempts();
    let mut clock = SteadyClock::new(app.now());
    let (mut resumed, mut deaf) = (false, 0);
    for round in 0_u32.. {
        tokio::time::sleep(ROUND).await;
        let now = app.now();
        // A machine that slept, or a clock that was set: nobody was silent in between.
        if let Some(millis) = clock.jump(now) {
            app.listening.begin(now);
            deaf += millis;
        }
        // Until the outage before this start is noted, silence can not be told from it.
        if !resumed {
            resumed = log("noting the last outage", attempts.resume(deaf).await);
        } else if deaf != 0 || round % CLEANING == 0 {
            resumed = log("noting that the server listens", attempts.listens(deaf).await);
        }
        if !resumed {
            continue;
        }
        deaf = 0;
        let due = |every: u32, first: u32| round % every == first && clock.is_steady();
        log("watching over runs", attempts.sweep(app.listening.since()).await);
        if due(CLEANING, 0) {
            log("cleaning up", attempts.clean().await);
        }
        if due(SEARCH, SEARCH / 2) {
            log("looking through the stored objects", attempts.search().await);
        }
    }
}

fn log(what: &'static str, result: Result<()>) -> bool {
    if let Err(error) = &result {
        tracing::error!(%error, what, "the watch over runs failed at something; it is tried again");
    }
    result.is_ok()
}

impl Attempts<'_> {
    /// The server listens again: the time since it last noted that it did is added to nobody's silence, nor are these
    /// milliseconds by which the clock has jumped since it started.
    pub async fn resume(&self, jumped: i64) -> Result<()> {
        let until = self.app.store.listening_until().await?;
        let started = self.app.now().millis().saturating_sub(jumped);
        let away = until.map_or(0, |until| started.saturating_sub(until.millis()));
        self.listens(away.saturating_add(jumped)).await
    }

    /// Notes that the server listens, and how many milliseconds it did not since it last noted so.
    pub async fn listens(&self, deaf_millis: i64) -> Result<()> {
        let change = Listening { until: self.app.now(), deaf_millis };
        let write = Write { authority: Authority::server(), audit: Vec::new(), change };
        Ok(self.app.store.listening_note(write).await?)
    }

    /// One look. `since` is when the server began to listen without a break. Three looks, rather: what one of them, or one
    /// row, comes to does not hold up the others. The first error is told.
    pub async fn sweep(&self, since: Timestamp) -> Result<()> {
        let overdue = self.overdue(since).await;
        let silent = self.silent(since).await;
        let lost = self.lost(since).await;
        overdue.and(silent).and(lost)
    }

    /// Leases without a confirmation, and confirmed attempts without a launcher.
    async fn overdue(&self, since: Timestamp) -> Result<()> {
        let now = self.app.now();
        let settings = &self.app.settings;
        let before = Timestamp::from_millis(now.millis().saturating_sub(millis(settings.ticket)));
        let mut result = Ok(());
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
            result = result.and(self.settle(&row, fate).await);
        }
        result
    }

    /// Running runs without a sign of life.
    async fn silent(&self, since: Timestamp) -> Result<()> {
        let Some(before) = self.silent_for(self.app.settings.silent_after, since) else { return Ok(()) };
        let mut result = Ok(());
        for found in self.app.store.runs_silent(RunStatus::Running, before, BATCH).await? {
            result = result.and(self.fall_silent(found.run).await);
        }
        result
    }

    async fn fall_silent(&self, run: RunRow) -> Result<()> {
        let Some(last_contact) = run.last_contact else { return Ok(()) };
        let entry = record(self.app.now(), AuditAction::RunContact, run.workspace, &run.id, run.attempt);
        let entry = AuditRecord { name: Some(RunStatus::Unresponsive.as_str().to_owned()), ..entry };
        let change = RunSilent { workspace: run.workspace, run: run.id, last_contact };
        let write = Write::new(Authority::server(), self.app.vault.audit_entry(entry), change);
        match self.app.store.run_silent(write).await {
            // It spoke in the meantime.
            Ok(_) | Err(StoreError::Moved(_) | StoreError::Run(_) | StoreError::NotFound) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// Unresponsive runs after a day in which the server listened, with breaks or without. After a break they have time to
    /// be heard first.
    async fn lost(&self, since: Timestamp) -> Result<()> {
        if self.silent_for(self.app.settings.silent_after, since).is_none() {
            return Ok(());
        }
        let before = self.ago(self.app.settings.lost_after);
        let mut result = Ok(());
        for found in self.app.store.runs_silent(RunStatus::Unresponsive, before, BATCH).await? {
            result = result.and(self.give_up(&found.run).await);
        }
        result
    }

    async fn give_up(&self, run: &RunRow) -> Result<()> {
        let Some(row) = self.app.store.attempt_get(run.workspace, &run.id, run.attempt).await? else { return Ok(()) };
        let fate = Fate::retry_or(&row, RunEvent::Lost, Blame::Engine, "nothing was heard of it for a day");
        if row.status == RunStatus::Unresponsive && row.last_contact == run.last_contact {
            self.settle(&row, fate).await?;
        }
        Ok(())
    }

    /// The moment before which a last sign of life is this long ago; `None` while the server has not listened that long.
    fn silent_for(self, time: Duration, since: Timestamp) -> Option<Timestamp> {
        let before = self.ago(time);
        (since <= before).then_some(before)
    }

    fn ago(self, time: Duration) -> Timestamp {
        Timestamp::from_millis(self.app.now().millis().saturating_sub(millis(time)))
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
