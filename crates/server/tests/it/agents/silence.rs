//! What happens when nobody says anything, and that the server's own absence is nobody's fault.

use std::sync::Arc;
use std::time::Duration;

use kluis_server::Server;
use serde_json::json;

use crate::session::launcher::Launcher;
use crate::session::stage::Stage;
use crate::world::options;

#[tokio::test]
async fn a_lease_that_is_not_confirmed_goes_back_after_a_minute() {
    let stage = Stage::new().await;
    let run = stage.run(json!({})).await;
    stage.lease().await;
    stage.world.advance(Duration::from_secs(59));
    stage.sweep().await;
    assert_eq!(stage.status(&run).await, "starting");
    stage.world.advance(Duration::from_secs(2));
    stage.sweep().await;
    assert_eq!(stage.status(&run).await, "queued");
}

#[tokio::test]
async fn a_launcher_that_does_not_come_fails_the_run_or_is_tried_again() {
    let stage = Stage::new().await;
    for (attempts, status) in [(1, "failed"), (2, "queued")] {
        let run = stage.run(json!({ "max_attempts": attempts })).await;
        let lease = stage.lease().await;
        stage.confirm(&lease).await.ok();
        stage.world.advance(Duration::from_secs(119));
        stage.sweep().await;
        assert_eq!(stage.status(&run).await, "starting");
        stage.world.advance(Duration::from_secs(2));
        stage.sweep().await;
        let shown = stage.show(&run).await;
        assert_eq!(shown["status"], status);
        if status == "failed" {
            assert_eq!(shown["blame"], "kluis");
        }
    }
}

#[tokio::test]
async fn silence_is_unresponsive_after_90_seconds_and_lost_only_after_a_day() {
    let stage = Stage::new().await;
    let (run, _) = stage.running(json!({})).await;
    stage.world.advance(Duration::from_secs(91));
    stage.sweep().await;
    assert_eq!(stage.status(&run).await, "unresponsive");
    stage.world.advance(Duration::from_hours(23));
    stage.sweep().await;
    assert_eq!(stage.status(&run).await, "unresponsive");
    stage.world.advance(Duration::from_hours(1));
    stage.sweep().await;
    let shown = stage.show(&run).await;
    assert_eq!((&shown["status"], &shown["blame"]), (&json!("lost"), &json!("engine")));
    let records = stage.audit(&run).await;
    assert_eq!(records.last().unwrap()["name"], "lost");
}

#[tokio::test]
async fn a_server_that_has_just_started_calls_nobody_silent() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let (run, _) = stage.running(json!({})).await;
    let waiting = stage.run(json!({})).await;
    stage.lease().await;
    world.app.attempts().listens(0).await.unwrap();
    world.advance(Duration::from_hours(48));
    let started = world.app.now();
    world.app.attempts().resume(0).await.unwrap();
    world.app.attempts().sweep(started).await.unwrap();
    assert_eq!(stage.status(&run).await, "running");
    assert_eq!(stage.status(&waiting).await, "starting");
    world.advance(Duration::from_secs(91));
    world.app.attempts().sweep(started).await.unwrap();
    assert_eq!(stage.status(&run).await, "unresponsive");
    assert_eq!(stage.status(&waiting).await, "queued");
}

/// What counts for the watch over unredeemed tickets counts for the ticket: otherwise it would be refused as too old while
/// it is still waited for.
#[tokio::test]
async fn a_ticket_outlives_a_machine_that_slept() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let run = stage.run(json!({})).await;
    let lease = stage.lease().await;
    stage.confirm(&lease).await.ok();
    world.advance(Duration::from_hours(1));
    world.app.listening.begin(world.app.now());
    world.advance(Duration::from_secs(119));
    world.app.attempts().sweep(world.app.listening.since()).await.unwrap();
    assert_eq!(stage.status(&run).await, "starting");
    Launcher::new(1).redeem(world, &lease).await.ok();
}

/// Twelve hours of silence on each of two days, between restarts: the night in which the server was off does not count,
/// and what it heard before is not forgotten.
#[tokio::test]
async fn a_server_that_restarts_daily_still_gives_up_on_the_lost() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let attempts = world.app.attempts();
    let (run, _) = stage.running(json!({})).await;
    for day in 1..=2 {
        attempts.resume(0).await.unwrap();
        let started = world.app.now();
        for _ in 0..12 {
            assert_ne!(stage.status(&run).await, "lost", "day {day}");
            world.advance(Duration::from_hours(1));
            attempts.sweep(started).await.unwrap();
            attempts.listens(0).await.unwrap();
        }
        if day == 1 {
            world.advance(Duration::from_hours(12));
        }
    }
    world.advance(Duration::from_secs(1));
    attempts.listens(0).await.unwrap();
    attempts.resume(0).await.unwrap();
    let restarted = world.app.now();
    attempts.sweep(restarted).await.unwrap();
    assert_eq!(stage.status(&run).await, "unresponsive", "after a start there is time to be heard first");
    world.advance(Duration::from_secs(91));
    attempts.sweep(restarted).await.unwrap();
    assert_eq!(stage.status(&run).await, "lost");
}

#[tokio::test]
async fn a_ticket_outlives_the_servers_absence_and_a_session_too() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let (_, running) = stage.running(json!({})).await;
    stage.run(json!({})).await;
    let lease = stage.lease().await;
    stage.confirm(&lease).await.ok();
    world.app.store.close();
    world.advance(Duration::from_hours(2));

    let clock = Arc::clone(&world.clock);
    let (app, _) = Server::open(&options(&world.folder, &clock)).await.unwrap();
    let restarted = world.over(app);
    running.beat(&restarted).await.ok();
    running.read(&restarted, &["db-password"]).await.ok();
    restarted.advance(Duration::from_secs(119));
    let mut launcher = Launcher::new(2);
    launcher.redeem(&restarted, &lease).await.ok();
}
