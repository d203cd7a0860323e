//! `/workspaces/{workspace}/secrets` and what hangs below it.

use std::cell::Cell;
use std::time::Duration;

use kluis_core::plaintext::MAX_VALUE_BYTES;
use serde_json::{Value, json};

use crate::world::{CANARY, World, refused, text};

const AT: &str = "/workspaces/default/secrets";
const DELETED: &str = "/workspaces/default/deleted-secrets";
const DAY: Duration = Duration::from_hours(24);

async fn set(world: &World, name: &str, value: &str) -> Value {
    world.put(&format!("{AT}/{name}"), &world.owner, json!({ "value": value })).await.ok()
}

async fn value(world: &World, name: &str) -> String {
    text(&world.get(&format!("{AT}/{name}"), &world.owner).await.ok()["value"])
}

async fn names(world: &World, path: &str) -> Vec<String> {
    let page = world.get(path, &world.owner).await.ok();
    page["items"].as_array().unwrap().iter().map(|s| text(&s["name"])).collect()
}

#[tokio::test]
async fn a_value_is_set_and_read_whole() {
    let world = World::new().await;
    for secret in ["v", "", CANARY, " \n\t\u{0}\u{1f600}", &"x".repeat(MAX_VALUE_BYTES)] {
        set(&world, "a", secret).await;
        assert_eq!(value(&world, "a").await, secret);
    }
    let answer = world.get(&format!("{AT}/a"), &world.owner).await;
    assert_eq!(answer.headers["cache-control"], "no-store");
}

#[tokio::test]
async fn answers_have_the_documented_shape() {
    let world = World::new().await;
    let attributes = json!({
        "content_type": "text/plain", "tags": { "team": "vision" }, "expires": "2027-01-01T00:00:00Z",
    });
    let body = json!({ "value": "v", "attributes": attributes });
    let set = world.put(&format!("{AT}/Db-Password"), &world.owner, body).await.ok();
    insta::assert_json_snapshot!("set", set, { ".version" => "[version]" });
    let read = world.get(&format!("{AT}/db-password"), &world.owner).await.ok();
    insta::assert_json_snapshot!("read", read, { ".version" => "[version]" });
    let listed = world.get(AT, &world.owner).await.ok();
    insta::assert_json_snapshot!("list", listed, { ".items[].version" => "[version]" });
    let versions = world.get(&format!("{AT}/DB-PASSWORD/versions"), &world.owner).await.ok();
    insta::assert_json_snapshot!("versions", versions, { ".items[].version" => "[version]" });
}

#[tokio::test]
async fn a_name_keeps_its_first_spelling_and_is_found_in_any() {
    let world = World::new().await;
    set(&world, "Db-Password", "one").await;
    let again = set(&world, "DB-PASSWORD", "two").await;
    assert_eq!((&again["name"], &again["revision"]), (&json!("Db-Password"), &json!(2)));
    assert_eq!(value(&world, "db-password").await, "two");
    assert_eq!(names(&world, AT).await, ["Db-Password"]);
}

#[tokio::test]
async fn every_version_stays_readable() {
    let world = World::new().await;
    let first = set(&world, "a", "one").await;
    let second = set(&world, "a", "two").await;
    let of = async |version: &Value| {
        let answer = world.get(&format!("{AT}/a?version={}", text(version)), &world.owner).await.ok();
        text(&answer["value"])
    };
    assert_eq!(of(&first["version"]).await, "one");
    assert_eq!(of(&second["version"]).await, "two");
    let unknown = world.get(&format!("{AT}/a?version={}", "0".repeat(32)), &world.owner).await;
    refused(&unknown, 404, "not_found");
    set(&world, "b", "other").await;
    let moved = world.get(&format!("{AT}/b?version={}", text(&first["version"])), &world.owner).await;
    refused(&moved, 404, "not_found");
    let page = world.get(&format!("{AT}/a/versions?limit=1"), &world.owner).await.ok();
    assert_eq!(page["items"][0]["version"], second["version"]);
    let next = format!("{AT}/a/versions?limit=1&after={}", text(&page["next"]));
    let page = world.get(&next, &world.owner).await.ok();
    assert_eq!((&page["items"][0]["version"], &page["items"][0]["current"]), (&first["version"], &json!(false)));
}

