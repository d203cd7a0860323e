//! Values: what is sealed is read back, and only from the place it was sealed for.

use kluis_core::id::{KeyId, SecretId, VersionId};
use kluis_core::plaintext::MAX_VALUE_BYTES;
use kluis_core::sealed::Sealed;
use kluis_vault::{Binding, Error, MAX_WRAPS};
use proptest::prelude::*;

use crate::fixture::{BINDING, Fixture, OTHER_WORKSPACE, WORKSPACE, damaged, text};
use crate::spec;

fn opens_by_the_page(fixture: &Fixture, binding: &Binding, sealed: &Sealed) -> Option<Vec<u8>> {
    let key = fixture.workspace_key_by_the_page();
    let place = [binding.workspace.as_bytes(), binding.secret.as_bytes(), binding.version.as_bytes()];
    spec::value(&key, place, &sealed.wrapped_key, &sealed.value)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_text_up_to_the_limit_is_read_back_and_the_page_opens_it(value in "\\PC{0,200}", repeat in 1_usize..64) {
        let mut value = value.repeat(repeat);
        let mut end = value.len().min(MAX_VALUE_BYTES);
        while !value.is_char_boundary(end) { end -= 1; }
        value.truncate(end);
        let fixture = Fixture::new();
        let sealed = fixture.vault.seal(&BINDING, &text(&value)).unwrap();
        let opened = fixture.vault.unseal(&BINDING, &sealed).unwrap();
        prop_assert_eq!(opened.expose(), &value);
        prop_assert_eq!(opens_by_the_page(&fixture, &BINDING, &sealed).unwrap(), value.as_bytes());
    }

    #[test]
    fn any_bytes_in_place_of_a_sealed_version_are_refused(wrapped in prop::collection::vec(any::<u8>(), 0..120), value in prop::collection::vec(any::<u8>(), 0..120)) {
        let fixture = Fixture::new();
        let good = fixture.vault.seal(&BINDING, &text("v")).unwrap();
        let noise = Sealed { key_id: good.key_id, wrapped_key: wrapped, value: good.value.clone() };
        prop_assert!(fixture.vault.unseal(&BINDING, &noise).is_err());
        let noise = Sealed { value, ..good };
        prop_assert!(fixture.vault.unseal(&BINDING, &noise).is_err());
    }
}

#[test]
fn the_empty_value_and_the_largest_are_read_back() {
    let fixture = Fixture::new();
    for value in [String::new(), "é".repeat(MAX_VALUE_BYTES / 2), "x".repeat(MAX_VALUE_BYTES)] {
        let sealed = fixture.vault.seal(&BINDING, &text(&value)).unwrap();
        assert_eq!(sealed.wrapped_key.len(), 77);
        assert_eq!(sealed.value.len(), value.len() + 45);
        assert_eq!(fixture.vault.unseal(&BINDING, &sealed).unwrap().expose(), value);
        assert_eq!(opens_by_the_page(&fixture, &BINDING, &sealed).unwrap(), value.as_bytes());
    }
}

#[test]
fn the_same_value_twice_shares_no_byte_of_key_or_text() {
    let fixture = Fixture::new();
    let [a, b] = [0, 1].map(|_| fixture.vault.seal(&BINDING, &text("hunter2")).unwrap());
    assert_ne!(a.wrapped_key[17..], b.wrapped_key[17..]);
    assert_ne!(a.value[17..], b.value[17..]);
}

#[test]
fn moved_to_another_version_secret_or_workspace_does_not_open() {
    let fixture = Fixture::new();
    let sealed = fixture.vault.seal(&BINDING, &text("hunter2")).unwrap();
    let moved = [
        Binding { version: VersionId::from_bytes([9; 16]), ..BINDING },
        Binding { secret: SecretId::from_bytes([9; 16]), ..BINDING },
        // Two ids exchanged for each other.
        Binding {
            secret: SecretId::from_bytes(*BINDING.version.as_bytes()),
            version: VersionId::from_bytes(*BINDING.secret.as_bytes()),
            ..BINDING
        },
    ];
    for binding in moved {
        assert_eq!(fixture.vault.unseal(&binding, &sealed), Err(Error::Damaged { what: "data key" }));
        assert_eq!(fixture.vault.rewrap(&binding, &sealed), Err(Error::Damaged { what: "data key" }));
    }
    let elsewhere = Binding { workspace: OTHER_WORKSPACE, ..BINDING };
    let unknown = Error::UnknownKey { workspace: OTHER_WORKSPACE, key: sealed.key_id };
    assert_eq!(fixture.vault.unseal(&elsewhere, &sealed), Err(unknown));
    // Even named as sealed under the other workspace's key.
    let renamed = Sealed { key_id: fixture.other_key.id, ..sealed };
    assert_eq!(fixture.vault.unseal(&elsewhere, &renamed), Err(Error::Damaged { what: "data key" }));
}

