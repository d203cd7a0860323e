//! `/session/end`: the run's end and who is to blame.

use serde_json::json;

use super::stage::Stage;
use crate::world::refused;

#[tokio::test]
async fn saying_the_end_again_is_harmless_and_changes_nothing() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let (run, launcher) = stage.running(json!({})).await;
    launcher.end(world, 0).await.ok();
    let shown = stage.show(&run).await;
    launcher.end(world, 1).await.ok();
    assert_eq!(stage.show(&run).await, shown);
    let ends = stage.actions(&run).await.iter().filter(|a| *a == "run.ended").count();
    assert_eq!(ends, 1);
    refused(&launcher.beat(world).await, 409, "run_ended");
}

#[tokio::test]
async fn who_is_to_blame() {
    let stage = Stage::new().await;
    let table = [
        (json!({ "exit": { "code": 0 } }), "completed", json!(null)),
        (json!({ "exit": { "code": 3 } }), "failed", json!("script")),
        (json!({ "exit": { "signal": 9 }, "blame": "engine", "reason": "out of memory" }), "failed", json!("engine")),
        (json!({ "reason": "no python here" }), "failed", json!("kluis")),
        (json!({ "blame": "script", "reason": "train.py does not exist" }), "failed", json!("script")),
    ];
    for (end, status, blame) in table {
        let (run, launcher) = stage.running(json!({})).await;
        launcher.post(&stage.world, "/session/end", end.clone()).await.ok();
        let shown = stage.show(&run).await;
        assert_eq!((&shown["status"], &shown["blame"]), (&json!(status), &blame), "{end}");
        assert_eq!(shown["reason"], end["reason"], "{end}");
    }
}

#[tokio::test]
async fn a_silent_run_may_still_end() {
    let stage = Stage::new().await;
    let (run, launcher) = stage.running(json!({})).await;
    stage.world.advance(std::time::Duration::from_secs(91));
    stage.sweep().await;
    assert_eq!(stage.status(&run).await, "unresponsive");
    launcher.end(&stage.world, 0).await.ok();
    assert_eq!(stage.status(&run).await, "completed");
}
