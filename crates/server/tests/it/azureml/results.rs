//! What comes back from a run: its log by an address of its own, its files, its metrics, its failure.

use std::time::Duration;

use serde_json::{Value, json};

use super::{HERE, ask, at, refused};
use crate::session::launcher::record;
use crate::session::stage::Stage;
use crate::world::{Answer, text};

async fn details(stage: &Stage, run: &str) -> Value {
    let path = at("history/v1.0", &format!("/experiments/churn/runs/{run}/details"));
    ask(&stage.world, "GET", &path, Some(&stage.ada), None).await.ok()
}

/// Fetches what an address points at, without credentials.
async fn fetch(stage: &Stage, address: &str) -> Answer {
    let path = address.strip_prefix(&format!("https://{HERE}")).expect("it leads back here");
    ask(&stage.world, "GET", path, None, None).await
}

#[tokio::test]
async fn a_log_is_followed_line_by_line_without_credentials() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let (run, launcher) = stage.running(json!({})).await;
    let records = [record(0, "stdout", b"one\ntw"), record(1, "system", b"ours\n")];
    launcher.post(world, "/session/logs", json!({ "records": records })).await.ok();
    let shown = details(&stage, &run).await;
    assert_eq!(shown["status"], "Running");
    let logs = &shown["logFiles"];
    let address = text(&logs["user_logs/std_log.txt"]);
    let log = fetch(&stage, &address).await;
    assert_eq!(log.text(), "one\n", "the client counts lines: half a one would be lost");
    assert_eq!(log.headers["content-type"], "text/plain; charset=utf-8");
    assert_eq!(log.headers["x-content-type-options"], "nosniff");
    assert_eq!(fetch(&stage, &text(&logs["system_logs/kluis.txt"])).await.text(), "ours\n");
    launcher.log(world, 2, &["o\nthree"]).await.ok();
    launcher.end(world, 3).await.ok();
    assert_eq!(fetch(&stage, &address).await.text(), "one\ntwo\nthree");
    let ended = details(&stage, &run).await;
    assert_eq!(ended["status"], "Failed");
    assert_eq!(ended["error"]["error"]["details"], json!([]));
    assert!(!text(&ended["error"]["error"]["message"]).is_empty());
}

#[tokio::test]
async fn an_address_is_good_for_one_file_for_minutes_and_as_long_as_its_owner_may() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let (run, launcher) = stage.running(json!({})).await;
    launcher.log(world, 0, &["hello\n"]).await.ok();
    let address = async || text(&details(&stage, &run).await["logFiles"]["user_logs/std_log.txt"]);
    let first = address().await;
    assert_eq!(fetch(&stage, &first).await.text(), "hello\n");
    for other in [
        first.replace("std_log", "other"),
        first.replace(&run, "churn_1_ab"),
        first.replace("user_logs/std_log.txt", "system_logs/kluis.txt"),
        first.replacen(".2.", ".3.", 1),
        first.replace("/files/", "/files/0"),
        first.replace("user_logs/", "user_logs%2f"),
    ] {
        assert_ne!(other, first);
        let (status, _, said) = refused(&fetch(&stage, &other).await);
        assert!(matches!(status, 400 | 404) && !said.contains("hello"), "{status} {said}");
    }
    world.advance(Duration::from_mins(5));
    assert_eq!(refused(&fetch(&stage, &first).await).0, 404);
    let second = address().await;
    fetch(&stage, &second).await;
    world.delete("/workspaces/team/members/ada", &world.owner).await.ok();
    assert_eq!(refused(&fetch(&stage, &second).await).0, 404, "taken away, it is cut off at once");
}

