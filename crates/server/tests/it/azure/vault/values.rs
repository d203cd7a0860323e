//! Where a value goes: into the answers of set and get, and nowhere else. It is looked for in every other answer, in what
//! is logged, in the audit log and in the files of the server. A body that came without a good token is not kept at all.

use serde_json::json;

use super::{RESOURCE, call, delete, face_token, get, patch, post, put, set};
use crate::all::canary::{CORE, Heard, Search, files};
use crate::all::scene::VALUE;
use crate::world::{World, text};

/// In the bodies that came without a good token.
const UNSIGNED: &str = "uNsIgNeD5e7d19uNsIgNeD";

#[tokio::test]
async fn a_value_is_in_the_answers_of_set_and_get_and_nowhere_else() {
    let heard = Heard::default();
    tracing::subscriber::set_global_default(heard.clone()).expect("no other test sets one");
    let world = World::new().await;
    let value = Search::new(&[(VALUE.to_owned(), CORE.to_owned()), (UNSIGNED.to_owned(), UNSIGNED.to_owned())]);
    let token = face_token(&world, &world.owner, RESOURCE).await;
    let credential = Search::new(&[(token.clone(), token[token.len() - 30..].to_owned())]);

    let version = set(&world, "a", VALUE).await;
    let got = get(&world, "/secrets/a/").await;
    assert!(value.find(&got.body).is_some(), "the search finds it where it is");
    let backup = post(&world, "/secrets/a/backup").await;
    let blob = json!({ "value": text(&serde_json::from_slice::<serde_json::Value>(&backup.body).unwrap()["value"]) });
    let mut silent = vec![
        backup,
        patch(&world, "/secrets/a/", json!({ "tags": { "a": "b" } })).await,
        get(&world, "/secrets").await,
        get(&world, "/secrets/a/versions").await,
        call(&world, "GET", "/secrets", Some(&token), None).await,
        put(&world, "/secrets/a", json!({ "value": VALUE, "attributes": VALUE })).await,
        put(&world, "/secrets/a", json!({ "value": VALUE.repeat(2000) })).await,
        put(&world, "/secrets/a", json!({ "value": [VALUE] })).await,
        patch(&world, "/secrets/a/", json!({ "attributes": { "exp": VALUE } })).await,
        call(&world, "POST", "/secrets/restore", Some(&world.owner), Some(json!({ "value": VALUE }))).await,
        patch(&world, "/secrets/a/", json!({ "attributes": { "enabled": false } })).await,
        get(&world, "/secrets/a/").await,
        get(&world, &format!("/secrets/a/{version}")).await,
        delete(&world, "/secrets/a").await,
        put(&world, "/secrets/a", json!({ "value": VALUE })).await,
        get(&world, "/deletedsecrets").await,
        get(&world, "/deletedsecrets/a").await,
        post(&world, "/deletedsecrets/a/recover").await,
        delete(&world, "/secrets/a").await,
        delete(&world, "/deletedsecrets/a").await,
        call(&world, "POST", "/secrets/restore", Some(&world.owner), Some(blob)).await,
    ];
    for token in [None, Some("e30.e30.e30"), Some("kls_usr_nonsense"), Some(&format!("{token}x"))] {
        let unsigned = json!({ "value": UNSIGNED });
        silent.push(call(&world, "PUT", "/secrets/b", token, Some(unsigned.clone())).await);
        silent.push(call(&world, "POST", "/secrets/restore", token, Some(unsigned)).await);
    }
    for answer in &silent {
        assert_eq!(value.find(&answer.body), None, "{}", answer.text());
        assert_eq!(value.find(format!("{:?}", answer.headers).as_bytes()), None);
    }

    let nowhere_in = |place: &str, bytes: &[u8]| {
        assert_eq!(value.find(bytes), None, "{place} holds a value");
        assert_eq!(credential.find(bytes), None, "{place} holds a token");
    };
    let audit = world.get("/audit?last=200", &world.owner).await.text();
    assert!(audit.contains("secret.backed_up"), "{audit}");
    nowhere_in("the audit log", audit.as_bytes());
    let log = heard.0.lock().unwrap().clone();
    assert!(log.contains("refused") && log.contains("restore"), "what was refused was logged: {log}");
    nowhere_in("the log", log.as_bytes());
    assert!(files(&nowhere_in, world.folder.path()) > 100_000, "the database was looked through");
    world.app.store.close();
    files(&nowhere_in, world.folder.path());
}
