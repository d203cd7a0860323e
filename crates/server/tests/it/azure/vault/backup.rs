//! `/secrets/NAME/backup` and `/secrets/restore`.

use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

use super::{HERE, call, call_at, delete, get, post, put, refused, set};
use crate::world::{Answer, CANARY, START, World, text};

async fn backup(world: &World, name: &str) -> String {
    text(&post(world, &format!("/secrets/{name}/backup")).await.ok()["value"])
}

async fn restore(world: &World, blob: &str) -> Answer {
    call(world, "POST", "/secrets/restore", Some(&world.owner), Some(json!({ "value": blob }))).await
}

async fn remove(world: &World, name: &str) {
    delete(world, &format!("/secrets/{name}")).await.ok();
    assert_eq!(delete(world, &format!("/deletedsecrets/{name}")).await.status, 204);
}

#[tokio::test]
async fn a_restored_secret_has_its_versions_ids_dates_and_values() {
    let world = World::new().await;
    let attributes = json!({ "enabled": false, "exp": 1_900_000_000 });
    let body = json!({ "value": CANARY, "tags": { "a": "b" }, "contentType": "t", "attributes": attributes });
    put(&world, "/secrets/Db-Password", body).await.ok();
    world.advance(Duration::from_secs(10));
    let two = set(&world, "db-password", "two").await;
    let before = get(&world, "/secrets/db-password/versions").await.ok();
    let blob = backup(&world, "db-password").await;
    remove(&world, "db-password").await;
    world.advance(Duration::from_secs(10));

    let restored = restore(&world, &blob).await.ok();
    assert_eq!(restored["id"], format!("{HERE}/secrets/Db-Password/{two}"), "in its first spelling");
    assert_eq!((restored.get("value"), &restored["attributes"]["created"]), (None, &json!(START.seconds() + 10)));
    assert_eq!(get(&world, "/secrets/db-password/versions").await.ok(), before);
    assert_eq!(get(&world, "/secrets/db-password/").await.ok()["value"], "two");
    let old = text(&before["value"][1]["id"]).strip_prefix(HERE).unwrap().to_owned();
    refused(&get(&world, &old).await, 403, "Forbidden", Some("SecretDisabled"));
    call(&world, "PATCH", &old, Some(&world.owner), Some(json!({ "attributes": { "enabled": true } }))).await.ok();
    assert_eq!(get(&world, &old).await.ok()["value"], CANARY);
}

#[tokio::test]
async fn a_blob_outlives_a_rotation_of_the_workspaces_key() {
    let world = World::new().await;
    set(&world, "a", "v").await;
    let blob = backup(&world, "a").await;
    remove(&world, "a").await;
    call_native(&world, "POST", "/workspaces/default/keys:rotate").await;
    world.app.workspaces().rewrap_all().await.unwrap();
    restore(&world, &blob).await.ok();
    assert_eq!(get(&world, "/secrets/a/").await.ok()["value"], "v");
    let padded = format!("{}{}", backup(&world, "a").await, "==");
    remove(&world, "a").await;
    restore(&world, &padded).await.ok();
}

async fn call_native(world: &World, method: &str, path: &str) {
    world.call(method, path, Some(&world.owner), None).await.ok();
}

#[tokio::test]
async fn a_blob_shows_nothing_and_two_share_nothing() {
    let world = World::new().await;
    set(&world, "a", CANARY).await;
    let blobs = [backup(&world, "a").await, backup(&world, "a").await];
    let bytes = blobs.each_ref().map(|blob| BASE64URL_NOPAD.decode(blob.as_bytes()).unwrap());
    for bytes in &bytes {
        assert_eq!(bytes[0], 1, "the format");
        let shown = String::from_utf8_lossy(bytes).into_owned();
        assert!(!shown.contains("canary") && !shown.contains("versions"), "{shown}");
    }
    let shared = bytes[0][1..].windows(12).filter(|part| bytes[1].windows(12).any(|other| other == *part)).count();
    assert_eq!(shared, 0);
}

