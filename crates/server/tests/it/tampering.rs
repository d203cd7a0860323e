//! Somebody who can write to the database, and nothing else: what a row grants is what the server wrote, or nothing.

use kluis_core::run::RunStatus;
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::session::launcher::Launcher;
use crate::session::stage::Stage;
use crate::world::{World, refused, text};

/// Writes to the database of a running server; the statements must change something.
fn tamper(world: &World, statements: &str) {
    let database = Connection::open(world.folder.path().join("data/kluis.db")).unwrap();
    database.busy_timeout(std::time::Duration::from_secs(5)).unwrap();
    let before = database.total_changes();
    database.execute_batch(&format!("PRAGMA foreign_keys = OFF; BEGIN IMMEDIATE; {statements}; COMMIT;")).unwrap();
    assert!(database.total_changes() > before, "{statements}");
}

/// What would give a queued run other rights, another program or another place.
const EDITS: [&str; 7] = [
    "submitted_by = (SELECT id FROM principal WHERE name_key = 'owner')",
    "spec = json_set(spec, '$.program.command.argv[1]', 'theirs.py')",
    "spec = json_set(spec, '$.snapshot', '00000000000000000000000000000000')",
    "spec = json_remove(spec, '$.secrets'), secrets = NULL",
    "max_attempts = 9",
    "created = created + 1",
    "mac = zeroblob(32)",
];

#[tokio::test]
async fn a_run_that_was_edited_in_the_queue_is_not_leased_and_holds_up_nobody() {
    for edit in EDITS {
        let stage = Stage::new().await;
        stage.run(json!({ "run": "mine", "secrets": ["hub-token"] })).await;
        let next = stage.run(json!({})).await;
        tamper(&stage.world, &format!("UPDATE run SET {edit} WHERE id = 'mine'"));
        assert_eq!(stage.lease().await["attempt"]["run"], next.as_str(), "{edit}");
        assert_eq!(stage.lease().await, Value::Null, "{edit}");
        assert_eq!(stage.status("mine").await, "queued");
    }
}

#[tokio::test]
async fn a_run_of_another_target_or_under_another_ones_id_is_not_leased() {
    let stage = Stage::new().await;
    let world = &stage.world;
    world.post("/computes", &world.owner, json!({ "name": "other" })).await.ok();
    for (compute, edit) in [
        ("other", "compute_key = 'cluster'"),
        ("other", "compute_key = 'cluster', compute = 'cluster'"),
        ("cluster", "id = 'theirs'"),
        ("cluster", "id = 'theirs', id_key = 'theirs'"),
    ] {
        stage.run(json!({ "run": "mine", "compute": compute })).await;
        tamper(world, &format!("UPDATE run SET {edit}"));
        assert_eq!(stage.lease().await, Value::Null, "{edit}");
        tamper(world, "DELETE FROM run");
    }
}

#[tokio::test]
async fn a_run_that_was_edited_after_its_lease_gets_no_session() {
    for edit in EDITS {
        let stage = Stage::new().await;
        stage.run(json!({ "run": "mine", "secrets": ["hub-token"] })).await;
        let lease = stage.lease().await;
        stage.confirm(&lease).await.ok();
        tamper(&stage.world, &format!("UPDATE run SET {edit} WHERE id = 'mine'"));
        refused(&Launcher::new(1).redeem(&stage.world, &lease).await, 409, "inconsistent");
    }
}

#[tokio::test]
async fn a_session_is_worth_what_was_granted_and_no_more() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let (_, launcher) = stage.running(json!({ "secrets": ["hub-token"] })).await;
    launcher.read(world, &["hub-token"]).await.ok();
    tamper(world, "UPDATE run SET spec = json_set(spec, '$.snapshot', '00000000000000000000000000000000')");
    refused(&launcher.get(world, "/session/snapshot").await, 409, "inconsistent");
    tamper(world, r#"UPDATE run SET secrets = '["hub-token","db-password"]'"#);
    refused(&launcher.read(world, &["db-password"]).await, 409, "inconsistent");
    tamper(world, "UPDATE run SET secrets = NULL");
    refused(&launcher.read(world, &["db-password"]).await, 409, "inconsistent");
}

