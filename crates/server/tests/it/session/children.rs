//! `/session/children` and `/session/run`: what a run says of itself and its children.

use serde_json::json;

use super::stage::Stage;
use crate::world::refused;

#[tokio::test]
async fn a_child_run_is_made_once_has_metrics_and_ends() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let (run, launcher) = stage.running(json!({})).await;
    let create = json!({ "run": "fold-1", "display_name": "fold 1", "tags": { "fold": "1" } });
    let made = launcher.post(world, "/session/children", create.clone()).await.ok();
    assert_eq!(launcher.post(world, "/session/children", create).await.ok(), made, "the same id is the same child");
    let metric = json!({ "run": "fold-1", "metric": { "name": "auc", "value": 0.9, "kind": "scalar",
        "time": "2026-11-24T14:20:00Z" } });
    launcher.post(world, "/session/metrics", json!({ "first": 0, "metrics": [metric] })).await.ok();
    launcher.send(world, "PUT", "/session/outputs/outputs/a?offset=0&last=true&run=fold-1", b"x").await.ok();
    launcher.patch(world, "/session/run?run=fold-1", json!({ "tags": { "best": "yes" } })).await.ok();
    launcher.post(world, "/session/children/fold-1/end", json!({ "status": "completed" })).await.ok();
    launcher.post(world, "/session/children/fold-1/end", json!({ "status": "completed" })).await.ok();
    refused(
        &launcher.post(world, "/session/children/fold-1/end", json!({ "status": "failed" })).await,
        409,
        "conflict",
    );
    refused(
        &launcher.post(world, "/session/children/fold-1/end", json!({ "status": "lost" })).await,
        400,
        "bad_request",
    );

    let child = stage.show("fold-1").await;
    assert_eq!((&child["status"], &child["parent"]), (&json!("completed"), &json!(run)));
    assert_eq!(child["tags"], json!({ "fold": "1", "best": "yes" }));
    let metrics = world.get("/workspaces/team/runs/fold-1/metrics", &stage.ada).await.ok();
    assert_eq!(metrics["items"][0]["value"], 0.9);
    let files = world.get("/workspaces/team/runs/fold-1/outputs", &stage.ada).await.ok();
    assert_eq!(files["items"][0]["path"], "outputs/a");
    let children = world.get(&format!("/workspaces/team/runs?parent={run}"), &stage.ada).await.ok();
    assert_eq!(children["items"].as_array().unwrap().len(), 1);
    let top = world.get("/workspaces/team/runs", &stage.ada).await.ok();
    assert_eq!(top["items"].as_array().unwrap().len(), 1, "children are left out unless asked for");
}

#[tokio::test]
async fn a_run_speaks_only_for_itself_and_its_children() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let (first, _) = stage.running(json!({})).await;
    let (_, launcher) = stage.running(json!({})).await;
    let tags = json!({ "tags": { "a": "b" } });
    refused(&launcher.patch(world, &format!("/session/run?run={first}"), tags).await, 404, "not_found");
    let end = json!({ "status": "failed" });
    refused(&launcher.post(world, &format!("/session/children/{first}/end"), end).await, 404, "not_found");
    let metric = json!({ "run": first, "metric": { "name": "a", "value": 1, "kind": "scalar",
        "time": "2026-11-24T14:20:00Z" } });
    let metrics = json!({ "first": 0, "metrics": [metric] });
    refused(&launcher.post(world, "/session/metrics", metrics).await, 404, "not_found");
    let put = format!("/session/outputs/a?offset=0&last=true&run={first}");
    refused(&launcher.send(world, "PUT", &put, b"x").await, 404, "not_found");
    refused(&launcher.post(world, "/session/children", json!({ "run": first })).await, 409, "conflict");
}

#[tokio::test]
async fn a_property_once_set_stays() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let (run, launcher) = stage.running(json!({})).await;
    launcher.patch(world, "/session/run", json!({ "properties": { "git": "abc" } })).await.ok();
    refused(&launcher.patch(world, "/session/run", json!({ "properties": { "git": "def" } })).await, 409, "conflict");
    let path = format!("/workspaces/team/runs/{run}");
    refused(&world.patch(&path, &stage.ada, json!({ "properties": { "git": "def" } })).await, 409, "conflict");
    let change = json!({ "tags": { "a": "1" }, "display_name": "mine" });
    let shown = world.patch(&path, &stage.ada, change).await.ok();
    assert_eq!((&shown["tags"]["a"], &shown["display_name"]), (&json!("1"), &json!("mine")));
    assert_eq!(shown["properties"]["git"], "abc");
    let shown = world.patch(&path, &stage.ada, json!({ "remove_tags": ["a"] })).await.ok();
    assert_eq!(shown.get("tags"), None);
}
