//! Starting, stopping, starting again; and what stands in the way of a start.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use kluis_core::clock::ManualClock;
use kluis_core::name::PrincipalName;
use kluis_server::config::RootKeyOption;
use kluis_server::{Server, ServerOptions, StartError};
use kluis_store::OpenError;
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::world::START;

fn options(folder: &TempDir) -> ServerOptions {
    let mut options = ServerOptions::new(folder.path().join("data"), PrincipalName::parse("owner").unwrap());
    options.listen = "127.0.0.1:0".into();
    options.clock = Arc::new(ManualClock::at(START));
    options.settings.blobs.least_free_percent = 0;
    options
}

async fn started(options: ServerOptions) -> kluis_server::Running {
    Server::start(options).await.unwrap()
}

async fn not_started(options: ServerOptions) -> StartError {
    Server::start(options).await.expect_err("the server does not start")
}

#[tokio::test]
async fn a_first_start_makes_everything_and_a_second_finds_it() {
    let folder = TempDir::new().unwrap();
    let mut first = started(options(&folder)).await;
    assert_ne!(first.addr().port(), 0);
    let made = first.first_start().expect("everything was made");
    assert_eq!(made.owner.as_str(), "owner");
    assert_eq!(made.root_key, folder.path().join("data/root.key"));
    assert!(first.first_start().is_none(), "the owner's login is given once");
    let pin = first.ca_sha256().unwrap().to_owned();
    first.shutdown().await;

    let mut second = started(options(&folder)).await;
    assert!(second.first_start().is_none());
    assert_eq!(second.ca_sha256(), Some(pin.as_str()), "clients keep their pin");
    second.app().sign_in(made.token.expose(), [127, 0, 0, 1].into()).await.unwrap();
    second.shutdown().await;
}

#[tokio::test]
async fn nobody_else_can_read_the_data() {
    let folder = TempDir::new().unwrap();
    std::fs::create_dir(folder.path().join("data")).unwrap();
    std::fs::set_permissions(folder.path().join("data"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let running = started(options(&folder)).await;
    let mut waiting = vec![folder.path().join("data")];
    while let Some(path) = waiting.pop() {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", path.display());
        if path.is_dir() {
            waiting.extend(std::fs::read_dir(path).unwrap().map(|e| e.unwrap().path()));
        }
    }
    running.shutdown().await;
}

#[tokio::test]
async fn a_wrong_root_key_refuses_and_touches_nothing() {
    let folder = TempDir::new().unwrap();
    started(options(&folder)).await.shutdown().await;
    let data = folder.path().join("data");
    let right = std::fs::read(data.join("root.key")).unwrap();
    let database = std::fs::read(data.join("kluis.db")).unwrap();

    let other = TempDir::new().unwrap();
    started(options(&other)).await.shutdown().await;
    std::fs::copy(other.path().join("data/root.key"), data.join("root.key")).unwrap();
    let error = not_started(options(&folder)).await;
    assert!(matches!(error, StartError::Vault(kluis_vault::Error::WrongRootKey { .. })), "{error}");
    assert_eq!(std::fs::read(data.join("kluis.db")).unwrap(), database);

    std::fs::remove_file(data.join("root.key")).unwrap();
    let error = not_started(options(&folder)).await;
    assert!(matches!(error, StartError::RootKey(kluis_vault::RootKeyError::Missing { .. })), "{error}");
    assert!(!data.join("root.key").exists(), "a lost root key is not made anew over data that needs it");

    std::fs::write(data.join("root.key"), right).unwrap();
    std::fs::set_permissions(data.join("root.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
    started(options(&folder)).await.shutdown().await;
}

#[tokio::test]
async fn a_second_server_on_the_same_data_is_told_so() {
    let folder = TempDir::new().unwrap();
    let running = started(options(&folder)).await;
    let error = not_started(options(&folder)).await;
    assert!(matches!(error, StartError::Open(OpenError::Locked { .. })), "{error}");
    assert!(error.to_string().contains("in use by another server"), "{error}");
    running.shutdown().await;
    started(options(&folder)).await.shutdown().await;
}

#[tokio::test]
async fn a_port_in_use_is_told_and_leaves_no_installation_behind() {
    let folder = TempDir::new().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut options = options(&folder);
    options.listen = taken.local_addr().unwrap().to_string();
    let error = not_started(options.clone()).await;
    assert!(error.to_string().contains("in use by another program"), "{error}");
    assert!(!folder.path().join("data").exists());
    options.listen = "nowhere".into();
    let error = not_started(options).await;
    assert!(error.to_string().contains("HOST:PORT"), "{error}");
}

#[tokio::test]
async fn a_folder_with_other_files_is_left_alone() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("thesis.tex"), "x").unwrap();
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o755)).unwrap();
    let error = not_started(options(&folder)).await;
    assert!(error.to_string().contains("other files"), "{error}");
    assert_eq!(std::fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o755);
    let mut file = options(&folder);
    file.data = data.join("thesis.tex");
    assert!(not_started(file).await.to_string().contains("not a folder"));
}

