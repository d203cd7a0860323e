//! Leases, tickets and an agent's word.

use kluis_core::access::{Role, Scope};
use kluis_core::audit::AuditAction;
use kluis_core::run::{Blame, RunEvent, RunStatus, TransitionError};
use kluis_core::sealed::LookupHash;
use kluis_store::attempts::{LeaseFilter, Redeemed};
use kluis_store::audit::AuditFilter;
use kluis_store::runs::RunCancel;
use kluis_store::{After, Authority, Error, Store};

use crate::world::{NOW, World, compute_name, later, records, run_id, ticket_hash, write, write_as};

async fn present(world: &World, run: &str, attempt: u32, key: u8, seconds: u64) -> Redeemed {
    world.store.ticket_redeem(write(world.redeem(run, attempt, key, later(seconds)))).await.unwrap()
}

async fn last_action(world: &World) -> AuditAction {
    let filter = AuditFilter { newest: true, limit: 1, ..AuditFilter::default() };
    records(&world.store, filter).await.pop().unwrap().1.record.action
}

pub(crate) async fn the_oldest_run_is_leased_first(store: &Store) {
    let world = World::new(store).await;
    assert_eq!(world.next().await, None);
    for run in ["first", "second"] {
        world.submit(run).await;
    }
    let next = world.next().await.unwrap();
    assert_eq!((next.run.id.as_str(), next.workspace_name.as_str()), ("first", "default"));
    let leased = store.lease_take(write(world.lease("first", 1))).await.unwrap();
    assert_eq!((leased.run.status, leased.run.attempt), (RunStatus::Starting, 1));
    assert_eq!(world.next().await.unwrap().run.id.as_str(), "second");
    let attempt = store.attempt_get(world.workspace, &run_id("first"), 1).await.unwrap().unwrap();
    assert_eq!((attempt.leased, attempt.expires, attempt.confirmed), (NOW, later(60), None));
    assert_eq!((attempt.agent, attempt.compute.as_str()), (world.owner, "cluster"));
}

pub(crate) async fn a_run_is_leased_once(store: &Store) {
    let world = World::new(store).await;
    world.submit("churn_1").await;
    let takes = (0..8_u8).map(|i| {
        let mut take = world.lease("churn_1", 1);
        take.tickets[0].hash = LookupHash([i; 32]);
        store.lease_take(write(take))
    });
    let mut taken = 0;
    for outcome in futures(takes).await {
        match outcome {
            Ok(_) => taken += 1,
            Err(error) => assert_eq!(error, Error::Moved("the queue")),
        }
    }
    assert_eq!(taken, 1);
}

