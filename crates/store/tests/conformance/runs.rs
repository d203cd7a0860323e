//! Experiments and runs.

use std::collections::BTreeMap;

use kluis_core::access::{Effect, Role, Scope};
use kluis_core::api::runs::ChangeRun;
use kluis_core::run::{Blame, RunEvent, RunStatus, TransitionError};
use kluis_store::attempts::SessionHeartbeat;
use kluis_store::identity::GrantRemove;
use kluis_store::runs::{ChildEnd, ChildInsert, OpenLimits, RunCancel, RunChange, RunFilter, RunLimits};
use kluis_store::{After, Authority, Error, Store};

use crate::world::{NOW, World, authenticated, compute_name, experiment_name, later, run_id, write, write_as};

fn cancel(world: &World, run: &str) -> RunCancel {
    RunCancel { workspace: world.workspace, run: run_id(run), reason: "asked for".into(), now: later(5) }
}

fn child(id: &str) -> ChildInsert {
    ChildInsert {
        id: run_id(id),
        display_name: Some("fold 1".into()),
        tags: BTreeMap::new(),
        now: later(1),
        limits: RunLimits::default(),
    }
}

pub(crate) async fn the_same_submission_is_the_same_run(store: &Store) {
    let world = World::new(store).await;
    let first = store.run_insert(write(world.submission("churn_1"))).await.unwrap();
    assert!(!first.existed);
    assert_eq!((first.run.status, first.run.attempt, first.run.number), (RunStatus::Queued, 0, 1));
    assert_eq!(first.run.spec.as_ref(), Some(&world.submission("churn_1").row.spec));
    assert_eq!(first.run.submitter.as_str(), "owner");

    let size = world.log_size().await;
    let again = store.run_insert(write(world.submission("CHURN_1"))).await.unwrap();
    assert!(again.existed);
    assert_eq!(again.run, first.run);
    assert_eq!(world.log_size().await, size, "nothing happened, nothing is recorded");

    let mut other = world.submission("churn_1");
    other.row.request_hash = [2; 32];
    assert!(matches!(store.run_insert(write(other)).await, Err(Error::Conflict(_))));
    let mut others = world.submission("churn_1");
    others.row.submitted_by = world.user("ada", None).await;
    assert!(matches!(store.run_insert(write(others)).await, Err(Error::Conflict(_))));
    let mut nowhere = world.submission("churn_2");
    nowhere.row.spec.compute = compute_name("nowhere");
    assert_eq!(store.run_insert(write(nowhere)).await.unwrap_err(), Error::Moved("the compute target"));
}

pub(crate) async fn runs_are_numbered_per_experiment(store: &Store) {
    let world = World::new(store).await;
    for (run, experiment, number) in [("a", "churn", 1), ("b", "Churn", 2), ("c", "other", 1), ("d", "CHURN", 3)] {
        let mut submission = world.submission(run);
        submission.row.spec.experiment = experiment_name(experiment);
        assert_eq!(store.run_insert(write(submission)).await.unwrap().run.number, number, "{run}");
    }
    let experiments = store.experiment_list(world.workspace, After::first(10)).await.unwrap().items;
    let seen: Vec<_> = experiments.iter().map(|e| (e.name.as_str(), e.runs)).collect();
    assert_eq!(seen, [("churn", 3), ("other", 1)]);
    let found = store.experiment_get(world.workspace, &experiment_name("CHURN")).await.unwrap();
    assert_eq!(found.map(|e| (e.name.to_string(), e.runs)), Some(("churn".to_owned(), 3)));
    assert_eq!(store.experiment_get(world.workspace, &experiment_name("nope")).await.unwrap(), None);
}

