//! Signs of life, silence, and the end.

use kluis_core::run::{Blame, ExitStatus, RunEvent, RunStatus};
use kluis_store::attempts::{Listening, RunSilent, SessionHeartbeat, SessionsDrain};
use kluis_store::runs::RunCancel;
use kluis_store::{Authority, Error, RunAuthority, Store};

use crate::world::{NOW, World, later, run_id, write, write_as};

fn beat(seen: RunStatus, reads: (u64, u64), seconds: u64) -> SessionHeartbeat {
    SessionHeartbeat { seen, reads, phase: None, now: later(seconds) }
}

pub(crate) async fn reads_are_received_once_and_in_order(store: &Store) {
    let world = World::new(store).await;
    let run = world.start("churn_1").await;
    let session = Authority::Session(run.clone());
    let size = world.log_size().await;
    let mut first = beat(RunStatus::Running, (0, 3), 1);
    first.phase = Some("running".into());
    let state = store.session_heartbeat(write_as(session.clone(), first.clone())).await.unwrap();
    assert_eq!((state.reads_received, state.status), (3, RunStatus::Running));
    let again = store.session_heartbeat(write_as(session.clone(), first)).await;
    assert_eq!(again, Err(Error::Moved("the reads received")));
    assert_eq!(world.log_size().await, size + 1, "recorded once");
    let state = store.session_heartbeat(write_as(session, beat(RunStatus::Running, (3, 3), 2))).await.unwrap();
    assert_eq!(state.reads_received, 3);
    assert_eq!(store.session_get(run.session).await.unwrap().unwrap().reads_received, 3);
    let row = world.run("churn_1").await;
    assert_eq!((row.last_contact, row.phase.as_str()), (Some(later(2)), "running"));
}

async fn fall_silent(world: &World, run: &str, last_contact: u64) -> Result<RunStatus, Error> {
    let silent = RunSilent { workspace: world.workspace, run: run_id(run), last_contact: later(last_contact) };
    world.store.run_silent(write(silent)).await.map(|run| run.status)
}

pub(crate) async fn silence_makes_a_run_unresponsive_and_contact_brings_it_back(store: &Store) {
    let world = World::new(store).await;
    let session = Authority::Session(world.start("churn_1").await);
    world.submit("queued").await;
    let silent = async |status, seconds| {
        let found = store.runs_silent(status, later(seconds), 10).await.unwrap();
        found.into_iter().map(|l| (l.run.id.to_string(), l.workspace_name.to_string())).collect::<Vec<_>>()
    };
    assert_eq!(silent(RunStatus::Running, 0).await, []);
    assert_eq!(silent(RunStatus::Running, 1).await, [("churn_1".to_owned(), "default".to_owned())]);

    let contact = beat(RunStatus::Running, (0, 0), 50);
    store.session_heartbeat(write_as(session.clone(), contact)).await.unwrap();
    assert_eq!(fall_silent(&world, "churn_1", 0).await, Err(Error::Moved("the run's last sign of life")));
    assert_eq!(fall_silent(&world, "churn_1", 50).await, Ok(RunStatus::Unresponsive));
    assert_eq!(silent(RunStatus::Running, 1000).await, []);
    assert_eq!(silent(RunStatus::Unresponsive, 1000).await.len(), 1);

    let unaware = store.session_heartbeat(write_as(session.clone(), beat(RunStatus::Running, (0, 0), 200))).await;
    assert_eq!(unaware, Err(Error::Moved("the run's status")), "its record would not say that it spoke again");
    let state = store.session_heartbeat(write_as(session, beat(RunStatus::Unresponsive, (0, 0), 200))).await.unwrap();
    assert_eq!(state.status, RunStatus::Running);
    assert_eq!(world.run("churn_1").await.status, RunStatus::Running);
}

pub(crate) async fn what_the_server_did_not_hear_is_no_silence(store: &Store) {
    let world = World::new(store).await;
    let session = Authority::Session(world.start("churn_1").await);
    let silent = async |seconds| store.runs_silent(RunStatus::Running, later(seconds), 10).await.unwrap().len();
    let note = async |seconds, deaf_millis| {
        store.listening_note(write(Listening { until: later(seconds), deaf_millis })).await.unwrap();
    };
    assert_eq!(store.listening_until().await.unwrap(), None);
    note(60, 0).await;
    assert_eq!(store.listening_until().await.unwrap(), Some(later(60)));
    assert_eq!((silent(0).await, silent(1).await), (0, 1));
    // Away for an hour, and once more.
    note(3660, 3_600_000).await;
    note(9000, 3_600_000).await;
    assert_eq!((silent(7200).await, silent(7201).await), (0, 1));
    assert_eq!(world.run("churn_1").await.last_contact, Some(NOW), "what is shown is when it was heard");
    // A clock that was set back takes the silences along.
    note(0, -7_200_000).await;
    assert_eq!((silent(0).await, silent(1).await), (0, 1));
    store.session_heartbeat(write_as(session, beat(RunStatus::Running, (0, 0), 50))).await.unwrap();
    assert_eq!((silent(50).await, silent(51).await), (0, 1));
}

