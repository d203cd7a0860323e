//! The whole walk, as the protocol tells it, and that the canary is nowhere on the way.

use std::path::{Path, PathBuf};

use kluis_core::plaintext::Plaintext;
use serde_json::json;

use super::launcher::Launcher;
use super::stage::{Stage, bytes_of};
use crate::world::{CANARY, text};

#[tokio::test]
async fn a_run_is_submitted_leased_confirmed_redeemed_reads_and_ends() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let tree = vec![7_u8; 100_000];
    let uploaded = http::Request::post("/api/v1/workspaces/team/snapshots")
        .header("authorization", format!("Bearer {}", stage.ada))
        .body(axum::body::Body::from(tree.clone()))
        .unwrap();
    let snapshot = world.send(uploaded).await.ok();
    assert_eq!(snapshot["bytes"], 100_000);

    let run = stage
        .run(json!({
            "snapshot": snapshot["snapshot"],
            "program": { "script": { "path": "train.py", "arguments": ["--epochs", "3"] } },
            "secrets": ["db-password"],
            "secret_env": { "HUB": "hub-token" },
        }))
        .await;
    let shown = stage.show(&run).await;
    assert_eq!(shown["status"], "queued");
    assert_eq!(shown["secrets"], json!(["db-password", "hub-token"]), "what is delivered is declared");
    assert_eq!(shown["number"], 1);

    let lease = stage.lease().await;
    assert_eq!(lease["attempt"], json!({ "workspace": "team", "run": run, "attempt": 1 }));
    assert_eq!(lease["job"]["submitter"], "ada");
    assert!(!lease["job"].to_string().contains("db-password"), "the engine hears of no secret");
    assert_eq!(stage.status(&run).await, "starting");
    stage.confirm(&lease).await.ok();

    let mut launcher = Launcher::new(1);
    let opened = launcher.redeem(world, &lease).await.ok();
    assert_eq!(opened["context"]["run"], run.as_str());
    assert_eq!(opened["context"]["secret_env"], json!({ "HUB": "hub-token" }));
    assert_eq!(opened["cache_without_contact_seconds"], 3600);
    assert_eq!(stage.status(&run).await, "running");

    let fetched = launcher.get(world, "/session/snapshot").await;
    assert_eq!((fetched.status.as_u16(), fetched.body), (200, tree));

    let read = launcher.read(world, &["DB-Password", "hub-token"]).await.ok();
    assert_eq!(read["items"][0]["name"], "DB-Password", "names come back as asked");
    assert_eq!(read["items"][0]["value"], CANARY);
    assert_eq!(read["items"][1]["value"], "hub");
    assert_eq!(read["missing"], json!([]));

    assert_eq!(launcher.log(world, 0, &["one\n", "two\n"]).await.ok()["next"], 2);
    let metric = |value| json!({ "metric": { "name": "loss", "value": value, "kind": "scalar", "time": "2026-11-24T14:20:00Z" } });
    let metrics = json!({ "first": 0, "metrics": [metric(0.5), metric(0.25)] });
    assert_eq!(launcher.post(world, "/session/metrics", metrics).await.ok()["next"], 2);
    launcher.piece(world, "outputs/model.pkl", 0, false, b"weights").await.ok();
    launcher.piece(world, "outputs/model.pkl", 7, true, b" and biases").await.ok();
    launcher.patch(world, "/session/run", json!({ "tags": { "stage": "done" } })).await.ok();
    let reads = json!([{ "sequence": 1, "time": "2026-11-24T14:20:00Z", "name": "db-password",
        "version": read["items"][0]["version"], "rank": 0, "pid": 4242 }]);
    let leak = json!([{ "secret": "db-password", "encoding": "base64", "stream": "stdout", "rank": 0, "count": 3,
        "first": "2026-11-24T14:20:00Z" }]);
    let end = json!({ "exit": { "code": 0 }, "reads": reads, "leaks": leak });
    launcher.post(world, "/session/end", end).await.ok();

    let shown = stage.show(&run).await;
    assert_eq!(shown["status"], "completed");
    assert_eq!(shown["exit"], json!({ "code": 0 }));
    assert_eq!(shown["tags"], json!({ "stage": "done" }));
    assert_eq!(shown["leaks"][0]["count"], 3);
    assert_eq!(stage.log(&run, "").await, b"one\ntwo\n");
    let metrics = world.get(&format!("/workspaces/team/runs/{run}/metrics"), &stage.ada).await.ok();
    let values: Vec<_> = metrics["items"].as_array().unwrap().iter().map(|m| m["value"].clone()).collect();
    assert_eq!(values, [json!(0.5), json!(0.25)]);
    let files = world.get(&format!("/workspaces/team/runs/{run}/outputs"), &stage.ada).await.ok();
    assert_eq!(files["items"][0]["path"], "outputs/model.pkl");
    assert_eq!(files["items"][0]["bytes"], 18);
    let file = world.get(&format!("/workspaces/team/runs/{run}/outputs/outputs/model.pkl"), &stage.ada).await;
    assert_eq!(file.body, b"weights and biases");
    let secrets = world.get(&format!("/workspaces/team/runs/{run}/secrets"), &stage.ada).await.ok();
    assert_eq!(secrets["items"].as_array().unwrap().len(), 2);

    assert_eq!(
        stage.actions(&run).await,
        [
            "run.submitted",
            "run.leased",
            "run.confirmed",
            "ticket.redeemed",
            "secret.delivered",
            "secret.delivered",
            "run.changed",
            "secret.read",
            "run.leak",
            "run.ended"
        ]
    );
}

