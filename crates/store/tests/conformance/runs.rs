//! Experiments and runs.

use std::collections::BTreeMap;

use kluis_core::api::runs::ChangeRun;
use kluis_core::run::{Blame, RunEvent, RunStatus, TransitionError};
use kluis_store::runs::{ChildEnd, ChildInsert, RunCancel, RunChange, RunFilter};
use kluis_store::{After, Authority, Error, Store};

use crate::world::{World, compute_name, experiment_name, later, run_id, write, write_as};

fn cancel(world: &World, run: &str) -> RunCancel {
    RunCancel { workspace: world.workspace, run: run_id(run), reason: "asked for".into(), now: later(5) }
}

fn child(id: &str) -> ChildInsert {
    ChildInsert { id: run_id(id), display_name: Some("fold 1".into()), tags: BTreeMap::new(), now: later(1) }
}

pub(crate) async fn the_same_submission_is_the_same_run(store: &Store) {
    let world = World::new(store).await;
    let first = store.run_insert(write(world.submission("churn_1"))).await.unwrap();
    assert!(!first.existed);
    assert_eq!((first.run.status, first.run.attempt, first.run.number), (RunStatus::Queued, 0, 1));
    assert_eq!(first.run.spec.as_ref(), Some(&world.submission("churn_1").spec));
    assert_eq!(first.run.submitter.as_str(), "owner");

    let size = world.log_size().await;
    let again = store.run_insert(write(world.submission("CHURN_1"))).await.unwrap();
    assert!(again.existed);
    assert_eq!(again.run, first.run);
    assert_eq!(world.log_size().await, size, "nothing happened, nothing is recorded");

    let mut other = world.submission("churn_1");
    other.request_hash = [2; 32];
    assert!(matches!(store.run_insert(write(other)).await, Err(Error::Conflict(_))));
    let mut others = world.submission("churn_1");
    others.submitted_by = world.user("ada", None).await;
    assert!(matches!(store.run_insert(write(others)).await, Err(Error::Conflict(_))));
    let mut nowhere = world.submission("churn_2");
    nowhere.spec.compute = compute_name("nowhere");
    assert_eq!(store.run_insert(write(nowhere)).await.unwrap_err(), Error::Moved("the compute target"));
}

pub(crate) async fn runs_are_numbered_per_experiment(store: &Store) {
    let world = World::new(store).await;
    for (run, experiment, number) in [("a", "churn", 1), ("b", "Churn", 2), ("c", "other", 1), ("d", "CHURN", 3)] {
        let mut submission = world.submission(run);
        submission.spec.experiment = experiment_name(experiment);
        assert_eq!(store.run_insert(write(submission)).await.unwrap().run.number, number, "{run}");
    }
    let experiments = store.experiment_list(world.workspace, After::first(10)).await.unwrap().items;
    let seen: Vec<_> = experiments.iter().map(|e| (e.name.as_str(), e.runs)).collect();
    assert_eq!(seen, [("churn", 3), ("other", 1)]);
}

pub(crate) async fn runs_are_listed_newest_first(store: &Store) {
    let world = World::new(store).await;
    for (run, experiment) in [("a", "churn"), ("b", "other"), ("c", "churn"), ("d", "churn")] {
        let mut submission = world.submission(run);
        submission.spec.experiment = experiment_name(experiment);
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
    let change = |change: ChangeRun| RunChange { workspace: world.workspace, run: run_id("churn_1"), change, limit: 2 };
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

pub(crate) async fn open_runs_are_counted(store: &Store) {
    let world = World::new(store).await;
    let ada = world.user("ada", None).await;
    world.submit("a").await;
    let session = Authority::Session(world.start("b").await);
    store.child_insert(write_as(session, child("fold"))).await.unwrap();
    let mut adas = world.submission("c");
    adas.submitted_by = ada;
    store.run_insert(write(adas)).await.unwrap();
    store.run_cancel(write(cancel(&world, "a"))).await.unwrap();
    assert_eq!(store.runs_open(None, None).await.unwrap(), 2);
    assert_eq!(store.runs_open(Some(world.workspace), Some(ada)).await.unwrap(), 1);
    assert_eq!(store.runs_open(None, Some(world.owner)).await.unwrap(), 1);
    let (other, _) = world.another_workspace("research").await;
    assert_eq!(store.runs_open(Some(other), None).await.unwrap(), 0);
}
