//! Log chunks, metrics, outputs, snapshots.

use std::collections::BTreeMap;

use kluis_core::api::runs::{ChangeRun, Metric, MetricKind};
use kluis_core::id::BlobId;
use kluis_store::logs::{
    Arrived, BlobsForget, LogAppend, LogFilter, MetricAppend, OutputPut, SnapshotPut, SnapshotRow,
};
use kluis_store::runs::{ChildInsert, RunChange, RunLimits};
use kluis_store::{After, Authority, Error, Store};

use crate::world::{NOW, World, later, run_id, write, write_as};

fn chunk(first: u64, next: u64, blob: u8) -> LogAppend {
    LogAppend { first, next, blob: BlobId::from_bytes([blob; 16]), bytes: 100, lines: next - first, now: NOW }
}

fn filter(world: &World, from: u64, newest: bool) -> LogFilter {
    LogFilter { workspace: world.workspace, run: run_id("churn_1"), attempt: 1, from, newest }
}

pub(crate) async fn a_chunk_is_stored_once(store: &Store) {
    let world = World::new(store).await;
    let session = Authority::Session(world.start("churn_1").await);
    for (first, next) in [(0, 10), (10, 15), (15, 16)] {
        let arrived = store.log_append(write_as(session.clone(), chunk(first, next, next as u8))).await.unwrap();
        assert_eq!(arrived, Arrived { next, stored: true });
        let again = store.log_append(write_as(session.clone(), chunk(first, next, 99))).await.unwrap();
        assert_eq!(again, Arrived { next, stored: false });
    }
    let chunks = async |filter, page| store.log_chunks(filter, page).await.unwrap();
    let all = chunks(filter(&world, 0, false), After::first(9)).await.items;
    assert_eq!(
        all.iter().map(|c| (c.first, c.next, c.lines)).collect::<Vec<_>>(),
        [(0, 10, 10), (10, 15, 5), (15, 16, 1)]
    );
    let from = chunks(filter(&world, 12, false), After::first(9)).await.items;
    assert_eq!(from, all[1..]);
    let last = chunks(filter(&world, 0, true), After::first(1)).await;
    assert_eq!(last.items, all[2..]);
    let before = chunks(filter(&world, 0, true), After { after: last.next, limit: 9 }).await.items;
    assert_eq!(before, [all[1], all[0]]);
    assert_eq!(store.blob_usage(world.workspace).await.unwrap(), 300);
    let known = [10, 99].map(|b| (world.workspace, BlobId::from_bytes([b; 16]))).to_vec();
    assert_eq!(store.blobs_known(known).await.unwrap(), [true, false]);
}

pub(crate) async fn a_gap_in_the_log_is_refused(store: &Store) {
    let world = World::new(store).await;
    let session = Authority::Session(world.start("churn_1").await);
    let gap = store.log_append(write_as(session.clone(), chunk(5, 10, 1))).await.unwrap();
    assert_eq!(gap, Arrived { next: 0, stored: false });
    assert_eq!(store.log_chunks(filter(&world, 0, false), After::first(9)).await.unwrap().items, []);
    let none = store.log_append(write(chunk(0, 1, 1))).await;
    assert_eq!(none, Err(Error::NotFound), "nobody's log");
}

fn metric(name: &str, value: f64) -> Metric {
    Metric { name: name.into(), value: value.into(), kind: MetricKind::Scalar, step: Some(1), time: later(1) }
}

