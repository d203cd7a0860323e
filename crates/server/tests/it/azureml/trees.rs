//! Trees that come as zips: repacked whole and true, or refused with nothing stored.

use std::io::Read;

use axum::body::Body;
use bytes::Bytes;
use serde_json::json;

use super::forms::{Entry, definition, form, post, zip};
use super::{at, refused};
use crate::session::stage::Stage;
use crate::world::{Answer, text};

const START: &str = "/experiments/churn/startrun?runId=churn_1_ab";

async fn submit(stage: &Stage, zip: &[u8]) -> Answer {
    let definition = definition(&json!({})).to_string();
    let form = form(&[
        ("runDefinitionFile", "definition.json", definition.as_bytes()),
        ("projectZipFile", "project.zip", zip),
    ]);
    post(&stage.world, &at("execution/v1.0", START), &stage.ada, form).await
}

/// Path, mode and content of what a run would find.
async fn tree(stage: &Stage, run: &str) -> Vec<(String, u32, Vec<u8>)> {
    let snapshot = text(&stage.show(run).await["snapshot"]);
    let packed = stage.world.get(&format!("/workspaces/team/snapshots/{snapshot}"), &stage.ada).await;
    let unpacked = zstd::decode_all(&packed.body[..]).unwrap();
    let mut archive = tar::Archive::new(&unpacked[..]);
    let read = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
        let mut entry = entry.unwrap();
        let kind = entry.header().entry_type();
        assert!(kind.is_dir() || kind.is_file(), "{kind:?}");
        let (path, mode) = (entry.path().unwrap().display().to_string(), entry.header().mode().unwrap());
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        (path, mode, content)
    };
    archive.entries().unwrap().map(read).collect()
}

fn blob_files(stage: &Stage) -> usize {
    fn count(folder: &std::path::Path) -> usize {
        let entries = std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
        entries.map(|path| if path.is_dir() { count(&path) } else { 1 }).sum()
    }
    count(&stage.world.folder.path().join("data/blobs"))
}

#[tokio::test]
async fn a_zip_becomes_the_snapshot_of_its_run() {
    let stage = Stage::new().await;
    let zip = zip(&[
        Entry::new("train.py", b"print('hi')\n"),
        Entry::new("bin/", b""),
        Entry::new("bin/go.sh", b"#!/bin/sh\n"),
        Entry::new("deep/er/data.txt", b""),
        // What no snapshot holds.
        Entry::new(".git/config", b"x"),
        Entry::new("src/__pycache__/a.pyc", b"x"),
        Entry::new("outputs/model", b"x"),
        Entry::new(".env", b"KEY=value"),
    ]);
    assert_eq!(submit(&stage, &zip).await.ok()["runId"], "churn_1_ab");
    let found = tree(&stage, "churn_1_ab").await;
    let found: Vec<_> = found.iter().map(|(path, mode, content)| (&**path, *mode, &content[..])).collect();
    assert_eq!(
        found,
        [
            ("train.py", 0o644, &b"print('hi')\n"[..]),
            ("bin/", 0o755, b""),
            ("bin/go.sh", 0o755, b"#!/bin/sh\n"),
            ("deep/", 0o755, b""),
            ("deep/er/", 0o755, b""),
            ("deep/er/data.txt", 0o644, b""),
        ]
    );
    assert_eq!(blob_files(&stage), 1);
}

/// The list at the end of these zips says that everything in them is a link. Nobody asks it.
#[tokio::test]
async fn a_link_in_a_zip_is_a_small_file() {
    let stage = Stage::new().await;
    submit(&stage, &zip(&[Entry::new("train.py", b"/etc/passwd")])).await.ok();
    let found = tree(&stage, "churn_1_ab").await;
    assert_eq!(found, [("train.py".to_owned(), 0o644, b"/etc/passwd".to_vec())]);
}

#[tokio::test]
async fn a_compressed_zip_is_taken_and_a_large_one_streams() {
    use std::io::Write;
    let stage = Stage::new().await;
    let large: Vec<u8> =
        (0..12_000_000_u32).flat_map(|i| (i.wrapping_mul(2_654_435_761)).to_le_bytes()).take(12_000_000).collect();
    let mut made = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let deflated = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    for (name, content) in [("train.py", &b"x = 1\n".repeat(1000)[..]), ("data.bin", &large[..])] {
        made.start_file(name, deflated).unwrap();
        made.write_all(content).unwrap();
    }
    let zip = made.finish().unwrap().into_inner();
    let definition = definition(&json!({})).to_string();
    let whole = form(&[
        ("runDefinitionFile", "definition.json", definition.as_bytes()),
        ("projectZipFile", "project.zip", &zip),
    ]);
    let pieces: Vec<Result<Bytes, std::io::Error>> =
        whole.chunks(10_007).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    let body = Body::from_stream(futures_util::stream::iter(pieces));
    post(&stage.world, &at("execution/v1.0", START), &stage.ada, body).await.ok();
    let found = tree(&stage, "churn_1_ab").await;
    assert_eq!(found[0].2, b"x = 1\n".repeat(1000));
    assert!(found[1].2 == large);
}

