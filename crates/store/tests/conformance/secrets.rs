//! Secrets and versions: set, list, change, delete, recover, purge, rewrap.

use std::time::Duration;

use kluis_core::id::{KeyId, SecretId, VersionId};
use kluis_core::secret::SecretTransitionError;
use kluis_store::secrets::{RewrapStore, Rewrapped, SecretBackup, SecretPurge, SecretRestore, SecretWhole};
use kluis_store::workspaces::WorkspaceKeyRow;
use kluis_store::{After, Authenticated, Authority, Error, Store};

use crate::world::{NOW, World, authenticated, later, mac, secret_name, write};

const RETENTION: Duration = Duration::from_secs(100);

/// The row of a deleted secret, as the service would make it.
fn deleted(found: &Authenticated<kluis_core::secret::Secret>) -> Authenticated<kluis_core::secret::Secret> {
    let mut row = found.row.clone();
    row.state = row.state.delete(NOW, RETENTION).unwrap();
    row.revision += 1;
    authenticated(row)
}

fn recovered(found: &Authenticated<kluis_core::secret::Secret>) -> Authenticated<kluis_core::secret::Secret> {
    let mut row = found.row.clone();
    row.state = row.state.recover().unwrap();
    row.revision += 1;
    authenticated(row)
}

pub(crate) async fn a_secret_is_found_as_it_was_set(store: &Store) {
    let world = World::new(store).await;
    let insert = world.new_secret("Db-Password", "sealed");
    store.secret_version_insert(write(vec![insert.clone()])).await.unwrap();
    let found = world.found("DB-PASSWORD").await;
    assert_eq!((found.secret, found.version, found.sealed), (insert.secret, insert.version, insert.sealed));
}

pub(crate) async fn setting_again_makes_a_version_and_moves_the_pointer(store: &Store) {
    let world = World::new(store).await;
    let one = world.set("db-password", "one").await;
    let two = world.set("db-password", "two").await;
    assert_eq!(two.secret.row.id, one.secret.row.id);
    assert_eq!((two.secret.row.revision, two.sealed.value.as_slice()), (2, &b"two"[..]));
    assert_eq!(two.secret.row.current, two.version.row.id);

    let name = secret_name("db-password");
    let old = store.secret_find_version(Authority::server(), world.workspace, &name, one.version.row.id).await;
    let old = old.unwrap().unwrap();
    assert_eq!((old.sealed, old.secret), (one.sealed, two.secret));
    let listed = store.version_list(world.workspace, one.secret.row.id, After::first(10)).await.unwrap();
    assert_eq!(listed.items, [two.version, one.version], "newest first");
    let unknown = VersionId::from_bytes([1; 16]);
    let none = store.secret_find_version(Authority::server(), world.workspace, &name, unknown).await;
    assert_eq!(none.unwrap(), None);
}

pub(crate) async fn one_bad_entry_sets_nothing(store: &Store) {
    let world = World::new(store).await;
    world.set("taken", "x").await;
    let size = world.log_size().await;
    let batch = vec![world.new_secret("a", "x"), world.new_secret("b", "x"), world.new_secret("TAKEN", "x")];
    let refused = store.secret_version_insert(write(batch)).await.unwrap_err();
    assert_eq!(refused, Error::Entry { index: 2, error: Box::new(Error::Revision { current: 1 }) });
    for name in ["a", "b"] {
        assert_eq!(store.secret_get(world.workspace, &secret_name(name)).await.unwrap(), None);
    }
    assert_eq!(world.log_size().await, size);

    let mut mixed_up = world.new_secret("c", "x");
    mixed_up.version.row.secret = world.found("taken").await.secret.row.id;
    let refused = store.secret_version_insert(write(vec![mixed_up])).await.unwrap_err();
    assert!(matches!(refused.entry(), (Some(0), Error::Conflict(_))));
}

pub(crate) async fn a_stale_set_is_refused(store: &Store) {
    let world = World::new(store).await;
    let one = world.set("db-password", "one").await;
    let late = world.next_version(&one.secret.row, "late");
    world.set("db-password", "two").await;
    let refused = store.secret_version_insert(write(vec![late])).await.unwrap_err();
    assert_eq!(refused.entry().1, &Error::Revision { current: 2 });
    assert_eq!(world.found("db-password").await.sealed.value, b"two");

    let mut gone = one.secret.row.clone();
    gone.name = secret_name("never-was");
    let refused = store.secret_version_insert(write(vec![world.next_version(&gone, "x")])).await.unwrap_err();
    assert_eq!(refused.entry().1, &Error::Revision { current: 0 });
}

