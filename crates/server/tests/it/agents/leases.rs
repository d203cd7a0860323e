//! `/agent/leases` and `/agent/attempts`: an agent of one target is nobody on another.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::session::launcher::Launcher;
use crate::session::stage::{Stage, spec};
use crate::world::{refused, text};

async fn ask(stage: &Stage, token: &str, request: Value) -> crate::world::Answer {
    stage.world.post("/agent/leases", token, request).await
}

#[tokio::test]
async fn the_oldest_run_is_leased_once() {
    let stage = Stage::new().await;
    let first = stage.run(json!({})).await;
    let second = stage.run(json!({})).await;
    assert_eq!(stage.lease().await["attempt"]["run"], first.as_str());
    assert_eq!(stage.lease().await["attempt"]["run"], second.as_str());
    assert_eq!(stage.lease().await, Value::Null);
    let seen = stage.world.get("/computes/cluster", &stage.ada).await.ok();
    assert!(seen["last_seen"].is_string(), "members see that an agent asks");
}

#[tokio::test]
async fn an_agent_of_another_target_is_refused_and_hears_nothing() {
    let stage = Stage::new().await;
    let world = &stage.world;
    world.post("/computes", &world.owner, json!({ "name": "other", "open": false })).await.ok();
    let stranger = world.agent("stranger", "other").await;
    stage.run(json!({})).await;

    // `cluster` is open, so that it exists is no secret; but serving it is not the stranger's.
    refused(&ask(&stage, &stranger, json!({ "compute": "cluster" })).await, 403, "forbidden");
    let nothing = ask(&stage, &stranger, json!({ "compute": "cluster", "mine": true })).await.ok();
    assert_eq!(nothing.get("lease"), None, "it has no run of its own");
    // `other` is closed: for the agent of `cluster` it does not exist.
    refused(&ask(&stage, &stage.agent, json!({ "compute": "other" })).await, 404, "not_found");
    refused(&ask(&stage, &stage.agent, json!({ "compute": "no-such" })).await, 404, "not_found");

    let lease = stage.lease().await;
    let confirm = json!({ "attempt": lease["attempt"], "handle": "h", "engine_job": "j" });
    refused(&world.post("/agent/confirm", &stranger, confirm).await, 404, "not_found");
    let report = json!({ "attempt": lease["attempt"], "event": "gone", "reason": "" });
    refused(&world.post("/agent/report", &stranger, report.clone()).await, 404, "not_found");
    refused(&world.post("/agent/report", &stage.ada, report.clone()).await, 403, "forbidden");
    let outsider = world.user("outsider", None).await;
    refused(&world.post("/agent/report", &outsider, report).await, 404, "not_found");
    let attempts = world.get("/agent/attempts?compute=cluster", &stranger).await.ok();
    assert_eq!(attempts["items"], json!([]));
    refused(&world.get("/agent/attempts?compute=other", &stage.agent).await, 404, "not_found");
    let attempts = world.get("/agent/attempts?compute=cluster", &stage.agent).await.ok();
    assert_eq!(attempts["items"][0]["attempt"], lease["attempt"]);
    assert_eq!(attempts["items"][0].get("handle"), None);
    stage.confirm(&lease).await.ok();
    let attempts = world.get("/agent/attempts?compute=cluster", &stage.agent).await.ok();
    assert_eq!(attempts["items"][0]["handle"], "h1");
}

#[tokio::test]
async fn an_agent_reads_nothing_else() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let run = stage.run(json!({})).await;
    for path in [
        "/workspaces/team/runs".to_owned(),
        format!("/workspaces/team/runs/{run}"),
        format!("/workspaces/team/runs/{run}/logs"),
        "/workspaces/team/secrets/db-password".to_owned(),
    ] {
        refused(&world.get(&path, &stage.agent).await, 404, "not_found");
    }
}

#[tokio::test]
async fn an_agent_does_not_learn_which_workspaces_there_are() {
    let stage = Stage::new().await;
    for workspace in ["team", "no-such"] {
        let named = json!({ "compute": "cluster", "run": { "workspace": workspace, "run": "no-such" } });
        assert_eq!(ask(&stage, &stage.agent, named).await.ok().get("lease"), None, "{workspace}");
    }
}

#[tokio::test]
async fn a_removed_member_runs_nothing_of_his_own() {
    let stage = Stage::new().await;
    let world = &stage.world;
    stage.run(json!({})).await;
    let run = stage.run(json!({ "compute": "local" })).await;
    world.delete("/workspaces/team/members/ada", &world.owner).await.ok();
    let mine = json!({ "compute": "cluster", "mine": true });
    assert_eq!(ask(&stage, &stage.ada, mine).await.ok().get("lease"), None);
    let named = json!({ "compute": "local", "run": { "workspace": "team", "run": run } });
    refused(&ask(&stage, &stage.ada, named).await, 404, "not_found");
    assert_eq!(stage.lease().await, Value::Null, "nor does an agent");
}