pub(crate) async fn runs_are_listed_newest_first(store: &Store) {
    let world = World::new(store).await;
    for (run, experiment) in [("a", "churn"), ("b", "other"), ("c", "churn"), ("d", "churn")] {
        let mut submission = world.submission(run);
        submission.row.spec.experiment = experiment_name(experiment);
        store.run_insert(write(submission)).await.unwrap();
    }
    store.run_cancel(write(cancel(&world, "c"))).await.unwrap();
    let names = async |filter: RunFilter| {
        let (mut names, mut after) = (Vec::new(), None);
        loop {
            let page = store.run_list(world.workspace, filter.clone(), After { after, limit: 2 }).await.unwrap();
            names.extend(page.items.into_iter().map(|r| r.id.to_string()));
            after = page.next;
            if after.is_none() {
                return names;
            }
        }
    };
    assert_eq!(names(RunFilter::default()).await, ["d", "c", "b", "a"]);
    let churn = RunFilter { experiment: Some(experiment_name("CHURN")), ..RunFilter::default() };
    assert_eq!(names(churn.clone()).await, ["d", "c", "a"]);
    let queued = RunFilter { status: Some(RunStatus::Queued), ..churn };
    assert_eq!(names(queued).await, ["d", "a"]);
    let canceled = RunFilter { status: Some(RunStatus::Canceled), ..RunFilter::default() };
    assert_eq!(names(canceled).await, ["c"]);
    let (other, _) = world.another_workspace("research").await;
    let there = store.run_list(other, RunFilter::default(), After::first(9)).await.unwrap();
    assert_eq!(there.items, []);
    assert_eq!(store.run_get(other, &run_id("a")).await.unwrap(), None);
}

pub(crate) async fn a_set_property_stays(store: &Store) {
    let world = World::new(store).await;
    world.submit("churn_1").await;
    let map = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
    let change = |change: ChangeRun| RunChange {
        workspace: world.workspace,
        run: run_id("churn_1"),
        change,
        limit: 2,
        limits: RunLimits::default(),
    };
    let first = ChangeRun {
        tags: map("b", "2"),
        remove_tags: vec!["a".into()],
        properties: map("p", "1"),
        display_name: Some("a name".into()),
    };
    let changed = store.run_change(write(change(first.clone()))).await.unwrap();
    assert_eq!((&changed.tags, &changed.properties), (&map("b", "2"), &map("p", "1")));
    assert_eq!((changed.display_name.as_deref(), changed.revision), (Some("a name"), 2));
    assert_eq!(world.run("churn_1").await, changed);

    store.run_change(write(change(ChangeRun { properties: map("p", "1"), ..ChangeRun::default() }))).await.unwrap();
    let other = ChangeRun { properties: map("p", "2"), tags: map("c", "3"), ..ChangeRun::default() };
    assert!(matches!(store.run_change(write(change(other))).await, Err(Error::Conflict(_))));
    assert_eq!(world.run("churn_1").await.tags, map("b", "2"), "all of the change or none");
    let many = (0..3).map(|i| (i.to_string(), String::new())).collect();
    let many = ChangeRun { tags: many, ..ChangeRun::default() };
    assert!(matches!(store.run_change(write(change(many))).await, Err(Error::Conflict(_))));
}

pub(crate) async fn a_queued_run_is_canceled_at_once(store: &Store) {
    let world = World::new(store).await;
    world.submit("churn_1").await;
    let run = store.run_cancel(write(cancel(&world, "churn_1"))).await.unwrap();
    assert_eq!((run.status, run.cancel_requested), (RunStatus::Canceled, true));
    assert_eq!((run.ended, run.blame, run.reason.as_deref()), (Some(later(5)), Some(Blame::User), Some("asked for")));
    assert_eq!(world.next().await, None);
    assert_eq!(store.lease_take(write(world.lease("churn_1", 1))).await.unwrap_err(), Error::Moved("the queue"));
}

pub(crate) async fn an_ended_run_can_not_be_canceled(store: &Store) {
    let world = World::new(store).await;
    world.submit("churn_1").await;
    store.run_cancel(write(cancel(&world, "churn_1"))).await.unwrap();
    let again = store.run_cancel(write(cancel(&world, "churn_1"))).await.unwrap_err();
    assert_eq!(again, TransitionError { from: RunStatus::Canceled, event: RunEvent::Cancel }.into());
    assert_eq!(store.run_cancel(write(cancel(&world, "never-was"))).await.unwrap_err(), Error::NotFound);
}

