//! `/deletedsecrets`: get, recover, purge, and the purge that comes by itself.

use std::time::Duration;

use serde_json::json;

use super::{HERE, delete, get, post, put, refused, set};
use crate::world::World;

const DAY: Duration = Duration::from_hours(24);

#[tokio::test]
async fn a_deleted_secret_is_told_of_without_its_value() {
    let world = World::new().await;
    set(&world, "a", "v").await;
    let deleted = delete(&world, "/secrets/a").await.ok();
    assert_eq!(get(&world, "/deletedsecrets/A").await.ok(), deleted);
    let mut listed = get(&world, "/deletedsecrets").await.ok();
    assert_eq!(listed["value"][0]["id"], format!("{HERE}/secrets/a"), "a list names no version");
    listed["value"][0]["id"] = deleted["id"].clone();
    assert_eq!(listed, json!({ "value": [deleted], "nextLink": null }));
    assert_eq!(get(&world, "/secrets").await.ok(), json!({ "value": [], "nextLink": null }));
    assert_eq!(get(&world, "/secrets/a/versions").await.ok(), json!({ "value": [], "nextLink": null }));
}

#[tokio::test]
async fn a_deleted_name_is_taken() {
    let world = World::new().await;
    set(&world, "a", "v").await;
    delete(&world, "/secrets/a").await.ok();
    let answer = put(&world, "/secrets/A", json!({ "value": "other" })).await;
    let message = refused(&answer, 409, "Conflict", Some("ObjectIsDeletedButRecoverable"));
    assert_eq!(
        message,
        "Secret A is currently in a deleted but recoverable state, and its name cannot be reused; in this state, the \
         secret can only be recovered or purged."
    );
}

#[tokio::test]
async fn a_recovered_secret_is_as_it_was() {
    let world = World::new().await;
    let (one, two) = (set(&world, "a", "one").await, set(&world, "a", "two").await);
    delete(&world, "/secrets/a").await.ok();
    let recovered = post(&world, "/deletedsecrets/a/recover").await.ok();
    assert_eq!(recovered["id"], format!("{HERE}/secrets/a/{two}"));
    assert_eq!((recovered.get("value"), recovered.get("recoveryId")), (None, None));
    assert_eq!(get(&world, &format!("/secrets/a/{one}")).await.ok()["value"], "one");
    assert_eq!(get(&world, "/secrets/a/").await.ok()["value"], "two");
}

#[tokio::test]
async fn what_is_not_deleted_is_not_found_among_the_deleted() {
    let world = World::new().await;
    set(&world, "a", "v").await;
    for name in ["a", "b"] {
        for answer in [
            get(&world, &format!("/deletedsecrets/{name}")).await,
            delete(&world, &format!("/deletedsecrets/{name}")).await,
        ] {
            assert_eq!(refused(&answer, 404, "SecretNotFound", None), format!("Deleted Secret not found: {name}"));
        }
        let answer = post(&world, &format!("/deletedsecrets/{name}/recover")).await;
        let message = refused(&answer, 404, "SecretNotFound", None);
        assert!(message.starts_with(&format!("A secret with (name/id) {name} was not found")), "{message}");
    }
    assert_eq!(get(&world, "/secrets/a/").await.ok()["value"], "v");
}

#[tokio::test]
async fn a_purge_answers_with_nothing_and_frees_the_name() {
    let world = World::new().await;
    let old = set(&world, "a", "v").await;
    delete(&world, "/secrets/a").await.ok();
    let answer = delete(&world, "/deletedsecrets/a").await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (204, 0));
    assert_eq!(answer.headers.get("content-type"), None);
    refused(&get(&world, "/deletedsecrets/a").await, 404, "SecretNotFound", None);
    let new = set(&world, "a", "w").await;
    assert_ne!(old, new);
    refused(&get(&world, &format!("/secrets/a/{old}")).await, 404, "SecretNotFound", None);
}

#[tokio::test]
async fn the_scheduled_purge_happens() {
    let world = World::new().await;
    set(&world, "a", "v").await;
    let date = delete(&world, "/secrets/a").await.ok()["scheduledPurgeDate"].as_i64().unwrap();
    world.advance(89 * DAY);
    world.app.secrets().purge_due().await.unwrap();
    get(&world, "/deletedsecrets/a").await.ok();
    world.advance(DAY);
    assert_eq!(world.app.now().seconds(), date);
    world.app.secrets().purge_due().await.unwrap();
    refused(&get(&world, "/deletedsecrets/a").await, 404, "SecretNotFound", None);
    set(&world, "a", "free").await;
}
