//! docs/format.md a second time, for the rows whose encoding lives in this crate: written from the page alone, it shares
//! no line with `canonical()`.

use kluis_core::api::workspaces::WorkspaceSettings;
use kluis_core::id::{ComputeId, WorkspaceId};
use kluis_core::sealed::sha256;
use kluis_store::Store;
use kluis_store::workspaces::{ComputeRow, Workspace};

use crate::world::{NOW, World, compute_name, later, run_id, workspace_name, write};

/// Canonical encoding.
fn c(fields: &[&[u8]]) -> Vec<u8> {
    fields.iter().flat_map(|field| [&(field.len() as u32).to_be_bytes(), *field].concat()).collect()
}

const fn number(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

fn time(time: kluis_core::clock::Timestamp) -> [u8; 8] {
    time.millis().to_be_bytes()
}

#[test]
fn a_workspace_is_encoded_as_the_page_says() {
    let settings = WorkspaceSettings { retention_days: 30, require_declared_secrets: true, enforce_validity: false };
    let active = Workspace {
        id: WorkspaceId::from_bytes([1; 16]),
        name: workspace_name("Team"),
        created: NOW,
        settings,
        deleted: None,
        revision: 7,
    };
    let (created, retention, yes, no) = (time(NOW), number(30), number(1), number(0));
    let start: [&[u8]; 7] = [b"kluis/row/workspace/1", &[1; 16], b"Team", &created, &retention, &yes, &no];
    assert_eq!(active.canonical(), c(&[&start[..], &[&[0][..], &number(7)]].concat()));
    let deleted = Workspace { deleted: Some(later(5)), revision: 8, ..active };
    assert_eq!(deleted.canonical(), c(&[&start[..], &[&[1][..], &time(later(5)), &number(8)]].concat()));
}

#[test]
fn a_compute_target_is_encoded_as_the_page_says() {
    let row = ComputeRow {
        id: ComputeId::from_bytes([1; 16]),
        name: compute_name("Cluster"),
        open: true,
        created: NOW,
        revision: 3,
        last_seen: Some(later(1)),
        queued: 9,
    };
    let by_the_page = c(&[b"kluis/row/compute/1", &[1; 16], b"Cluster", &number(1), &time(NOW), &number(3)]);
    assert_eq!(row.canonical(), by_the_page);
}

/// What is authenticated at the submission is what is authenticated when the row is read.
pub(crate) async fn a_run_is_encoded_as_the_page_says(store: &Store) {
    let world = World::new(store).await;
    let submission = world.submission("Churn_1");
    let json = serde_json::to_string(&submission.row.spec).unwrap();
    let by_the_page = c(&[
        b"kluis/row/run/1",
        world.workspace.as_bytes(),
        b"Churn_1",
        world.owner.as_bytes(),
        b"cluster",
        &number(2),
        &time(NOW),
        &sha256(json.as_bytes()),
    ]);
    assert_eq!(submission.row.canonical(), by_the_page);
    let mac = submission.mac;
    store.run_insert(write(submission)).await.unwrap();
    let row = store.run_get(world.workspace, &run_id("churn_1")).await.unwrap().unwrap();
    assert_eq!((row.canonical(), row.mac), (Some(by_the_page), Some(mac)));
}
