//! First start, sealed blobs, root rotation.

use kluis_store::installation::{InstallationKeys, RootRotate, SealedBlob};
use kluis_store::{Error, Store};

use crate::world::{World, write};

pub(crate) async fn first_start_makes_everything_at_once(store: &Store) {
    assert_eq!(store.installation_load().await.unwrap(), None);
    let (create, world) = World::first_start(store);
    store.installation_create(write(create.clone())).await.unwrap();

    let loaded = store.installation_load().await.unwrap().unwrap();
    assert_eq!((loaded.id, loaded.epoch, &loaded.keys), (create.id, 1, &create.keys));
    assert_eq!(loaded.sealed, create.sealed);
    let login = store.token_by_hash(create.owner_token.row.hash).await.unwrap().unwrap();
    assert_eq!(login.token, create.owner_token);
    assert_eq!(login.standing.grants.len(), 2, "on the installation and on the workspace");
    assert!(store.workspace_by_name(&create.workspace.workspace.row.name).await.unwrap().is_some());
    assert_eq!(store.workspace_keys(world.workspace).await.unwrap(), [create.workspace.key]);
    assert_eq!(store.compute_by_name(&create.compute.row.name).await.unwrap(), Some(create.compute));
    assert_eq!(store.installation_owners().await.unwrap(), [world.owner]);
}

pub(crate) async fn first_start_happens_once(store: &Store) {
    let (create, _) = World::first_start(store);
    store.installation_create(write(create.clone())).await.unwrap();
    let head = store.audit_head().await.unwrap();
    assert!(matches!(store.installation_create(write(create)).await, Err(Error::Conflict(_))));
    assert_eq!(store.audit_head().await.unwrap(), head);
}

pub(crate) async fn a_first_start_that_fails_leaves_nothing(store: &Store) {
    let (mut create, world) = World::first_start(store);
    let compute = create.compute.clone();
    create.compute.row.name = crate::world::compute_name("local");
    assert!(matches!(store.installation_create(write(create.clone())).await, Err(Error::Conflict(_))));
    assert_eq!(store.installation_load().await.unwrap(), None);
    assert_eq!(store.principal_get(world.owner).await.unwrap(), None);
    assert_eq!(store.audit_head().await.unwrap().size, 0);

    create.compute = compute;
    store.installation_create(write(create)).await.unwrap();
}

pub(crate) async fn a_sealed_blob_is_replaced_as_a_whole(store: &Store) {
    World::new(store).await;
    for bytes in [vec![1], vec![2, 2]] {
        store.sealed_blob_set(write(SealedBlob { name: "tls".into(), bytes: bytes.clone() })).await.unwrap();
        assert_eq!(store.installation_load().await.unwrap().unwrap().sealed["tls"], bytes);
    }
}

pub(crate) async fn a_root_rotation_that_misses_a_workspace_key_changes_nothing(store: &Store) {
    let world = World::new(store).await;
    let (_, other) = world.another_workspace("research").await;
    let before = store.installation_load().await.unwrap().unwrap().keys;
    let keys = InstallationKeys {
        installation_key: vec![21],
        signing_key: vec![22],
        canary: vec![23],
        root_source: "passphrase".into(),
    };
    let rotate = |workspace_keys| RootRotate { keys: keys.clone(), workspace_keys };

    let missing = rotate(vec![(world.key, vec![31])]);
    assert_eq!(store.root_rotate(write(missing)).await, Err(Error::Moved("the set of workspace keys")));
    assert_eq!(store.installation_load().await.unwrap().unwrap().keys, before);

    store.root_rotate(write(rotate(vec![(world.key, vec![31]), (other, vec![32])]))).await.unwrap();
    assert_eq!(store.installation_load().await.unwrap().unwrap().keys, keys);
    let wrapped: Vec<_> = store.workspace_keys_all().await.unwrap().into_iter().map(|k| k.wrapped).collect();
    assert!(wrapped.contains(&vec![31]) && wrapped.contains(&vec![32]));
}