pub(crate) async fn a_deleted_secret_keeps_its_name_until_purged(store: &Store) {
    let world = World::new(store).await;
    let found = world.set("db-password", "x").await;
    let gone = deleted(&found.secret);
    store.secret_delete(write(gone.clone())).await.unwrap();
    let purge_at = NOW.plus(RETENTION);
    let is_deleted = Error::Secret(SecretTransitionError::Deleted { purge_at });

    let refused = store.secret_version_insert(write(vec![world.new_secret("db-password", "y")])).await.unwrap_err();
    assert_eq!((refused.entry().1, refused.purge_at()), (&is_deleted, Some(purge_at)));
    let mut revived = world.next_version(&gone.row, "y");
    revived.secret.row.state = kluis_core::secret::SecretState::Active;
    let refused = store.secret_version_insert(write(vec![revived])).await.unwrap_err();
    assert_eq!(refused.entry().1, &is_deleted);
    let read = store.secret_read(write(vec![world.read_of(&found, false)])).await.unwrap_err();
    assert_eq!(read.entry().1, &is_deleted);
    let mut version = found.version.clone();
    version.row.revision = 2;
    assert_eq!(store.version_change(write(version)).await, Err(is_deleted.clone()));
    let again = Authenticated { row: kluis_core::secret::Secret { revision: 3, ..gone.row.clone() }, mac: mac() };
    assert_eq!(store.secret_delete(write(again)).await, Err(is_deleted));

    assert_eq!(store.secret_list(world.workspace, false, After::first(9)).await.unwrap().items, []);
    let listed = store.secret_list(world.workspace, true, After::first(9)).await.unwrap().items;
    assert_eq!(listed[0].secret, gone);
    assert_eq!(store.purge_due(later(99), 10).await.unwrap(), []);
    assert_eq!(store.purge_due(later(100), 10).await.unwrap(), [gone]);
}

pub(crate) async fn a_purged_secret_is_gone_with_its_versions(store: &Store) {
    let world = World::new(store).await;
    world.set("db-password", "one").await;
    let found = world.set("db-password", "two").await;
    let (workspace, secret) = (world.workspace, found.secret.row.id);
    let purge = |revision| SecretPurge { workspace, secret, revision };
    let active = Err(Error::Secret(SecretTransitionError::NotDeleted));
    assert_eq!(store.secret_purge(write(purge(2))).await, active);

    store.secret_delete(write(deleted(&found.secret))).await.unwrap();
    assert_eq!(store.secret_purge(write(purge(2))).await, Err(Error::Revision { current: 3 }));
    store.secret_purge(write(purge(3))).await.unwrap();
    assert_eq!(store.secret_purge(write(purge(3))).await, Err(Error::NotFound));
    assert_eq!(store.version_get(workspace, found.version.row.id).await.unwrap(), None);
    assert_eq!(store.versions_using_key(workspace, world.key).await.unwrap(), 0);

    let anew = world.set("db-password", "three").await;
    assert_ne!(anew.secret.row.id, secret, "another secret of the same name");
}

pub(crate) async fn recovering_brings_the_same_secret_back(store: &Store) {
    let world = World::new(store).await;
    let found = world.set("db-password", "x").await;
    let not_deleted = Err(Error::Secret(SecretTransitionError::NotDeleted));
    let mut active = found.secret.clone();
    active.row.revision = 2;
    assert_eq!(store.secret_recover(write(active)).await, not_deleted);

    let gone = deleted(&found.secret);
    store.secret_delete(write(gone.clone())).await.unwrap();
    let mut early = recovered(&gone);
    early.row.revision = 5;
    assert_eq!(store.secret_recover(write(early)).await, Err(Error::Revision { current: 2 }));
    store.secret_recover(write(recovered(&gone))).await.unwrap();
    let back = world.found("db-password").await;
    assert_eq!((back.secret.row.id, back.secret.row.revision), (found.secret.row.id, 3));
    assert_eq!(back.sealed, found.sealed);
    store.secret_read(write(vec![world.read_of(&back, false)])).await.unwrap();
}

pub(crate) async fn attributes_change_by_revision(store: &Store) {
    let world = World::new(store).await;
    let found = world.set("db-password", "x").await;
    let mut version = found.version.clone();
    version.row.attributes.enabled = false;
    version.row.attributes.tags.clear();
    version.row.updated = later(1);
    assert_eq!(store.version_change(write(version.clone())).await, Err(Error::Revision { current: 1 }));
    version.row.revision = 2;
    store.version_change(write(version.clone())).await.unwrap();
    let now = world.found("db-password").await;
    assert_eq!((&now.version, &now.sealed), (&version, &found.sealed));
    assert_eq!(now.secret, found.secret, "the pointer did not move");
    assert_eq!(store.version_get(world.workspace, version.row.id).await.unwrap(), Some(version));
}

