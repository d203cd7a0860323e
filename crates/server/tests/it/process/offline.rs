//! Work on a stopped server: a new login for the owner, a new root key, a look at the data's health.

use kluis_core::audit::{AuditAction, AuditRecord, Frontier, leaf_hash};
use kluis_server::config::RootKeyOption;
use kluis_server::server::offline;
use kluis_server::{Server, ServerOptions, StartError};
use serde_json::json;
use zeroize::Zeroizing;

use crate::session::stage::Stage;
use crate::world::{CANARY, World, tamper};

const HOME: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// A world that was stopped, with the options to start it again.
async fn stopped() -> (tempfile::TempDir, ServerOptions, String) {
    let world = World::new().await;
    world.put("/workspaces/default/secrets/a", &world.owner, json!({ "value": CANARY })).await.ok();
    stop(world)
}

fn stop(mut world: World) -> (tempfile::TempDir, ServerOptions, String) {
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
    let rotated = offline::root_rotate(&options, None).await.unwrap();
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
    let rotated = offline::root_rotate(&options, None).await.unwrap();
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

/// An installation under a passphrase, stopped; a stretch costs a second.
async fn under_a_passphrase() -> (tempfile::TempDir, ServerOptions) {
    let folder = tempfile::tempdir().unwrap();
    let clock = std::sync::Arc::new(kluis_core::clock::ManualClock::at(crate::world::START));
    let mut options = crate::world::options(&folder, &clock);
    options.root_key = passphrase("correct horse battery");
    let (app, _) = Server::open(&options).await.unwrap();
    app.store.close();
    (folder, options)
}

fn passphrase(text: &str) -> RootKeyOption {
    RootKeyOption::Passphrase(Zeroizing::new(text.to_owned()))
}

#[tokio::test]
async fn a_new_passphrase_opens_everything_the_old_one_nothing_and_an_interruption_is_made_good() {
    let (folder, mut options) = under_a_passphrase().await;
    let data = folder.path().join("data");
    let before = std::fs::read(data.join("root.json")).unwrap();
    let short = Some(Zeroizing::new("short".to_owned()));
    for wrong in [None, short] {
        assert!(offline::root_rotate(&options, wrong).await.is_err());
        assert_eq!(std::fs::read(data.join("root.json")).unwrap(), before, "nothing changed");
    }
    let new = Zeroizing::new("staple in the paper tray".to_owned());
    let rotated = offline::root_rotate(&options, Some(new)).await.unwrap();
    assert_eq!(std::fs::read(&rotated.old).unwrap(), before);
    let refused = Server::open(&options).await.map(drop).expect_err("the old passphrase opens nothing");
    assert!(refused.to_string().contains("passphrase"), "{refused}");

    // As if the power had failed right after the commit.
    std::fs::rename(data.join("root.json"), data.join("root.json.next")).unwrap();
    std::fs::rename(&rotated.old, data.join("root.json")).unwrap();
    assert!(Server::open(&options).await.is_err(), "the old passphrase still opens nothing");
    options.root_key = passphrase("staple in the paper tray");
    let (app, _) = Server::open(&options).await.unwrap();
    assert_eq!(app.vault.root_key_id(), rotated.key);
    app.store.close();
    assert!(!data.join("root.json.next").exists());
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
    assert!(offline::root_rotate(&options, None).await.is_err());
    assert!(offline::owner_reset(&options, None).await.is_err());
    assert!(!options.data.exists());
}

#[tokio::test]
async fn the_doctor_finds_what_was_changed_behind_the_servers_back() {
    for (statement, table) in [
        ("UPDATE principal SET revision = 7", "principal"),
        ("UPDATE token SET label = 'x'", "token"),
        ("UPDATE secret SET revision = 7", "secret"),
        ("UPDATE version SET enabled = 0", "version"),
        ("UPDATE version SET value = zeroblob(length(value))", "version"),
        ("UPDATE workspace SET require_declared_secrets = 1", "workspace"),
        ("UPDATE compute SET name = 'x', name_key = 'x'", "compute"),
        ("UPDATE sealed_blob SET bytes = zeroblob(length(bytes))", "sealed_blob"),
    ] {
        let (_folder, options, _) = stopped().await;
        tamper(&options.data, statement);
        let found = offline::doctor(&options).await.unwrap();
        assert!(found.health.findings.iter().any(|f| f.table == table), "{statement}: {found:?}");
        assert!(found.audit.holds() && found.checkpoint_fits, "{statement}");
    }
}

#[tokio::test]
async fn the_doctor_finds_a_run_that_was_given_anothers_rights() {
    let stage = Stage::new().await;
    stage.run(json!({ "secrets": ["hub-token"] })).await;
    let (_folder, options, _) = stop(stage.world);
    assert!(offline::doctor(&options).await.unwrap().health.findings.is_empty());
    tamper(&options.data, "UPDATE run SET submitted_by = (SELECT id FROM principal WHERE name_key = 'owner')");
    let found = offline::doctor(&options).await.unwrap();
    assert!(found.health.findings.iter().any(|f| f.table == "run"), "{found:?}");
}

/// Recomputing the frontier over a shorter log hides nothing from whoever kept a checkpoint, the server itself first.
#[tokio::test]
async fn a_log_rewritten_after_it_was_signed_is_found_and_not_signed_again() {
    let (_folder, options, owner) = stopped().await;
    let (app, _) = Server::open(&options).await.unwrap();
    let signed = app.audit().checkpoint().await.unwrap();
    let keep = |change| kluis_store::Write { authority: kluis_store::Authority::server(), audit: Vec::new(), change };
    app.store.checkpoint_insert(keep(signed)).await.unwrap();
    let record = AuditRecord::new(app.now(), AuditAction::ServerStarted);
    app.store
        .audit_append(kluis_store::Write::new(kluis_store::Authority::server(), app.vault.audit_entry(record), ()))
        .await
        .unwrap();
    let leaves = app.store.audit_leaves(0, u32::MAX).await.unwrap();
    app.store.close();
    // The first record goes; the others move up, and the frontier is the one of what is left.
    let (mut entries, mut frontier) = (Vec::new(), Frontier::default());
    for (_, leaf) in &leaves[1..] {
        entries.extend_from_slice(&u32::try_from(leaf.len()).unwrap().to_be_bytes());
        entries.extend_from_slice(leaf);
        frontier.append(leaf_hash(leaf));
    }
    let database = rusqlite::Connection::open(options.data.join("kluis.db")).unwrap();
    let away = "DROP TRIGGER audit_page_stays; DROP TRIGGER audit_page_remains; DELETE FROM audit_page;";
    database.execute_batch(away).unwrap();
    let count = i64::try_from(leaves.len() - 1).unwrap();
    let page = "INSERT INTO audit_page (first_seq, count, entries) VALUES (0, ?1, ?2)";
    database.execute(page, (count, entries)).unwrap();
    database.execute("UPDATE audit_head SET frontier = ?1", [frontier.to_bytes()]).unwrap();
    database.close().unwrap();

    let found = offline::doctor(&options).await.unwrap();
    assert!(found.audit.holds() && !found.checkpoint_fits, "the rewriter did its homework");
    match Server::open(&options).await {
        // As long as it was when it was signed, but not the same.
        Err(StartError::Data { reason, .. }) => assert!(reason.contains("audit log"), "{reason}"),
        Err(e) => panic!("{e}"),
        Ok((app, _)) => {
            let refused = app.audit().checkpoint().await.unwrap_err();
            assert_eq!(refused.code(), "inconsistent");
            app.sign_in(&owner, HOME).await.expect("everything else works");
            app.store.close();
        }
    }
}

#[tokio::test]
async fn a_log_shorter_than_it_was_signed_is_refused_at_the_start() {
    let (_folder, options, _) = stopped().await;
    let (app, _) = Server::open(&options).await.unwrap();
    let mut signed = app.audit().checkpoint().await.unwrap();
    signed.checkpoint.size += 1;
    let signed = app.vault.sign_checkpoint(signed.checkpoint);
    let write = kluis_store::Write { authority: kluis_store::Authority::server(), audit: Vec::new(), change: signed };
    app.store.checkpoint_insert(write).await.unwrap();
    app.store.close();
    let error = Server::open(&options).await.map(std::mem::drop).expect_err("records are gone");
    assert!(matches!(&error, StartError::Data { reason, .. } if reason.contains("checkpoint")), "{error}");
}

#[tokio::test]
async fn work_on_a_stopped_server_needs_neither_certificate_nor_blobs_nor_every_owner() {
    let (folder, mut options, _) = stopped().await;
    std::fs::remove_dir_all(options.data.join("blobs")).unwrap();
    std::fs::write(options.data.join("blobs"), "a file").unwrap();
    tamper(&options.data, "DELETE FROM sealed_blob");
    let owner = "owner".parse().unwrap();
    offline::owner_reset(&options, Some(&owner)).await.unwrap();
    options.tls = kluis_server::config::TlsSource::Files {
        certificate: folder.path().join("gone.pem"),
        key: folder.path().join("gone.key"),
    };
    offline::owner_reset(&options, None).await.unwrap();
    offline::root_rotate(&options, None).await.unwrap();
    offline::doctor(&options).await.unwrap();
}
