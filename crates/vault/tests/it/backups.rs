//! Backups of one secret: they open where they were made, whatever was rotated since, and nowhere else.

use kluis_core::rng::CountingRng;
use kluis_core::sealed::Sealed;
use kluis_vault::{Error, RootKey, Vault};

use crate::fixture::{BINDING, Fixture, INSTALLATION, OTHER_WORKSPACE, WORKSPACE, damaged, root, text};
use crate::spec;

fn made(fixture: &Fixture) -> (Sealed, Vec<u8>) {
    let sealed = fixture.vault.seal(&BINDING, &text("hunter2")).unwrap();
    let backup = fixture.vault.backup(WORKSPACE);
    let taken = backup.take(&BINDING, &sealed).unwrap();
    assert_eq!(taken.value, sealed.value, "the value's bytes are left alone");
    (taken, backup.seal(b"what it says").unwrap())
}

#[test]
fn a_backup_opens_where_it_was_made_and_the_page_opens_it() {
    let fixture = Fixture::new();
    let (taken, backup) = made(&fixture);
    let (content, opener) = fixture.vault.backup_open(WORKSPACE, &backup).unwrap();
    assert_eq!(&content[..], b"what it says");
    assert_eq!(opener.value(&BINDING, &taken.wrapped_key, &taken.value).unwrap().expose(), "hunter2");

    let by_the_page = fixture.by_the_page();
    let (workspace, id) = (WORKSPACE.as_bytes(), &backup[1..17]);
    let key = spec::hkdf(&by_the_page.key, &spec::p("kluis/backup-key", &[INSTALLATION.as_bytes(), workspace, id]));
    let key_id = spec::key_id(&key);
    let ad = spec::p("kluis/backup", &[INSTALLATION.as_bytes(), workspace, id, &key_id]);
    assert_eq!((backup[0], spec::box_open(&key, &key_id, &ad, &backup[17..]).unwrap()), (1, content.to_vec()));
    let place = [WORKSPACE.as_bytes(), BINDING.secret.as_bytes(), BINDING.version.as_bytes()];
    assert_eq!(spec::value(&key, place, &taken.wrapped_key, &taken.value).unwrap(), b"hunter2");
}

#[test]
fn a_backup_outlives_every_rotation() {
    let fixture = Fixture::new();
    let (taken, backup) = made(&fixture);
    fixture.vault.workspace_key_forget(WORKSPACE, fixture.workspace_key.id);
    let (_, opener) = fixture.vault.backup_open(WORKSPACE, &backup).unwrap();
    assert_eq!(opener.value(&BINDING, &taken.wrapped_key, &taken.value).unwrap().expose(), "hunter2");
    let rotated = fixture.vault.rotate_root(RootKey::from_bytes(&[0x12; 32]), &[]).unwrap();
    let keys = rotated.installation.clone();
    let rng = std::sync::Arc::new(CountingRng::new(9));
    let vault = Vault::open(RootKey::from_bytes(&[0x12; 32]), INSTALLATION, &keys, rng).unwrap();
    assert!(vault.backup_open(WORKSPACE, &backup).is_ok());
}

#[test]
fn a_backup_opens_nowhere_else() {
    let fixture = Fixture::new();
    let (taken, backup) = made(&fixture);
    let refused = Some(Error::Damaged { what: "backup" });
    assert_eq!(fixture.vault.backup_open(OTHER_WORKSPACE, &backup).err(), refused);
    let rng = std::sync::Arc::new(CountingRng::new(9));
    let (other, _) = Vault::create(root(), INSTALLATION, rng).unwrap();
    assert_eq!(other.backup_open(WORKSPACE, &backup).err(), refused, "same root key and id, another installation key");

    let (_, second) = made(&fixture);
    let (_, opener) = fixture.vault.backup_open(WORKSPACE, &second).unwrap();
    assert!(opener.value(&BINDING, &taken.wrapped_key, &taken.value).is_err(), "a value of another backup");
    let (_, opener) = fixture.vault.backup_open(WORKSPACE, &backup).unwrap();
    let elsewhere = kluis_vault::Binding { workspace: OTHER_WORKSPACE, ..BINDING };
    assert!(opener.value(&elsewhere, &taken.wrapped_key, &taken.value).is_err());
}

#[test]
fn a_damaged_backup_is_refused() {
    let fixture = Fixture::new();
    let (_, backup) = made(&fixture);
    for bytes in damaged(&backup) {
        assert!(fixture.vault.backup_open(WORKSPACE, &bytes).is_err());
    }
    let newer = [&[2], &backup[1..]].concat();
    assert_eq!(
        fixture.vault.backup_open(WORKSPACE, &newer).err(),
        Some(Error::UnknownFormat { what: "backup", format: 2 })
    );
}