#[tokio::test]
async fn if_revision_sets_only_what_one_has_seen() {
    let world = World::new().await;
    let put = |revision: u64| {
        world.put("/workspaces/default/secrets/a", &world.owner, json!({ "value": "v", "if_revision": revision }))
    };
    refused(&put(1).await, 409, "revision_conflict");
    assert_eq!(put(0).await.ok()["revision"], 1);
    let answer = put(0).await;
    refused(&answer, 409, "revision_conflict");
    assert!(answer.detail().contains("revision is 1"), "{}", answer.detail());
    assert_eq!(put(1).await.ok()["revision"], 2);
}

#[tokio::test]
async fn sets_at_the_same_time_all_get_through() {
    let world = World::new().await;
    let values: Vec<String> = (0..8).map(|i| i.to_string()).collect();
    futures_util::future::join_all(values.iter().map(|value| set(&world, "a", value))).await;
    let versions = world.get(&format!("{AT}/a/versions"), &world.owner).await.ok();
    assert_eq!(versions["items"].as_array().unwrap().len(), 8);
    assert_eq!(versions["items"].as_array().unwrap().iter().filter(|v| v["current"] == true).count(), 1);
}

#[tokio::test]
async fn a_batch_is_set_whole_or_not_at_all() {
    let world = World::new().await;
    let good = json!({ "items": [{ "name": "a", "value": "1" }, { "name": "b", "value": "2" }] });
    let answer = world.post("/workspaces/default/secrets:set", &world.owner, good).await.ok();
    assert_eq!(answer["items"].as_array().unwrap().len(), 2);
    set(&world, "dead", "v").await;
    world.delete(&format!("{AT}/dead"), &world.owner).await.ok();
    let long = "x".repeat(MAX_VALUE_BYTES + 1);
    let many: Vec<_> = (0..16).map(|i| (i.to_string(), json!("v"))).collect();
    for (bad, code, says) in [
        (json!({ "name": "c/d", "value": "v" }), "invalid_name", "position 1"),
        (json!({ "name": "c", "value": long }), "invalid_value", "25601 bytes"),
        (json!({ "name": "c", "value": 7 }), "bad_request", "another type"),
        (json!({ "name": "c" }), "bad_request", "missing field `value`"),
        (json!({ "name": "FIRST", "value": "v" }), "bad_request", "entry 1: its name is in the batch twice"),
        (json!({ "name": "dead", "value": "v" }), "secret_deleted", "entry 1: "),
        (
            json!({ "name": "c", "value": "v", "attributes": { "tags": Value::from_iter(many) } }),
            "invalid_value",
            "entry 1: 16 tags",
        ),
    ] {
        let batch = json!({ "items": [{ "name": "first", "value": "v" }, bad] });
        let answer = world.post("/workspaces/default/secrets:set", &world.owner, batch).await;
        assert_eq!(answer.refused().1, code, "{}", answer.text());
        assert!(answer.detail().contains(says), "{}", answer.detail());
    }
    assert_eq!(names(&world, AT).await, ["a", "b"], "nothing of a refused batch is set");
    let items: Vec<_> = (0..1001).map(|i| json!({ "name": format!("s{i}"), "value": "v" })).collect();
    let answer = world.post("/workspaces/default/secrets:set", &world.owner, json!({ "items": items })).await;
    refused(&answer, 400, "bad_request");
    assert_eq!(names(&world, AT).await.len(), 2);
}

