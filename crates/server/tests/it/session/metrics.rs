//! `/session/logs` and `/session/metrics`: numbered, so that sending again is harmless.

use serde_json::{Value, json};

use super::launcher::record;
use super::stage::Stage;
use crate::world::refused;

#[tokio::test]
async fn log_records_sent_again_are_kept_once() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let (run, launcher) = stage.running(json!({})).await;
    assert_eq!(launcher.log(world, 0, &["a\n", "b\n"]).await.ok()["next"], 2);
    assert_eq!(launcher.log(world, 0, &["a\n", "b\n"]).await.ok()["next"], 2);
    // Some of them are new.
    assert_eq!(launcher.log(world, 1, &["b\n", "c\n"]).await.ok()["next"], 3);
    // A gap stores nothing and says where to go on.
    assert_eq!(launcher.log(world, 7, &["h\n"]).await.ok()["next"], 3);
    assert_eq!(launcher.log(world, 3, &["d\n"]).await.ok()["next"], 4);
    assert_eq!(stage.log(&run, "").await, b"a\nb\nc\nd\n");
}

#[tokio::test]
async fn a_log_is_read_in_parts() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let (run, launcher) = stage.running(json!({})).await;
    for i in 0..10_u64 {
        let records: Vec<Value> = vec![
            record(3 * i, "stdout", format!("out {i}\n").as_bytes()),
            record(3 * i + 1, "system", format!("system {i}\n").as_bytes()),
            record(3 * i + 2, "stderr", format!("err {i}\n").as_bytes()),
        ];
        launcher.post(world, "/session/logs", json!({ "records": records })).await.ok();
    }
    assert_eq!(stage.log(&run, "?tail=3").await, b"err 8\nout 9\nerr 9\n");
    assert_eq!(stage.log(&run, "?tail=2&system=true").await, b"system 8\nsystem 9\n");
    assert_eq!(stage.log(&run, "?from=27").await, b"out 9\nerr 9\n");
    assert_eq!(stage.log(&run, "?tail=0").await, b"");
    assert_eq!(stage.log(&run, "?attempt=1&tail=1").await, b"err 9\n");
    let path = format!("/workspaces/team/runs/{run}/logs");
    refused(&world.get(&format!("{path}?attempt=2"), &stage.ada).await, 404, "not_found");
    refused(&world.get(&format!("{path}?tail=10001"), &stage.ada).await, 400, "bad_request");
}

#[tokio::test]
async fn records_out_of_sequence_or_too_large_are_refused() {
    let stage = Stage::new().await;
    let (_, launcher) = stage.running(json!({})).await;
    let send = |records: Vec<Value>| launcher.post(&stage.world, "/session/logs", json!({ "records": records }));
    refused(&send(vec![record(0, "stdout", b"a"), record(2, "stdout", b"b")]).await, 400, "bad_request");
    refused(&send(vec![record(1, "stdout", b"a"), record(0, "stdout", b"b")]).await, 400, "bad_request");
    refused(&send(vec![record(u64::MAX, "stdout", b"a")]).await, 400, "bad_request");
    refused(&send(vec![]).await, 400, "bad_request");
    refused(&send(vec![record(0, "stdout", &[b'x'; 65_537])]).await, 400, "bad_request");
    assert_eq!(send(vec![record(0, "stdout", &[0xff; 65_536])]).await.ok()["next"], 1);
}

#[tokio::test]
async fn metrics_sent_again_are_kept_once() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let (run, launcher) = stage.running(json!({})).await;
    let metric = |name: &str, value: Value| json!({ "metric": { "name": name, "value": value, "kind": "scalar", "step": 1, "time": "2026-11-24T14:20:00Z" } });
    let send = |first: u64, metrics: Vec<Value>| {
        launcher.post(world, "/session/metrics", json!({ "first": first, "metrics": metrics }))
    };
    assert_eq!(send(0, vec![metric("loss", json!(1))]).await.ok()["next"], 1);
    assert_eq!(send(0, vec![metric("loss", json!(1)), metric("loss", json!(2))]).await.ok()["next"], 2);
    assert_eq!(send(9, vec![metric("loss", json!(9))]).await.ok()["next"], 2);
    let rows = json!({ "epoch": 1, "auc": 0.9 });
    assert_eq!(send(2, vec![metric("row", rows.clone()), metric("text", json!("ok"))]).await.ok()["next"], 4);
    let path = format!("/workspaces/team/runs/{run}/metrics");
    let page = world.get(&format!("{path}?limit=3"), &stage.ada).await.ok();
    let values: Vec<_> = page["items"].as_array().unwrap().iter().map(|m| m["value"].clone()).collect();
    assert_eq!(values, [json!(1), json!(2), rows]);
    let next = crate::world::text(&page["next"]);
    let page = world.get(&format!("{path}?limit=3&after={next}"), &stage.ada).await.ok();
    assert_eq!(page["items"][0]["value"], "ok");
    assert_eq!(page.get("next"), None);

    refused(&send(4, vec![metric("", json!(1))]).await, 400, "bad_request");
    refused(&send(4, vec![metric("big", json!("x".repeat(65_536)))]).await, 400, "bad_request");
    refused(&world.get(&format!("{path}?after=hunter2"), &stage.ada).await, 400, "bad_request");
}

/// Whatever the code in a run does, others go on reading their secrets.
#[tokio::test]
async fn what_a_run_makes_is_bounded_and_refused_on_a_nearly_full_disk() {
    let metric =
        || json!({ "metric": { "name": "loss", "value": 1, "kind": "scalar", "time": "2026-11-24T14:20:00Z" } });
    let limits = kluis_store::runs::RunLimits { metrics: 1200, children: 1, changes: 1, ..Default::default() };
    let world = crate::world::World::with(|options| options.settings.run_limits = limits).await;
    let stage = Stage::over(world).await;
    let (run, launcher) = stage.running(json!({})).await;
    let world = &stage.world;
    let send = |first: u64, count: usize| {
        let metrics: Vec<Value> = (0..count).map(|_| metric()).collect();
        launcher.post(world, "/session/metrics", json!({ "first": first, "metrics": metrics }))
    };
    assert_eq!(send(0, 1100).await.ok()["next"], 1100, "more than are stored in one unit of work");
    refused(&send(1100, 101).await, 409, "run_limit");
    assert_eq!(send(1100, 100).await.ok()["next"], 1200);
    let child = |id: &str| launcher.post(world, "/session/children", json!({ "run": id }));
    child("fold_1").await.ok();
    refused(&child("fold_2").await, 409, "run_limit");
    launcher.patch(world, "/session/run", json!({ "tags": { "a": "1" } })).await.ok();
    refused(&launcher.patch(world, "/session/run", json!({ "tags": { "a": "2" } })).await, 409, "run_limit");
    launcher.read(world, &["db-password"]).await.ok();
    let actions = stage.actions(&run).await;
    assert!(actions.contains(&"run.child_created".to_owned()) && actions.contains(&"run.changed".to_owned()));

    let full = Stage::full().await;
    let (_, starved) = full.running(json!({})).await;
    let metrics = json!({ "first": 0, "metrics": [metric()] });
    refused(&starved.post(&full.world, "/session/metrics", metrics).await, 507, "storage_full");
    let child = starved.post(&full.world, "/session/children", json!({ "run": "fold" })).await;
    refused(&child, 507, "storage_full");
    starved.read(&full.world, &["db-password"]).await.ok();
}