async fn is_over(world: &World, run: &RunAuthority, status: RunStatus) {
    let session = Authority::Session(run.clone());
    let over = Err(Error::RunEnded { status });
    let late = world.store.session_heartbeat(write_as(session, beat(status, (0, 0), 20))).await;
    assert_eq!(late, over);
    assert!(!world.store.session_get(run.session).await.unwrap().unwrap().alive);
}

pub(crate) async fn the_end_of_the_run_is_the_end_of_the_session(store: &Store) {
    let world = World::new(store).await;
    let run = world.start("churn_1").await;
    let session = Authority::Session(run.clone());
    let mut end = world.end(RunStatus::Running, RunEvent::Failed);
    end.exit = Some(ExitStatus::Signal(9));
    end.blame = Some(Blame::Script);
    end.reason = Some("signal 9".into());
    end.reads = (0, 2);
    let mut wrong = end.clone();
    wrong.event = RunEvent::Retry;
    assert!(matches!(store.session_end(write_as(session.clone(), wrong)).await.unwrap_err(), Error::Run(_)));
    let mut unaware = end.clone();
    unaware.seen = RunStatus::Unresponsive;
    let moved = store.session_end(write_as(session.clone(), unaware)).await.unwrap_err();
    assert_eq!(moved, Error::Moved("the run's status"));

    let row = store.session_end(write_as(session.clone(), end.clone())).await.unwrap();
    assert_eq!(
        (row.status, row.exit, row.blame),
        (RunStatus::Failed, Some(ExitStatus::Signal(9)), Some(Blame::Script))
    );
    assert_eq!((row.ended, row.phase.as_str(), row.reason.as_deref()), (Some(later(10)), "ended", Some("signal 9")));
    is_over(&world, &run, RunStatus::Failed).await;
    let again = store.session_end(write_as(session, end)).await.unwrap_err();
    assert_eq!(again, Error::RunEnded { status: RunStatus::Failed });
    let attempt = store.attempt_get(world.workspace, &run.run, 1).await.unwrap().unwrap();
    assert_eq!(attempt.ended, Some(later(10)));
}

pub(crate) async fn a_canceled_run_may_say_how_it_ended_and_nothing_else(store: &Store) {
    let world = World::new(store).await;
    let run = world.start("churn_1").await;
    let session = Authority::Session(run.clone());
    let cancel =
        RunCancel { workspace: world.workspace, run: run_id("churn_1"), reason: "asked for".into(), now: later(1) };
    store.run_cancel(write(cancel)).await.unwrap();

    let told = store.session_heartbeat(write_as(session.clone(), beat(RunStatus::Canceled, (0, 0), 2))).await.unwrap();
    assert_eq!(
        (told.status, told.cancel_requested, told.reason.as_deref()),
        (RunStatus::Canceled, true, Some("asked for"))
    );
    let mut end = world.end(RunStatus::Canceled, RunEvent::Failed);
    (end.exit, end.blame) = (Some(ExitStatus::Signal(15)), Some(Blame::Script));
    let row = store.session_end(write_as(session, end)).await.unwrap();
    assert_eq!((row.status, row.ended), (RunStatus::Canceled, Some(later(1))));
    assert_eq!(
        (row.exit, row.blame, row.reason.as_deref()),
        (Some(ExitStatus::Signal(15)), Some(Blame::User), Some("asked for"))
    );
    is_over(&world, &run, RunStatus::Canceled).await;
}

pub(crate) async fn sessions_that_outlive_their_run_are_drained(store: &Store) {
    let world = World::new(store).await;
    let canceled = world.start("churn_1").await;
    let running = world.start("churn_2").await;
    let cancel = RunCancel { workspace: world.workspace, run: run_id("churn_1"), reason: "asked for".into(), now: NOW };
    store.run_cancel(write(cancel)).await.unwrap();
    assert_eq!(store.sessions_drain(write(SessionsDrain { ended_before: NOW })).await.unwrap(), 0);
    assert_eq!(store.sessions_drain(write(SessionsDrain { ended_before: later(1) })).await.unwrap(), 1);
    is_over(&world, &canceled, RunStatus::Canceled).await;
    assert!(store.session_get(running.session).await.unwrap().unwrap().alive);
}