#[tokio::test]
async fn a_batch_is_read_with_what_is_missing_named_as_asked() {
    let world = World::new().await;
    set(&world, "a", "1").await;
    set(&world, "Bee", "2").await;
    set(&world, "dead", "3").await;
    world.delete(&format!("{AT}/dead"), &world.owner).await.ok();
    let ask = json!({ "names": ["BEE", "nothing", "a", "DEAD"] });
    let answer = world.post("/workspaces/default/secrets:get", &world.owner, ask).await.ok();
    let got: Vec<_> =
        answer["items"].as_array().unwrap().iter().map(|i| (text(&i["name"]), text(&i["value"]))).collect();
    assert_eq!(got, [("BEE".to_owned(), "2".to_owned()), ("a".to_owned(), "1".to_owned())]);
    assert_eq!(answer["missing"], json!(["nothing", "DEAD"]));
    let delivered = world.actions().await.iter().filter(|a| *a == "secret.delivered").count();
    assert_eq!(delivered, 2, "one record for each value that left");

    let off = json!({ "enabled": false });
    world.patch(&format!("{AT}/a/versions/current"), &world.owner, off).await.ok();
    let ask = json!({ "names": ["Bee", "a"] });
    refused(&world.post("/workspaces/default/secrets:get", &world.owner, ask).await, 403, "secret_disabled");
    let delivered = world.actions().await.iter().filter(|a| *a == "secret.delivered").count();
    assert_eq!(delivered, 2, "nothing left");
    let many: Vec<_> = (0..1001).map(|i| format!("s{i}")).collect();
    let answer = world.post("/workspaces/default/secrets:get", &world.owner, json!({ "names": many })).await;
    refused(&answer, 400, "bad_request");
}

#[tokio::test]
async fn a_batch_of_one_is_a_batch() {
    let world = World::new().await;
    let ask = async |name: &str| {
        world.post("/workspaces/default/secrets:get", &world.owner, json!({ "names": [name] })).await.ok()
    };
    let item = json!({ "items": [{ "name": "db-password", "value": "v" }] });
    world.post("/workspaces/default/secrets:set", &world.owner, item).await.ok();
    assert_eq!(ask("DB-Password").await["items"][0]["name"], "DB-Password", "as asked");
    let item = json!({ "items": [{ "name": "DB-PASSWORD", "value": "w" }] });
    let set = world.post("/workspaces/default/secrets:set", &world.owner, item).await.ok();
    assert_eq!(set["items"][0]["name"], "DB-PASSWORD", "as asked");
    assert_eq!(world.get(&format!("{AT}/db-PASSWORD"), &world.owner).await.ok()["name"], "db-password");
    world.delete(&format!("{AT}/db-password"), &world.owner).await.ok();
    assert_eq!(ask("Db-Password").await, json!({ "items": [], "missing": ["Db-Password"] }));
}

#[tokio::test]
async fn an_attribute_that_was_set_is_taken_away_again() {
    let world = World::new().await;
    set(&world, "a", "v").await;
    let change = async |change: Value| {
        let changed = world.patch(&format!("{AT}/a/versions/current"), &world.owner, change).await.ok();
        changed["attributes"].clone()
    };
    let time = "2027-01-01T00:00:00Z";
    change(json!({ "content_type": "text/plain", "not_before": time, "expires": time })).await;
    let left = change(json!({ "expires": null })).await;
    assert_eq!((left.get("expires"), &left["content_type"]), (None, &json!("text/plain")));
    let left = change(json!({ "content_type": null, "not_before": null })).await;
    assert_eq!((left.get("content_type"), left.get("not_before")), (None, None));
}

/// Logging out one job of a service principal is no reason to refuse another one.
#[tokio::test]
async fn a_write_is_done_though_the_callers_rights_moved_and_refused_when_they_are_gone() {
    let world = World::new().await;
    let ada = world.user("ada", Some(("default", "contributor"))).await;
    let caller = world.app.sign_in(&ada, std::net::Ipv4Addr::LOCALHOST.into()).await.unwrap();
    let other = world.post("/tokens", &ada, json!({ "label": "x" })).await.ok();
    world.delete(&format!("/tokens/{}", crate::world::text(&other["view"]["id"])), &ada).await.ok();
    let (workspace, name) = ("default".parse().unwrap(), "a".parse().unwrap());
    let change = serde_json::from_value(json!({ "value": "v" })).unwrap();
    world.app.secrets().set(&caller, &workspace, &name, &change).await.unwrap();
    world.put("/workspaces/default/members/ada", &world.owner, json!({ "role": "reader" })).await.ok();
    let refused = world.app.secrets().set(&caller, &workspace, &name, &change).await.unwrap_err();
    assert_eq!(refused.code(), "forbidden");
}