/// All at the same time.
async fn futures<T: Send + 'static>(all: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut set: Vec<_> = all.map(Box::pin).collect();
    let mut out = Vec::new();
    std::future::poll_fn(|context| {
        set.retain_mut(|future| match future.as_mut().poll(context) {
            std::task::Poll::Ready(value) => {
                out.push(value);
                false
            }
            std::task::Poll::Pending => true,
        });
        if set.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    out
}

pub(crate) async fn a_lease_can_be_for_one_submitter_or_one_run(store: &Store) {
    let world = World::new(store).await;
    let ada = world.user("ada", Some(Role::Contributor)).await;
    world.submit("first").await;
    let mut adas = world.submission("second");
    adas.row.submitted_by = ada;
    store.run_insert(write(adas)).await.unwrap();
    let mut local = world.submission("third");
    local.row.spec.compute = compute_name("local");
    store.run_insert(write(local)).await.unwrap();

    let next = async |compute: &str, only: Option<&str>, submitter| {
        let only = only.map(|run| (world.workspace, run_id(run)));
        let filter = LeaseFilter { compute: compute_name(compute), only, submitter, after: 0 };
        store.lease_next(filter).await.unwrap().map(|l| l.run.id.to_string())
    };
    assert_eq!(next("cluster", None, Some(ada)).await.as_deref(), Some("second"));
    assert_eq!(next("cluster", Some("second"), None).await.as_deref(), Some("second"));
    assert_eq!(next("cluster", Some("second"), Some(world.owner)).await, None);
    assert_eq!(next("local", None, None).await.as_deref(), Some("third"));
    assert_eq!(next("local", Some("first"), None).await, None);
    let behind = LeaseFilter { compute: compute_name("cluster"), only: None, submitter: None, after: 1 };
    assert_eq!(store.lease_next(behind).await.unwrap().unwrap().run.id.as_str(), "second");
}

pub(crate) async fn a_ticket_is_inert_until_its_attempt_is_confirmed(store: &Store) {
    let world = World::new(store).await;
    world.submit("churn_1").await;
    store.lease_take(write(world.lease("churn_1", 1))).await.unwrap();
    let size = world.log_size().await;
    assert_eq!(present(&world, "churn_1", 1, 9, 0).await, Redeemed::NotConfirmed);
    assert_eq!(world.log_size().await, size);
    assert_eq!(world.run("churn_1").await.status, RunStatus::Starting);

    store.attempt_confirm(write(world.confirm("churn_1", 1))).await.unwrap();
    assert_eq!(world.run("churn_1").await.engine_job.as_deref(), Some("process 4242"));
    let Redeemed::Opened(open) = present(&world, "churn_1", 1, 9, 120).await else { panic!("in time") };
    assert_eq!((open.run.status, open.run.started, open.nodes), (RunStatus::Running, Some(later(120)), 1));
    assert_eq!(open.workspace_name.as_str(), "default");
    let session = store.session_get(open.session).await.unwrap().unwrap();
    assert_eq!((session.alive, session.public_key, session.submitted_by), (true, [9; 32], world.owner));
    assert_eq!(session.secrets.map(|s| s.len()), Some(1));
}

pub(crate) async fn a_ticket_dies_when_nobody_redeems_it_in_time(store: &Store) {
    let world = World::new(store).await;
    world.submit("churn_1").await;
    store.lease_take(write(world.lease("churn_1", 1))).await.unwrap();
    store.attempt_confirm(write(world.confirm("churn_1", 1))).await.unwrap();
    assert_eq!(present(&world, "churn_1", 1, 9, 121).await, Redeemed::Expired);
    let mut unknown = world.redeem("churn_1", 1, 9, NOW);
    unknown.hash = LookupHash([0xee; 32]);
    let refused = Redeemed::Refused { status: None };
    assert_eq!(store.ticket_redeem(write(unknown)).await.unwrap(), refused);
    let mut other_attempt = world.redeem("churn_1", 1, 9, NOW);
    other_attempt.attempt = 2;
    assert_eq!(store.ticket_redeem(write(other_attempt)).await.unwrap(), refused);
}

pub(crate) async fn the_same_ticket_and_key_are_the_same_session(store: &Store) {
    let world = World::new(store).await;
    let run = world.start("churn_1").await;
    let size = world.log_size().await;
    // Long after the window: only a reply was lost.
    let Redeemed::Again(open) = present(&world, "churn_1", 1, 9, 5000).await else { panic!("the same session") };
    assert_eq!(open.session, run.session);
    assert_eq!(world.log_size().await, size);

    let end = world.end(RunStatus::Running, RunEvent::Succeeded);
    store.session_end(write_as(Authority::Session(run), end)).await.unwrap();
    let over = Redeemed::Refused { status: Some(RunStatus::Completed) };
    assert_eq!(present(&world, "churn_1", 1, 9, 5000).await, over);
}

pub(crate) async fn the_same_ticket_with_another_key_is_theft(store: &Store) {
    let world = World::new(store).await;
    world.set("db-password", "x").await;
    let run = world.start("churn_1").await;
    let reader = world.reader(&run).await;
    world.read_as(reader.clone(), "db-password", false).await.unwrap();
    let size = world.log_size().await;

    let theft = present(&world, "churn_1", 1, 8, 30).await;
    assert_eq!(theft, Redeemed::Theft);
    assert_eq!(world.log_size().await, size + 1);
    assert_eq!(last_action(&world).await, AuditAction::TicketTheft, "the alarm, not the redemption");
    let row = world.run("churn_1").await;
    assert_eq!((row.status, row.ended), (RunStatus::Compromised, Some(later(30))));

    // Whoever was first: both are locked out.
    let over = Error::RunEnded { status: RunStatus::Compromised };
    assert_eq!(world.read_as(reader, "db-password", false).await, Err(over.clone()));
    let end = write_as(Authority::Session(run), world.end(RunStatus::Compromised, RunEvent::Succeeded));
    assert_eq!(store.session_end(end).await.unwrap_err(), over);
    let out = Redeemed::Refused { status: Some(RunStatus::Compromised) };
    assert_eq!(present(&world, "churn_1", 1, 9, 31).await, out);
    let again = present(&world, "churn_1", 1, 8, 31).await;
    assert_eq!(again, Redeemed::Theft);
}

pub(crate) async fn theft_is_heard_after_the_end(store: &Store) {
    let world = World::new(store).await;
    let run = world.start("churn_1").await;
    let end = world.end(RunStatus::Running, RunEvent::Succeeded);
    store.session_end(write_as(Authority::Session(run), end)).await.unwrap();
    let theft = present(&world, "churn_1", 1, 8, 30).await;
    assert_eq!(theft, Redeemed::Theft);
    let row = world.run("churn_1").await;
    assert_eq!((row.status, row.ended), (RunStatus::Compromised, Some(later(10))), "it ended when it ended");
}

pub(crate) async fn theft_is_heard_while_the_run_waits_for_its_next_attempt(store: &Store) {
    let world = World::new(store).await;
    world.start("churn_1").await;
    let retry = world.report("churn_1", 1, RunStatus::Running, Some(RunEvent::Retry));
    assert_eq!(store.attempt_report(write(retry)).await.unwrap().status, RunStatus::Queued);
    assert_eq!(present(&world, "churn_1", 1, 8, 30).await, Redeemed::Theft);
    let row = world.run("churn_1").await;
    assert_eq!((row.status, row.ended), (RunStatus::Compromised, Some(later(30))));
    assert_eq!(last_action(&world).await, AuditAction::TicketTheft);
    assert_eq!(world.next().await, None, "there is no next attempt");
}

/// The queue goes on behind the runs of somebody who may not submit any more; they wait, and start when he may again.
pub(crate) async fn nobody_runs_what_he_may_not_submit_any_more(store: &Store) {
    let world = World::new(store).await;
    let ada = world.user("ada", Some(Role::Contributor)).await;
    for run in ["first", "second"] {
        let mut adas = world.submission(run);
        adas.row.submitted_by = ada;
        store.run_insert(write(adas)).await.unwrap();
    }
    world.submit("third").await;
    store.lease_take(write(world.lease("first", 1))).await.unwrap();
    let place = Scope::Workspace(world.workspace);
    let mut lower = world.grant(ada, place, Role::Reader);
    lower.row.revision = 2;
    store.grant_set(write(lower)).await.unwrap();

    assert_eq!(world.run("first").await.status, RunStatus::Canceled, "it was on its way");
    assert_eq!(world.run("second").await.status, RunStatus::Queued);
    assert_eq!(world.next().await.unwrap().run.id.as_str(), "third");
    let taken = store.lease_take(write(world.lease("second", 1))).await.unwrap_err();
    assert_eq!(taken, Error::Moved("the submitter's rights"));
    assert_eq!(world.run("second").await.status, RunStatus::Queued);

    let mut back = world.grant(ada, place, Role::Contributor);
    back.row.revision = 3;
    store.grant_set(write(back)).await.unwrap();
    assert_eq!(world.next().await.unwrap().run.id.as_str(), "second");
    world.start_attempt("second", 1).await;
}

pub(crate) async fn a_ticket_of_an_earlier_attempt_opens_nothing(store: &Store) {
    let world = World::new(store).await;
    world.submit("churn_1").await;
    store.lease_take(write(world.lease("churn_1", 1))).await.unwrap();
    store.attempt_confirm(write(world.confirm("churn_1", 1))).await.unwrap();
    let retry = world.report("churn_1", 1, RunStatus::Starting, Some(RunEvent::Retry));
    store.attempt_report(write(retry)).await.unwrap();
    let refused = Redeemed::Refused { status: Some(RunStatus::Queued) };
    assert_eq!(present(&world, "churn_1", 1, 9, 1).await, refused);
    let found = store.ticket_find(ticket_hash("churn_1", 1)).await.unwrap().unwrap();
    assert_eq!((found.attempt, found.status, found.session), (1, RunStatus::Queued, None));

    world.start_attempt("churn_1", 2).await;
    let refused = Redeemed::Refused { status: Some(RunStatus::Running) };
    assert_eq!(present(&world, "churn_1", 1, 9, 1).await, refused);
}

pub(crate) async fn a_returned_lease_costs_no_attempt(store: &Store) {
    let world = World::new(store).await;
    world.submit("churn_1").await;
    for attempt in 1..=4 {
        store.lease_take(write(world.lease("churn_1", attempt))).await.unwrap();
        let report = world.report("churn_1", attempt, RunStatus::Starting, Some(RunEvent::LeaseReturned));
        let run = store.attempt_report(write(report)).await.unwrap();
        assert_eq!((run.status, run.retries, run.phase.as_str()), (RunStatus::Queued, 0, "queued"));
    }
    world.start_attempt("churn_1", 5).await;
    let back = world.report("churn_1", 5, RunStatus::Running, Some(RunEvent::LeaseReturned));
    assert!(matches!(store.attempt_report(write(back)).await.unwrap_err(), Error::Run(_)), "it has started");
}

pub(crate) async fn a_lost_attempt_is_retried_within_the_limit(store: &Store) {
    let world = World::new(store).await;
    let first = world.start("churn_1").await;
    let retry = world.report("churn_1", 1, RunStatus::Running, Some(RunEvent::Retry));
    let run = store.attempt_report(write(retry.clone())).await.unwrap();
    assert_eq!((run.status, run.retries), (RunStatus::Queued, 1));
    let end = write_as(Authority::Session(first), world.end(RunStatus::Queued, RunEvent::Succeeded));
    assert_eq!(store.session_end(end).await.unwrap_err(), Error::RunEnded { status: RunStatus::Queued });
    assert_eq!(store.attempt_report(write(retry)).await.unwrap_err(), Error::Moved("the run's status"));

    world.start_attempt("churn_1", 2).await;
    let old = world.report("churn_1", 1, RunStatus::Running, Some(RunEvent::Lost));
    assert_eq!(store.attempt_report(write(old)).await.unwrap_err(), Error::NotFound, "not the current attempt");
    let again = world.report("churn_1", 2, RunStatus::Running, Some(RunEvent::Retry));
    assert!(matches!(store.attempt_report(write(again)).await, Err(Error::Conflict(_))));
    let mut lost = world.report("churn_1", 2, RunStatus::Running, Some(RunEvent::Lost));
    lost.blame = Some(Blame::Engine);
    let run = store.attempt_report(write(lost)).await.unwrap();
    assert_eq!(
        (run.status, run.blame, run.reason.as_deref()),
        (RunStatus::Lost, Some(Blame::Engine), Some("the node is gone"))
    );
}

pub(crate) async fn an_agent_acts_for_its_own_target_only(store: &Store) {
    let world = World::new(store).await;
    world.submit("churn_1").await;
    store.lease_take(write(world.lease("churn_1", 1))).await.unwrap();
    let mut confirm = world.confirm("churn_1", 1);
    confirm.compute = compute_name("other");
    assert_eq!(store.attempt_confirm(write(confirm)).await, Err(Error::NotFound));
    let mut report = world.report("churn_1", 1, RunStatus::Starting, Some(RunEvent::Failed));
    report.compute = compute_name("other");
    assert_eq!(store.attempt_report(write(report)).await.unwrap_err(), Error::NotFound);
    let theft = world.report("churn_1", 1, RunStatus::Starting, Some(RunEvent::Theft));
    let refused = store.attempt_report(write(theft)).await.unwrap_err();
    assert_eq!(refused, TransitionError { from: RunStatus::Starting, event: RunEvent::Theft }.into());
    assert_eq!(world.run("churn_1").await.status, RunStatus::Starting);
}

pub(crate) async fn confirming_again_is_harmless(store: &Store) {
    let world = World::new(store).await;
    world.start("churn_1").await;
    let size = world.log_size().await;
    store.attempt_confirm(write(world.confirm("churn_1", 1))).await.unwrap();
    assert_eq!(world.log_size().await, size);
    let mut other = world.confirm("churn_1", 1);
    other.handle = "pid 1".into();
    assert!(matches!(store.attempt_confirm(write(other)).await, Err(Error::Conflict(_))));
    let attempt = store.attempt_get(world.workspace, &run_id("churn_1"), 1).await.unwrap().unwrap();
    assert_eq!(attempt.handle.as_deref(), Some("pid 4242"));
}

pub(crate) async fn attempts_nobody_starts_are_overdue(store: &Store) {
    let world = World::new(store).await;
    for run in ["unconfirmed", "unredeemed"] {
        world.submit(run).await;
        store.lease_take(write(world.lease(run, 1))).await.unwrap();
    }
    store.attempt_confirm(write(world.confirm("unredeemed", 1))).await.unwrap();
    world.start("running").await;
    let overdue = async |now, confirmed_before| {
        let found = store.attempts_overdue(now, confirmed_before, 10).await.unwrap();
        found.into_iter().map(|a| a.run.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(overdue(later(59), NOW).await, Vec::<String>::new());
    assert_eq!(overdue(later(60), NOW).await, ["unconfirmed"]);
    assert_eq!(overdue(later(60), later(1)).await, ["unconfirmed", "unredeemed"]);
}

pub(crate) async fn a_canceled_attempt_stays_listed_until_its_agent_lets_go(store: &Store) {
    let world = World::new(store).await;
    world.start("a").await;
    let b = world.start("b").await;
    world.start("c").await;
    let cancel = RunCancel { workspace: world.workspace, run: run_id("a"), reason: "asked for".into(), now: NOW };
    store.run_cancel(write(cancel)).await.unwrap();
    let end = world.end(RunStatus::Running, RunEvent::Succeeded);
    store.session_end(write_as(Authority::Session(b), end)).await.unwrap();

    let cluster = compute_name("cluster");
    let first = store.attempts_active(&cluster, None, After::first(1)).await.unwrap();
    assert_eq!((first.items[0].run.as_str(), first.items[0].cancel_requested), ("a", true));
    let rest = store.attempts_active(&cluster, None, After { after: first.next, limit: 9 }).await.unwrap();
    assert_eq!(rest.items.iter().map(|a| a.run.as_str()).collect::<Vec<_>>(), ["c"]);

    let live = world.report("c", 1, RunStatus::Running, None);
    assert!(matches!(store.attempt_report(write(live)).await, Err(Error::Conflict(_))));
    let gone = world.report("a", 1, RunStatus::Canceled, None);
    let run = store.attempt_report(write(gone)).await.unwrap();
    assert_eq!(run.status, RunStatus::Canceled);
    let left = store.attempts_active(&cluster, None, After::first(9)).await.unwrap().items;
    assert_eq!(left.len(), 1);
    let ada = world.user("ada", None).await;
    assert_eq!(store.attempts_active(&cluster, Some(ada), After::first(9)).await.unwrap().items, []);
}