#[tokio::test]
async fn a_first_start_that_was_interrupted_goes_on_with_its_root_key() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    kluis_vault::RootKeyFile::create_new(data.join("root.key"), &kluis_vault::SystemRng).unwrap();
    let key = std::fs::read(data.join("root.key")).unwrap();
    let mut running = started(options(&folder)).await;
    assert!(running.first_start().is_some());
    assert_eq!(std::fs::read(data.join("root.key")).unwrap(), key);
    running.shutdown().await;
}

/// A database that was lost is put back, not made anew: the new one would take everything that lies there for nobody's.
#[tokio::test]
async fn a_lost_database_is_no_first_start() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    started(options(&folder)).await.shutdown().await;
    std::fs::create_dir_all(data.join("blobs/workspace")).unwrap();
    std::fs::write(data.join("blobs/workspace/blob"), "sealed").unwrap();
    let database = std::fs::read(data.join("kluis.db")).unwrap();
    let left = ["blobs", "audit-index.db"];
    for (i, kept) in left.into_iter().enumerate() {
        for empty in [false, true] {
            std::fs::remove_file(data.join("kluis.db")).unwrap();
            if empty {
                std::fs::write(data.join("kluis.db"), "").unwrap();
            }
            let error = not_started(options(&folder)).await.to_string();
            assert!(error.contains(kept) && error.contains("kluis.db"), "{error}");
            assert_eq!(std::fs::metadata(data.join("kluis.db")).map_or(0, |m| m.len()), 0, "nothing was made");
            std::fs::write(data.join("kluis.db"), &database).unwrap();
        }
        if i == 0 {
            std::fs::rename(data.join("blobs"), folder.path().join("blobs")).unwrap();
        }
    }
    std::fs::rename(folder.path().join("blobs"), data.join("blobs")).unwrap();
    let mut running = started(options(&folder)).await;
    assert!(running.first_start().is_none(), "put back, it goes on");
    running.shutdown().await;
    assert!(data.join("blobs/workspace/blob").exists());
}

/// A database of ours without an installation in it, beside what one has left.
#[tokio::test]
async fn an_empty_database_beside_old_blobs_is_no_first_start() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    kluis_store::Store::open(kluis_store::Options::new(&data)).unwrap().close();
    std::fs::create_dir_all(data.join("blobs/workspace")).unwrap();
    let error = not_started(options(&folder)).await.to_string();
    assert!(error.contains("blobs"), "{error}");
    std::fs::remove_dir_all(data.join("blobs")).unwrap();
    started(options(&folder)).await.shutdown().await;
}

#[tokio::test]
async fn a_root_key_may_lie_elsewhere() {
    let folder = TempDir::new().unwrap();
    let mut options = options(&folder);
    options.root_key = RootKeyOption::File(Some(folder.path().join("usb.key")));
    started(options.clone()).await.shutdown().await;
    assert!(!folder.path().join("data/root.key").exists());
    started(options).await.shutdown().await;
}

/// The first start makes keys and certificates; every later one only opens what is there.
#[tokio::test]
async fn a_later_start_is_quick() {
    let folder = TempDir::new().unwrap();
    started(options(&folder)).await.shutdown().await;
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let begun = tokio::time::Instant::now();
        let running = started(options(&folder)).await;
        best = best.min(begun.elapsed());
        running.shutdown().await;
    }
    assert!(best < Duration::from_millis(100), "the quickest of five starts took {best:?}");
}

#[tokio::test]
async fn checkpoints_follow_the_log_while_the_server_runs() {
    let folder = TempDir::new().unwrap();
    let running = started(options(&folder)).await;
    let store = running.app().store.clone();
    let reached = async {
        loop {
            let size = store.audit_head().await.unwrap().size;
            if store.checkpoint_last().await.unwrap().is_some_and(|c| c.checkpoint.size == size) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), reached).await.expect("a checkpoint reached the head");
    running.shutdown().await;
}

#[tokio::test]
async fn a_failure_while_signing_the_log_passes() {
    let folder = TempDir::new().unwrap();
    let options = options(&folder);
    let running = started(options.clone()).await;
    let kept = async || running.app().store.checkpoint_last().await;
    let wait = async |size: u64| {
        for _ in 0..400 {
            if kept().await.is_ok_and(|last| last.is_some_and(|last| last.checkpoint.size >= size)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("nothing was signed");
    };
    let append = async || {
        use kluis_core::audit::{AuditAction, AuditRecord};
        let app = running.app();
        let entry = app.vault.audit_entry(AuditRecord::new(app.now(), AuditAction::ServerStarted));
        let authority = kluis_store::Authority::server();
        app.store.audit_append(kluis_store::Write::new(authority, entry, ())).await.unwrap();
        app.store.audit_head().await.unwrap().size
    };
    wait(1).await;
    crate::world::tamper(&options.data, "ALTER TABLE checkpoint RENAME TO away");
    append().await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(kept().await.is_err());
    crate::world::tamper(&options.data, "ALTER TABLE away RENAME TO checkpoint");
    wait(append().await).await;
    running.shutdown().await;
}
