//! Submitting: what can be known now is refused now.

use serde_json::json;

use crate::session::stage::{Stage, spec};
use crate::world::{refused, text};

#[tokio::test]
async fn secrets_that_can_not_be_read_are_all_named_at_once() {
    let stage = Stage::new().await;
    let world = &stage.world;
    stage.set("old", "x").await;
    stage.set("off", "x").await;
    world.delete("/workspaces/team/secrets/old", &world.owner).await.ok();
    let disable = json!({ "enabled": false });
    world.patch("/workspaces/team/secrets/off/versions/current", &world.owner, disable).await.ok();

    let answer =
        stage.submit(json!({ "secrets": ["db-password", "no-such", "old"], "secret_env": { "A": "off" } })).await;
    refused(&answer, 404, "secret_not_found");
    let detail = answer.detail();
    for part in ["`no-such` is not there", "`old` is deleted", "`off` is disabled"] {
        assert!(detail.contains(part), "{detail}");
    }
    assert!(!detail.contains("db-password"), "{detail}");
    refused(&stage.submit(json!({ "secrets": ["off"] })).await, 403, "secret_disabled");
    let runs = world.get("/workspaces/team/runs", &stage.ada).await.ok();
    assert_eq!(runs["items"], json!([]), "a refused submission leaves nothing");
    let experiments = world.get("/workspaces/team/experiments", &stage.ada).await.ok();
    assert_eq!(experiments["items"], json!([]));
}

#[tokio::test]
async fn what_it_refers_to_must_exist() {
    let stage = Stage::new().await;
    refused(&stage.submit(json!({ "compute": "no-such" })).await, 404, "not_found");
    // Built in, and closed.
    refused(&stage.submit(json!({ "compute": "server" })).await, 404, "not_found");
    refused(&stage.submit(json!({ "snapshot": "0".repeat(32) })).await, 404, "not_found");
    let script = json!({ "program": { "script": { "path": "train.py" } } });
    refused(&stage.submit(script).await, 400, "bad_request");
    let reference = json!({ "environment": { "A": "secret://team/db-password" } });
    let answer = stage.submit(reference).await;
    refused(&answer, 400, "bad_request");
    assert!(answer.detail().contains("secret_env"), "{}", answer.detail());
    stage.submit(json!({ "compute": "local" })).await.ok();
}

#[tokio::test]
async fn a_snapshot_of_another_workspace_does_not_exist() {
    let stage = Stage::new().await;
    let world = &stage.world;
    world.workspace("elsewhere").await;
    let upload = http::Request::post("/api/v1/workspaces/elsewhere/snapshots")
        .header("authorization", format!("Bearer {}", world.owner))
        .body(axum::body::Body::from("tree"))
        .unwrap();
    let stored = world.send(upload).await.ok();
    refused(&stage.submit(json!({ "snapshot": stored["snapshot"] })).await, 404, "not_found");
    let path = format!("/workspaces/team/snapshots/{}", text(&stored["snapshot"]));
    refused(&world.get(&path, &stage.ada).await, 404, "not_found");
}

#[tokio::test]
async fn the_same_id_and_body_is_the_same_run() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let mine = json!({ "run": "mine-1", "secrets": ["hub-token"] });
    let first = stage.submit(mine.clone()).await.ok();
    assert_eq!(stage.submit(mine.clone()).await.ok(), first);
    refused(&stage.submit(json!({ "run": "mine-1" })).await, 409, "conflict");
    // Even when it would be refused by now: the answer may have been lost.
    world.delete("/workspaces/team/secrets/hub-token", &world.owner).await.ok();
    assert_eq!(stage.submit(mine).await.ok(), first);
    let submitted = stage.actions("mine-1").await;
    assert_eq!(submitted, ["run.submitted"]);
    // Another's run is another's.
    let eve = world.user("eve", Some(("team", "contributor"))).await;
    let again = spec(json!({ "run": "mine-1", "secrets": ["hub-token"] }));
    refused(&world.post("/workspaces/team/runs", &eve, again).await, 409, "conflict");
}

#[tokio::test]
async fn a_workspace_may_require_declared_secrets() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let settings = json!({ "retention_days": 90, "require_declared_secrets": true, "enforce_validity": false });
    world.patch("/workspaces/team", &world.owner, settings).await.ok();
    let answer = stage.submit(json!({})).await;
    refused(&answer, 400, "bad_request");
    assert!(answer.detail().contains("declare"), "{}", answer.detail());
    stage.submit(json!({ "secrets": [] })).await.ok();
    stage.submit(json!({ "secret_env": { "A": "hub-token" } })).await.ok();
}

#[tokio::test]
async fn numbers_count_within_an_experiment() {
    let stage = Stage::new().await;
    let number =
        async |experiment: &str| stage.submit(json!({ "experiment": experiment })).await.ok()["number"].clone();
    assert_eq!(number("churn").await, 1);
    assert_eq!(number("other").await, 1);
    assert_eq!(number("CHURN").await, 2);
    let listed = stage.world.get("/workspaces/team/experiments", &stage.ada).await.ok();
    assert_eq!((&listed["items"][0]["name"], &listed["items"][0]["runs"]), (&json!("churn"), &json!(2)));
}

#[tokio::test]
async fn unknown_fields_and_bad_names_are_refused_without_being_repeated() {
    let stage = Stage::new().await;
    for (more, code) in [
        (json!({ "hunter2": 1 }), "bad_request"),
        (json!({ "experiment": "hunter2/" }), "invalid_name"),
        (json!({ "secrets": ["hunter2 "] }), "invalid_name"),
        (json!({ "environment": { "hunter2-x": "" } }), "bad_request"),
        (json!({ "secret_files": { "../hunter2": "hub-token" } }), "bad_request"),
        (json!({ "program": { "command": { "argv": [] } } }), "bad_request"),
        (json!({ "max_attempts": 11 }), "bad_request"),
    ] {
        let answer = stage.submit(more.clone()).await;
        refused(&answer, 400, code);
        assert!(!answer.text().contains("hunter2"), "{more}: {}", answer.text());
    }
}
