//! Listing, showing, cancelling.

use serde_json::{Value, json};

use crate::session::stage::Stage;
use crate::world::{refused, text};

fn ids(page: &Value) -> Vec<String> {
    page["items"].as_array().unwrap().iter().map(|run| text(&run["id"])).collect()
}

#[tokio::test]
async fn runs_are_listed_newest_first_in_pages_and_by_what_they_are() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let mut all = Vec::new();
    for i in 0..5 {
        all.push(stage.run(json!({ "experiment": if i % 2 == 0 { "even" } else { "odd" } })).await);
    }
    stage.lease().await;
    all.reverse();
    let first = world.get("/workspaces/team/runs?limit=2", &stage.ada).await.ok();
    let second =
        world.get(&format!("/workspaces/team/runs?limit=2&after={}", text(&first["next"])), &stage.ada).await.ok();
    assert_eq!([ids(&first), ids(&second)].concat(), all[..4]);
    let odd = world.get("/workspaces/team/runs?experiment=ODD", &stage.ada).await.ok();
    assert_eq!(ids(&odd), [all[1].clone(), all[3].clone()]);
    let starting = world.get("/workspaces/team/runs?status=starting", &stage.ada).await.ok();
    assert_eq!(ids(&starting), [all[4].clone()]);
    refused(&world.get("/workspaces/team/runs?status=hunter2", &stage.ada).await, 400, "bad_request");
    refused(&world.get("/workspaces/team/runs?limit=0", &stage.ada).await, 400, "bad_request");
    refused(&world.get("/workspaces/team/runs?after=hunter2", &stage.ada).await, 400, "bad_request");
}

#[tokio::test]
async fn a_queued_run_is_canceled_at_once_and_never_leased() {
    let stage = Stage::new().await;
    let run = stage.run(json!({})).await;
    let shown = stage.cancel(&run).await.ok();
    assert_eq!((&shown["status"], &shown["reason"]), (&json!("canceled"), &json!("cancelled by ada")));
    assert_eq!(stage.cancel(&run).await.ok(), shown, "again is harmless");
    assert_eq!(stage.lease().await, Value::Null);
    assert_eq!(stage.actions(&run).await, ["run.submitted", "run.canceled"]);
    assert_eq!(stage.log(&run, "?follow=true").await, b"", "there is nothing to wait for");
}

#[tokio::test]
async fn a_run_canceled_between_lease_and_start_does_not_start() {
    let stage = Stage::new().await;
    let run = stage.run(json!({})).await;
    let lease = stage.lease().await;
    stage.confirm(&lease).await.ok();
    stage.cancel(&run).await.ok();
    let answer = crate::session::launcher::Launcher::new(1).redeem(&stage.world, &lease).await;
    refused(&answer, 409, "run_canceled");
}

#[tokio::test]
async fn cancelling_an_ended_run_changes_nothing() {
    let stage = Stage::new().await;
    let (run, launcher) = stage.running(json!({})).await;
    launcher.end(&stage.world, 0).await.ok();
    assert_eq!(stage.cancel(&run).await.ok()["status"], "completed");
}

#[tokio::test]
async fn a_workspace_with_a_live_run_is_not_deleted() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let (_, launcher) = stage.running(json!({})).await;
    refused(&world.delete("/workspaces/team", &world.owner).await, 409, "conflict");
    launcher.end(world, 0).await.ok();
    world.delete("/workspaces/team", &world.owner).await.ok();
    refused(&world.get("/workspaces/team/runs", &stage.ada).await, 404, "not_found");
}