#[test]
fn parts_of_two_versions_do_not_mix() {
    let fixture = Fixture::new();
    let other = Binding { version: VersionId::from_bytes([9; 16]), ..BINDING };
    let a = fixture.vault.seal(&BINDING, &text("one")).unwrap();
    let b = fixture.vault.seal(&other, &text("two")).unwrap();
    // The same version sealed a second time, as in a retried write.
    let c = fixture.vault.seal(&BINDING, &text("six")).unwrap();
    for (binding, key, value) in [(BINDING, &a, &b), (other, &a, &b), (BINDING, &b, &a), (BINDING, &a, &c)] {
        let mixed = Sealed { value: value.value.clone(), ..key.clone() };
        assert!(fixture.vault.unseal(&binding, &mixed).is_err());
    }
    let swapped = Sealed { key_id: a.key_id, wrapped_key: a.value.clone(), value: a.wrapped_key.clone() };
    assert!(fixture.vault.unseal(&BINDING, &swapped).is_err());
}

#[test]
fn every_changed_bit_and_every_cut_is_noticed() {
    let fixture = Fixture::new();
    let sealed = fixture.vault.seal(&BINDING, &text("hunter2")).unwrap();
    for value in damaged(&sealed.value) {
        let error = fixture.vault.unseal(&BINDING, &Sealed { value, ..sealed.clone() }).unwrap_err();
        assert!(matches!(error, Error::Damaged { what: "value" } | Error::UnknownFormat { what: "value", .. }));
    }
    for wrapped_key in damaged(&sealed.wrapped_key) {
        let other = Sealed { wrapped_key, ..sealed.clone() };
        for result in
            [fixture.vault.unseal(&BINDING, &other).map(drop), fixture.vault.rewrap(&BINDING, &other).map(drop)]
        {
            let error = result.unwrap_err();
            assert!(matches!(
                error,
                Error::Damaged { what: "data key" } | Error::UnknownFormat { what: "data key", .. }
            ));
        }
    }
    let other = Sealed { key_id: KeyId::from_bytes([9; 16]), ..sealed };
    assert!(matches!(fixture.vault.unseal(&BINDING, &other), Err(Error::UnknownKey { .. })));
}

#[test]
fn a_newer_format_is_named_not_guessed() {
    let fixture = Fixture::new();
    let mut sealed = fixture.vault.seal(&BINDING, &text("hunter2")).unwrap();
    sealed.value[0] = 2;
    let error = fixture.vault.unseal(&BINDING, &sealed).unwrap_err();
    assert_eq!(error, Error::UnknownFormat { what: "value", format: 2 });
}

#[test]
fn a_worn_key_seals_nothing_more_and_still_opens() {
    let fixture = Fixture::new();
    let (vault, key) = (&fixture.vault, fixture.workspace_key.id);
    let sealed = vault.seal(&BINDING, &text("hunter2")).unwrap();
    assert_eq!(vault.wear(WORKSPACE).iter().map(|w| (w.id, w.wraps)).collect::<Vec<_>>(), [(key, 1)]);

    vault.wraps_at_least(WORKSPACE, key, MAX_WRAPS - 1).unwrap();
    vault.seal(&BINDING, &text("the last one")).unwrap();
    assert_eq!(vault.seal(&BINDING, &text("one too many")), Err(Error::KeyWorn { key }));
    assert!(matches!(vault.blob_sealer(WORKSPACE, crate::fixture::BLOB), Err(Error::KeyWorn { .. })));
    assert_eq!(vault.unseal(&BINDING, &sealed).unwrap().expose(), "hunter2");
    assert_eq!(vault.wear(WORKSPACE)[0].wraps, MAX_WRAPS);
    assert_eq!(vault.wear(OTHER_WORKSPACE)[0].wraps, 0, "each key has its own count");

    let next = vault.workspace_key_create(WORKSPACE).unwrap();
    vault.workspace_key_load(&next, true).unwrap();
    let rewrapped = vault.rewrap(&BINDING, &sealed).unwrap();
    assert_eq!(rewrapped.key_id, next.id, "a rotation is the way out");
}

#[test]
fn a_vault_is_used_from_many_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<kluis_vault::Vault>();

    let fixture = Fixture::new();
    let vault = &fixture.vault;
    std::thread::scope(|scope| {
        for thread in 0..4_u8 {
            scope.spawn(move || {
                for i in 0..100_u8 {
                    let version = VersionId::from_bytes([thread ^ i; 16]);
                    let binding = Binding { version, ..BINDING };
                    let sealed = vault.seal(&binding, &text(&format!("{thread}/{i}"))).unwrap();
                    assert_eq!(vault.unseal(&binding, &sealed).unwrap().expose(), format!("{thread}/{i}"));
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..20 {
                let next = vault.workspace_key_create(WORKSPACE).unwrap();
                vault.workspace_key_load(&next, true).unwrap();
            }
        });
    });
    assert_eq!(vault.wear(WORKSPACE).iter().map(|w| w.wraps).sum::<u64>(), 400);
}