#[tokio::test]
async fn a_ticket_that_was_moved_is_none() {
    let stage = Stage::new().await;
    let world = &stage.world;
    for run in ["mine", "theirs"] {
        stage.run(json!({ "run": run })).await;
    }
    let (mine, theirs) = (stage.lease().await, stage.lease().await);
    stage.confirm(&mine).await.ok();
    stage.confirm(&theirs).await.ok();
    tamper(
        world,
        "DELETE FROM ticket WHERE run = (SELECT seq FROM run WHERE id = 'theirs');
         UPDATE ticket SET run = (SELECT seq FROM run WHERE id = 'theirs')",
    );
    let moved = json!({ "attempt": theirs["attempt"], "tickets": mine["tickets"] });
    refused(&Launcher::new(1).redeem(world, &moved).await, 403, "ticket_refused");
    refused(&Launcher::new(1).redeem(world, &mine).await, 403, "ticket_refused");
}

#[tokio::test]
async fn swapped_workspaces_take_and_give_nothing() {
    let stage = Stage::new().await;
    let world = &stage.world;
    world.workspace("decoy").await;
    tamper(
        world,
        "UPDATE workspace SET name = 'tmp', name_key = 'tmp' WHERE name_key = 'team';
         UPDATE workspace SET name = 'team', name_key = 'team' WHERE name_key = 'decoy';
         UPDATE workspace SET name = 'decoy', name_key = 'decoy' WHERE name_key = 'tmp'",
    );
    let set = world.put("/workspaces/team/secrets/production", &world.owner, json!({ "value": "x" })).await;
    refused(&set, 409, "inconsistent");
    refused(&world.get("/workspaces/team/secrets/db-password", &world.owner).await, 409, "inconsistent");
    let listed = world.get("/workspaces", &world.owner).await.ok();
    let names: Vec<_> = listed["items"].as_array().unwrap().iter().map(|w| text(&w["name"])).collect();
    assert_eq!(names, ["default"], "the damaged ones are left out");
    assert_eq!(world.get("/whoami", &stage.ada).await.ok()["workspaces"], json!([]));
}

#[tokio::test]
async fn the_settings_of_a_workspace_are_its_owners() {
    for edit in ["enforce_validity = 0", "require_declared_secrets = 0", "retention_days = 7", "created = 0"] {
        let stage = Stage::new().await;
        let world = &stage.world;
        let strict = json!({ "retention_days": 90, "require_declared_secrets": true, "enforce_validity": true });
        world.patch("/workspaces/team", &world.owner, strict).await.ok();
        let (_, launcher) = stage.running(json!({ "secrets": ["db-password"] })).await;
        tamper(world, &format!("UPDATE workspace SET {edit} WHERE name_key = 'team'"));
        refused(&world.get("/workspaces/team/secrets/db-password", &world.owner).await, 409, "inconsistent");
        refused(&launcher.read(world, &["db-password"]).await, 409, "inconsistent");
        refused(&stage.submit(json!({ "secrets": [] })).await, 409, "inconsistent");
    }
}

#[tokio::test]
async fn a_deleted_workspace_does_not_come_back_by_itself() {
    let world = World::new().await;
    world.workspace("team").await;
    world.delete("/workspaces/team", &world.owner).await.ok();
    tamper(&world, "UPDATE workspace SET deleted = NULL WHERE name_key = 'team'");
    refused(&world.get("/workspaces/team", &world.owner).await, 409, "inconsistent");
}

#[tokio::test]
async fn a_closed_compute_target_stays_closed() {
    let stage = Stage::new().await;
    let world = &stage.world;
    tamper(world, "UPDATE compute SET open = 1 WHERE name_key = 'server'");
    refused(&stage.submit(json!({ "compute": "server" })).await, 409, "inconsistent");
    refused(
        &world.post("/agent/leases", &stage.ada, json!({ "compute": "server", "mine": true })).await,
        409,
        "inconsistent",
    );
    let listed = world.get("/computes", &world.owner).await.ok();
    assert_eq!(listed["items"].as_array().unwrap().len(), 1, "the damaged one is left out");
}

/// One run whose row does not read any more is found first in each look, and passed over.
#[tokio::test]
async fn a_damaged_run_does_not_end_the_watch_over_the_others() {
    let stage = Stage::new().await;
    let world = &stage.world;
    stage.run(json!({ "run": "damaged" })).await;
    stage.lease().await;
    let overdue = stage.run(json!({})).await;
    stage.lease().await;
    let (silent, _) = stage.running(json!({})).await;
    tamper(world, "UPDATE run SET spec = '{}' WHERE id = 'damaged'");
    world.advance(std::time::Duration::from_secs(91));
    let told = world.app.attempts().sweep(crate::world::START).await.unwrap_err();
    assert!(told.to_string().contains("run"), "{told}");
    assert_eq!(stage.status(&overdue).await, RunStatus::Queued.as_str());
    assert_eq!(stage.status(&silent).await, RunStatus::Unresponsive.as_str());
}
