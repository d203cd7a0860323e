//! What every root key source promises. A new source is one more line in each test of the second half.

use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use kluis_core::rng::CountingRng;
use kluis_vault::{PassphraseCost, PassphraseRoot, RootKeyError, RootKeyFile, RootKeySource};
use zeroize::Zeroizing;

const PASSPHRASE: &str = "correct horse battery staple";
const CHEAP: PassphraseCost = PassphraseCost { memory_kib: 8192, passes: 1, lanes: 1 };

/// How to make a source at a path for the first time, and how to get it again.
struct Kind {
    create: fn(&Path) -> Result<(), RootKeyError>,
    source: fn(&Path) -> Box<dyn RootKeySource>,
}

const FILE: Kind = Kind {
    create: |path| RootKeyFile::create_new(path, &CountingRng::new(1)).map(drop),
    source: |path| Box::new(RootKeyFile::new(path)),
};

const PASSPHRASE_ROOT: Kind = Kind {
    create: |path| PassphraseRoot::create_new(path, passphrase(PASSPHRASE), CHEAP, &CountingRng::new(1)).map(drop),
    source: |path| Box::new(PassphraseRoot::new(path, passphrase(PASSPHRASE))),
};

fn passphrase(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.to_owned())
}

/// A fresh folder with a source made in it.
struct Place {
    folder: tempfile::TempDir,
    path: PathBuf,
    kind: Kind,
}

impl Place {
    fn new(kind: Kind) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let path = folder.path().join("root");
        (kind.create)(&path).expect("a new source");
        Self { folder, path, kind }
    }

    fn load(&self) -> Result<kluis_vault::RootKey, RootKeyError> {
        (self.kind.source)(&self.path).load()
    }

    fn set_mode(&self, mode: u32) {
        std::fs::set_permissions(&self.path, PermissionsExt::from_mode(mode)).expect("our own file");
    }

    fn replace(&self, content: &[u8]) {
        self.set_mode(0o600);
        std::fs::write(&self.path, content).expect("our own file");
    }

    fn content(&self) -> Vec<u8> {
        std::fs::read(&self.path).expect("our own file")
    }
}

fn gives_the_same_key_at_each_start(kind: Kind) {
    let place = Place::new(kind);
    let before = place.content();
    let key = place.load().unwrap().id();
    assert_eq!(place.load().unwrap().id(), key);
    place.set_mode(0o400);
    assert_eq!(place.load().unwrap().id(), key, "a file that is only readable is fine");
    assert_eq!(place.content(), before, "loading changes nothing");
    assert_eq!(std::fs::read_dir(place.folder.path()).unwrap().count(), 1, "and leaves nothing lying about");
}

fn is_created_for_its_owner_alone_and_never_over_another(kind: Kind) {
    let place = Place::new(kind);
    assert_eq!(std::fs::metadata(&place.path).unwrap().permissions().mode() & 0o7777, 0o600);
    let before = place.content();
    assert!(matches!((place.kind.create)(&place.path), Err(RootKeyError::Exists { .. })));
    assert_eq!(place.content(), before);
    assert_eq!(std::fs::read_dir(place.folder.path()).unwrap().count(), 1);
    let nowhere = place.folder.path().join("no/such/folder/root");
    assert!(matches!((place.kind.create)(&nowhere), Err(RootKeyError::Io { .. })));
}

fn refuses_a_missing_file(kind: Kind) {
    let place = Place::new(kind);
    std::fs::remove_file(&place.path).unwrap();
    assert!(matches!(place.load(), Err(RootKeyError::Missing { .. })));
    assert_eq!(std::fs::read_dir(place.folder.path()).unwrap().count(), 0, "and does not make a new one");
}

fn refuses_a_mode_that_lets_others_in(kind: Kind) {
    let place = Place::new(kind);
    for mode in [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o666, 0o777] {
        place.set_mode(mode);
        match place.load() {
            Err(RootKeyError::Mode { mode: found, .. }) => assert_eq!(found, mode),
            other => panic!("mode {mode:o} gave {other:?}"),
        }
    }
}

fn refuses_another_owner(kind: Kind) {
    let place = Place::new(kind);
    if rustix::process::geteuid().is_root() {
        chown(&place.path, Some(65_534), None).unwrap();
    } else {
        std::fs::remove_file(&place.path).unwrap();
        symlink("/etc/passwd", &place.path).unwrap();
    }
    assert!(matches!(place.load(), Err(RootKeyError::Owner { .. })));
}

fn refuses_what_is_not_a_file(kind: Kind) {
    let place = Place::new(kind);
    std::fs::remove_file(&place.path).unwrap();
    std::fs::create_dir(&place.path).unwrap();
    assert!(matches!(place.load(), Err(RootKeyError::NotAFile { .. })));
    std::fs::remove_dir(&place.path).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &place.path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    assert!(matches!(place.load(), Err(RootKeyError::NotAFile { .. })), "and does not wait for a writer");
}

