//! Who may do what with runs.

use serde_json::json;

use crate::session::stage::{Stage, spec};
use crate::world::{World, refused};

#[tokio::test]
async fn each_role_and_each_route() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let (run, launcher) = stage.running(json!({})).await;
    launcher.log(world, 0, &["x\n"]).await.ok();
    launcher.piece(world, "outputs/a", 0, true, b"x").await.ok();
    let tree = upload(world, &stage.ada).await;
    let snapshot = crate::world::text(&tree.ok()["snapshot"]);

    let reader = world.user("reader", Some(("team", "reader"))).await;
    let writer = world.user("writer", Some(("team", "secrets-writer"))).await;
    let outsider = world.user("outsider", None).await;
    let reads = [
        "/workspaces/team/experiments".to_owned(),
        "/workspaces/team/runs".to_owned(),
        format!("/workspaces/team/runs/{run}"),
        format!("/workspaces/team/runs/{run}/logs"),
        format!("/workspaces/team/runs/{run}/metrics"),
        format!("/workspaces/team/runs/{run}/secrets"),
        format!("/workspaces/team/runs/{run}/outputs"),
        format!("/workspaces/team/runs/{run}/outputs/outputs/a"),
        format!("/workspaces/team/snapshots/{snapshot}"),
    ];
    for path in &reads {
        assert!(world.get(path, &reader).await.status.is_success(), "{path}");
        assert!(world.get(path, &stage.ada).await.status.is_success(), "{path}");
        refused(&world.get(path, &writer).await, 403, "forbidden");
        refused(&world.get(path, &outsider).await, 404, "not_found");
        refused(&world.get(path, &stage.agent).await, 404, "not_found");
        refused(&world.call("GET", path, None, None).await, 401, "unauthenticated");
    }
    for (token, status, code) in [
        (&reader, 403, "forbidden"),
        (&writer, 403, "forbidden"),
        (&outsider, 404, "not_found"),
        (&stage.agent, 404, "not_found"),
    ] {
        refused(&world.post("/workspaces/team/runs", token, spec(json!({}))).await, status, code);
        refused(&upload(world, token).await, status, code);
        let path = format!("/workspaces/team/runs/{run}");
        refused(&world.patch(&path, token, json!({ "display_name": "mine" })).await, status, code);
        refused(&world.call("POST", &format!("{path}/cancel"), Some(token), None).await, status, code);
    }
    assert_eq!(stage.status(&run).await, "running");
}

#[tokio::test]
async fn a_follower_who_loses_access_is_cut_off() {
    let stage = std::sync::Arc::new(Stage::new().await);
    let (run, launcher) = stage.running(json!({})).await;
    let reader = stage.world.user("reader", Some(("team", "reader"))).await;
    let following = tokio::spawn({
        let (stage, path) = (stage.clone(), format!("/workspaces/team/runs/{run}/logs?follow=true"));
        async move { stage.world.stream(&path, &reader).await }
    });
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    stage.world.delete("/workspaces/team/members/reader", &stage.world.owner).await.ok();
    launcher.log(&stage.world, 0, &["for members only\n"]).await.ok();
    let cut = tokio::time::timeout(std::time::Duration::from_secs(10), following).await.expect("it ends").unwrap();
    assert_eq!(cut, Err(Vec::new()), "an error, and not a byte of what came later");
}

async fn upload(world: &World, token: &str) -> crate::world::Answer {
    let upload = http::Request::post("/api/v1/workspaces/team/snapshots")
        .header("authorization", format!("Bearer {token}"))
        .body(axum::body::Body::from("tree"))
        .unwrap();
    world.send(upload).await
}
