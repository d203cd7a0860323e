//! `/secrets/NAME` and `/secrets/NAME/VERSION`: set, get, update, delete.

use std::time::Duration;

use kluis_core::plaintext::MAX_VALUE_BYTES;
use serde_json::json;

use super::{HERE, call, delete, get, patch, put, refused, set, version};
use crate::world::{CANARY, START, World};

#[tokio::test]
async fn a_set_answers_with_the_value_and_everything_that_belongs_to_it() {
    let world = World::new().await;
    let body = json!({
        "value": "v", "contentType": "text/plain", "tags": { "team": "vision" },
        "attributes": { "enabled": true, "nbf": 1_700_000_000, "exp": 1_900_000_000 },
    });
    let answer = put(&world, "/secrets/Db-Password", body).await;
    assert_eq!(answer.headers["content-type"], "application/json; charset=utf-8");
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert_eq!(answer.headers["x-ms-request-id"], answer.headers["kluis-request-id"]);
    let bundle = answer.ok();
    let seconds = START.seconds();
    let expected = json!({
        "value": "v", "id": format!("{HERE}/secrets/Db-Password/{}", version(&bundle)),
        "contentType": "text/plain", "tags": { "team": "vision" },
        "attributes": {
            "enabled": true, "nbf": 1_700_000_000, "exp": 1_900_000_000, "created": seconds, "updated": seconds,
            "recoveryLevel": "Recoverable+Purgeable", "recoverableDays": 90,
        },
    });
    assert_eq!(bundle, expected);
    for path in ["/secrets/db-password/", "/secrets/DB-PASSWORD", &format!("/secrets/db-password/{}", version(&bundle))]
    {
        assert_eq!(get(&world, path).await.ok(), expected, "{path}");
    }
}

#[tokio::test]
async fn what_was_not_given_is_not_answered() {
    let world = World::new().await;
    let mut bundle = put(&world, "/secrets/a", json!({ "value": "" })).await.ok();
    bundle["attributes"].as_object_mut().unwrap().retain(|key, _| key == "enabled");
    let keys: Vec<&String> = bundle.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["attributes", "id", "value"]);
    assert_eq!(bundle["attributes"], json!({ "enabled": true }));
    assert_eq!(bundle["value"], "");
}

#[tokio::test]
async fn a_value_comes_back_whole() {
    let world = World::new().await;
    let largest = "x".repeat(MAX_VALUE_BYTES);
    let escaped = "\u{1}".repeat(MAX_VALUE_BYTES);
    for value in [CANARY, " \n\t\u{0}\u{1f600}", &largest, &escaped] {
        set(&world, "a", value).await;
        assert_eq!(get(&world, "/secrets/a/").await.ok()["value"], value);
    }
    let message = refused(
        &put(&world, "/secrets/a", json!({ "value": "x".repeat(MAX_VALUE_BYTES + 1) })).await,
        400,
        "BadParameter",
        None,
    );
    assert!(message.contains("25601 bytes"), "{message}");
}

#[tokio::test]
async fn every_version_stays_readable_and_the_newest_is_the_latest() {
    let world = World::new().await;
    let (one, two) = (set(&world, "a", "one").await, set(&world, "A", "two").await);
    assert_eq!(get(&world, &format!("/secrets/a/{one}")).await.ok()["value"], "one");
    assert_eq!(get(&world, &format!("/secrets/a/{}", two.to_uppercase())).await.ok()["value"], "two");
    assert_eq!(get(&world, "/secrets/a/").await.ok()["value"], "two");
    let message = refused(&get(&world, &format!("/secrets/a/{}", "0".repeat(32))).await, 404, "SecretNotFound", None);
    assert!(message.starts_with(&format!("A secret with (name/id) a/{} was not found", "0".repeat(32))), "{message}");
}

#[tokio::test]
async fn an_update_changes_what_it_names_and_tells_no_value() {
    let world = World::new().await;
    let body =
        json!({ "value": CANARY, "contentType": "a", "tags": { "a": "1", "b": "2" }, "attributes": { "exp": 9 } });
    let old = version(&put(&world, "/secrets/a", body).await.ok());
    world.advance(Duration::from_secs(5));
    let updated = patch(&world, "/secrets/a/", json!({ "tags": { "c": "3" } })).await.ok();
    assert_eq!(updated.get("value"), None);
    assert_eq!((&updated["tags"], &updated["contentType"]), (&json!({ "c": "3" }), &json!("a")));
    assert_eq!((&updated["attributes"]["exp"], version(&updated)), (&json!(9), old.clone()));
    assert_eq!(updated["attributes"]["updated"], START.seconds() + 5);
    assert_eq!(updated["attributes"]["created"], START.seconds());

    set(&world, "a", "new").await;
    let change = json!({ "contentType": "b", "attributes": { "enabled": false, "nbf": null } });
    let updated = patch(&world, &format!("/secrets/a/{old}"), change).await.ok();
    assert_eq!((&updated["contentType"], &updated["attributes"]["enabled"]), (&json!("b"), &json!(false)));
    assert_eq!(get(&world, "/secrets/a/").await.ok()["value"], "new", "the latest is another one");
    let cleared = patch(&world, &format!("/secrets/a/{old}"), json!({ "tags": {} })).await.ok();
    assert_eq!(cleared.get("tags"), None);
}