#[tokio::test]
async fn no_value_leaves_before_its_delivery_is_on_record() {
    let world = World::new().await;
    set(&world, "a", "v").await;
    let before = world.app.store.audit_head().await.unwrap().size;
    value(&world, "a").await;
    assert_eq!(world.app.store.audit_head().await.unwrap().size, before + 1);
    let page = world.get("/workspaces/default/audit?last=1", &world.owner).await.ok();
    assert_eq!((&page["items"][0]["action"], &page["items"][0]["name"]), (&json!("secret.delivered"), &json!("a")));
}

#[tokio::test]
async fn a_disabled_version_is_not_read_and_validity_only_informs() {
    let world = World::new().await;
    let body = json!({ "value": "v", "attributes": { "expires": "2020-01-01T00:00:00Z" } });
    world.put(&format!("{AT}/a"), &world.owner, body).await.ok();
    assert_eq!(value(&world, "a").await, "v", "an expired version is still read");
    world.patch("/workspaces/default", &world.owner, json!({ "enforce_validity": true })).await.ok();
    refused(&world.get(&format!("{AT}/a"), &world.owner).await, 403, "secret_disabled");
    world.patch("/workspaces/default", &world.owner, json!({})).await.ok();

    let path = format!("{AT}/a/versions/current");
    let changed = world.patch(&path, &world.owner, json!({ "enabled": false, "if_revision": 1 })).await.ok();
    assert_eq!((&changed["revision"], &changed["attributes"]["enabled"]), (&json!(2), &json!(false)));
    refused(&world.get(&format!("{AT}/a"), &world.owner).await, 403, "secret_disabled");
    refused(
        &world.patch(&path, &world.owner, json!({ "enabled": true, "if_revision": 1 })).await,
        409,
        "revision_conflict",
    );
    world.patch(&path, &world.owner, json!({ "enabled": true })).await.ok();
    assert_eq!(value(&world, "a").await, "v");
}

#[tokio::test]
async fn attributes_change_one_by_one_and_within_limits() {
    let world = World::new().await;
    let version = text(&set(&world, "a", "v").await["version"]);
    let path = format!("{AT}/a/versions/{version}");
    let patch = |change: Value| world.patch(&path, &world.owner, change);
    patch(json!({ "content_type": "text/plain", "tags": { "a": "1" } })).await.ok();
    let changed = patch(json!({ "tags": { "b": "2" } })).await.ok();
    assert_eq!(changed["attributes"]["content_type"], "text/plain");
    assert_eq!(changed["attributes"]["tags"], json!({ "b": "2" }));
    refused(&patch(json!({ "content_type": "x".repeat(256) })).await, 400, "invalid_value");
    refused(&patch(json!({ "tags": { "x".repeat(257): "" } })).await, 400, "invalid_value");
    refused(&patch(json!({ "expires": "tomorrow" })).await, 400, "bad_request");
    refused(&patch(json!({ "value": "v" })).await, 400, "bad_request");
    let unknown = format!("{AT}/a/versions/{}", "0".repeat(32));
    refused(&world.patch(&unknown, &world.owner, json!({})).await, 404, "not_found");
    refused(&world.patch(&format!("{AT}/a/versions/latest"), &world.owner, json!({})).await, 400, "bad_request");
    assert_eq!(value(&world, "a").await, "v", "attributes change without the value");
}

