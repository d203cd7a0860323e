//! The audit log.

use std::time::Duration;

use kluis_core::audit::{AuditAction, AuditEntry, Checkpoint, Frontier, SignedCheckpoint, leaf_hash};
use kluis_core::id::{InstallationId, SecretId};
use kluis_store::audit::AuditFilter;
use kluis_store::{Authority, Error, Store, Write};

use crate::world::{NOW, World, authenticated, entry, later, records, run_id, write};

async fn append(store: &Store, audit: Vec<AuditEntry>) {
    store.audit_append(Write { authority: Authority::server(), audit, change: () }).await.unwrap();
}

fn counted(count: u64) -> AuditEntry {
    let mut entry = entry(AuditAction::Refused);
    entry.record.count = Some(count);
    entry
}

async fn counts(store: &Store, filter: AuditFilter) -> Vec<u64> {
    records(store, filter).await.into_iter().filter_map(|(_, e)| e.record.count).collect()
}

pub(crate) async fn records_are_numbered_in_the_order_of_their_commits(store: &Store) {
    append(store, vec![counted(0), counted(1)]).await;
    append(store, vec![]).await;
    append(store, vec![counted(2)]).await;
    let all = records(store, AuditFilter { limit: 10, ..AuditFilter::default() }).await;
    assert_eq!(all, [(0, counted(0)), (1, counted(1)), (2, counted(2))]);
    assert_eq!(store.audit_head().await.unwrap().size, 3);
}

pub(crate) async fn a_refused_command_leaves_no_record(store: &Store) {
    let world = World::new(store).await;
    let before = store.audit_head().await.unwrap();
    let mut hints = store.subscribe();
    let mut missing = world.workspace_now(world.workspace).await;
    missing.id = kluis_core::id::WorkspaceId::from_bytes([1; 16]);
    missing.deleted = Some(NOW);
    let missing = authenticated(missing);
    assert_eq!(store.workspace_delete(write(missing)).await, Err(Error::NotFound));
    let taken =
        world.workspace_row(kluis_core::id::WorkspaceId::generate(&world.rng), "default", world.key, world.owner);
    assert!(store.workspace_insert(write(taken)).await.is_err());
    assert_eq!(store.audit_head().await.unwrap(), before);
    assert!(hints.try_recv().is_err());
}

pub(crate) async fn the_log_is_searched_by_what_stands_in_it(store: &Store) {
    let world = World::new(store).await;
    let (other, _) = world.another_workspace("research").await;
    let secret = SecretId::from_bytes([1; 16]);
    let from = store.audit_head().await.unwrap().size;
    let mut entries: Vec<_> = (0..6).map(counted).collect();
    for (i, entry) in entries.iter_mut().enumerate() {
        let record = &mut entry.record;
        record.workspace = Some(if i < 4 { world.workspace } else { other });
        record.run = (i % 2 == 0).then(|| run_id("Churn_1"));
        record.principal = (i == 3).then_some(world.owner);
        record.secret = (i == 1 || i == 5).then_some(secret);
    }
    append(store, entries).await;

    let here = AuditFilter { workspace: Some(world.workspace), limit: 10, ..AuditFilter::default() };
    assert_eq!(counts(store, here.clone()).await, [0, 1, 2, 3]);
    let run = AuditFilter { run: Some(run_id("CHURN_1")), ..here.clone() };
    assert_eq!(counts(store, run.clone()).await, [0, 2]);
    assert_eq!(counts(store, AuditFilter { newest: true, limit: 1, ..run }).await, [2]);
    let anywhere = AuditFilter { from, limit: 10, ..AuditFilter::default() };
    assert_eq!(counts(store, AuditFilter { secret: Some(secret), ..anywhere.clone() }).await, [1, 5]);
    assert_eq!(counts(store, AuditFilter { principal: Some(world.owner), ..here.clone() }).await, [3]);
    assert_eq!(counts(store, AuditFilter { newest: true, limit: 2, ..anywhere.clone() }).await, [4, 5]);
    assert_eq!(counts(store, AuditFilter { newest: true, limit: 2, ..here }).await, [2, 3], "in the log's order");
    assert_eq!(counts(store, AuditFilter { from: from + 4, ..anywhere }).await, [4, 5]);
}