#[tokio::test]
async fn a_disabled_version_is_not_read_and_can_be_enabled() {
    let world = World::new().await;
    put(&world, "/secrets/a", json!({ "value": CANARY, "attributes": { "enabled": false } })).await.ok();
    let message = refused(&get(&world, "/secrets/a/").await, 403, "Forbidden", Some("SecretDisabled"));
    assert_eq!(message, "Operation get is not allowed on a disabled secret.");
    patch(&world, "/secrets/a/", json!({ "attributes": { "enabled": true } })).await.ok();
    assert_eq!(get(&world, "/secrets/a/").await.ok()["value"], CANARY);
}

#[tokio::test]
async fn times_inform_and_only_a_workspace_that_enforces_them_refuses() {
    let world = World::new().await;
    let attributes = json!({ "nbf": 1_900_000_000, "exp": 1_000_000_000 });
    put(&world, "/secrets/a", json!({ "value": "v", "attributes": attributes })).await.ok();
    assert_eq!(get(&world, "/secrets/a/").await.ok()["value"], "v");
    world.patch("/workspaces/default", &world.owner, json!({ "enforce_validity": true })).await.ok();
    let message = refused(&get(&world, "/secrets/a/").await, 403, "Forbidden", Some("SecretDisabled"));
    assert!(
        message.starts_with("Operation get is not allowed: this version of the secret is not valid yet"),
        "{message}"
    );
}

/// Clients in JavaScript send what lies behind 2038 as a negative number.
#[tokio::test]
async fn a_date_that_was_cut_to_32_bits_is_kept_as_it_was_meant() {
    let world = World::new().await;
    let body = json!({ "value": "v", "attributes": { "exp": -1_770_359_296, "nbf": 1_795_530_000 } });
    let bundle = put(&world, "/secrets/a", body).await.ok();
    assert_eq!(bundle["attributes"]["exp"], 2_524_608_000_i64, "2050");
    for exp in [json!(-2_147_483_649_i64), json!(253_402_207_201_i64), json!(i64::MIN)] {
        let answer = put(&world, "/secrets/a", json!({ "value": "v", "attributes": { "exp": exp } })).await;
        let message = refused(&answer, 400, "BadParameter", None);
        assert!(message.contains("seconds since 1970"), "{message}");
    }
    let answer = patch(&world, "/secrets/a/", json!({ "attributes": { "nbf": "2050-01-01" } })).await;
    refused(&answer, 400, "BadParameter", None);
    assert_eq!(get(&world, "/secrets/a/").await.ok()["attributes"]["exp"], 2_524_608_000_i64);
}

#[tokio::test]
async fn a_deleted_secret_says_until_when_it_can_be_recovered() {
    let world = World::new().await;
    world.patch("/workspaces/default", &world.owner, json!({ "retention_days": 7 })).await.ok();
    let version = set(&world, "a", CANARY).await;
    let seconds = START.seconds();
    assert_eq!(
        delete(&world, "/secrets/a").await.ok(),
        json!({
            "id": format!("{HERE}/secrets/a/{version}"), "recoveryId": format!("{HERE}/deletedsecrets/a"),
            "deletedDate": seconds, "scheduledPurgeDate": seconds + 7 * 86_400,
            "attributes": { "enabled": true, "created": seconds, "updated": seconds,
                "recoveryLevel": "CustomizedRecoverable+Purgeable", "recoverableDays": 7 },
        })
    );
    for path in ["/secrets/a/", &format!("/secrets/a/{version}")] {
        refused(&get(&world, path).await, 404, "SecretNotFound", None);
    }
    refused(&delete(&world, "/secrets/a").await, 404, "SecretNotFound", None);
    refused(&patch(&world, "/secrets/a/", json!({})).await, 404, "SecretNotFound", None);
    refused(&call(&world, "POST", "/secrets/a/backup", Some(&world.owner), None).await, 404, "SecretNotFound", None);
}

#[tokio::test]
async fn a_secret_may_be_called_like_an_operation() {
    let world = World::new().await;
    for name in ["restore", "versions", "backup", "recover", "0", "-", &"a".repeat(127)] {
        set(&world, name, name).await;
        assert_eq!(get(&world, &format!("/secrets/{name}/")).await.ok()["value"], name);
        delete(&world, &format!("/secrets/{name}")).await.ok();
    }
}

#[tokio::test]
async fn what_the_native_interface_sets_is_read_here_and_the_other_way_round() {
    let world = World::new().await;
    world.put("/workspaces/default/secrets/a", &world.owner, json!({ "value": "native" })).await.ok();
    assert_eq!(get(&world, "/secrets/a/").await.ok()["value"], "native");
    set(&world, "a", "azure").await;
    assert_eq!(world.get("/workspaces/default/secrets/a", &world.owner).await.ok()["value"], "azure");
    world.put("/workspaces/default/secrets/with_score", &world.owner, json!({ "value": "v" })).await.ok();
    let message = refused(&get(&world, "/secrets/with_score/").await, 400, "BadParameter", None);
    assert!(
        message.starts_with("The request URI contains an invalid name: ") && message.contains("native"),
        "{message}"
    );
}