pub(crate) async fn children_belong_to_their_parent(store: &Store) {
    let world = World::new(store).await;
    let session = Authority::Session(world.start("parent").await);
    let other = Authority::Session(world.start("stranger").await);
    let made = store.child_insert(write_as(session.clone(), child("fold"))).await.unwrap();
    assert_eq!((made.run.status, made.run.number, made.existed), (RunStatus::Running, 3, false));
    assert_eq!((made.run.parent, made.run.spec), (Some(run_id("parent")), None));
    assert!(store.child_insert(write_as(session.clone(), child("fold"))).await.unwrap().existed);
    for taken in ["parent", "stranger"] {
        let refused = store.child_insert(write_as(session.clone(), child(taken))).await;
        assert!(matches!(refused, Err(Error::Conflict(_))), "{taken}");
    }
    assert!(matches!(store.child_insert(write_as(other.clone(), child("fold"))).await, Err(Error::Conflict(_))));

    let tag = |run: &str| RunChange {
        workspace: world.workspace,
        run: run_id(run),
        change: ChangeRun { tags: BTreeMap::from([("t".into(), "1".into())]), ..ChangeRun::default() },
        limit: 50,
        limits: RunLimits::default(),
    };
    store.run_change(write_as(session.clone(), tag("fold"))).await.unwrap();
    store.run_change(write_as(session.clone(), tag("parent"))).await.unwrap();
    assert_eq!(store.run_change(write_as(other.clone(), tag("fold"))).await.unwrap_err(), Error::NotFound);

    let end = |status| ChildEnd { run: run_id("fold"), status, reason: None, now: later(2) };
    assert_eq!(store.child_end(write_as(other, end(RunStatus::Failed))).await.unwrap_err(), Error::NotFound);
    let ended = store.child_end(write_as(session.clone(), end(RunStatus::Completed))).await.unwrap();
    assert_eq!((ended.status, ended.ended), (RunStatus::Completed, Some(later(2))));
    store.child_end(write_as(session.clone(), end(RunStatus::Completed))).await.unwrap();
    let otherwise = store.child_end(write_as(session.clone(), end(RunStatus::Failed))).await.unwrap_err();
    assert!(matches!(otherwise, Error::Run(_)));
    assert!(matches!(store.child_end(write_as(session, end(RunStatus::Lost))).await.unwrap_err(), Error::Conflict(_)));

    let top = store.run_list(world.workspace, RunFilter::default(), After::first(9)).await.unwrap().items;
    assert_eq!(top.len(), 2, "children are left out");
    let of = RunFilter { parent: Some(run_id("parent")), ..RunFilter::default() };
    let children = store.run_list(world.workspace, of, After::first(9)).await.unwrap().items;
    assert_eq!(children.iter().map(|r| r.id.as_str()).collect::<Vec<_>>(), ["fold"]);
    let experiments = store.experiment_list(world.workspace, After::first(9)).await.unwrap().items;
    assert_eq!(experiments[0].runs, 2);
}

pub(crate) async fn children_end_with_their_parent(store: &Store) {
    let world = World::new(store).await;
    let ends = [
        (RunEvent::Succeeded, RunStatus::Completed),
        (RunEvent::Failed, RunStatus::Failed),
        (RunEvent::Lost, RunStatus::Lost),
    ];
    for (event, status) in ends {
        let (parent, fold) = (format!("parent-{status}"), format!("fold-{status}"));
        let session = Authority::Session(world.start(&parent).await);
        store.child_insert(write_as(session.clone(), child(&fold))).await.unwrap();
        store.session_end(write_as(session, world.end(RunStatus::Running, event))).await.unwrap();
        assert_eq!(world.run(&parent).await.status, status);
        let fold = world.run(&fold).await;
        assert_eq!((fold.status, fold.ended.is_some()), (status, true));
    }
    let session = Authority::Session(world.start("parent").await);
    store.child_insert(write_as(session.clone(), child("fold"))).await.unwrap();
    store.run_cancel(write(cancel(&world, "parent"))).await.unwrap();
    assert_eq!(world.run("fold").await.status, RunStatus::Canceled);
    let refused = store.child_insert(write_as(session, child("fold-2"))).await.unwrap_err();
    assert_eq!(refused, Error::RunEnded { status: RunStatus::Canceled });
}

pub(crate) async fn too_many_open_runs_are_refused(store: &Store) {
    let world = World::new(store).await;
    let ada = world.user("ada", None).await;
    let submit = async |run: &str, by, of_submitter, of_workspace| {
        let mut submission = world.submission(run);
        submission.row.submitted_by = by;
        submission.row.limits = OpenLimits { of_submitter, of_workspace };
        store.run_insert(write(submission)).await.map(|inserted| inserted.existed)
    };
    let refused = |outcome| assert!(matches!(outcome, Err(Error::Conflict(_))), "{outcome:?}");
    let session = Authority::Session(world.start("a").await);
    store.child_insert(write_as(session, child("fold"))).await.unwrap();
    assert_eq!(submit("b", world.owner, 2, 2).await, Ok(false), "children are not counted");
    refused(submit("c", world.owner, 2, 9).await);
    refused(submit("c", ada, 2, 2).await);
    assert_eq!(submit("b", world.owner, 2, 2).await, Ok(true), "one that exists is no new one");
    assert_eq!(submit("c", ada, 1, 3).await, Ok(false));
    store.run_cancel(write(cancel(&world, "b"))).await.unwrap();
    assert_eq!(submit("d", world.owner, 2, 3).await, Ok(false), "what has ended is not counted");
}