pub(crate) async fn the_root_is_the_one_of_the_pages(store: &Store) {
    World::new(store).await;
    let mut frontier = Frontier::default();
    for round in 0..5 {
        append(store, (0..700).map(|i| counted(round * 1000 + i)).collect()).await;
    }
    for (_, leaf) in store.audit_leaves(0, u32::MAX).await.unwrap() {
        frontier.append(leaf_hash(&leaf));
    }
    let early = Frontier::default();
    let proof = store.audit_prove(vec![3501, 0, 17, 9999, 17]).await.unwrap();
    assert!(proof.holds());
    assert_eq!(proof.at.iter().map(|head| head.size).collect::<Vec<_>>(), [0, 17, 3501], "9999 was never reached");
    assert_eq!((proof.at[0].root, proof.at[2]), (early.root(), proof.stored));
    assert_eq!((proof.stored.size, proof.stored.root), (3501, frontier.root()));
    assert_eq!(store.audit_head().await.unwrap(), proof.stored);
}

pub(crate) async fn a_search_says_where_the_next_page_starts(store: &Store) {
    append(store, (0..5).map(counted).collect()).await;
    let (mut from, mut seen) = (0, Vec::new());
    loop {
        let filter = AuditFilter { from, limit: 2, ..AuditFilter::default() };
        let listed = store.audit_query(filter).await.unwrap();
        seen.extend(listed.items.into_iter().map(|(seq, _)| seq));
        match listed.next {
            Some(last) => from = last + 1,
            None => break,
        }
    }
    assert_eq!(seen, [0, 1, 2, 3, 4]);
    let newest = AuditFilter { newest: true, limit: 2, ..AuditFilter::default() };
    assert_eq!(store.audit_query(newest).await.unwrap().next, None);
}

pub(crate) async fn leaves_are_exported_as_they_were_hashed(store: &Store) {
    append(store, (0..2000).map(counted).collect()).await;
    let (mut next, mut seen) = (0, 0);
    loop {
        let part = store.audit_leaves(next, 100).await.unwrap();
        let Some((last, _)) = part.last() else { break };
        next = last + 1;
        for (seq, leaf) in part {
            assert_eq!(seq, seen);
            assert_eq!(AuditEntry::from_leaf(&leaf), Ok(counted(seen)));
            seen += 1;
        }
    }
    assert_eq!(seen, 2000);
    let middle = store.audit_leaves(1234, 1).await.unwrap();
    assert_eq!(middle[0], (1234, counted(1234).leaf()));
}

pub(crate) async fn waiting_ends_with_the_next_record(store: &Store) {
    append(store, vec![counted(0)]).await;
    assert_eq!(store.audit_wait(0).await.unwrap(), 1);
    let waiter = tokio::spawn({
        let store = store.clone();
        async move { store.audit_wait(1).await }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!waiter.is_finished());
    append(store, vec![counted(1)]).await;
    assert_eq!(waiter.await.unwrap().unwrap(), 2);
}

pub(crate) async fn checkpoints_only_move_forward(store: &Store) {
    let signed = |size, epoch, time| SignedCheckpoint {
        checkpoint: Checkpoint { installation: InstallationId::from_bytes([1; 16]), epoch, size, root: [2; 32], time },
        signature: "ab".repeat(64),
        public_key: "cd".repeat(32),
    };
    let insert = async |checkpoint: SignedCheckpoint| store.checkpoint_insert(write(checkpoint)).await;
    assert_eq!(store.checkpoint_last().await.unwrap(), None);
    for (size, seconds) in [(1, 0), (5, 1), (5, 2), (9, 4000)] {
        let checkpoint = signed(size, 1, later(seconds));
        insert(checkpoint.clone()).await.unwrap();
        assert_eq!(store.checkpoint_last().await.unwrap(), Some(checkpoint));
    }
    assert_eq!(insert(signed(8, 1, later(4001))).await, Err(Error::Moved("the last checkpoint")));
    insert(signed(8, 2, later(4001))).await.unwrap();
}
