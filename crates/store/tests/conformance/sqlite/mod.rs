//! The suite over the embedded store, and what only it has: a folder with files in it.

mod damage;
mod opening;

use kluis_store::{Options, Store};

use crate::world::World;

/// An open store in a folder that goes with it.
pub(crate) struct Home {
    pub(crate) store: Store,
    pub(crate) folder: tempfile::TempDir,
}

pub(crate) fn open() -> Home {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let store = Store::open(Options::new(folder.path().join("data"))).expect("an empty folder becomes a store");
    Home { store, folder }
}

crate::conformance!(crate::sqlite::open);

#[tokio::test]
async fn everything_is_there_after_reopening() {
    let home = open();
    let world = World::new(&home.store).await;
    let found = world.set("db-password", "sealed").await;
    let head = home.store.audit_head().await.expect("readable");
    home.store.close();

    let store = Store::open(Options::new(home.folder.path().join("data"))).expect("it opens again");
    let world = World { store, ..world };
    assert_eq!(world.found("db-password").await, found);
    assert_eq!(world.store.audit_head().await.expect("readable"), head);
    assert!(world.store.audit_prove(Vec::new()).await.expect("readable").holds());
    let filter = kluis_store::audit::AuditFilter { limit: 100, ..Default::default() };
    assert_eq!(crate::world::records(&world.store, filter).await.len() as u64, head.size);
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let home = open();
    home.store.close();
    let unavailable = |e: kluis_store::Error| matches!(e, kluis_store::Error::Unavailable(_));
    assert!(home.store.installation_load().await.is_err_and(unavailable));
    assert!(home.store.audit_append(crate::world::write(())).await.is_err_and(unavailable));
    assert!(home.store.audit_wait(0).await.is_err_and(unavailable));
}
