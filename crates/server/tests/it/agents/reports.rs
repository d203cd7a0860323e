//! `/agent/confirm` and `/agent/report`.

use serde_json::{Value, json};

use crate::session::launcher::Launcher;
use crate::session::stage::Stage;
use crate::world::refused;

#[tokio::test]
async fn a_lease_that_is_given_back_is_there_for_another() {
    let stage = Stage::new().await;
    let run = stage.run(json!({})).await;
    let lease = stage.lease().await;
    stage.report(&lease, "returned").await.ok();
    stage.report(&lease, "returned").await.ok();
    assert_eq!(stage.status(&run).await, "queued");
    assert_eq!(stage.lease().await["attempt"]["attempt"], 2);
    // What is said of the first attempt now does not touch the second.
    stage.report(&lease, "gone").await.ok();
    assert_eq!(stage.status(&run).await, "starting");
    assert!(stage.actions(&run).await.contains(&"run.requeued".to_owned()));
}

#[tokio::test]
async fn the_engines_word_decides_within_the_runs_limit() {
    let stage = Stage::new().await;
    let table = [
        ("refused", 3, "failed", json!("engine")),
        ("launcher_failed", 1, "failed", json!("kluis")),
        ("launcher_failed", 2, "queued", Value::Null),
        ("gone", 1, "lost", json!("engine")),
        ("gone", 2, "queued", Value::Null),
    ];
    for (event, attempts, status, blame) in table {
        let run = stage.run(json!({ "max_attempts": attempts })).await;
        let lease = stage.lease().await;
        stage.confirm(&lease).await.ok();
        stage.report(&lease, event).await.ok();
        stage.report(&lease, event).await.ok();
        let shown = stage.show(&run).await;
        assert_eq!((&shown["status"], &shown["blame"]), (&json!(status), &blame), "{event} {attempts}");
        let code = if status == "queued" {
            stage.cancel(&run).await.ok();
            "run_canceled"
        } else {
            assert!(shown["reason"].is_string(), "{event}: an end says why");
            "run_ended"
        };
        refused(&Launcher::new(1).redeem(&stage.world, &lease).await, 409, code);
    }
}

#[tokio::test]
async fn a_running_job_is_not_given_back_but_it_can_be_gone() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let run = stage.run(json!({ "max_attempts": 2 })).await;
    let lease = stage.lease().await;
    stage.confirm(&lease).await.ok();
    let mut launcher = Launcher::new(1);
    launcher.redeem(world, &lease).await.ok();
    launcher.log(world, 0, &["first\n"]).await.ok();
    refused(&stage.report(&lease, "returned").await, 409, "conflict");
    refused(&stage.report(&lease, "refused").await, 409, "conflict");
    stage.report(&lease, "gone").await.ok();
    assert_eq!(stage.status(&run).await, "queued");

    let second = stage.lease().await;
    stage.confirm(&second).await.ok();
    let mut next = Launcher::new(2);
    next.redeem(world, &second).await.ok();
    next.log(world, 0, &["second\n"]).await.ok();
    next.end(world, 0).await.ok();
    assert_eq!(stage.log(&run, "").await, b"second\n", "the last attempt's");
    assert_eq!(stage.log(&run, "?attempt=1").await, b"first\n");
}

#[tokio::test]
async fn a_canceled_attempt_stays_listed_until_its_engine_is_rid_of_it() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let (run, _) = stage.running(json!({})).await;
    let lease = json!({ "attempt": { "workspace": "team", "run": run, "attempt": 1 } });
    stage.cancel(&run).await.ok();
    let listed = world.get("/agent/attempts?compute=cluster", &stage.agent).await.ok();
    assert_eq!(listed["items"][0]["cancel_requested"], true);
    stage.report(&lease, "gone").await.ok();
    let listed = world.get("/agent/attempts?compute=cluster", &stage.agent).await.ok();
    assert_eq!(listed["items"], json!([]));
    assert_eq!(stage.status(&run).await, "canceled");
}

#[tokio::test]
async fn a_second_handle_for_one_attempt_is_a_conflict() {
    let stage = Stage::new().await;
    stage.run(json!({})).await;
    let lease = stage.lease().await;
    stage.confirm(&lease).await.ok();
    let other = json!({ "attempt": lease["attempt"], "handle": "another", "engine_job": "process 2" });
    refused(&stage.world.post("/agent/confirm", &stage.agent, other).await, 409, "conflict");
    let long = json!({ "attempt": lease["attempt"], "handle": "x".repeat(1001), "engine_job": "" });
    refused(&stage.world.post("/agent/confirm", &stage.agent, long).await, 400, "bad_request");
}