#[tokio::test]
async fn a_run_waits_while_its_submitter_may_not_use_its_target() {
    let stage = Stage::new().await;
    let world = &stage.world;
    world.post("/computes", &world.owner, json!({ "name": "closed", "open": false })).await.ok();
    let agent = world.agent("closed-agent", "closed").await;
    let users = "/computes/closed/users/ada";
    world.call("PUT", users, Some(&world.owner), None).await.ok();
    let run = stage.run(json!({ "compute": "closed" })).await;
    world.delete(users, &world.owner).await.ok();
    let asked = json!({ "compute": "closed" });
    assert_eq!(ask(&stage, &agent, asked.clone()).await.ok().get("lease"), None);
    world.call("PUT", users, Some(&world.owner), None).await.ok();
    assert_eq!(ask(&stage, &agent, asked).await.ok()["lease"]["attempt"]["run"], run.as_str());
}

#[tokio::test]
async fn local_is_the_submitters_own_machine() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let eve = world.user("eve", Some(("team", "contributor"))).await;
    let run = stage.run(json!({ "compute": "local" })).await;
    let named = json!({ "compute": "local", "run": { "workspace": "team", "run": run } });
    refused(&ask(&stage, &stage.ada, json!({ "compute": "local" })).await, 400, "bad_request");
    refused(&ask(&stage, &eve, named.clone()).await, 403, "forbidden");
    refused(&ask(&stage, &stage.agent, named.clone()).await, 404, "not_found");
    let lease = ask(&stage, &stage.ada, named).await.ok()["lease"].clone();
    assert_eq!(lease["attempt"]["run"], run.as_str());

    let confirm = json!({ "attempt": lease["attempt"], "handle": "h", "engine_job": "process 1" });
    refused(&world.post("/agent/confirm", &eve, confirm.clone()).await, 403, "forbidden");
    world.post("/agent/confirm", &stage.ada, confirm).await.ok();
    let mut launcher = Launcher::new(1);
    launcher.redeem(world, &lease).await.ok();
    launcher.read(world, &["db-password"]).await.ok();
    let attempts = world.get("/agent/attempts?compute=local", &eve).await.ok();
    assert_eq!(attempts["items"], json!([]), "nobody sees another's machine");
    let attempts = world.get("/agent/attempts?compute=local", &stage.ada).await.ok();
    assert_eq!(attempts["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn mine_leases_ones_own_runs_on_a_target_one_may_use() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let eve = world.user("eve", Some(("team", "contributor"))).await;
    stage.run(json!({})).await;
    let mine = json!({ "compute": "cluster", "mine": true });
    assert_eq!(ask(&stage, &eve, mine.clone()).await.ok().get("lease"), None, "Ada's run is not Eve's");
    let own = text(&world.post("/workspaces/team/runs", &eve, spec(json!({}))).await.ok()["id"]);
    let lease = ask(&stage, &eve, mine.clone()).await.ok()["lease"].clone();
    assert_eq!(lease["attempt"]["run"], own.as_str());
    let report = json!({ "attempt": lease["attempt"], "event": "returned", "reason": "" });
    world.post("/agent/report", &eve, report).await.ok();

    // A closed target is only for those it was opened to.
    world.post("/computes", &world.owner, json!({ "name": "closed", "open": false })).await.ok();
    let closed = json!({ "compute": "closed", "mine": true });
    refused(&ask(&stage, &eve, closed.clone()).await, 404, "not_found");
    refused(&stage.submit(json!({ "compute": "closed" })).await, 404, "not_found");
    world.call("PUT", "/computes/closed/users/eve", Some(&world.owner), None).await.ok();
    assert_eq!(ask(&stage, &eve, closed).await.ok().get("lease"), None);
}

#[tokio::test]
async fn an_agent_that_serves_no_more_speaks_for_nobody() {
    let stage = Stage::new().await;
    let world = &stage.world;
    stage.run(json!({})).await;
    let lease = stage.lease().await;
    world.delete("/computes/cluster/users/agent", &world.owner).await.ok();
    refused(&stage.confirm(&lease).await, 404, "not_found");
    refused(&stage.report(&lease, "gone").await, 404, "not_found");
    refused(&ask(&stage, &stage.agent, json!({ "compute": "cluster" })).await, 403, "forbidden");
}

/// The wait is real time, so the test says what it waits for: a lease, long before the wait is over.
#[tokio::test]
async fn a_waiting_agent_is_woken_by_a_submission() {
    let stage = Arc::new(Stage::new().await);
    let waiting = tokio::spawn({
        let stage = stage.clone();
        async move { ask(&stage, &stage.agent, json!({ "compute": "cluster", "wait_seconds": 30 })).await.ok() }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!waiting.is_finished());
    let run = stage.run(json!({})).await;
    let answer = tokio::time::timeout(Duration::from_secs(4), waiting).await.expect("it was woken").unwrap();
    assert_eq!(answer["lease"]["attempt"]["run"], run.as_str());
}

#[tokio::test]
async fn many_agents_never_get_the_same_run() {
    let stage = Arc::new(Stage::new().await);
    for _ in 0..8 {
        stage.run(json!({})).await;
    }
    let asking = (0..16).map(|_| {
        let stage = stage.clone();
        tokio::spawn(async move { stage.lease().await["attempt"]["run"].as_str().map(str::to_owned) })
    });
    let mut leased = Vec::new();
    for asked in asking.collect::<Vec<_>>() {
        leased.extend(asked.await.unwrap());
    }
    leased.sort_unstable();
    let before = leased.len();
    leased.dedup();
    assert_eq!((before, leased.len()), (8, 8));
}