#[tokio::test]
async fn a_zip_that_lies_or_leaves_its_folder_is_refused_and_nothing_is_stored() {
    let stage = Stage::new().await;
    let good = Entry::new("train.py", b"hunter2");
    let with = |change: &dyn Fn(&mut Entry)| {
        let mut entry = good.clone();
        change(&mut entry);
        zip(&[entry])
    };
    let named = |name: &str| zip(&[good.clone(), Entry::new(name, b"hunter2")]);
    let huge = Entry { size: u32::MAX - 1, ..good.clone() };
    let cut = {
        let whole = zip(&[Entry::new("train.py", &[b'x'; 5000])]);
        whole[..2000].to_vec()
    };
    for (what, zip) in [
        ("up", named("../hunter2")),
        ("up inside", named("a/../../hunter2")),
        ("absolute", named("/etc/hunter2")),
        ("backslash", named("a\\hunter2")),
        ("dot", named("./hunter2")),
        ("empty part", named("a//hunter2")),
        ("empty", named("")),
        ("root", named("/")),
        ("NUL", named("a\0hunter2")),
        ("newline", named("a\nhunter2")),
        ("not UTF-8", with(&|e| e.name = b"hunter2\xff".to_vec())),
        ("long", named(&"hunter2/".repeat(200))),
        ("twice", named("train.py")),
        ("below a file", named("train.py/hunter2")),
        ("a folder in a file's place", named("train.py/")),
        ("a folder with content", zip(&[Entry::new("a/", b"hunter2")])),
        ("longer than it says", with(&|e| e.size = 3)),
        ("shorter than it says", with(&|e| e.size = 50)),
        ("says it is huge", zip(&[huge])),
        ("wrong sum", with(&|e| e.crc ^= 1)),
        ("encrypted", with(&|e| e.flags = 1)),
        ("size after the data", with(&|e| e.flags = 8)),
        ("another method", with(&|e| e.method = 12)),
        ("not deflated", with(&|e| e.method = 8)),
        ("cut off", cut),
        ("no zip", b"hunter2 is not a zip".to_vec()),
        ("nothing", Vec::new()),
    ] {
        let answer = submit(&stage, &zip).await;
        let (status, ..) = refused(&answer);
        assert!(matches!(status, 400 | 413), "{what}: {}", answer.text());
        assert!(!answer.text().contains("hunter2"), "{what}: {}", answer.text());
        let gone = stage.world.get("/workspaces/team/runs/churn_1_ab", &stage.ada).await;
        assert_eq!(gone.status, 404, "{what}");
    }
    for _ in 0..200 {
        if blob_files(&stage) == 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("something was stored");
}

/// 400 MiB of nothing are 400 KB of zip.
#[tokio::test]
async fn a_bomb_goes_off_outside() {
    use std::io::Write;
    let stage = Stage::new().await;
    let mut made = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let deflated = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    let nothing = vec![0; 40 * 1024 * 1024];
    for name in 0..10 {
        made.start_file(format!("f{name}"), deflated).unwrap();
        made.write_all(&nothing).unwrap();
    }
    let zip = made.finish().unwrap().into_inner();
    assert!(zip.len() < 1_000_000);
    let answer = submit(&stage, &zip).await;
    assert_eq!(refused(&answer).0, 413, "{}", answer.text());
    // And one whose bytes say less than they are.
    let mut liar = zip.clone();
    // The uncompressed size in the first local header.
    liar[22..26].copy_from_slice(&10_u32.to_le_bytes());
    assert_eq!(refused(&submit(&stage, &liar).await).0, 400);
}

#[tokio::test]
async fn a_form_that_is_none_is_refused_and_its_headers_have_an_end() {
    let stage = Stage::new().await;
    let path = at("execution/v1.0", START);
    let definition = definition(&json!({})).to_string();
    let tree = zip(&[Entry::new("train.py", b"")]);
    for (what, body) in [
        ("nothing", Vec::new()),
        ("no form", b"hunter2".to_vec()),
        ("no tree", form(&[("runDefinitionFile", "definition.json", definition.as_bytes())])),
        ("no definition", form(&[("projectZipFile", "project.zip", &tree)])),
        ("a stranger", form(&[("hunter2", "hunter2", b"hunter2")])),
        ("no JSON", form(&[("runDefinitionFile", "definition.json", b"hunter2")])),
        ("too much JSON", form(&[("runDefinitionFile", "definition.json", &vec![b' '; 2 << 20])])),
        ("cut off", form(&[("projectZipFile", "project.zip", &tree)])[..100].to_vec()),
    ] {
        let answer = post(&stage.world, &path, &stage.ada, body).await;
        assert!(matches!(refused(&answer).0, 400 | 413), "{what}: {}", answer.text());
        assert!(!answer.text().contains("hunter2"), "{what}: {}", answer.text());
    }
    // Headers without an end are not kept: after a megabyte nobody listens.
    let mut sent = 0;
    let start = Bytes::from_static(b"--bOuNdArY\r\nX-Header: ");
    let piece = Bytes::from(vec![b'x'; 64 * 1024]);
    let endless = std::iter::once(start).chain(std::iter::repeat(piece)).take(4000);
    let counted = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = counted.clone();
    let pieces = endless.map(move |piece| {
        counter.fetch_add(piece.len(), std::sync::atomic::Ordering::Relaxed);
        Ok::<_, std::io::Error>(piece)
    });
    let answer = post(&stage.world, &path, &stage.ada, Body::from_stream(futures_util::stream::iter(pieces))).await;
    assert_eq!(refused(&answer).0, 400);
    sent += counted.load(std::sync::atomic::Ordering::Relaxed);
    assert!(sent < 2 << 20, "{sent} bytes were read");
}
