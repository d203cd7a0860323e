//! `/audit`: who may read it, how it is followed, what a checkpoint proves.

use std::time::Duration;

use kluis_core::audit::SignedCheckpoint;
use serde_json::{Value, json};

use crate::world::{World, refused, text};

fn seqs(page: &Value) -> Vec<u64> {
    page["items"].as_array().unwrap().iter().map(|r| r["seq"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn the_first_start_is_on_record() {
    let world = World::new().await;
    insta::assert_json_snapshot!(world.actions().await);
}

#[tokio::test]
async fn a_change_says_who_did_what_from_where() {
    let world = World::new().await;
    world.put("/workspaces/default/secrets/Db-Password", &world.owner, json!({ "value": "v" })).await.ok();
    let page = world.get("/workspaces/default/audit?last=1", &world.owner).await.ok();
    insta::assert_json_snapshot!(page["items"][0], {
        ".principal" => "[principal]", ".token" => "[token]", ".workspace" => "[workspace]",
        ".secret" => "[secret]", ".version" => "[version]",
    });
}

#[tokio::test]
async fn a_workspaces_log_holds_that_workspace_only() {
    let world = World::new().await;
    world.workspace("vision").await;
    world.put("/workspaces/vision/secrets/a", &world.owner, json!({ "value": "v" })).await.ok();
    world.put("/workspaces/default/secrets/a", &world.owner, json!({ "value": "v" })).await.ok();
    let id = text(&world.get("/workspaces/vision", &world.owner).await.ok()["id"]);
    let page = world.get("/workspaces/vision/audit", &world.owner).await.ok();
    let items = page["items"].as_array().unwrap();
    assert!(items.len() >= 3, "{page}");
    assert!(items.iter().all(|r| r["workspace"] == id), "{page}");
}

#[tokio::test]
async fn pages_follow_each_other_without_a_gap() {
    let world = World::new().await;
    let all = seqs(&world.get("/audit", &world.owner).await.ok());
    assert_eq!(all, (0..all.len() as u64).collect::<Vec<_>>());
    let (mut seen, mut path) = (Vec::new(), "/audit?limit=3".to_owned());
    loop {
        let page = world.get(&path, &world.owner).await.ok();
        seen.extend(seqs(&page));
        match page["next"].as_str() {
            Some(next) => path = format!("/audit?limit=3&after={next}"),
            None => break,
        }
    }
    assert_eq!(seen, all);
    let last = seqs(&world.get("/audit?last=2", &world.owner).await.ok());
    assert_eq!(last, all[all.len() - 2..]);
}

#[tokio::test]
async fn who_waits_hears_of_the_next_record() {
    let world = World::new().await;
    let last = *seqs(&world.get("/audit?last=1", &world.owner).await.ok()).last().unwrap();
    let waiting = format!("/audit?after={last}&wait_seconds=30");
    let set = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        world.put("/workspaces/default/secrets/a", &world.owner, json!({ "value": "v" })).await.ok();
    };
    let (page, ()) = tokio::join!(world.get(&waiting, &world.owner), set);
    let page = page.ok();
    assert_eq!(seqs(&page), [last + 1]);
    assert_eq!(page["items"][0]["action"], "secret.set");
}

#[tokio::test]
async fn a_wait_ends_with_the_server_and_with_its_time() {
    let world = World::new().await;
    let last = *seqs(&world.get("/audit?last=1", &world.owner).await.ok()).last().unwrap();
    let empty = world.get(&format!("/audit?after={last}&wait_seconds=1"), &world.owner).await.ok();
    assert_eq!(empty["items"], json!([]));
    let path = format!("/audit?after={last}&wait_seconds=30");
    let stop = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        world.app.stopping.cancel();
    };
    let ask = tokio::time::timeout(Duration::from_secs(5), world.get(&path, &world.owner));
    let (answer, ()) = tokio::join!(ask, stop);
    answer.expect("the wait ended with the server").ok();
}

#[tokio::test]
async fn a_wait_does_not_outlive_the_callers_rights() {
    let world = World::new().await;
    let ada = world.user("ada", Some(("default", "owner"))).await;
    let last = *seqs(&world.get("/audit?last=1", &world.owner).await.ok()).last().unwrap();
    let path = format!("/workspaces/default/audit?after={last}&wait_seconds=30");
    let disable = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        world.patch("/principals/ada", &world.owner, json!({ "enabled": false })).await.ok();
        world.put("/workspaces/default/secrets/a", &world.owner, json!({ "value": "v" })).await.ok();
    };
    let (answer, ()) = tokio::join!(world.get(&path, &ada), disable);
    refused(&answer, 401, "unauthenticated");
}

#[tokio::test]
async fn questions_that_make_no_sense_are_refused() {
    let world = World::new().await;
    for query in
        ["last=0", "last=201", "limit=0", "after=x", "wait_seconds=31", "last=1&limit=1", "last=1&after=1", "x=1"]
    {
        refused(&world.get(&format!("/audit?{query}"), &world.owner).await, 400, "bad_request");
    }
    refused(&world.get("/audit?run=r", &world.owner).await, 400, "bad_request");
    refused(&world.get("/audit?run=a%2Fb", &world.owner).await, 400, "invalid_name");
}

#[tokio::test]
async fn a_checkpoint_is_signed_and_grows_with_the_log() {
    let world = World::new().await;
    let ada = world.user("ada", None).await;
    let ask = async || {
        let answer = world.get("/audit/checkpoint", &ada).await.ok();
        serde_json::from_value::<SignedCheckpoint>(answer).unwrap()
    };
    let first = ask().await;
    let key = world.app.vault.public_key();
    assert!(kluis_vault::verify_checkpoint(&first, &key));
    world.put("/workspaces/default/secrets/a", &world.owner, json!({ "value": "v" })).await.ok();
    let second = ask().await;
    assert_eq!(second.checkpoint.size, first.checkpoint.size + 1);
    assert_ne!(second.checkpoint.root, first.checkpoint.root);
    let mut forged = second.clone();
    forged.checkpoint.size = first.checkpoint.size;
    assert!(!kluis_vault::verify_checkpoint(&forged, &key));
}