#[tokio::test]
async fn files_are_listed_and_fetched() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let (run, launcher) = stage.running(json!({})).await;
    launcher.piece(world, "outputs/model%20a.pkl", 0, true, b"model").await.ok();
    launcher.piece(world, "outputs/deep/x.txt", 0, true, b"x").await.ok();
    let here = |rest: &str| at("artifact/v2.0", &format!("/artifacts/{rest}"));
    let container = format!("ExperimentRun/dcid.{run}");
    let listed = ask(world, "GET", &here(&container), Some(&stage.ada), None).await.ok();
    let paths: Vec<_> = listed["value"].as_array().unwrap().iter().map(|file| text(&file["path"])).collect();
    assert_eq!(paths, ["user_logs/std_log.txt", "system_logs/kluis.txt", "outputs/deep/x.txt", "outputs/model a.pkl"]);
    let path = here(&format!("contentinfo/{container}/outputs/model%20a.pkl"));
    let one = ask(world, "GET", &path, Some(&stage.ada), None).await.ok();
    let file = fetch(&stage, &text(&one["contentUri"])).await;
    assert_eq!(file.body, b"model");
    assert_eq!(file.headers["content-disposition"], "attachment", "a browser must not show it");
    let below = here(&format!("prefix/contentinfo/{container}/outputs/deep"));
    let below = ask(world, "GET", &below, Some(&stage.ada), None).await.ok();
    assert_eq!(fetch(&stage, &text(&below["value"][0]["contentUri"])).await.body, b"x");
    let missing = here(&format!("contentinfo/{container}/outputs/nope"));
    assert_eq!(refused(&ask(world, "GET", &missing, Some(&stage.ada), None).await).0, 404);
    let strange = here("LocalUpload/dcid.x");
    assert_eq!(refused(&ask(world, "GET", &strange, Some(&stage.ada), None).await).0, 404);
    let up = here(&format!("batch/metadata/{container}"));
    let up = ask(world, "POST", &up, Some(&stage.ada), Some(json!({ "paths": [] }))).await;
    assert!(refused(&up).2.contains("outputs"), "{}", up.text());
}

#[tokio::test]
async fn metrics_are_named_and_then_read_whole() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let (run, launcher) = stage.running(json!({})).await;
    let time = "2026-11-24T14:20:00.000Z";
    let metric = |name: &str, kind: &str, value: Value| json!({ "metric": { "name": name, "kind": kind, "value": value, "time": time } });
    let metrics = json!([
        metric("loss", "scalar", json!(0.5)),
        metric("loss", "scalar", json!("NaN")),
        metric("sizes", "list", json!([1, 2])),
        metric("row", "row", json!({ "a": 1, "b": "x" })),
    ]);
    launcher.post(world, "/session/metrics", json!({ "first": 0, "metrics": metrics })).await.ok();
    let here = |rest: &str| at("metric/v2.0", &format!("/runs/{run}{rest}"));
    let names = ask(world, "POST", &here("/list"), Some(&stage.ada), Some(json!({}))).await.ok();
    let names: Vec<_> = names["value"].as_array().unwrap().iter().map(|m| text(&m["metricKey"]["name"])).collect();
    assert_eq!(names, ["loss", "sizes", "row"]);
    let full = async |name: &str| {
        ask(world, "POST", &here("/full"), Some(&stage.ada), Some(json!({ "metricName": name }))).await
    };
    let loss = full("loss").await.ok();
    assert_eq!(
        (&loss["columns"], &loss["properties"]["uxMetricType"]),
        (&json!({ "loss": "double" }), &json!("azureml.v1.scalar"))
    );
    let cells: Vec<_> = loss["value"].as_array().unwrap().iter().map(|row| &row["data"]["loss"]).collect();
    assert_eq!(cells, [&json!(0.5), &json!("NaN")]);
    assert_eq!(loss["continuationToken"], Value::Null);
    let row = full("row").await.ok();
    assert_eq!(row["value"][0]["data"], json!({ "a": 1, "b": "x" }));
    assert_eq!(row["properties"]["uxMetricType"], "azureml.v1.table");
    assert_eq!(refused(&full("nope").await).0, 404);
    let log = ask(world, "POST", &here("/batch"), Some(&stage.ada), Some(json!({ "values": [] }))).await;
    assert_eq!(refused(&log).0, 400);
}