fn refuses_a_cut_or_overlong_file(kind: Kind) {
    let place = Place::new(kind);
    let content = place.content();
    let text = content.trim_ascii_end();
    for end in 0..text.len() {
        place.replace(&text[..end]);
        assert!(matches!(place.load(), Err(RootKeyError::Malformed { .. })), "cut at {end}");
    }
    place.replace(&[&content[..], &[b' '; 5000]].concat());
    assert!(matches!(place.load(), Err(RootKeyError::Malformed { .. })));
    place.replace(&[0; 32]);
    assert!(matches!(place.load(), Err(RootKeyError::Malformed { .. })));
}

fn says_nothing_of_what_it_read(kind: Kind) {
    let place = Place::new(kind);
    place.replace(b"canary-7f3a");
    let error = place.load().unwrap_err();
    for said in [error.to_string(), format!("{error:?}"), format!("{:?}", std::error::Error::source(&error))] {
        assert!(!said.contains("canary"), "{said}");
        assert!(!said.contains(PASSPHRASE), "{said}");
    }
    assert!(error.to_string().contains("root"), "but names the file");
}

macro_rules! sources {
    ($($promise:ident;)*) => {
        mod file { $(#[test] fn $promise() { super::$promise(super::FILE); })* }
        mod passphrase_root { $(#[test] fn $promise() { super::$promise(super::PASSPHRASE_ROOT); })* }
    };
}

sources! {
    gives_the_same_key_at_each_start;
    is_created_for_its_owner_alone_and_never_over_another;
    refuses_a_missing_file;
    refuses_a_mode_that_lets_others_in;
    refuses_another_owner;
    refuses_what_is_not_a_file;
    refuses_a_cut_or_overlong_file;
    says_nothing_of_what_it_read;
}

#[test]
fn a_wrong_passphrase_is_told_from_a_broken_file() {
    let place = Place::new(PASSPHRASE_ROOT);
    for wrong in ["", "correct horse battery stapl", "Correct horse battery staple", "correct horse battery staple\n"] {
        let error = PassphraseRoot::new(&place.path, passphrase(wrong)).load().unwrap_err();
        assert!(matches!(error, RootKeyError::WrongPassphrase { .. }), "{wrong:?}");
    }
}

#[test]
fn a_short_passphrase_starts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("root");
    let error = PassphraseRoot::create_new(&path, passphrase("hunter2"), CHEAP, &CountingRng::new(1)).unwrap_err();
    assert!(matches!(error, RootKeyError::PassphraseTooShort { length: 7, minimum: 12 }));
    assert!(!path.exists());
}

#[test]
fn a_changed_parameter_never_gives_another_key() {
    let place = Place::new(PASSPHRASE_ROOT);
    let content = String::from_utf8(place.content()).unwrap();
    // Another cost, another salt, another format, a stray field.
    let changes = [
        ("\"passes\": 1", "\"passes\": 2"),
        ("\"salt\": \"", "\"salt\": \"00"),
        ("\"format\": 1", "\"format\": 2"),
        ("argon2id-19", "argon2i-19"),
        ("\"lanes\": 1", "\"lanes\": 1, \"more\": 1"),
    ];
    for (from, to) in changes {
        assert!(content.contains(from), "{from}");
        place.replace(content.replace(from, to).as_bytes());
        assert!(place.load().is_err(), "{to}");
    }
    place.replace(content.as_bytes());
    place.load().unwrap();
}

#[test]
fn a_cost_out_of_bounds_is_refused_before_any_memory_is_taken() {
    let place = Place::new(PASSPHRASE_ROOT);
    let content = String::from_utf8(place.content()).unwrap();
    // Nobody lets a file ask for a terabyte, or make guessing cheap.
    let changes = [
        ("\"memory_kib\": 8192", "\"memory_kib\": 8191"),
        ("\"memory_kib\": 8192", "\"memory_kib\": 4194305"),
        ("\"memory_kib\": 8192", "\"memory_kib\": 4294967295"),
        ("\"passes\": 1", "\"passes\": 0"),
        ("\"passes\": 1", "\"passes\": 65"),
        ("\"lanes\": 1", "\"lanes\": 0"),
        ("\"lanes\": 1", "\"lanes\": 17"),
    ];
    for (from, to) in changes {
        place.replace(content.replace(from, to).as_bytes());
        match place.load() {
            Err(RootKeyError::Stretch { problem }) => assert_eq!(problem, "its cost is out of bounds", "{to}"),
            other => panic!("{to} gave {other:?}"),
        }
    }
}

#[test]
fn two_first_uses_of_a_passphrase_give_two_keys() {
    let folder = tempfile::tempdir().unwrap();
    let make = |name, seed| {
        let rng = CountingRng::new(seed);
        PassphraseRoot::create_new(folder.path().join(name), passphrase(PASSPHRASE), CHEAP, &rng).unwrap()
    };
    assert_ne!(make("a", 1).load().unwrap().id(), make("b", 2).load().unwrap().id());
}