#[tokio::test]
async fn deleted_secret_keeps_its_name_until_purged() {
    let world = World::new().await;
    set(&world, "a", "one").await;
    set(&world, "a", "two").await;
    let deleted = world.delete(&format!("{AT}/a"), &world.owner).await.ok();
    assert!(deleted["deleted"].is_string() && deleted["purge_at"].is_string());
    for answer in [
        world.get(&format!("{AT}/a"), &world.owner).await,
        world.put(&format!("{AT}/a"), &world.owner, json!({ "value": "v" })).await,
        world.delete(&format!("{AT}/a"), &world.owner).await,
        world.patch(&format!("{AT}/a/versions/current"), &world.owner, json!({})).await,
    ] {
        refused(&answer, 409, "secret_deleted");
    }
    assert_eq!(names(&world, AT).await, [""; 0]);
    assert_eq!(names(&world, DELETED).await, ["a"]);
    world.call("POST", &format!("{DELETED}/a/recover"), Some(&world.owner), None).await.ok();
    assert_eq!(value(&world, "a").await, "two");
    refused(&world.call("POST", &format!("{DELETED}/a/recover"), Some(&world.owner), None).await, 409, "conflict");
    refused(&world.delete(&format!("{DELETED}/a"), &world.owner).await, 409, "conflict");

    world.delete(&format!("{AT}/a"), &world.owner).await.ok();
    world.delete(&format!("{DELETED}/a"), &world.owner).await.ok();
    refused(&world.delete(&format!("{DELETED}/a"), &world.owner).await, 404, "secret_not_found");
    refused(&world.get(&format!("{AT}/a"), &world.owner).await, 404, "secret_not_found");
    assert_eq!(set(&world, "a", "new").await["revision"], 1, "a purged and re-created name is another secret");
}

#[tokio::test]
async fn what_is_due_is_really_purged_and_not_before() {
    let world = World::new().await;
    world.patch("/workspaces/default", &world.owner, json!({ "retention_days": 7 })).await.ok();
    set(&world, "a", "v").await;
    set(&world, "b", "v").await;
    world.delete(&format!("{AT}/a"), &world.owner).await.ok();
    world.advance(6 * DAY);
    world.delete(&format!("{AT}/b"), &world.owner).await.ok();
    world.app.secrets().purge_due().await.unwrap();
    assert_eq!(names(&world, DELETED).await, ["a", "b"]);
    world.advance(DAY);
    world.app.secrets().purge_due().await.unwrap();
    assert_eq!(names(&world, DELETED).await, ["b"]);
    assert_eq!(set(&world, "a", "new").await["revision"], 1);
    assert!(world.actions().await.contains(&"secret.purged".into()));
}

#[tokio::test]
async fn a_secrets_writer_sets_and_never_reads() {
    let world = World::new().await;
    let ada = world.user("ada", Some(("default", "secrets-writer"))).await;
    world.put(&format!("{AT}/a"), &ada, json!({ "value": "v" })).await.ok();
    world.get(AT, &ada).await.ok();
    refused(&world.get(&format!("{AT}/a"), &ada).await, 403, "forbidden");
    refused(&world.post("/workspaces/default/secrets:get", &ada, json!({ "names": ["a"] })).await, 403, "forbidden");
    let bob = world.user("bob", Some(("default", "reader"))).await;
    world.get(&format!("{AT}/a/versions"), &bob).await.ok();
    refused(&world.get(&format!("{AT}/a"), &bob).await, 403, "forbidden");
    refused(&world.put(&format!("{AT}/a"), &bob, json!({ "value": "v" })).await, 403, "forbidden");
}

#[tokio::test]
async fn an_acknowledged_revocation_precedes_every_later_read() {
    let world = World::new().await;
    set(&world, "a", "v").await;
    for round in 0..10 {
        let name = format!("u{round}");
        let token = world.user(&name, Some(("default", "contributor"))).await;
        let acknowledged = Cell::new(false);
        let reads = async {
            let mut after = 0;
            for _ in 0..20 {
                let revoked = acknowledged.get();
                let read = world.get(&format!("{AT}/a"), &token).await;
                if read.status.is_success() {
                    assert!(!revoked, "a read that began after the revocation was acknowledged got the value");
                } else {
                    after += 1;
                }
            }
            after
        };
        let revoke = async {
            tokio::task::yield_now().await;
            match round % 3 {
                0 => world.delete(&format!("/workspaces/default/members/{name}"), &world.owner).await.ok(),
                1 => world.patch(&format!("/principals/{name}"), &world.owner, json!({ "enabled": false })).await.ok(),
                _ => world.delete("/tokens/current", &token).await.ok(),
            };
            acknowledged.set(true);
        };
        let (refusals, ()) = tokio::join!(reads, revoke);
        assert!(refusals > 0, "the revocation was seen");
    }
}
