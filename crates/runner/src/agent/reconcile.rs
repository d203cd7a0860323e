//! What the server believes to be alive, compared with what is. A note can be lost, a report can be lost, a launcher can
//! hang: without this the server would wait for each of them for a day.

use std::collections::HashMap;
use std::convert::Infallible;
use std::time::Duration;

use kluis_client::jittered;
use kluis_core::api::agents::{AttemptId, AttemptView, EngineEvent};
use tokio::time::Instant;

use super::slots::Slots;
use super::{Agent, job};
use crate::board::Board;
use crate::engine::{Executor, JobStatus};
use crate::journal::{Entry, Place};

/// How often.
const EVERY: Duration = Duration::from_mins(1);

impl<B: Board, E: Executor> Agent<B, E> {
    /// Compares, at once and then every minute. `unreadable` are places whose notes say nothing: only the server knows
    /// whose they are.
    pub(super) async fn reconcile(&self, slots: &Slots, mut unreadable: Vec<Place>) -> Infallible {
        let mut cancels = HashMap::new();
        loop {
            match self.board.attempts(&self.options.compute).await {
                Ok(views) => {
                    for view in &views {
                        self.compare(view, slots, &mut unreadable, &mut cancels).await;
                    }
                    // The server knows of nothing that could work there.
                    for place in unreadable.drain(..) {
                        self.engine.tidy(Some(&place.folder())).await;
                        place.remove().await;
                    }
                }
                Err(error) => tracing::debug!(%error, "the attempts could not be compared with the server's"),
            }
            tokio::time::sleep(jittered(EVERY)).await;
        }
    }

    async fn compare(
        &self,
        view: &AttemptView,
        slots: &Slots,
        unreadable: &mut Vec<Place>,
        cancels: &mut HashMap<AttemptId, Instant>,
    ) {
        let Some(handle) = &view.handle else { return };
        if self.known.has(&view.attempt) {
            if view.cancel_requested {
                let since = *cancels.entry(view.attempt.clone()).or_insert_with(Instant::now);
                // Its launcher has heard of it and ends the run; unless it hangs.
                if since.elapsed() > EVERY + Duration::from_secs(self.options.grace_seconds) {
                    tracing::warn!(run = %view.attempt.run, "the run was canceled and goes on: its launcher is told");
                    self.engine.cancel(handle).await;
                }
            }
            return;
        }
        // Another machine's agent may serve the same target: its jobs are not ours to judge.
        if !self.engine.is_from_here(handle) {
            return;
        }
        let place = self.journal.place(&view.attempt);
        let ours = unreadable.iter().position(|other| *other == place).map(|at| unreadable.swap_remove(at));
        match (self.engine.status(handle).await, ours) {
            (JobStatus::Alive, Some(place)) => {
                tracing::info!(run = %view.attempt.run, "found a job by what the server knows of it");
                let entry = Entry { attempt: view.attempt.clone(), handle: handle.clone(), devices: Vec::new() };
                if let Err(error) = place.record(&entry).await {
                    tracing::warn!(%error, "the note on a job could not be written anew");
                }
                let slots = slots.take_for(&[]);
                let worker = self.worker(place, &view.attempt);
                self.spawn(async move {
                    worker.watch(&entry).await;
                    drop(slots);
                });
            }
            // Another agent of this machine looks after it.
            (JobStatus::Alive, None) => {}
            (JobStatus::Over { .. }, place) => {
                self.engine.tidy(Some(&self.journal.place(&view.attempt).folder())).await;
                let reason = "the launcher is gone, and its agent had no note of it".to_owned();
                job::report(&*self.board, &view.attempt, EngineEvent::Gone, reason).await;
                if let Some(place) = place {
                    place.remove().await;
                }
            }
        }
    }
}
