//! Nothing that a program prints by accident holds a secret: no key, no value, no token, no input.

use kluis_vault::{Error, RootKey};

use crate::fixture::{BINDING, BLOB, Fixture, WORKSPACE, root, text};

const CANARY: &str = "canary-5d1c9e";

/// The canary's and the root key's bytes in the ways in which `Debug` writes bytes and texts.
fn shows_a_secret(said: &str) -> bool {
    let list = CANARY.bytes().map(|b| b.to_string()).collect::<Vec<_>>().join(", ");
    let hex = data_encoding::HEXLOWER.encode(CANARY.as_bytes());
    let root = ["17, 17, 17, 17", "11111111"];
    said.contains(CANARY) || said.contains(&list) || said.contains(&hex) || root.iter().any(|r| said.contains(r))
}

#[test]
fn debug_of_everything_public_shows_no_secret() {
    let fixture = Fixture::new();
    let vault = &fixture.vault;
    let sealed = vault.seal(&BINDING, &text(CANARY)).unwrap();
    let mut hasher = vault.blob_hasher(WORKSPACE);
    hasher.update(CANARY.as_bytes());
    let sealer = vault.blob_sealer(WORKSPACE, BLOB).unwrap();
    let said = [
        format!("{vault:?}"),
        format!("{:?}", root()),
        format!("{:?}", vault.unseal(&BINDING, &sealed)),
        format!("{sealed:?}"),
        format!("{:?}", fixture.keys),
        format!("{:?}", fixture.workspace_key),
        format!("{:?}", vault.rotate_root(RootKey::from_bytes(&[0x11; 32]), &[])),
        format!("{hasher:?}"),
        format!("{:?}", vault.blob_opener(WORKSPACE, BLOB, sealer.header())),
        format!("{sealer:?}"),
        format!("{:?}", vault.wear(WORKSPACE)),
        format!("{:?}", vault.lookup_hash("usr", CANARY)),
        format!("{:?}", kluis_vault::PassphraseRoot::new("p", zeroize::Zeroizing::new(CANARY.to_owned()))),
        format!("{:?}", kluis_vault::token::check(CANARY)),
    ];
    for said in said {
        assert!(!shows_a_secret(&said), "{said}");
    }
}

#[test]
fn the_search_above_would_find_a_secret() {
    assert!(shows_a_secret(&format!("{:?}", CANARY.as_bytes())));
    assert!(shows_a_secret(&format!("{:?}", [0x11_u8; 32])));
    assert!(shows_a_secret(&format!("{CANARY:?}")));
}

#[test]
fn nothing_sealed_holds_its_content() {
    let fixture = Fixture::new();
    let vault = &fixture.vault;
    let sealed = vault.seal(&BINDING, &text(CANARY)).unwrap();
    let small = vault.seal_small("tls-key", CANARY.as_bytes()).unwrap();
    let blob = vault.seal_blob(WORKSPACE, BLOB, CANARY.as_bytes()).unwrap();
    for bytes in [&sealed.value, &sealed.wrapped_key, &small, &blob] {
        assert!(!bytes.windows(CANARY.len()).any(|w| w == CANARY.as_bytes()));
    }
}

#[test]
fn errors_say_what_to_do_and_show_no_input() {
    let fixture = Fixture::new();
    let vault = &fixture.vault;
    let mut sealed = vault.seal(&BINDING, &text(CANARY)).unwrap();
    sealed.value.extend_from_slice(CANARY.as_bytes());
    let errors = [
        vault.unseal(&BINDING, &sealed).unwrap_err(),
        vault.unseal_small("tls-key", CANARY.as_bytes()).unwrap_err(),
        vault.open_blob(WORKSPACE, BLOB, CANARY.as_bytes()).unwrap_err(),
    ];
    for error in errors {
        assert!(!shows_a_secret(&format!("{error} {error:?}")), "{error}");
    }
    let worn = Error::KeyWorn { key: fixture.workspace_key.id };
    assert!(worn.to_string().contains("rotate"));
}
