//! Start: the right root key opens everything as it was, any other one is refused before anything is touched.

use std::sync::Arc;

use kluis_core::id::InstallationId;
use kluis_core::rng::CountingRng;
use kluis_vault::{Error, InstallationKeys, RootKey, SystemRng, Vault};

use crate::fixture::{BINDING, Fixture, INSTALLATION, ROOT, WORKSPACE, damaged, root, text};
use crate::spec;

fn open(root: RootKey, installation: InstallationId, keys: &InstallationKeys) -> Result<Vault, Error> {
    Vault::open(root, installation, keys, Arc::new(CountingRng::new(9)))
}

#[test]
fn a_restart_changes_nothing() {
    let before = Fixture::new();
    let sealed = before.vault.seal(&BINDING, &text("hunter2")).unwrap();
    let after = before.reopen();
    assert!(matches!(after.unseal(&BINDING, &sealed), Err(Error::UnknownKey { .. })), "keys are loaded on request");
    after.workspace_key_load(&before.workspace_key, true).unwrap();
    assert_eq!(after.unseal(&BINDING, &sealed).unwrap().expose(), "hunter2");
    assert_eq!(after.public_key(), before.vault.public_key());
    assert_eq!(after.mac(b"row"), before.vault.mac(b"row"));
    assert_eq!(after.lookup_hash("usr", "token"), before.vault.lookup_hash("usr", "token"));
    assert_eq!(after.root_key_id(), root().id());
}

#[test]
fn a_wrong_root_key_is_refused_and_says_which_is_wanted() {
    let fixture = Fixture::new();
    let wrong = RootKey::from_bytes(&[0x12; 32]);
    let given = wrong.id();
    let error = open(wrong, INSTALLATION, &fixture.keys).unwrap_err();
    assert_eq!(error, Error::WrongRootKey { wanted: root().id(), given });
    assert!(error.to_string().contains("nothing was changed"));
}

#[test]
fn another_installations_keys_are_refused_even_under_the_same_root_key() {
    let fixture = Fixture::new();
    let elsewhere = InstallationId::from_bytes([0x23; 16]);
    assert_eq!(open(root(), elsewhere, &fixture.keys).unwrap_err(), Error::Damaged { what: "canary" });
}

#[test]
fn two_installations_share_no_key() {
    let (a, _) = Vault::create(root(), INSTALLATION, Arc::new(SystemRng)).unwrap();
    let (b, _) = Vault::create(root(), INSTALLATION, Arc::new(SystemRng)).unwrap();
    assert_ne!(a.mac(b"row"), b.mac(b"row"));
    assert_ne!(a.public_key(), b.public_key());
    let key = a.workspace_key_create(WORKSPACE).unwrap();
    a.workspace_key_load(&key, true).unwrap();
    let small = a.seal_small("tls-key", b"pem").unwrap();
    assert!(b.unseal_small("tls-key", &small).is_err());
}

#[test]
fn every_damage_to_the_stored_keys_is_noticed() {
    let fixture = Fixture::new();
    let good = &fixture.keys;
    for bytes in damaged(&good.canary) {
        assert!(open(root(), INSTALLATION, &InstallationKeys { canary: bytes, ..good.clone() }).is_err());
    }
    for bytes in damaged(&good.installation_key) {
        assert!(open(root(), INSTALLATION, &InstallationKeys { installation_key: bytes, ..good.clone() }).is_err());
    }
    for bytes in damaged(&good.signing_key) {
        assert!(open(root(), INSTALLATION, &InstallationKeys { signing_key: bytes, ..good.clone() }).is_err());
    }
    let swapped = InstallationKeys {
        canary: good.installation_key.clone(),
        installation_key: good.canary.clone(),
        signing_key: good.signing_key.clone(),
    };
    assert!(open(root(), INSTALLATION, &swapped).is_err());
}

