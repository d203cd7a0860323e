//! `/workspaces`.

use serde_json::json;

use crate::world::{World, refused, text};

mod keys;
mod members;
mod secrets;

async fn names(world: &World, token: &str) -> Vec<String> {
    let page = world.get("/workspaces", token).await.ok();
    page["items"].as_array().unwrap().iter().map(|w| text(&w["name"])).collect()
}

#[tokio::test]
async fn members_see_their_workspaces_and_no_others() {
    let world = World::new().await;
    world.workspace("vision").await;
    let ada = world.user("ada", Some(("vision", "reader"))).await;
    assert_eq!(names(&world, &ada).await, ["vision"]);
    assert_eq!(names(&world, &world.owner).await, ["default", "vision"]);
    assert_eq!(world.get("/workspaces/VISION", &ada).await.ok()["role"], "reader");
    refused(&world.get("/workspaces/default", &ada).await, 404, "not_found");
    refused(&world.get("/workspaces/nowhere", &ada).await, 404, "not_found");
}

#[tokio::test]
async fn what_one_may_not_see_and_what_is_not_there_look_the_same() {
    let world = World::new().await;
    let ada = world.user("ada", None).await;
    let (there, not) = (world.get("/workspaces/default", &ada).await, world.get("/workspaces/nowhere", &ada).await);
    assert_eq!((there.status, there.detail()), (not.status, not.detail()));
    let refusals = world.actions().await.iter().filter(|a| *a == "refused").count();
    assert_eq!(refusals, 2, "both leave a record");
}

#[tokio::test]
async fn settings_are_kept_within_bounds() {
    let world = World::new().await;
    let changed = world.patch("/workspaces/default", &world.owner, json!({ "retention_days": 7 })).await.ok();
    assert_eq!(changed["settings"]["retention_days"], 7);
    assert_eq!(world.get("/workspaces/default", &world.owner).await.ok()["settings"], changed["settings"]);
    for days in [0, 6, 91] {
        let change = json!({ "retention_days": days });
        refused(&world.patch("/workspaces/default", &world.owner, change.clone()).await, 400, "bad_request");
        let create = json!({ "name": "w", "settings": change });
        refused(&world.post("/workspaces", &world.owner, create).await, 400, "bad_request");
    }
    refused(&world.patch("/workspaces/default", &world.owner, json!({ "retention": 7 })).await, 400, "bad_request");
    refused(&world.get("/workspaces/w", &world.owner).await, 404, "not_found");
}

#[tokio::test]
async fn a_name_is_taken_in_any_spelling() {
    let world = World::new().await;
    refused(&world.post("/workspaces", &world.owner, json!({ "name": "Default" })).await, 409, "conflict");
    for name in ["", "-a", "a b", "a_b", "a.b", &"a".repeat(64)] {
        refused(&world.post("/workspaces", &world.owner, json!({ "name": name })).await, 400, "invalid_name");
    }
}

#[tokio::test]
async fn a_deleted_workspace_is_gone_and_its_name_stays_taken() {
    let world = World::new().await;
    world.workspace("vision").await;
    let ada = world.user("ada", Some(("vision", "contributor"))).await;
    world.put("/workspaces/vision/secrets/a", &ada, json!({ "value": "v" })).await.ok();
    refused(&world.delete("/workspaces/vision", &ada).await, 403, "forbidden");
    world.delete("/workspaces/vision", &world.owner).await.ok();
    for token in [&ada, &world.owner] {
        refused(&world.get("/workspaces/vision", token).await, 404, "not_found");
        refused(&world.get("/workspaces/vision/secrets/a", token).await, 404, "not_found");
    }
    refused(&world.post("/workspaces", &world.owner, json!({ "name": "vision" })).await, 409, "conflict");
}

#[tokio::test]
async fn a_deleted_workspace_is_erased_when_its_time_is_over() {
    let stage = crate::session::stage::Stage::new().await;
    let world = &stage.world;
    let (_, launcher) = stage.running(json!({})).await;
    launcher.log(world, 0, &["hello\n"]).await.ok();
    launcher.piece(world, "outputs/a", 0, true, b"x").await.ok();
    launcher.read(world, &["db-password"]).await.ok();
    launcher.post(world, "/session/children", json!({ "run": "fold" })).await.ok();
    launcher.end(world, 0).await.ok();
    let id = text(&world.get("/workspaces/team", &world.owner).await.ok()["id"]);
    world.delete("/workspaces/team", &world.owner).await.ok();
    let data = world.folder.path().join("data");
    let rows = |table: &str| {
        let database = rusqlite::Connection::open(data.join("kluis.db")).unwrap();
        let count = format!("SELECT count(*) FROM {table} WHERE workspace = x'{id}'");
        database.query_row(&count, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    world.advance(std::time::Duration::from_hours(89 * 24));
    world.app.workspaces().purge_due().await.unwrap();
    assert!(rows("version") > 0 && rows("run") > 0, "kept as long as deleted secrets are");
    world.advance(std::time::Duration::from_hours(2 * 24));
    world.app.workspaces().purge_due().await.unwrap();
    for table in ["version", "secret", "run", "experiment"] {
        assert_eq!(rows(table), 0, "{table}");
    }
    assert!(rows("blob") > 0 && rows("workspace_key") > 0, "somebody may still be reading its blobs");
    world.advance(std::time::Duration::from_hours(2));
    world.app.attempts().clean().await.unwrap();
    world.app.workspaces().purge_due().await.unwrap();
    assert_eq!((rows("blob"), rows("workspace_key")), (0, 0));
    let erased = world.actions().await.iter().filter(|a| *a == "workspace.purged").count();
    assert_eq!(erased, 1);
    world.app.workspaces().purge_due().await.unwrap();
    refused(&world.post("/workspaces", &world.owner, json!({ "name": "team" })).await, 409, "conflict");
    assert_eq!(world.app.store.health().findings, []);
}
