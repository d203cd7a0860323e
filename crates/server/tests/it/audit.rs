//! `/audit`: who may read it, how it is followed, what a checkpoint proves.

use std::time::Duration;

use kluis_core::audit::SignedCheckpoint;
use serde_json::{Value, json};

use crate::world::{World, options, refused, tamper, text};

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

#[tokio::test]
async fn a_wait_gives_nothing_to_who_lost_the_right_meanwhile() {
    let world = World::new().await;
    let ada = world.user("ada", Some(("default", "owner"))).await;
    let last = *seqs(&world.get("/audit?last=1", &world.owner).await.ok()).last().unwrap();
    let path = format!("/workspaces/default/audit?after={last}&wait_seconds=30");
    let lower = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        world.put("/workspaces/default/members/ada", &world.owner, json!({ "role": "reader" })).await.ok();
    };
    let (answer, ()) = tokio::join!(world.get(&path, &ada), lower);
    refused(&answer, 403, "forbidden");
}

/// A page never looks like the last one because a record in it is damaged.
#[tokio::test]
async fn a_damaged_record_is_named_and_the_rest_goes_on() {
    let mut world = World::new().await;
    for name in ["a", "b", "c"] {
        world.put(&format!("/workspaces/default/secrets/{name}"), &world.owner, json!({ "value": "v" })).await.ok();
    }
    let size = world.app.store.audit_head().await.unwrap().size;
    let folder = std::mem::replace(&mut world.folder, tempfile::tempdir().unwrap());
    let options = options(&folder, &world.clock);
    let owner = world.owner.clone();
    world.app.store.close();
    // The last byte of a page is the last one of a record's MAC.
    tamper(
        &options.data,
        "DROP TRIGGER audit_page_stays;
         UPDATE audit_page SET entries =
            CAST(substr(entries, 1, length(entries) - 1) || x'00' || x'' AS BLOB) WHERE first_seq = 0;
         DELETE FROM checkpoint;",
    );
    let (app, _) = kluis_server::Server::open(&options).await.unwrap();
    let world = world.over(app);
    let (mut seen, mut damaged, mut path) = (Vec::new(), Vec::new(), "/audit?limit=2".to_owned());
    loop {
        let page = world.get(&path, &owner).await.ok();
        seen.extend(seqs(&page));
        damaged.extend(page["damaged"].as_array().into_iter().flatten().map(|n| n.as_u64().unwrap()));
        match page["next"].as_str() {
            Some(next) => path = format!("/audit?limit=2&after={next}"),
            None => break,
        }
    }
    assert_eq!(damaged.len(), 1, "{damaged:?}");
    let whole: Vec<u64> = (0..=size).filter(|seq| !damaged.contains(seq)).collect();
    assert_eq!(seen, whole);
    refused(&world.get("/audit/checkpoint", &owner).await, 409, "inconsistent");
    drop(folder);
}

#[tokio::test]
async fn what_was_issued_or_revoked_is_named() {
    let world = World::new().await;
    let last = async |action: &str| {
        let page = world.get("/audit?last=1", &world.owner).await.ok();
        assert_eq!(page["items"][0]["action"], action, "{page}");
        page["items"][0].clone()
    };
    let issued = world.post("/tokens", &world.owner, json!({ "label": "ci" })).await.ok();
    let id = text(&issued["view"]["id"]);
    let record = last("token.issued").await;
    assert_eq!(record["credential"], id);
    assert_ne!(record["token"], id, "the one that was presented");
    world.delete(&format!("/tokens/{id}"), &world.owner).await.ok();
    assert_eq!(last("token.revoked").await["credential"], id);

    world.post("/principals", &world.owner, json!({ "name": "ci", "kind": "service_principal" })).await.ok();
    let made = world.call("POST", "/principals/ci/secrets", Some(&world.owner), None).await.ok();
    assert_eq!(last("client_secret.created").await["credential"], made["id"]);
    let invite = json!({ "name": "agent", "kind": "agent", "compute": "server" });
    let invite = world.post("/invites", &world.owner, invite).await.ok();
    let record = last("invite.created").await;
    assert_eq!(record["invite"], invite["invite"]["id"]);
    let redeem = json!({ "code": invite["code"], "label": "x" });
    world.call("POST", "/login/invite", None, Some(redeem)).await.ok();
    let page = world.get("/audit?last=5", &world.owner).await.ok();
    let grant = page["items"].as_array().unwrap().iter().find(|r| r["action"] == "grant.set").unwrap();
    assert_eq!(grant["compute"], record["compute"]);
    assert_eq!(grant["invite"], record["invite"]);
}

#[tokio::test]
async fn refusals_of_one_kind_share_a_record() {
    let world = World::new().await;
    let ada = world.user("ada", Some(("default", "reader"))).await;
    for _ in 0..50 {
        refused(&world.get("/workspaces/default/secrets/a", &ada).await, 403, "forbidden");
    }
    refused(&world.get("/audit", &ada).await, 403, "forbidden");
    let refusals = world.actions().await.iter().filter(|a| *a == "refused").count();
    assert_eq!(refusals, 2, "one of each kind");
}
