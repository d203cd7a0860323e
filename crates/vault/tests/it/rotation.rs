//! Rotation: of a workspace key without touching a value, of the root key without touching anything but what it wraps.

use std::sync::Arc;

use kluis_core::rng::CountingRng;
use kluis_vault::{Error, RootKey, Vault};

use crate::fixture::{BINDING, BLOB, Fixture, INSTALLATION, WORKSPACE, root, text};

const NEW_ROOT: [u8; 32] = [0x77; 32];

fn new_root() -> RootKey {
    RootKey::from_bytes(&NEW_ROOT)
}

#[test]
fn both_generations_of_a_workspace_key_are_readable_until_the_old_one_is_forgotten() {
    let fixture = Fixture::new();
    let vault = &fixture.vault;
    let old = vault.seal(&BINDING, &text("hunter2")).unwrap();
    let next = vault.workspace_key_create(WORKSPACE).unwrap();
    assert_eq!(vault.seal(&BINDING, &text("v")).unwrap().key_id, fixture.workspace_key.id, "created is not loaded");
    vault.workspace_key_load(&next, false).unwrap();
    assert_eq!(vault.seal(&BINDING, &text("v")).unwrap().key_id, fixture.workspace_key.id, "loaded is not current");
    vault.workspace_key_load(&next, true).unwrap();

    let new = vault.seal(&BINDING, &text("new")).unwrap();
    assert_eq!(new.key_id, next.id);
    assert_eq!(vault.unseal(&BINDING, &old).unwrap().expose(), "hunter2");
    assert_eq!(vault.unseal(&BINDING, &new).unwrap().expose(), "new");

    let rewrapped = vault.rewrap(&BINDING, &old).unwrap();
    assert_eq!(rewrapped.key_id, next.id);
    assert_eq!(rewrapped.value, old.value, "the value's bytes are left alone");
    assert_ne!(rewrapped.wrapped_key, old.wrapped_key);
    assert_eq!(vault.rewrap(&BINDING, &rewrapped).unwrap(), rewrapped, "a resumed rotation does no work twice");

    vault.workspace_key_forget(WORKSPACE, fixture.workspace_key.id);
    assert_eq!(vault.unseal(&BINDING, &rewrapped).unwrap().expose(), "hunter2");
    assert!(matches!(vault.unseal(&BINDING, &old), Err(Error::UnknownKey { .. })));
}

#[test]
fn loading_a_key_again_keeps_its_count() {
    let fixture = Fixture::new();
    fixture.vault.seal(&BINDING, &text("v")).unwrap();
    fixture.vault.workspace_key_load(&fixture.workspace_key, true).unwrap();
    assert_eq!(fixture.vault.wear(WORKSPACE)[0].wraps, 1);
}

#[test]
fn a_blob_follows_its_workspace_key_by_its_header_alone() {
    let fixture = Fixture::new();
    let vault = &fixture.vault;
    let sealed = vault.seal_blob(WORKSPACE, BLOB, b"log").unwrap();
    let next = vault.workspace_key_create(WORKSPACE).unwrap();
    vault.workspace_key_load(&next, true).unwrap();
    assert_eq!(vault.open_blob(WORKSPACE, BLOB, &sealed).unwrap(), b"log");
    let header = vault.blob_rewrap(WORKSPACE, BLOB, &sealed[..kluis_vault::BLOB_HEADER_BYTES]).unwrap();
    vault.workspace_key_forget(WORKSPACE, fixture.workspace_key.id);
    assert!(vault.open_blob(WORKSPACE, BLOB, &sealed).is_err());
    let moved = [&header, &sealed[kluis_vault::BLOB_HEADER_BYTES..]].concat();
    assert_eq!(vault.open_blob(WORKSPACE, BLOB, &moved).unwrap(), b"log");
}

#[test]
fn after_a_root_rotation_only_the_new_root_key_opens_and_nothing_else_moved() {
    let fixture = Fixture::new();
    let vault = &fixture.vault;
    let sealed = vault.seal(&BINDING, &text("hunter2")).unwrap();
    let small = vault.seal_small("tls-key", b"pem").unwrap();
    let generations = [fixture.workspace_key.clone(), fixture.other_key.clone()];
    let rotated = vault.rotate_root(new_root(), &generations).unwrap();
    let (stored, stored_keys) = (rotated.installation.clone(), rotated.workspace_keys.clone());
    vault.adopt_root(rotated);
    assert_eq!(vault.root_key_id(), new_root().id());

    let given = root().id();
    let open = |root| Vault::open(root, INSTALLATION, &stored, Arc::new(CountingRng::new(9)));
    assert_eq!(open(root()).unwrap_err(), Error::WrongRootKey { wanted: new_root().id(), given });
    let after = open(new_root()).unwrap();
    for (key, old) in stored_keys.iter().zip(&generations) {
        assert_eq!((key.workspace, key.id), (old.workspace, old.id));
        after.workspace_key_load(key, true).unwrap();
        assert!(matches!(after.workspace_key_load(old, true), Err(Error::WrongRootKey { .. })));
    }
    assert_eq!(after.unseal(&BINDING, &sealed).unwrap().expose(), "hunter2");
    assert_eq!(after.unseal_small("tls-key", &small).unwrap()[..], b"pem"[..]);
    assert_eq!(after.mac(b"row"), vault.mac(b"row"));
    assert_eq!(after.lookup_hash("usr", "token"), vault.lookup_hash("usr", "token"));
    assert_eq!(after.public_key(), vault.public_key());
    assert_eq!(stored.signing_key, fixture.keys.signing_key);

    // The process that rotated goes on under the new root key.
    let key = vault.workspace_key_create(WORKSPACE).unwrap();
    after.workspace_key_load(&key, true).unwrap();
}

#[test]
fn a_rotation_that_is_not_adopted_has_not_happened() {
    let fixture = Fixture::new();
    drop(fixture.vault.rotate_root(new_root(), std::slice::from_ref(&fixture.workspace_key)).unwrap());
    let key = fixture.vault.workspace_key_create(WORKSPACE).unwrap();
    let vault = fixture.reopen();
    vault.workspace_key_load(&key, true).unwrap();
    vault.workspace_key_load(&fixture.workspace_key, false).unwrap();
}

#[test]
fn a_rotation_with_a_damaged_key_does_nothing() {
    let fixture = Fixture::new();
    let mut broken = fixture.workspace_key.clone();
    broken.wrapped[40] ^= 1;
    let error = fixture.vault.rotate_root(new_root(), &[fixture.other_key.clone(), broken]).unwrap_err();
    assert_eq!(error, Error::Damaged { what: "workspace key" });
    assert_eq!(fixture.vault.root_key_id(), root().id());
}
