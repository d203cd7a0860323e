//! The run's sign of life, and what the server has to say in return: end it, forget a value, a newer version is there.
//! One long request after the other; each carries the deliveries that the server does not know of yet.

use std::sync::Arc;
use std::time::Duration;

use kluis_client::Error;
use kluis_client::session::Session;
use kluis_core::api::code;
use kluis_core::api::session::{HEARTBEAT, Heartbeat, HeartbeatAnswer};
use kluis_core::name::SecretName;
use kluis_core::run::{Blame, RunStatus};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::broker::Desk;
use crate::retry::{Backoff, is_over};
use crate::secrets::Secrets;

/// No two signs of life follow each other faster than this.
const LEAST: Duration = Duration::from_millis(500);

/// Somebody wants the run to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stop {
    /// Who is to blame for the end.
    pub(crate) blame: Blame,
    /// Why, in words.
    pub(crate) reason: String,
}

/// A wish to end, from wherever it comes. The first one counts.
#[derive(Clone, Debug)]
pub(crate) struct Stopper(Arc<watch::Sender<Option<Stop>>>);

impl Stopper {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }

    pub(crate) fn stop(&self, blame: Blame, reason: impl Into<String>) {
        self.0.send_if_modified(|stop| {
            let first = stop.is_none();
            stop.get_or_insert_with(|| Stop { blame, reason: reason.into() });
            first
        });
    }

    /// Waits for the wish.
    pub(crate) async fn wanted(&self) -> Stop {
        let mut stop = self.0.subscribe();
        let stop = stop.wait_for(Option::is_some).await;
        stop.expect("the sender lives as long as this").clone().expect("just waited for")
    }

    /// The wish, if there is one.
    pub(crate) fn now(&self) -> Option<Stop> {
        self.0.borrow().clone()
    }
}

/// What the launcher is doing, for people.
#[derive(Clone, Debug)]
pub(crate) struct Phase(Arc<watch::Sender<&'static str>>);

impl Phase {
    pub(crate) fn new(first: &'static str) -> Self {
        Self(Arc::new(watch::Sender::new(first)))
    }

    pub(crate) fn set(&self, phase: &'static str) {
        self.0.send_replace(phase);
    }
}

/// Beats until the session is dead; the launcher aborts it at the end.
pub(crate) async fn beat(session: Session, desk: Arc<Desk>, phase: Phase, stopper: Stopper) {
    let secrets: &Secrets = &desk.secrets;
    let mut phases = phase.0.subscribe();
    let mut known = Known::default();
    let mut backoff = Backoff::new();
    loop {
        let started = Instant::now();
        let heartbeat = Heartbeat {
            reads: secrets.deliveries.unreported(),
            phase: Some((*phases.borrow_and_update()).to_owned()),
            // What cannot be told in one go is told in the next, at once.
            wait_seconds: if secrets.deliveries.has_unreported() { 0 } else { HEARTBEAT.as_secs() as u32 },
            notices_seen: known.notices,
        };
        let outcome = tokio::select! {
            outcome = session.heartbeat(&heartbeat) => outcome,
            // A new phase is told at once; the server has noted the contact of the request that is dropped here.
            Ok(()) = phases.changed() => continue,
        };
        match outcome {
            Ok(answer) => {
                heed(&desk, &stopper, &mut known, answer);
                backoff = Backoff::new();
                tokio::time::sleep_until(started + LEAST).await;
            }
            Err(error) if is_over(&error) => {
                dead(&desk, &stopper, &error);
                return;
            }
            Err(error) => {
                tracing::debug!(%error, "no sign of life could be given");
                secrets.expire();
                backoff.pause(&error).await;
            }
        }
    }
}

/// What the server has said before. It says how things stand, each time; a run is told what is new.
#[derive(Debug, Default)]
struct Known {
    notices: u64,
    rotated: Vec<SecretName>,
    revoked: Vec<SecretName>,
}

impl Known {
    /// The rotations that are news. A secret that is rotated once more before the run has moved on looks the same as
    /// before; the server's notice tells.
    fn take_in(&mut self, answer: &HeartbeatAnswer) -> Vec<SecretName> {
        let new: Vec<SecretName> = answer.rotated.iter().filter(|name| !self.rotated.contains(name)).cloned().collect();
        let once_more =
            new.is_empty() && self.notices != 0 && answer.notices > self.notices && answer.revoked == self.revoked;
        self.notices = answer.notices;
        self.rotated.clone_from(&answer.rotated);
        self.revoked.clone_from(&answer.revoked);
        if once_more { answer.rotated.clone() } else { new }
    }
}

fn heed(desk: &Desk, stopper: &Stopper, known: &mut Known, answer: HeartbeatAnswer) {
    desk.secrets.contact();
    desk.secrets.deliveries.reported(answer.reads_received);
    desk.news.set_status(answer.status);
    for name in answer.revoked.iter().filter(|name| !known.revoked.contains(name)) {
        desk.logs.system(&format!("the secret `{name}` may not be read by this run any more"));
    }
    desk.secrets.revoke(&answer.revoked);
    desk.news.rotated(&known.take_in(&answer));
    if let Some(reason) = answer.stop {
        let blame = match answer.status {
            RunStatus::Compromised => Blame::Kluis,
            RunStatus::Lost => Blame::Engine,
            _ => Blame::User,
        };
        stopper.stop(blame, reason);
    }
}

/// The server knows the run no more. A process that nobody asked to end goes on to its own end: silence and mistakes on
/// our side never cost a healthy run its work. Two users of one ticket are no mistake, and neither is a cancel.
fn dead(desk: &Desk, stopper: &Stopper, error: &Error) {
    desk.secrets.wipe();
    desk.logs.give_up();
    desk.metrics.give_up();
    tracing::error!(%error, "the run's session is dead");
    match error.code() {
        Some(code::COMPROMISED) => stopper.stop(Blame::Kluis, "the run's ticket was used by two parties"),
        // Asked for while this node could not hear it, and over by now.
        Some(code::RUN_CANCELED) => stopper.stop(Blame::User, "the run was canceled"),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(notices: u64, rotated: &[&str], revoked: &[&str]) -> HeartbeatAnswer {
        serde_json::from_value(serde_json::json!({
            "status": "running", "reads_received": 0, "notices": notices, "now": "2026-11-24T14:17:00Z",
            "rotated": rotated, "revoked": revoked,
        }))
        .unwrap()
    }

    #[test]
    fn a_rotation_is_told_once_and_again_when_it_happens_again() {
        let mut known = Known::default();
        let table: [(HeartbeatAnswer, &[&str]); 7] = [
            (answer(1, &[], &[]), &[]),
            (answer(2, &["a"], &[]), &["a"]),
            (answer(2, &["a"], &[]), &[]),
            (answer(3, &["a", "b"], &[]), &["b"]),
            (answer(4, &["a", "b"], &["c"]), &[]),
            (answer(5, &["b"], &["c"]), &["b"]),
            (answer(5, &[], &["c"]), &[]),
        ];
        for (i, (answer, expected)) in table.into_iter().enumerate() {
            let told: Vec<String> = known.take_in(&answer).iter().map(ToString::to_string).collect();
            assert_eq!(told, expected, "answer {i}");
        }
    }

    #[tokio::test]
    async fn the_first_wish_to_end_counts() {
        let stopper = Stopper::new();
        stopper.stop(Blame::User, "canceled");
        stopper.stop(Blame::Engine, "SIGTERM");
        assert_eq!(stopper.wanted().await, Stop { blame: Blame::User, reason: "canceled".to_owned() });
    }
}
