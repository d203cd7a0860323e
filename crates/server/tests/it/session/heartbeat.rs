//! `/session/heartbeat`: reads that are uploaded, and what a launcher is told.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::stage::Stage;
use crate::world::{refused, text};

fn read(sequence: u64, version: &Value) -> Value {
    json!({ "sequence": sequence, "time": "2026-11-24T14:20:00Z", "name": "db-password", "version": version, "rank": 3,
        "pid": 4242 })
}

#[tokio::test]
async fn read_records_are_kept_once_and_a_gap_is_reported() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let (run, launcher) = stage.running(json!({})).await;
    let version = launcher.read(world, &["db-password"]).await.ok()["items"][0]["version"].clone();
    let beat = |reads: Vec<Value>| launcher.post(world, "/session/heartbeat", json!({ "reads": reads }));
    assert_eq!(beat(vec![read(1, &version), read(2, &version)]).await.ok()["reads_received"], 2);
    // The answer was lost, so they come again, with one more.
    let again = vec![read(1, &version), read(2, &version), read(3, &version)];
    assert_eq!(beat(again).await.ok()["reads_received"], 3);
    assert_eq!(beat(vec![read(7, &version)]).await.ok()["reads_received"], 7);

    let records = stage.audit(&run).await;
    let reads: Vec<_> = records.iter().filter(|r| r["action"] == "secret.read").collect();
    let sequences: Vec<_> = reads.iter().map(|r| r["sequence"].as_u64().unwrap()).collect();
    assert_eq!(sequences, [1, 2, 3, 7]);
    assert_eq!((&reads[0]["rank"], &reads[0]["pid"]), (&json!(3), &json!(4242)));
    let delivered = records.iter().find(|r| r["action"] == "secret.delivered").unwrap();
    assert_eq!(reads[0]["secret"], delivered["secret"]);
    let gaps: Vec<_> = records.iter().filter(|r| r["action"] == "secret.read_gap").collect();
    assert_eq!(gaps.len(), 1);
    assert_eq!((&gaps[0]["count"], &gaps[0]["sequence"]), (&json!(3), &json!(4)));
}

#[tokio::test]
async fn a_rotation_and_a_revocation_are_told() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let (_, launcher) = stage.running(json!({})).await;
    launcher.read(world, &["db-password", "hub-token"]).await.ok();
    let quiet = launcher.beat(world).await.ok();
    assert_eq!((quiet.get("rotated"), quiet.get("revoked"), quiet.get("stop")), (None, None, None));

    stage.set("db-password", "second").await;
    let told = launcher.beat(world).await.ok();
    assert_eq!(told["rotated"], json!(["db-password"]));
    assert!(told["notices"].as_u64() > quiet["notices"].as_u64());
    world.delete("/workspaces/team/secrets/hub-token", &world.owner).await.ok();
    let told = launcher.beat(world).await.ok();
    assert_eq!(told["revoked"], json!(["hub-token"]));
}

/// The wait is real time, so the test says what it waits for: a notice, long before the wait is over.
#[tokio::test]
async fn a_waiting_heartbeat_is_woken_by_a_notice() {
    let stage = Arc::new(Stage::new().await);
    for notice in ["rotation", "cancel"] {
        let (run, launcher) = stage.running(json!({})).await;
        launcher.read(&stage.world, &["db-password"]).await.ok();
        let seen = launcher.beat(&stage.world).await.ok()["notices"].clone();
        let waiting = tokio::spawn({
            let stage = stage.clone();
            async move {
                let beat = json!({ "wait_seconds": 20, "notices_seen": seen });
                launcher.post(&stage.world, "/session/heartbeat", beat).await.ok()
            }
        });
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!waiting.is_finished(), "there is nothing to say yet");
        match notice {
            "cancel" => drop(stage.cancel(&run).await.ok()),
            _ => drop(stage.set("db-password", "next").await),
        }
        let told = tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("it was woken").unwrap();
        match notice {
            "cancel" => assert!(text(&told["stop"]).contains("cancelled"), "{told}"),
            _ => assert_eq!(told["rotated"], json!(["db-password"])),
        }
    }
}

#[tokio::test]
async fn contact_is_noted_at_once_not_when_the_wait_is_over() {
    let stage = Arc::new(Stage::new().await);
    let (run, launcher) = stage.running(json!({})).await;
    stage.world.advance(Duration::from_mins(1));
    let now = stage.world.app.now().to_string();
    let waiting = tokio::spawn({
        let stage = stage.clone();
        async move { launcher.post(&stage.world, "/session/heartbeat", json!({ "wait_seconds": 20 })).await }
    });
    for _ in 0..500 {
        if stage.show(&run).await["last_contact"] == now.as_str() {
            assert!(!waiting.is_finished());
            waiting.abort();
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("contact was not noted while the heartbeat waited");
}

#[tokio::test]
async fn bounds_are_kept() {
    let stage = Stage::new().await;
    let (_, launcher) = stage.running(json!({})).await;
    let long = "x".repeat(1001);
    let answer = launcher.post(&stage.world, "/session/heartbeat", json!({ "phase": long })).await;
    refused(&answer, 400, "bad_request");
    let version = json!("0".repeat(32));
    let beyond =
        launcher.post(&stage.world, "/session/heartbeat", json!({ "reads": [read(u64::MAX, &version)] })).await;
    refused(&beyond, 400, "bad_request");
}
