//! Work on a stopped server: a new login for the owner, a new root key, a look at the data's health.

use kluis_server::server::offline;
use kluis_server::{Server, ServerOptions, StartError};
use serde_json::json;

use crate::world::{CANARY, World};

const HOME: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// A world that was stopped, with the options to start it again.
async fn stopped() -> (tempfile::TempDir, ServerOptions, String) {
    let mut world = World::new().await;
    world.put("/workspaces/default/secrets/a", &world.owner, json!({ "value": CANARY })).await.ok();
    let options = crate::world::options(&world.folder, &world.clock);
    let owner = world.owner.clone();
    let folder = std::mem::replace(&mut world.folder, tempfile::tempdir().unwrap());
    drop(world);
    (folder, options, owner)
}

#[tokio::test]
async fn an_owner_who_lost_the_login_gets_another_and_the_old_one_dies() {
    let (_folder, options, old) = stopped().await;
    let new = offline::owner_reset(&options, None).await.unwrap();
    let (app, _) = Server::open(&options).await.unwrap();
    app.sign_in(new.token.expose(), HOME).await.unwrap();
    assert!(app.sign_in(&old, HOME).await.is_err());
    app.store.close();
    let nobody = "nobody".parse().unwrap();
    assert!(matches!(offline::owner_reset(&options, Some(&nobody)).await, Err(StartError::Data { .. })));
}

#[tokio::test]
async fn a_new_root_key_opens_everything_and_the_old_one_nothing() {
    let (folder, options, owner) = stopped().await;
    let data = folder.path().join("data");
    let before = std::fs::read(data.join("root.key")).unwrap();
    let rotated = offline::root_rotate(&options).await.unwrap();
    assert_eq!(std::fs::read(&rotated.old).unwrap(), before);
    assert_ne!(std::fs::read(&rotated.path).unwrap(), before);

    let (app, _) = Server::open(&options).await.unwrap();
    let caller = app.sign_in(&owner, HOME).await.expect("tokens live on");
    let (workspace, name) = ("default".parse().unwrap(), "a".parse().unwrap());
    let read = app.secrets().read(&caller, &workspace, &name, None).await.unwrap();
    assert_eq!(read.value.expose(), CANARY);
    app.store.close();

    std::fs::copy(&rotated.old, &rotated.path).unwrap();
    let error = Server::open(&options).await.map(drop).expect_err("the old key opens nothing");
    assert!(matches!(error, StartError::Vault(kluis_vault::Error::WrongRootKey { .. })), "{error}");
}

#[tokio::test]
async fn a_rotation_cut_off_before_the_files_were_exchanged_is_finished_at_the_next_start() {
    let (folder, options, _) = stopped().await;
    let data = folder.path().join("data");
    let rotated = offline::root_rotate(&options).await.unwrap();
    // As if the power had failed right after the commit.
    std::fs::rename(data.join("root.key"), data.join("root.key.next")).unwrap();
    std::fs::rename(&rotated.old, data.join("root.key")).unwrap();
    let (app, _) = Server::open(&options).await.unwrap();
    assert_eq!(app.vault.root_key_id(), rotated.key);
    app.store.close();
    assert!(!data.join("root.key.next").exists());
    let (app, _) = Server::open(&options).await.unwrap();
    app.store.close();
}

#[tokio::test]
async fn the_doctor_finds_a_sound_installation_sound() {
    let (_folder, options, _) = stopped().await;
    let found = offline::doctor(&options).await.unwrap();
    assert!(found.audit.holds() && found.checkpoint_fits, "{found:?}");
    assert!(found.health.findings.is_empty(), "{found:?}");
}

#[tokio::test]
async fn nothing_is_made_where_nothing_is() {
    let folder = tempfile::tempdir().unwrap();
    let clock = std::sync::Arc::new(kluis_core::clock::ManualClock::at(crate::world::START));
    let options = crate::world::options(&folder, &clock);
    assert!(offline::doctor(&options).await.is_err());
    assert!(offline::root_rotate(&options).await.is_err());
    assert!(offline::owner_reset(&options, None).await.is_err());
    assert!(!options.data.exists());
}