pub(crate) async fn another_workspace_sees_nothing(store: &Store) {
    let world = World::new(store).await;
    let found = world.set("db-password", "x").await;
    let (workspace, _) = world.another_workspace("research").await;
    assert_eq!(store.secret_get(workspace, &secret_name("db-password")).await.unwrap(), None);
    assert_eq!(store.secret_list(workspace, false, After::first(9)).await.unwrap().items, []);
    assert_eq!(store.version_get(workspace, found.version.row.id).await.unwrap(), None);
    assert_eq!(store.version_list(workspace, found.secret.row.id, After::first(9)).await.unwrap().items, []);
    let mut read = world.read_of(&found, false);
    read.workspace = workspace;
    let refused = store.secret_read(write(vec![read])).await.unwrap_err();
    assert_eq!(refused.entry().1, &Error::NotFound);
    let mut gone = deleted(&found.secret);
    gone.row.workspace = workspace;
    assert_eq!(store.secret_delete(write(gone)).await, Err(Error::Revision { current: 0 }));
    let purge = SecretPurge { workspace, secret: found.secret.row.id, revision: 1 };
    assert_eq!(store.secret_purge(write(purge)).await, Err(Error::NotFound));

    let mut same_name = world.new_secret("db-password", "y");
    (same_name.secret.row.workspace, same_name.version.row.workspace) = (workspace, workspace);
    let refused = store.secret_version_insert(write(vec![same_name])).await.unwrap_err();
    assert_eq!(refused.entry().1, &Error::Moved("the workspace's key"), "sealed under another workspace's key");
}

