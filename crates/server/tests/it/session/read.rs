//! `/session/secrets`: what a run may read, and when no more.

use std::time::Duration;

use serde_json::json;

use super::launcher::Launcher;
use super::stage::Stage;
use crate::world::{CANARY, refused, text};

#[tokio::test]
async fn an_undeclared_an_unknown_and_a_disabled_secret() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let (run, launcher) = stage.running(json!({ "secrets": ["db-password"] })).await;
    let answer = launcher.read(world, &["db-password", "hub-token"]).await;
    refused(&answer, 403, "secret_undeclared");
    assert!(!answer.text().contains(CANARY), "one refused name refuses all");
    assert!(stage.actions(&run).await.contains(&"refused".to_owned()));
    assert!(!stage.actions(&run).await.contains(&"secret.delivered".to_owned()));

    let (_, free) = stage.running(json!({})).await;
    let read = free.read(world, &["db-password", "no-such"]).await.ok();
    assert_eq!(read["missing"], json!(["no-such"]));
    assert_eq!(read["items"].as_array().unwrap().len(), 1);
    world.delete("/workspaces/team/secrets/hub-token", &world.owner).await.ok();
    assert_eq!(free.read(world, &["hub-token"]).await.ok()["missing"], json!(["hub-token"]));

    let disable = json!({ "enabled": false });
    world.patch("/workspaces/team/secrets/db-password/versions/current", &world.owner, disable).await.ok();
    refused(&free.read(world, &["db-password"]).await, 403, "secret_disabled");
    refused(&launcher.read(world, &["db-password"]).await, 403, "secret_disabled");
}

#[tokio::test]
async fn a_version_is_pinned_at_the_first_read_and_refresh_moves_on() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let (run, launcher) = stage.running(json!({})).await;
    let first = launcher.read(world, &["db-password"]).await.ok();
    stage.set("db-password", "second").await;
    assert_eq!(launcher.read(world, &["db-password"]).await.ok(), first, "pinned");
    let refreshed =
        launcher.post(world, "/session/secrets", json!({ "names": ["db-password"], "refresh": true })).await.ok();
    assert_eq!(refreshed["items"][0]["value"], "second");
    assert_eq!(launcher.read(world, &["db-password"]).await.ok(), refreshed, "pinned anew");
    let pins = world.get(&format!("/workspaces/team/runs/{run}/secrets"), &stage.ada).await.ok();
    assert_eq!(pins["items"][0]["version"], refreshed["items"][0]["version"]);
    assert_eq!(pins["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn nothing_is_read_after_the_end() {
    let stage = Stage::new().await;
    let (run, launcher) = stage.running(json!({})).await;
    launcher.end(&stage.world, 0).await.ok();
    refused(&launcher.read(&stage.world, &["db-password"]).await, 409, "run_ended");
    assert!(!stage.actions(&run).await.contains(&"secret.delivered".to_owned()));
}

#[tokio::test]
async fn nothing_is_read_after_a_cancel_but_the_rest_may_still_be_sent() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let (run, launcher) = stage.running(json!({})).await;
    stage.cancel(&run).await.ok();
    refused(&launcher.read(world, &["db-password"]).await, 409, "run_canceled");
    let told = launcher.beat(world).await.ok();
    assert_eq!(told["status"], "canceled");
    assert!(text(&told["stop"]).contains("ada"), "{told}");
    launcher.log(world, 0, &["bye\n"]).await.ok();
    launcher.piece(world, "outputs/half", 0, true, b"half").await.ok();
    let signal = json!({ "exit": { "signal": 15 }, "blame": "user" });
    launcher.post(world, "/session/end", signal).await.ok();
    let shown = stage.show(&run).await;
    assert_eq!(shown["status"], "canceled");
    assert_eq!(shown["exit"], json!({ "signal": 15 }));
    assert_eq!(stage.log(&run, "?follow=true").await, b"bye\n");
    refused(&launcher.log(world, 1, &["late\n"]).await, 409, "run_canceled");
}

#[tokio::test]
async fn a_canceled_runs_launcher_has_ten_minutes() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let (run, launcher) = stage.running(json!({})).await;
    stage.cancel(&run).await.ok();
    world.advance(Duration::from_mins(9));
    world.app.attempts().clean().await.unwrap();
    launcher.log(world, 0, &["still here\n"]).await.ok();
    world.advance(Duration::from_mins(2));
    world.app.attempts().clean().await.unwrap();
    refused(&launcher.log(world, 1, &["too late\n"]).await, 409, "run_canceled");
    assert_eq!(stage.log(&run, "?follow=true").await, b"still here\n");
}

#[tokio::test]
async fn an_unresponsive_run_reads_nothing_until_contact_returns() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let (run, launcher) = stage.running(json!({})).await;
    world.advance(Duration::from_secs(89));
    stage.sweep().await;
    assert_eq!(stage.status(&run).await, "running");
    world.advance(Duration::from_secs(2));
    stage.sweep().await;
    assert_eq!(stage.status(&run).await, "unresponsive");
    refused(&launcher.read(world, &["db-password"]).await, 409, "run_unresponsive");
    assert_eq!(launcher.beat(world).await.ok()["status"], "running");
    launcher.read(world, &["db-password"]).await.ok();
    let contacts: Vec<_> = stage.audit(&run).await.into_iter().filter(|r| r["action"] == "run.contact").collect();
    let said: Vec<_> = contacts.iter().map(|r| text(&r["name"])).collect();
    assert_eq!(said, ["unresponsive", "running"]);
}