pub(crate) async fn a_submission_is_checked_against_the_workspace_as_it_is(store: &Store) {
    let world = World::new(store).await;
    let mut row = world.workspace_now(world.workspace).await;
    row.settings.require_declared_secrets = true;
    row.revision = 2;
    store.workspace_change(write(authenticated(row))).await.unwrap();
    let stale = store.run_insert(write(world.submission("churn_1"))).await.unwrap_err();
    assert_eq!(stale, Error::Moved("the workspace"));
    let mut seen = world.submission("churn_1");
    seen.row.workspace_revision = 2;
    store.run_insert(write(seen)).await.unwrap();
}

/// Whoever loses the right to submit loses what he has started: in the unit of work that takes it, in that workspace,
/// for good.
pub(crate) async fn access_that_is_taken_ends_the_runs_that_had_it(store: &Store) {
    let world = World::new(store).await;
    let (other, _) = world.another_workspace("research").await;
    let start = async |name: &str, run: &str| {
        let id = world.user(name, Some(Role::Contributor)).await;
        let mut submission = world.submission(run);
        submission.row.submitted_by = id;
        store.run_insert(write(submission)).await.unwrap();
        (id, world.start_attempt(run, 1).await)
    };
    let (removed, removed_run) = start("removed", "a").await;
    let (lowered, _) = start("lowered", "b").await;
    let (disabled, _) = start("disabled", "c").await;
    let (kept, kept_run) = start("kept", "d").await;
    let place = Scope::Workspace(world.workspace);
    let child = write_as(Authority::Session(removed_run.clone()), child("fold"));
    store.child_insert(child).await.unwrap();

    // Another right, somewhere else, changes nothing here.
    store.grant_set(write(world.grant(kept, Scope::Workspace(other), Role::Reader))).await.unwrap();
    let elsewhere = GrantRemove { principal: kept, scope: Scope::Workspace(other), effect: Effect::Allow, revision: 1 };
    store.grant_remove(write(elsewhere)).await.unwrap();
    let beat = SessionHeartbeat { seen: RunStatus::Running, reads: (0, 0), phase: None, now: later(1) };
    store.session_heartbeat(write_as(Authority::Session(kept_run), beat)).await.unwrap();

    let remove = GrantRemove { principal: removed, scope: place, effect: Effect::Allow, revision: 1 };
    store.grant_remove(write(remove)).await.unwrap();
    let mut lower = world.grant(lowered, place, Role::Reader);
    lower.row.revision = 2;
    store.grant_set(write(lower)).await.unwrap();
    let mut disable = authenticated(world.principal(disabled, "disabled"));
    (disable.row.enabled, disable.row.revision) = (false, 2);
    store.principal_change(write(disable)).await.unwrap();
    for run in ["a", "b", "c", "fold"] {
        assert_eq!(world.run(run).await.status, RunStatus::Canceled, "{run}");
    }
    let row = world.run("a").await;
    assert_eq!((row.ended, row.blame, row.cancel_requested), (Some(NOW), Some(Blame::User), true));
    assert_eq!(world.run("d").await.status, RunStatus::Running);

    // Its launcher is told, may say how the process ended, and reads nothing, not even when access comes back.
    store.grant_set(write(world.grant(removed, place, Role::Contributor))).await.unwrap();
    let reader = Authority::Run { submitter: removed, epoch: world.epoch(removed).await, run: removed_run.clone() };
    world.set("db-password", "x").await;
    let over = Error::RunEnded { status: RunStatus::Canceled };
    assert_eq!(world.read_as(reader, "db-password", false).await, Err(over));
    let beat = SessionHeartbeat { seen: RunStatus::Canceled, reads: (0, 0), phase: None, now: later(1) };
    let told = store.session_heartbeat(write_as(Authority::Session(removed_run), beat)).await.unwrap();
    assert!(told.cancel_requested && told.reason.is_some(), "{told:?}");
}