pub(crate) async fn secrets_come_in_pages(store: &Store) {
    let world = World::new(store).await;
    for name in ["b", "D", "a", "c_1", "c-1"] {
        world.set(name, "x").await;
    }
    let (mut names, mut after) = (Vec::new(), None);
    loop {
        let page = store.secret_list(world.workspace, false, After { after, limit: 2 }).await.unwrap();
        names.extend(page.items.into_iter().map(|s| s.secret.row.name.to_string()));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(names, ["a", "b", "c-1", "c_1", "D"]);

    let secret = world.found("a").await.secret.row.id;
    for value in ["2", "3"] {
        world.set("a", value).await;
    }
    let first = store.version_list(world.workspace, secret, After::first(2)).await.unwrap();
    let rest = store.version_list(world.workspace, secret, After { after: first.next, limit: 2 }).await.unwrap();
    assert_eq!((first.items.len(), rest.items.len(), rest.next), (2, 1, None));
}

pub(crate) async fn a_key_rotation_rewraps_each_version_once(store: &Store) {
    let world = World::new(store).await;
    for name in ["a", "b", "c"] {
        world.set(name, name).await;
    }
    let new = KeyId::generate(&world.rng);
    let row =
        WorkspaceKeyRow { workspace: world.workspace, id: new, wrapped: vec![1], current: true, created: later(1) };
    store.workspace_key_add(write(row)).await.unwrap();

    let mut rewrapped = 0;
    loop {
        let next = store.rewrap_next(world.workspace, new, 2).await.unwrap();
        if next.is_empty() {
            break;
        }
        assert!(next.len() <= 2);
        let to = |r: &kluis_store::secrets::Rewrap| Rewrapped {
            version: r.version,
            from: r.key_id,
            to: new,
            wrapped_key: vec![99],
        };
        let batch = RewrapStore { workspace: world.workspace, items: next.iter().map(to).collect() };
        rewrapped += store.rewrap_store(write(batch.clone())).await.unwrap();
        assert_eq!(store.rewrap_store(write(batch)).await.unwrap(), 0, "already done");
    }
    assert_eq!(rewrapped, 3);
    assert_eq!(store.versions_using_key(world.workspace, new).await.unwrap(), 3);
    let found = world.found("a").await;
    assert_eq!((found.sealed.key_id, found.sealed.wrapped_key.as_slice()), (new, &[99][..]));
    assert_eq!((found.sealed.value.as_slice(), found.version.row.revision), (&b"a"[..], 1));
    let remove = kluis_store::workspaces::WorkspaceKeyRemove { workspace: world.workspace, key: world.key };
    store.workspace_key_remove(write(remove)).await.unwrap();
}

pub(crate) async fn a_version_under_a_removed_key_is_refused(store: &Store) {
    let world = World::new(store).await;
    let mut insert = world.new_secret("db-password", "x");
    insert.sealed.key_id = KeyId::from_bytes([1; 16]);
    let refused = store.secret_version_insert(write(vec![insert])).await.unwrap_err();
    assert_eq!(refused.entry().1, &Error::Moved("the workspace's key"));
    assert_eq!(store.secret_get(world.workspace, &secret_name("db-password")).await.unwrap(), None);
}

/// A secret of two versions, taken out and purged; and what puts it back, as the service would make it.
async fn taken_out(world: &World, store: &Store) -> (SecretWhole, SecretRestore) {
    world.set("db-password", "one").await;
    world.set("db-password", "two").await;
    let name = secret_name("DB-password");
    let whole = store.secret_whole(world.workspace, &name, 9).await.unwrap().unwrap();
    let mut secret = whole.secret.row.clone();
    (secret.id, secret.revision) = (SecretId::generate(&world.rng), 1);
    let again = |(version, sealed): &(Authenticated<kluis_core::secret::Version>, _)| {
        let mut row = version.row.clone();
        row.secret = secret.id;
        (authenticated(row), kluis_core::sealed::Sealed::clone(sealed))
    };
    let versions = whole.versions.iter().map(again).collect();
    let restore = SecretRestore { secret: authenticated(secret), versions };
    (whole, restore)
}

pub(crate) async fn a_backup_is_on_record_only_of_what_is_there(store: &Store) {
    let world = World::new(store).await;
    let (whole, _) = taken_out(&world, store).await;
    let (workspace, secret) = (world.workspace, whole.secret.row.id);
    let values: Vec<&[u8]> = whole.versions.iter().map(|(_, sealed)| &sealed.value[..]).collect();
    assert_eq!(values, [b"one", b"two"], "oldest first");
    let name = secret_name("db-password");
    let cut = store.secret_whole(workspace, &name, 1).await.unwrap().unwrap();
    assert_eq!(cut.versions.len(), 2, "one more than asked for says that there are more");
    let none = store.secret_whole(workspace, &secret_name("other"), 9).await.unwrap();
    assert_eq!(none, None);

    let size = world.log_size().await;
    store.secret_backup(write(SecretBackup { workspace, secret, revision: 2 })).await.unwrap();
    assert_eq!(world.log_size().await, size + 1);
    let moved = store.secret_backup(write(SecretBackup { workspace, secret, revision: 1 })).await;
    assert_eq!(moved, Err(Error::Revision { current: 2 }));
    let other = SecretBackup { workspace, secret: SecretId::from_bytes([1; 16]), revision: 2 };
    assert_eq!(store.secret_backup(write(other)).await, Err(Error::NotFound));
    store.secret_delete(write(deleted(&whole.secret))).await.unwrap();
    let gone = store.secret_backup(write(SecretBackup { workspace, secret, revision: 3 })).await;
    assert!(matches!(gone, Err(Error::Secret(SecretTransitionError::Deleted { .. }))));
    assert_eq!(world.log_size().await, size + 2, "the deletion's own record");
}

pub(crate) async fn a_restored_secret_has_its_versions_again(store: &Store) {
    let world = World::new(store).await;
    let (whole, restore) = taken_out(&world, store).await;
    store.secret_delete(write(deleted(&whole.secret))).await.unwrap();
    let purge = SecretPurge { workspace: world.workspace, secret: whole.secret.row.id, revision: 3 };
    store.secret_purge(write(purge)).await.unwrap();
    store.secret_restore(write(restore.clone())).await.unwrap();

    let found = world.found("db-password").await;
    assert_eq!((&found.secret, found.sealed.value.as_slice()), (&restore.secret, &b"two"[..]));
    let listed = store.version_list(world.workspace, found.secret.row.id, After::first(9)).await.unwrap().items;
    let newest_first: Vec<_> = restore.versions.iter().rev().map(|(version, _)| version.clone()).collect();
    assert_eq!(listed, newest_first);
    let next = world.set("db-password", "three").await;
    assert_eq!((next.secret.row.revision, next.sealed.value.as_slice()), (2, &b"three"[..]), "it goes on as any other");
}

pub(crate) async fn a_restore_needs_a_free_name(store: &Store) {
    let world = World::new(store).await;
    let (whole, restore) = taken_out(&world, store).await;
    let refused = store.secret_restore(write(restore.clone())).await;
    assert_eq!(refused, Err(Error::Conflict("a secret of this name is there")));
    store.secret_delete(write(deleted(&whole.secret))).await.unwrap();
    let refused = store.secret_restore(write(restore.clone())).await.unwrap_err();
    assert_eq!(refused.purge_at(), Some(NOW.plus(RETENTION)));

    let mut torn = restore.clone();
    torn.versions.pop();
    assert!(matches!(store.secret_restore(write(torn)).await, Err(Error::Conflict(_))), "the pointer points nowhere");
    let purge = SecretPurge { workspace: world.workspace, secret: whole.secret.row.id, revision: 3 };
    store.secret_purge(write(purge)).await.unwrap();
    let mut unsealable = restore;
    unsealable.secret.row.name = secret_name("free");
    unsealable.versions[1].1.key_id = KeyId::from_bytes([1; 16]);
    assert_eq!(store.secret_restore(write(unsealable)).await, Err(Error::Moved("the workspace's key")));
    assert_eq!(store.secret_get(world.workspace, &secret_name("free")).await.unwrap(), None, "all or nothing");
}