#[tokio::test]
async fn a_restore_needs_the_name_to_be_free() {
    let world = World::new().await;
    let version = set(&world, "a", "v").await;
    let blob = backup(&world, "a").await;
    for deleted in [false, true] {
        if deleted {
            delete(&world, "/secrets/a").await.ok();
        }
        let message = refused(&restore(&world, &blob).await, 409, "Conflict", None);
        assert!(
            message.starts_with(&format!("There was a conflict restoring the secret '{HERE}/secrets/a'")),
            "{message}"
        );
    }
    post(&world, "/deletedsecrets/a/recover").await.ok();
    assert_eq!(get(&world, &format!("/secrets/a/{version}")).await.ok()["value"], "v");
}

#[tokio::test]
async fn what_was_not_made_here_is_refused_in_one_way() {
    let world = World::new().await;
    world.workspace("team").await;
    set(&world, "a", "v").await;
    let blob = backup(&world, "a").await;
    remove(&world, "a").await;
    let elsewhere = World::with(|options| options.rng = std::sync::Arc::new(kluis_vault::SystemRng)).await;
    set(&elsewhere, "a", "v").await;
    let foreign = backup(&elsewhere, "a").await;
    let mut changed = BASE64URL_NOPAD.decode(blob.as_bytes()).unwrap();
    *changed.last_mut().unwrap() ^= 1;
    let team = "https://team.vault.localhost:8443";
    let body = Some(json!({ "value": blob }));
    let other_workspace = call_at(&world, team, "POST", "/secrets/restore", Some(&world.owner), body).await;
    let newer = BASE64URL_NOPAD.encode(&[&[9], &[0; 90][..]].concat());
    for answer in [
        other_workspace,
        restore(&world, &foreign).await,
        restore(&world, &BASE64URL_NOPAD.encode(&changed)).await,
        restore(&world, &blob[..blob.len() / 2]).await,
        restore(&world, &newer).await,
        restore(&world, "").await,
        restore(&world, "not base64!").await,
        restore(&world, "(AzureKeyVaultSecretBackupV1.microsoft.com").await,
    ] {
        let message = refused(&answer, 400, "Malformed backup blob", None);
        assert_eq!(message, "Backup blob contains invalid or corrupt version.");
    }
    assert_eq!(get(&world, "/secrets").await.ok()["value"], json!([]));
    for body in [json!({}), json!({ "value": 1 }), json!({ "value": null }), json!([blob])] {
        let answer = call(&world, "POST", "/secrets/restore", Some(&world.owner), Some(body)).await;
        refused(&answer, 400, "BadParameter", None);
    }
}

#[tokio::test]
async fn both_are_on_record_and_name_the_secret() {
    let world = World::new().await;
    set(&world, "a", "v").await;
    let blob = backup(&world, "a").await;
    remove(&world, "a").await;
    restore(&world, &blob).await.ok();
    let page = world.get("/audit?last=10", &world.owner).await.ok();
    let records: Vec<&Value> = page["items"].as_array().unwrap().iter().collect();
    let of = |action: &str| *records.iter().find(|r| r["action"] == action).unwrap_or_else(|| panic!("{page}"));
    for action in ["secret.backed_up", "secret.restored"] {
        assert_eq!(of(action)["name"], "a");
    }
    let (was, is) = (&of("secret.backed_up")["secret"], &of("secret.restored")["secret"]);
    assert_ne!(was, is, "a purged secret stays gone: this is another one");
}

#[tokio::test]
async fn a_secret_of_500_versions_fits_and_one_more_does_not() {
    let world = World::new().await;
    for n in 0..500 {
        set(&world, "a", &n.to_string()).await;
    }
    let blob = backup(&world, "a").await;
    set(&world, "a", "one too many").await;
    let message = refused(&post(&world, "/secrets/a/backup").await, 409, "Conflict", None);
    assert!(message.contains("more than 500 versions"), "{message}");
    remove(&world, "a").await;
    restore(&world, &blob).await.ok();
    assert_eq!(get(&world, "/secrets/a/").await.ok()["value"], "499");
}
