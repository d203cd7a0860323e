//! Snapshots: what is packed, what is refused on either side, and that a hostile archive writes nothing outside.

use std::io::{Cursor, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use kluis_client::snapshot::{Contents, Links, PackOptions, Packed, SnapshotError, pack, unpack, verify};
use tar::{EntryType, Header};

fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    root
}

fn packed_with(root: &Path, links: Links) -> Result<Packed, SnapshotError> {
    pack(root, &PackOptions { links, scratch: std::env::temp_dir() })
}

fn packed(root: &Path) -> Packed {
    packed_with(root, Links::Refuse).unwrap()
}

fn bytes(packed: &Packed) -> Vec<u8> {
    std::fs::read(packed.path()).unwrap()
}

/// The paths in a packed tree.
fn paths(packed: &Packed) -> Vec<String> {
    let decoder = zstd::Decoder::new(Cursor::new(bytes(packed))).unwrap();
    let mut archive = tar::Archive::new(decoder);
    archive.entries().unwrap().map(|e| e.unwrap().path().unwrap().to_str().unwrap().to_owned()).collect()
}

#[test]
fn a_tree_comes_out_as_it_went_in() {
    let root = tree(&[("train.py", "print(1)"), ("pkg/a.py", ""), ("pkg/deep/ä b.txt", "x"), ("run.sh", "#!/bin/sh")]);
    std::fs::set_permissions(root.path().join("run.sh"), std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::create_dir(root.path().join("empty")).unwrap();
    symlink("../train.py", root.path().join("pkg/link")).unwrap();
    let long = "n".repeat(200);
    std::fs::write(root.path().join(&long), "long name").unwrap();
    let packed = packed(root.path());
    assert_eq!(std::fs::metadata(packed.path()).unwrap().mode() & 0o777, 0o600);
    let out = tempfile::tempdir().unwrap();
    let contents = unpack(Cursor::new(bytes(&packed)), out.path()).unwrap();
    assert_eq!(contents, Contents { files: 5, bytes: 27, folders: 3, links: 1 });
    assert_eq!(verify(Cursor::new(bytes(&packed))).unwrap(), contents);
    assert_eq!((packed.files, packed.tree_bytes), (5, 27));
    let read = |path: &str| std::fs::read_to_string(out.path().join(path)).unwrap();
    assert_eq!((read("pkg/deep/ä b.txt").as_str(), read("pkg/link").as_str()), ("x", "print(1)"));
    assert_eq!(read(&long), "long name");
    assert!(out.path().join("empty").is_dir());
    let mode = |path: &str| std::fs::metadata(out.path().join(path)).unwrap().mode() & 0o111;
    assert_ne!(mode("run.sh"), 0);
    assert_eq!(mode("train.py"), 0);
}

#[test]
fn the_same_tree_packs_to_the_same_bytes() {
    let files = [("b.py", "b"), ("a/x.py", "x"), ("a.py", "a")];
    let (one, two) = (tree(&files), tree(&[files[2], files[0], files[1]]));
    std::fs::File::open(one.path().join("b.py"))
        .unwrap()
        .set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1))
        .unwrap();
    assert_eq!(bytes(&packed(one.path())), bytes(&packed(two.path())));
}

#[test]
fn some_things_are_always_left_out() {
    let out = [".git/config", ".venv/x", "a/node_modules/x", "a/__pycache__/x.pyc", ".ipynb_checkpoints/x", ".env"];
    let out = out.into_iter().chain(["a/.env", ".kluis/config.json", "outputs/model", "logs/x"]);
    let kept = ["a/logs/x.py", "a/outputs/y.py", ".envrc", ".gitignore"];
    let files: Vec<(&str, &str)> = out.chain(kept).map(|path| (path, "")).collect();
    let root = tree(&files);
    let expected = [".envrc", ".gitignore", "a/", "a/logs/", "a/logs/x.py", "a/outputs/", "a/outputs/y.py"];
    assert_eq!(paths(&packed(root.path())), expected);
}

#[test]
fn the_first_ignore_file_that_exists_applies_alone() {
    let files = [(".gitignore", "*.git\n"), ("x.git", ""), ("x.aml", ""), ("x.kluis", ""), ("sub/y.git", "")];
    let root = tree(&files);
    let go = || {
        let packed = packed(root.path());
        (packed.ignore_file.unwrap(), paths(&packed).into_iter().filter(|p| p.contains("x.")).collect::<Vec<_>>())
    };
    assert_eq!(go(), (".gitignore", vec!["x.aml".to_owned(), "x.kluis".to_owned()]));
    std::fs::write(root.path().join(".amlignore"), "*.aml\n").unwrap();
    assert_eq!(go(), (".amlignore", vec!["x.git".to_owned(), "x.kluis".to_owned()]));
    std::fs::write(root.path().join(".kluisignore"), "*.kluis\n!sub\n").unwrap();
    assert_eq!(go(), (".kluisignore", vec!["x.aml".to_owned(), "x.git".to_owned()]));
}