#[tokio::test]
async fn the_canary_is_nowhere_in_the_data_folder() {
    let stage = Stage::new().await;
    let (_, launcher) = stage.running(json!({ "secret_env": { "PGPASSWORD": "db-password" } })).await;
    let read = launcher.read(&stage.world, &["db-password"]).await.ok();
    assert_eq!(read["items"][0]["value"], CANARY);
    // What a program prints is sealed as well, masked or not.
    launcher.log(&stage.world, 0, &[CANARY]).await.ok();
    launcher.piece(&stage.world, "outputs/a.txt", 0, false, CANARY.as_bytes()).await.ok();
    launcher.piece(&stage.world, "outputs/b.txt", 0, true, CANARY.as_bytes()).await.ok();
    launcher.end(&stage.world, 0).await.ok();
    let lease_like = Plaintext::from_text(CANARY).unwrap();

    let forms = [
        lease_like.expose().as_bytes().to_vec(),
        data_encoding::BASE64.encode(CANARY.as_bytes()).into_bytes(),
        data_encoding::HEXLOWER.encode(CANARY.as_bytes()).into_bytes(),
        "kluis-canary-7f3a9c%3AZq%2F%2B".as_bytes().to_vec(),
        "kluis-canary".as_bytes().to_vec(),
    ];
    let mut seen = 0;
    for file in files(stage.world.folder.path()) {
        let bytes = std::fs::read(&file).unwrap();
        seen += bytes.len();
        for form in &forms {
            assert!(!bytes.windows(form.len()).any(|w| w == form), "{}", file.display());
        }
    }
    assert!(seen > 100_000, "the database and the blobs were looked through");
}

#[tokio::test]
async fn a_ticket_stands_nowhere_in_the_data_folder() {
    let stage = Stage::new().await;
    stage.run(json!({})).await;
    let lease = stage.lease().await;
    let ticket = text(&lease["tickets"][0]).into_bytes();
    for file in files(stage.world.folder.path()) {
        let bytes = std::fs::read(&file).unwrap();
        assert!(!bytes.windows(ticket.len()).any(|w| w == ticket), "{}", file.display());
    }
}

#[tokio::test]
async fn a_follower_sees_everything_and_then_the_end() {
    let stage = std::sync::Arc::new(Stage::new().await);
    let (run, launcher) = stage.running(json!({})).await;
    let follower = tokio::spawn({
        let (stage, run) = (stage.clone(), run.clone());
        async move { stage.log(&run, "?follow=true").await }
    });
    let mut expected = Vec::new();
    for i in 0..20_u64 {
        let line = format!("line {i}\n");
        launcher.log(&stage.world, i, &[&line]).await.ok();
        expected.extend(line.into_bytes());
        tokio::task::yield_now().await;
    }
    assert!(!follower.is_finished(), "it follows until the end");
    launcher.end(&stage.world, 0).await.ok();
    let followed = tokio::time::timeout(std::time::Duration::from_secs(20), follower).await.expect("it ends");
    assert_eq!(followed.unwrap(), expected);
    assert_eq!(bytes_of(b""), b"");
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}