#[test]
fn a_workspace_key_loads_only_as_what_it_is() {
    let fixture = Fixture::new();
    let vault = fixture.reopen();
    let good = &fixture.workspace_key;
    let damage = Err(Error::Damaged { what: "workspace key" });
    let moved = kluis_vault::WorkspaceKey { workspace: fixture.other_key.workspace, ..good.clone() };
    assert_eq!(vault.workspace_key_load(&moved, true), damage);
    let renamed = kluis_vault::WorkspaceKey { id: fixture.other_key.id, ..good.clone() };
    assert_eq!(vault.workspace_key_load(&renamed, true), damage);
    for wrapped in damaged(&good.wrapped) {
        assert!(vault.workspace_key_load(&kluis_vault::WorkspaceKey { wrapped, ..good.clone() }, true).is_err());
    }
    assert_eq!(vault.wear(WORKSPACE), [], "what failed to load is not in the keyring");
    assert_eq!(vault.seal(&BINDING, &text("v")), Err(Error::NoCurrentKey { workspace: WORKSPACE }));
}

#[test]
fn a_workspace_key_under_a_false_name_does_not_load_even_when_the_root_key_sealed_it() {
    let fixture = Fixture::new();
    let (installation, root_id) = (INSTALLATION.as_bytes(), spec::key_id(&ROOT));
    let wrap = spec::hkdf(&ROOT, &spec::p("kluis/root-wrap", &[installation]));
    let load = |key: &spec::Key, id: [u8; 16]| {
        let ad = spec::p("kluis/workspace-key", &[installation, WORKSPACE.as_bytes(), &id, &root_id]);
        let wrapped = spec::box_seal(&wrap, &root_id, &ad, key);
        let id = kluis_core::id::KeyId::from_bytes(id);
        fixture.vault.workspace_key_load(&kluis_vault::WorkspaceKey { workspace: WORKSPACE, id, wrapped }, false)
    };
    assert_eq!(load(&[9; 32], spec::key_id(&[9; 32])), Ok(()));
    assert_eq!(load(&[9; 32], spec::key_id(&[8; 32])), Err(Error::Damaged { what: "workspace key" }));
}

#[test]
fn a_forgotten_key_opens_and_seals_nothing() {
    let fixture = Fixture::new();
    let sealed = fixture.vault.seal(&BINDING, &text("hunter2")).unwrap();
    fixture.vault.workspace_key_forget(WORKSPACE, fixture.workspace_key.id);
    assert!(matches!(fixture.vault.unseal(&BINDING, &sealed), Err(Error::UnknownKey { .. })));
    assert_eq!(fixture.vault.seal(&BINDING, &text("v")), Err(Error::NoCurrentKey { workspace: WORKSPACE }));
}

#[test]
fn the_page_opens_an_installation() {
    let fixture = Fixture::new();
    let keys = &fixture.keys;
    let open = |root| {
        let installation = *INSTALLATION.as_bytes();
        spec::Installation::open(root, installation, &keys.installation_key, &keys.signing_key, &keys.canary)
    };
    let opened = open(ROOT).unwrap();
    assert_eq!(spec::public_key(&opened.signing_seed), fixture.vault.public_key());
    assert!(open([0x12; 32]).is_none());
    let sealed = fixture.vault.seal_small("tls-key", b"pem").unwrap();
    assert_eq!(opened.small("tls-key", &sealed).unwrap(), b"pem");
}

#[test]
fn a_small_secret_opens_only_for_its_purpose() {
    let fixture = Fixture::new();
    for content in [&b""[..], b"pem", &[0; 10_000]] {
        let sealed = fixture.vault.seal_small("tls-key", content).unwrap();
        assert_eq!(fixture.vault.unseal_small("tls-key", &sealed).unwrap()[..], content[..]);
        assert!(fixture.vault.unseal_small("ca-key", &sealed).is_err());
    }
    let sealed = fixture.vault.seal_small("tls-key", b"pem").unwrap();
    for other in damaged(&sealed) {
        assert!(fixture.vault.unseal_small("tls-key", &other).is_err());
    }
    // The signing key is sealed under the same key, for another purpose.
    assert!(fixture.vault.unseal_small("kluis/signing-key", &fixture.keys.signing_key).is_err());
}