pub(crate) async fn metrics_are_stored_once_and_in_order(store: &Store) {
    let world = World::new(store).await;
    let session = Authority::Session(world.start("churn_1").await);
    let append = async |first, values: &[f64]| {
        let metrics = values.iter().map(|v| (None, metric("loss", *v))).collect();
        store
            .metric_append(write_as(session.clone(), MetricAppend { first, metrics, limits: RunLimits::default() }))
            .await
            .unwrap()
    };
    assert_eq!(append(0, &[3.0, 2.0]).await, Arrived { next: 2, stored: true });
    assert_eq!(append(0, &[3.0, 2.0]).await, Arrived { next: 2, stored: false });
    assert_eq!(append(3, &[0.0]).await, Arrived { next: 2, stored: false }, "a gap");
    assert_eq!(append(1, &[2.0, 1.5]).await, Arrived { next: 3, stored: true }, "the new part of an overlap");
    let (mut values, mut after) = (Vec::new(), None);
    loop {
        let page = store.metric_list(world.workspace, &run_id("churn_1"), After { after, limit: 2 }).await.unwrap();
        values.extend(page.items);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(values, [metric("loss", 3.0), metric("loss", 2.0), metric("loss", 1.5)]);
}

pub(crate) async fn metrics_are_found_by_name(store: &Store) {
    let world = World::new(store).await;
    let session = Authority::Session(world.start("churn_1").await);
    let logged = [("loss", 3.0), ("acc", 0.1), ("loss", 2.0), ("Loss", 9.0)];
    let metrics = logged.iter().map(|(name, value)| (None, metric(name, *value))).collect();
    let append = MetricAppend { first: 0, metrics, limits: RunLimits::default() };
    store.metric_append(write_as(session, append)).await.unwrap();
    let run = run_id("churn_1");
    let first = store.metric_names(world.workspace, &run, After::first(2)).await.unwrap();
    assert_eq!(first.items, ["loss", "acc"]);
    let rest = store.metric_names(world.workspace, &run, After { after: first.next, limit: 2 }).await.unwrap();
    assert_eq!((rest.items, rest.next), (vec!["Loss".to_owned()], None));
    let first = store.metric_named(world.workspace, &run, "loss", After::first(1)).await.unwrap();
    assert_eq!(first.items, [metric("loss", 3.0)]);
    let rest = store.metric_named(world.workspace, &run, "loss", After { after: first.next, limit: 9 }).await.unwrap();
    assert_eq!((rest.items, rest.next), (vec![metric("loss", 2.0)], None));
    assert!(store.metric_named(world.workspace, &run, "nope", After::first(9)).await.unwrap().items.is_empty());
}

pub(crate) async fn a_child_is_written_to_by_its_parent_only(store: &Store) {
    let world = World::new(store).await;
    let session = Authority::Session(world.start("churn_1").await);
    let stranger = Authority::Session(world.start("churn_2").await);
    let child = ChildInsert {
        id: run_id("fold"),
        display_name: None,
        tags: BTreeMap::new(),
        now: NOW,
        limits: RunLimits::default(),
    };
    store.child_insert(write_as(session.clone(), child)).await.unwrap();

    let metrics = |run: &str| MetricAppend {
        first: 0,
        metrics: vec![(Some(run_id(run)), metric("loss", 1.0))],
        limits: RunLimits::default(),
    };
    let output = |run: &str| OutputPut {
        run: Some(run_id(run)),
        path: "outputs/model.pkl".into(),
        blob: BlobId::from_bytes([1; 16]),
        bytes: 10,
        now: NOW,
    };
    assert_eq!(store.metric_append(write_as(stranger.clone(), metrics("fold"))).await, Err(Error::NotFound));
    assert_eq!(store.output_put(write_as(stranger, output("fold"))).await, Err(Error::NotFound));
    store.metric_append(write_as(session.clone(), metrics("fold"))).await.unwrap();
    store.output_put(write_as(session, output("fold"))).await.unwrap();
    let of = |run: &'static str| async move {
        let run = run_id(run);
        let metrics = store.metric_list(world.workspace, &run, After::first(9)).await.unwrap().items.len();
        let outputs = store.output_list(world.workspace, &run, After::first(9)).await.unwrap().items.len();
        (metrics, outputs)
    };
    assert_eq!((of("fold").await, of("churn_1").await), ((1, 1), (0, 0)));
}