#[test]
fn a_link_out_of_the_tree_is_refused_with_its_path_unless_ignored_or_kept() {
    let root = tree(&[("a/x.py", "")]);
    symlink("/etc/passwd", root.path().join("a/out")).unwrap();
    match packed_with(root.path(), Links::Refuse) {
        Err(SnapshotError::LinkOut { path, .. }) => assert_eq!(path, "a/out"),
        other => panic!("{other:?}"),
    }
    let kept = packed_with(root.path(), Links::Keep).unwrap();
    assert!(!bytes(&kept).is_empty());
    let out = tempfile::tempdir().unwrap();
    unpack(Cursor::new(bytes(&kept)), out.path()).unwrap();
    assert_eq!(std::fs::read_link(out.path().join("a/out")).unwrap(), Path::new("/etc/passwd"));
    std::fs::write(root.path().join(".kluisignore"), "out\n").unwrap();
    assert!(!paths(&packed(root.path())).contains(&"a/out".to_owned()));
}

#[test]
fn too_much_is_refused_with_the_ten_largest() {
    let root = tree(&[("small.py", "x")]);
    for i in 0..12_u64 {
        let file = std::fs::File::create(root.path().join(format!("data{i:02}"))).unwrap();
        file.set_len(30 * 1024 * 1024 + i).unwrap(); // holes: no disk is filled
    }
    match packed_with(root.path(), Links::Refuse) {
        Err(error @ SnapshotError::TooLarge { .. }) => {
            let text = error.to_string();
            let SnapshotError::TooLarge { largest, .. } = error else { unreachable!() };
            assert_eq!(largest.len(), 10);
            assert_eq!(largest[0], ("data11".to_owned(), 30 * 1024 * 1024 + 11));
            assert!(text.contains("data11") && !text.contains("small.py"), "{text}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_that_changes_while_it_is_packed_is_named() {
    let root = tree(&[("aaa_slow", ""), ("zzz_growing.log", "start")]);
    let growing = root.path().join("zzz_growing.log");
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (signal, file) = (stop.clone(), growing.clone());
    let writer = std::thread::spawn(move || {
        use std::io::Write;
        let mut file = std::fs::File::options().append(true).open(file).unwrap();
        while !signal.load(std::sync::atomic::Ordering::Relaxed) {
            file.write_all(b"more\n").unwrap();
        }
    });
    // Something large before it in the archive gives the writer time between listing and packing.
    let filler = std::fs::File::create(root.path().join("bbb_filler")).unwrap();
    filler.set_len(40 * 1024 * 1024).unwrap();
    let result = packed_with(root.path(), Links::Refuse);
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    writer.join().unwrap();
    match result {
        Err(SnapshotError::Changed { path }) => assert_eq!(path, "zzz_growing.log"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_no_file_is_left_out_and_told() {
    let root = tree(&[("a.py", "")]);
    let _socket = std::os::unix::net::UnixListener::bind(root.path().join("s")).unwrap();
    let packed = packed(root.path());
    assert_eq!((paths(&packed), packed.left_out), (vec!["a.py".to_owned()], vec!["s".to_owned()]));
}

/// An archive made by hand. Names go in as they are, past what `tar` would refuse to write.
struct Hostile(tar::Builder<Vec<u8>>);

impl Hostile {
    fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    fn add(mut self, kind: EntryType, path: &str, link: &str, data: &[u8]) -> Self {
        let mut header = Header::new_ustar();
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(data.len() as u64);
        header.set_cksum();
        self.0.append(&header, data).unwrap();
        self
    }

    fn file(self, path: &str) -> Self {
        self.add(EntryType::Regular, path, "", b"owned")
    }

    fn packed(self) -> Vec<u8> {
        zstd::encode_all(&self.0.into_inner().unwrap()[..], 3).unwrap()
    }
}

#[test]
fn a_hostile_archive_is_refused_and_writes_nothing_outside() {
    let link = |path, target| Hostile::new().add(EntryType::Symlink, path, target, b"");
    let cases = [
        ("absolute", Hostile::new().file("/tmp/kluis-owned"), "absolute"),
        ("up", Hostile::new().file("../owned"), "`..`"),
        ("up inside", Hostile::new().add(EntryType::Directory, "a/", "", b"").file("a/../../owned"), "`..`"),
        ("dot", Hostile::new().file("./owned"), "`.`"),
        ("link out", link("l", "/etc"), "out of the tree"),
        ("link up", link("l", "../x"), "out of the tree"),
        ("below a link out", link("l", "..").file("l/owned"), "out of the tree"),
        (
            "below a link inside",
            Hostile::new()
                .add(EntryType::Directory, "d/", "", b"")
                .add(EntryType::Symlink, "l", "d", b"")
                .file("l/owned"),
            "not a folder",
        ),
        ("below a file", Hostile::new().file("f").file("f/owned"), "not a folder"),
        ("twice", Hostile::new().file("f").file("f"), "twice"),
        ("file over link", link("l", "f").file("l"), "twice"),
        ("hard link", Hostile::new().add(EntryType::Link, "h", "/etc/passwd", b""), "hard link"),
        ("device", Hostile::new().add(EntryType::Char, "c", "", b""), "device"),
        ("block", Hostile::new().add(EntryType::Block, "b", "", b""), "device"),
        ("pipe", Hostile::new().add(EntryType::Fifo, "p", "", b""), "device or a pipe"),
        ("unknown", Hostile::new().add(EntryType::new(b'Z'), "z", "", b""), "neither"),
        ("no parent", Hostile::new().file("a/b"), "is missing"),
    ];
    for (name, archive, reason) in cases {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("tree");
        std::fs::create_dir(&folder).unwrap();
        let packed = archive.packed();
        let error = unpack(&packed[..], &folder).unwrap_err().to_string();
        assert!(error.contains(reason), "{name}: {error}");
        let error = verify(&packed[..]).unwrap_err().to_string();
        assert!(error.contains(reason), "{name} verified: {error}");
        assert!(!outer.path().join("owned").exists() && !Path::new("/tmp/kluis-owned").exists(), "{name}");
    }
}

#[test]
fn a_bomb_is_refused_by_what_it_unpacks_to() {
    // 400 MiB of zeros in one entry: some kilobytes packed.
    let zeros = std::io::repeat(0).take(400 * 1024 * 1024);
    let mut header = Header::new_ustar();
    header.set_path("zeros").unwrap();
    header.set_size(400 * 1024 * 1024);
    header.set_cksum();
    let mut builder = tar::Builder::new(zstd::Encoder::new(Vec::new(), 1).unwrap());
    builder.append(&header, zeros).unwrap();
    let packed = builder.into_inner().unwrap().finish().unwrap();
    assert!(packed.len() < 1024 * 1024);
    assert!(matches!(verify(&packed[..]), Err(SnapshotError::Bomb { .. })));
}

#[test]
fn a_header_that_describes_an_entry_is_never_read_into_memory_beyond_64_kib() {
    for kind in [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader] {
        for (length, expected) in [(100 * 1024 * 1024, "more than 64 KiB"), (64 * 1024, "")] {
            let mut header = Header::new_gnu();
            header.set_path("././@LongLink").unwrap();
            header.set_entry_type(kind);
            header.set_size(length);
            header.set_cksum();
            let mut builder = tar::Builder::new(zstd::Encoder::new(Vec::new(), 1).unwrap());
            builder.append(&header, std::io::repeat(b'a').take(length)).unwrap();
            let packed = builder.into_inner().unwrap().finish().unwrap();
            let error = verify(&packed[..]).unwrap_err();
            let refused = matches!(error, SnapshotError::Refused { .. });
            assert_eq!((refused, error.to_string().contains(expected)), (!expected.is_empty(), true), "{error}");
        }
    }
}

#[test]
fn long_paths_and_long_links_survive() {
    let deep = format!("{}/{}", "d".repeat(150), "f".repeat(180));
    let root = tree(&[(deep.as_str(), "x")]);
    symlink(&deep, root.path().join("link")).unwrap();
    let out = tempfile::tempdir().unwrap();
    unpack(Cursor::new(bytes(&packed(root.path()))), out.path()).unwrap();
    assert_eq!(std::fs::read_to_string(out.path().join("link")).unwrap(), "x");
}

#[test]
fn a_folder_that_can_not_be_read_is_named_and_no_mistake_in_an_ignore_file() {
    use std::os::unix::fs::PermissionsExt;
    let root = tree(&[("a.py", ""), ("closed/x", "")]);
    let closed = root.path().join("closed");
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o000)).unwrap();
    let outcome = packed_with(root.path(), Links::Refuse);
    let readable = std::fs::read_dir(&closed).is_ok();
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).unwrap();
    match outcome {
        Err(SnapshotError::Io { path, .. }) => assert!(path.ends_with("closed"), "{}", path.display()),
        // Root reads everything.
        Ok(_) if readable => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_damaged_archive_is_refused_and_a_full_folder_left_alone() {
    let root = tree(&[("a.py", &"x".repeat(10_000)), ("b.py", "y")]);
    let packed = bytes(&packed(root.path()));
    let out = tempfile::tempdir().unwrap();
    assert!(matches!(unpack(&packed[..packed.len() / 2], out.path()), Err(SnapshotError::Damaged(_))));
    assert!(matches!(verify(&b"not a snapshot"[..]), Err(SnapshotError::Damaged(_))));
    let full = tree(&[("mine", "keep")]);
    assert!(matches!(unpack(&packed[..], full.path()), Err(SnapshotError::Io { .. })));
    assert_eq!(std::fs::read_dir(full.path()).unwrap().count(), 1);
}
