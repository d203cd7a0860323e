//! `/session/outputs`: files in pieces.

use serde_json::json;

use super::stage::Stage;
use crate::world::refused;

const PIECE: usize = 4 * 1024 * 1024;

#[tokio::test]
async fn pieces_come_in_order_or_are_refused() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let (run, launcher) = stage.running(json!({})).await;
    let files = format!("/workspaces/team/runs/{run}/outputs");
    launcher.piece(world, "outputs/big", 0, false, &[1; 1000]).await.ok();
    refused(&launcher.piece(world, "outputs/big", 2000, false, &[3; 1000]).await, 409, "conflict");
    refused(&launcher.piece(world, "outputs/big", 500, true, &[3; 10]).await, 409, "conflict");
    // The answer was lost: the same piece again.
    launcher.piece(world, "outputs/big", 0, false, &[1; 1000]).await.ok();
    launcher.piece(world, "outputs/big", 1000, false, &[2; 1000]).await.ok();
    launcher.piece(world, "outputs/big", 1000, false, &[2; 1000]).await.ok();
    assert_eq!(world.get(&files, &stage.ada).await.ok()["items"], json!([]), "it appears when it is whole");
    launcher.piece(world, "outputs/big", 2000, true, &[3; 10]).await.ok();
    launcher.piece(world, "outputs/big", 2000, true, &[3; 10]).await.ok();
    let file = world.get(&format!("{files}/outputs/big"), &stage.ada).await;
    assert_eq!(file.headers["content-disposition"], "attachment");
    assert_eq!(file.body, [vec![1; 1000], vec![2; 1000], vec![3; 10]].concat());
}

#[tokio::test]
async fn an_upload_starts_anew_from_zero_and_a_file_is_replaced_whole() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let (run, launcher) = stage.running(json!({})).await;
    let path = format!("/workspaces/team/runs/{run}/outputs/outputs/a");
    launcher.piece(world, "outputs/a", 0, true, b"first").await.ok();
    launcher.piece(world, "outputs/a", 0, false, b"given up half way").await.ok();
    assert_eq!(world.get(&path, &stage.ada).await.body, b"first");
    launcher.piece(world, "outputs/a", 0, false, b"sec").await.ok();
    launcher.piece(world, "outputs/a", 3, true, b"ond").await.ok();
    assert_eq!(world.get(&path, &stage.ada).await.body, b"second");
    launcher.piece(world, "outputs/empty", 0, true, b"").await.ok();
    let empty = world.get(&format!("/workspaces/team/runs/{run}/outputs/outputs/empty"), &stage.ada).await;
    assert_eq!((empty.status.as_u16(), empty.body.len()), (200, 0));
}

#[tokio::test]
async fn a_large_file_arrives_whole() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let (run, launcher) = stage.running(json!({})).await;
    let whole: Vec<u8> = (0..2 * PIECE + 12_345).map(|i| (i % 251) as u8).collect();
    let pieces: Vec<&[u8]> = whole.chunks(PIECE).collect();
    let mut offset = 0;
    for (i, piece) in pieces.iter().enumerate() {
        launcher.piece(world, "outputs/model.bin", offset, i + 1 == pieces.len(), piece).await.ok();
        offset += piece.len() as u64;
    }
    let file = world.get(&format!("/workspaces/team/runs/{run}/outputs/outputs/model.bin"), &stage.ada).await;
    assert!(file.body == whole);
    refused(&launcher.piece(world, "outputs/x", 0, true, &vec![0; PIECE + 1]).await, 413, "too_large");
}

#[tokio::test]
async fn no_path_leads_out() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let (run, launcher) = stage.running(json!({})).await;
    for path in ["../x", "a/../../x", "%2e%2e/x", "a%2f..%2fb", "a//b", "/etc/passwd", "a/.", "a%00b", "a%5cb"] {
        assert_eq!(launcher.piece(world, path, 0, true, b"x").await.refused().0, 400, "{path}");
        let answer = world.get(&format!("/workspaces/team/runs/{run}/outputs/{path}"), &stage.ada).await;
        assert!([400, 404].contains(&answer.refused().0), "{path}");
    }
    let files = world.get(&format!("/workspaces/team/runs/{run}/outputs"), &stage.ada).await.ok();
    assert_eq!(files["items"], json!([]));
}

#[tokio::test]
async fn a_nearly_full_disk_refuses_files_and_goes_on_with_secrets() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let (_, launcher) = stage.running(json!({})).await;
    // Another world over a disk that counts as full from the start.
    let full = Stage::full().await;
    let (_, starved) = full.running(json!({})).await;
    refused(&starved.piece(&full.world, "outputs/a", 0, true, b"x").await, 507, "storage_full");
    refused(&starved.log(&full.world, 0, &["x\n"]).await, 507, "storage_full");
    starved.read(&full.world, &["db-password"]).await.ok();
    starved.end(&full.world, 0).await.ok();
    launcher.piece(world, "outputs/a", 0, true, b"x").await.ok();
}
