//! `/workspaces/{workspace}/snapshots`.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use kluis_core::clock::{Clock, ManualClock, SystemClock, Timestamp};
use kluis_core::id::BlobId;
use kluis_core::name::WorkspaceName;
use kluis_server::Server;
use serde_json::Value;

use crate::session::stage::Stage;
use crate::world::{Answer, World, options, refused, text};

async fn upload(stage: &Stage, workspace: &str, token: &str, body: Body) -> Answer {
    let request = http::Request::post(format!("/api/v1/workspaces/{workspace}/snapshots"))
        .header("authorization", format!("Bearer {token}"))
        .body(body)
        .unwrap();
    stage.world.send(request).await
}

fn blob_files(world: &World) -> usize {
    fn count(folder: &std::path::Path) -> usize {
        std::fs::read_dir(folder).map_or(0, |entries| {
            entries.map(|e| e.unwrap().path()).map(|p| if p.is_dir() { count(&p) } else { 1 }).sum()
        })
    }
    count(&world.folder.path().join("data").join("blobs"))
}

#[tokio::test]
async fn the_same_tree_is_stored_once_and_has_another_name_elsewhere() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let first = upload(&stage, "team", &stage.ada, Body::from("tree")).await.ok();
    let again = upload(&stage, "team", &stage.ada, Body::from("tree")).await.ok();
    assert_eq!(first, again);
    assert_eq!(blob_files(world), 1);
    world.workspace("elsewhere").await;
    let elsewhere = upload(&stage, "elsewhere", &world.owner, Body::from("tree")).await.ok();
    assert_ne!(elsewhere["snapshot"], first["snapshot"]);
}

#[tokio::test]
async fn a_large_tree_streams_in_and_out_and_leaves_nothing_beside_it() {
    let stage = Stage::new().await;
    let whole: Vec<u8> = (0..20_000_000_u32).map(|i| (i % 253) as u8).collect();
    let pieces: Vec<Result<Bytes, std::io::Error>> =
        whole.chunks(100_000).map(|c| Ok(Bytes::copy_from_slice(c))).collect();
    let stored = upload(&stage, "team", &stage.ada, Body::from_stream(futures_util::stream::iter(pieces))).await.ok();
    assert_eq!(stored["bytes"], 20_000_000);
    assert_eq!(blob_files(&stage.world), 1);
    let path = format!("/workspaces/team/snapshots/{}", text(&stored["snapshot"]));
    let fetched = stage.world.get(&path, &stage.ada).await;
    assert_eq!(fetched.headers["content-length"], "20000000");
    assert!(fetched.body == whole);
    let again = upload(&stage, "team", &stage.ada, Body::from(whole)).await.ok();
    assert_eq!(again, stored, "how it was cut does not matter");
}

#[tokio::test]
async fn an_upload_that_breaks_off_or_is_too_large_leaves_nothing() {
    let stage = Stage::new().await;
    let broken: Vec<Result<Bytes, std::io::Error>> =
        vec![Ok(Bytes::from(vec![1; 10_000_000])), Err(std::io::Error::other("gone"))];
    let body = Body::from_stream(futures_util::stream::iter(broken));
    refused(&upload(&stage, "team", &stage.ada, body).await, 400, "bad_request");

    let piece = Bytes::from(vec![0; 10 * 1024 * 1024]);
    let endless = std::iter::repeat_with(move || Ok::<_, std::io::Error>(piece.clone())).take(31);
    let body = Body::from_stream(futures_util::stream::iter(endless));
    refused(&upload(&stage, "team", &stage.ada, body).await, 413, "too_large");
    // The half-written file goes away on another thread.
    for _ in 0..200 {
        if blob_files(&stage.world) == 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("{} files are left", blob_files(&stage.world));
}

#[tokio::test]
async fn a_workspaces_quota_counts_everything() {
    let stage = Stage::quota(1_000_000).await;
    upload(&stage, "team", &stage.ada, Body::from(vec![1; 600_000])).await.ok();
    let answer = upload(&stage, "team", &stage.ada, Body::from(vec![2; 600_000])).await;
    refused(&answer, 409, "quota_exceeded");
    assert!(answer.detail().contains("quota"), "{}", answer.detail());
    let (_, launcher) = stage.running(Value::Object(serde_json::Map::new())).await;
    refused(&launcher.piece(&stage.world, "outputs/a", 0, true, &vec![0; 600_000]).await, 409, "quota_exceeded");
    launcher.piece(&stage.world, "outputs/a", 0, true, &vec![0; 100_000]).await.ok();
    // A tree that is there already needs no more space.
    upload(&stage, "team", &stage.ada, Body::from(vec![1; 600_000])).await.ok();
}

/// Only what was written while this database was in use all the time can be told to be nobody's.
#[tokio::test]
async fn an_unknown_blob_is_deleted_only_when_no_other_database_can_know_it() {
    for (listening_before, stays) in [(Duration::ZERO, true), (Duration::from_hours(1), false)] {
        let folder = tempfile::tempdir().unwrap();
        let a_moment_later = SystemClock.now().plus(Duration::from_mins(1));
        let started = Timestamp::from_millis(a_moment_later.millis() - listening_before.as_millis() as i64);
        let clock = Arc::new(ManualClock::at(started));
        let (app, _) = Server::open(&options(&folder, &clock)).await.unwrap();
        let default = WorkspaceName::parse("default").unwrap();
        let workspace = app.workspace_named(&default).await.unwrap().unwrap().id;
        let blob = BlobId::from_bytes([2; 16]);
        app.blobs.put(workspace, blob, 0, b"x").await.unwrap();
        clock.advance(Duration::from_hours(30));
        app.attempts().search().await.unwrap();
        assert_eq!(app.blobs.exists(workspace, blob).await.unwrap(), stays);
        app.store.close();
    }
}