#[tokio::test]
async fn a_submitter_who_loses_access_takes_the_runs_reads_along_at_once() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let (_, launcher) = stage.running(json!({})).await;
    launcher.read(world, &["db-password"]).await.ok();
    world.delete("/workspaces/team/members/ada", &world.owner).await.ok();
    refused(&launcher.read(world, &["db-password"]).await, 403, "forbidden");
    let told = launcher.beat(world).await.ok();
    assert_eq!(told["revoked"], json!(["db-password"]), "the launcher's cache must go too");
}

#[tokio::test]
async fn access_that_was_taken_and_given_back_revives_no_run() {
    type Take = (&'static str, &'static str, serde_json::Value, serde_json::Value);
    let role = |role: &str| json!({ "role": role });
    let takes: [Take; 2] = [
        // A role that submits no runs is as good as none.
        ("PUT", "/workspaces/team/members/ada", role("reader"), role("contributor")),
        ("PATCH", "/principals/ada", json!({ "enabled": false }), json!({ "enabled": true })),
    ];
    for (method, path, take, give) in takes {
        let stage = Stage::new().await;
        let world = &stage.world;
        let (run, launcher) = stage.running(json!({})).await;
        let leased = stage.run(json!({})).await;
        let lease = stage.lease().await;
        stage.confirm(&lease).await.ok();
        let waiting = stage.run(json!({})).await;
        launcher.read(world, &["db-password"]).await.ok();

        world.call(method, path, Some(&world.owner), Some(take)).await.ok();
        let told = launcher.beat(world).await.ok();
        assert_eq!(told["status"], "canceled");
        assert!(text(&told["stop"]).contains("submitter"), "the launcher is told to end: {told}");
        refused(&launcher.get(world, "/session/snapshot").await, 409, "run_canceled");
        refused(&Launcher::new(2).redeem(world, &lease).await, 403, "ticket_refused");
        assert_eq!(stage.lease().await, serde_json::Value::Null, "nobody gets the run that waits");

        world.call(method, path, Some(&world.owner), Some(give)).await.ok();
        refused(&launcher.read(world, &["db-password"]).await, 409, "run_canceled");
        refused(&Launcher::new(2).redeem(world, &lease).await, 409, "run_canceled");
        for ended in [run, leased] {
            assert_eq!(stage.status(&ended).await, "canceled");
        }
        assert_eq!(stage.lease().await["attempt"]["run"], waiting.as_str(), "what waited may start");
    }
}

#[tokio::test]
async fn a_workspace_that_asks_for_declarations_gives_nothing_to_older_runs_without() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let (_, free) = stage.running(json!({})).await;
    let (_, declared) = stage.running(json!({ "secrets": ["db-password"] })).await;
    free.read(world, &["db-password"]).await.ok();
    let settings = json!({ "retention_days": 90, "require_declared_secrets": true, "enforce_validity": false });
    world.patch("/workspaces/team", &world.owner, settings).await.ok();
    refused(&free.read(world, &["db-password"]).await, 403, "secret_undeclared");
    declared.read(world, &["db-password"]).await.ok();
}

#[tokio::test]
async fn every_delivery_is_on_record_before_it_is_answered() {
    let stage = Stage::new().await;
    let (run, launcher) = stage.running(json!({})).await;
    let read = launcher.read(&stage.world, &["db-password", "hub-token"]).await.ok();
    let records = stage.audit(&run).await;
    let delivered: Vec<_> = records.iter().filter(|r| r["action"] == "secret.delivered").collect();
    assert_eq!(delivered.len(), 2);
    for (record, item) in delivered.iter().zip(read["items"].as_array().unwrap()) {
        assert_eq!(record["version"], item["version"]);
        assert_eq!((&record["attempt"], &record["node"]), (&json!(1), &json!(0)));
        assert_eq!(record["session"], launcher.session.as_str());
    }
}

#[tokio::test]
async fn another_attempt_leaves_the_first_ones_session_dead() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let run = stage.run(json!({ "max_attempts": 2 })).await;
    let lease = stage.lease().await;
    stage.confirm(&lease).await.ok();
    let mut first = Launcher::new(1);
    first.redeem(world, &lease).await.ok();
    stage.report(&lease, "gone").await.ok();
    assert_eq!(stage.status(&run).await, "queued");
    refused(&first.read(world, &["db-password"]).await, 409, "run_ended");
    let second = stage.lease().await;
    assert_eq!(second["attempt"]["attempt"], 2);
    refused(&first.read(world, &["db-password"]).await, 409, "run_ended");
    refused(&first.end(world, 0).await, 409, "run_ended");
    assert_eq!(stage.status(&run).await, "starting");
}

#[tokio::test]
async fn a_batch_has_a_limit() {
    let stage = Stage::new().await;
    let (_, launcher) = stage.running(json!({})).await;
    let names: Vec<String> = (0..1001).map(|i| format!("s{i}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    refused(&launcher.read(&stage.world, &names).await, 400, "bad_request");
    refused(&launcher.read(&stage.world, &[]).await, 400, "bad_request");
}