pub(crate) async fn the_code_in_a_run_makes_so_much_and_no_more(store: &Store) {
    let world = World::new(store).await;
    let session = Authority::Session(world.start("churn_1").await);
    let limits = RunLimits { metrics: 3, children: 1, changes: 1, bytes: 60 };
    let append = |first, count: u64| {
        let metrics = (0..count).map(|_| (None, metric("loss", 1.0))).collect();
        store.metric_append(write_as(session.clone(), MetricAppend { first, metrics, limits }))
    };
    append(0, 2).await.unwrap();
    append(0, 2).await.expect("what is there already is not counted again");
    assert_eq!(append(2, 2).await, Err(Error::Limit("metrics")));
    assert_eq!(append(2, 1).await, Ok(Arrived { next: 3, stored: true }), "a refusal counted nothing");

    let child = |id: &str, tag: &str| {
        let tags = BTreeMap::from([("t".to_owned(), tag.to_owned())]);
        let insert = ChildInsert { id: run_id(id), display_name: None, tags, now: NOW, limits };
        store.child_insert(write_as(session.clone(), insert))
    };
    assert_eq!(child("fold", &"x".repeat(60)).await.unwrap_err(), Error::Limit("bytes of metrics and tags"));
    child("fold", "1").await.unwrap();
    child("fold", "1").await.expect("the same child again");
    assert_eq!(child("fold_2", "1").await.unwrap_err(), Error::Limit("child runs"));

    let change = |authority: Authority, run: &str| {
        let change = ChangeRun { tags: BTreeMap::from([("t".into(), "2".into())]), ..ChangeRun::default() };
        let change = RunChange { workspace: world.workspace, run: run_id(run), change, limit: 9, limits };
        store.run_change(write_as(authority, change))
    };
    change(session.clone(), "fold").await.unwrap();
    let refused = change(session.clone(), "churn_1").await.unwrap_err();
    assert_eq!(refused, Error::Limit("changes of tags and properties"));
    change(Authority::server(), "churn_1").await.expect("what members change is not counted");
}

pub(crate) async fn an_output_replaces_the_older_one(store: &Store) {
    let world = World::new(store).await;
    let session = Authority::Session(world.start("churn_1").await);
    let put = async |path: &str, blob: u8, bytes| {
        let blob = BlobId::from_bytes([blob; 16]);
        let put = OutputPut { run: None, path: path.into(), blob, bytes, now: later(u64::from(bytes as u8)) };
        store.output_put(write_as(session.clone(), put)).await.unwrap();
    };
    put("outputs/b", 1, 10).await;
    put("outputs/a", 2, 20).await;
    put("outputs/b", 3, 30).await;
    put("outputs/b", 3, 30).await;
    let listed = store.output_list(world.workspace, &run_id("churn_1"), After::first(9)).await.unwrap().items;
    assert_eq!(
        listed.iter().map(|o| (o.path.as_str(), o.bytes)).collect::<Vec<_>>(),
        [("outputs/a", 20), ("outputs/b", 30)]
    );
    let one = store.output_get(world.workspace, &run_id("churn_1"), "outputs/b").await.unwrap().unwrap();
    assert_eq!((one.blob, one.time), (BlobId::from_bytes([3; 16]), later(30)));
    assert_eq!(store.output_get(world.workspace, &run_id("churn_1"), "outputs/c").await.unwrap(), None);

    let orphan = (world.workspace, BlobId::from_bytes([1; 16]));
    assert_eq!(store.blobs_orphaned(later(30), 9).await.unwrap(), []);
    assert_eq!(store.blobs_orphaned(later(31), 9).await.unwrap(), [orphan]);
    let forget = BlobsForget { blobs: vec![orphan, (world.workspace, BlobId::from_bytes([3; 16]))] };
    store.blobs_forget(write(forget)).await.unwrap();
    assert_eq!(store.blobs_orphaned(later(31), 9).await.unwrap(), []);
    assert_eq!(store.blob_usage(world.workspace).await.unwrap(), 50, "what is in use is not forgotten");
}

pub(crate) async fn a_snapshot_belongs_to_its_workspace(store: &Store) {
    let world = World::new(store).await;
    let blob = BlobId::from_bytes([1; 16]);
    let put = SnapshotPut { workspace: world.workspace, blob, bytes: 1000, now: NOW };
    assert!(store.snapshot_put(write(put)).await.unwrap());
    assert!(!store.snapshot_put(write(SnapshotPut { now: later(1), ..put })).await.unwrap(), "it is there already");
    let row = SnapshotRow { blob, bytes: 1000, created: NOW };
    assert_eq!(store.snapshot_get(world.workspace, blob).await.unwrap(), Some(row));
    let (other, _) = world.another_workspace("research").await;
    assert_eq!(store.snapshot_get(other, blob).await.unwrap(), None);
}
