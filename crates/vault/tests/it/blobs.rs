//! Blobs: any size in bounded memory, and a segment opens only where and as what it was sealed.

use kluis_core::id::BlobId;
use kluis_vault::{BLOB_HEADER_BYTES, BLOB_SEGMENT_BYTES, BLOB_SEGMENT_OVERHEAD, Error};
use proptest::prelude::*;

use crate::fixture::{BLOB, Fixture, OTHER_WORKSPACE, WORKSPACE, damaged};
use crate::spec;

const SEALED_SEGMENT: usize = BLOB_SEGMENT_BYTES + BLOB_SEGMENT_OVERHEAD;

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i % 251) as u8).collect()
}

#[test]
fn blobs_around_the_segment_size_are_read_back_and_the_page_agrees() {
    let fixture = Fixture::new();
    let key = fixture.workspace_key_by_the_page();
    for length in [0, 1, 65_535, 65_536, 65_537, 131_072, 200_000] {
        let content = pattern(length);
        let sealed = fixture.vault.seal_blob(WORKSPACE, BLOB, &content).unwrap();
        assert_eq!(fixture.vault.open_blob(WORKSPACE, BLOB, &sealed).unwrap(), content, "{length}");
        let (header, segments) = sealed.split_at(BLOB_HEADER_BYTES);
        let blob_key = spec::blob_key(&key, WORKSPACE.as_bytes(), BLOB.as_bytes(), header).unwrap();
        assert!(segments == spec::segments(&blob_key, WORKSPACE.as_bytes(), BLOB.as_bytes(), &content), "{length}");
    }
}

#[test]
fn a_cut_blob_does_not_open() {
    let fixture = Fixture::new();
    let sealed = fixture.vault.seal_blob(WORKSPACE, BLOB, &pattern(2 * BLOB_SEGMENT_BYTES + 10)).unwrap();
    let cuts = [0, 1, BLOB_HEADER_BYTES - 1, BLOB_HEADER_BYTES, BLOB_HEADER_BYTES + 16];
    let ends = [SEALED_SEGMENT, 2 * SEALED_SEGMENT, 2 * SEALED_SEGMENT + 16, 2 * SEALED_SEGMENT + 25];
    for end in cuts.into_iter().chain(ends.map(|e| BLOB_HEADER_BYTES + e)) {
        assert!(fixture.vault.open_blob(WORKSPACE, BLOB, &sealed[..end]).is_err(), "cut at {end}");
    }
    let longer = [&sealed[..], &[0]].concat();
    assert!(fixture.vault.open_blob(WORKSPACE, BLOB, &longer).is_err());
    let again = [&sealed[..], &sealed[BLOB_HEADER_BYTES + 2 * SEALED_SEGMENT..]].concat();
    assert!(fixture.vault.open_blob(WORKSPACE, BLOB, &again).is_err());
}

#[test]
fn reordered_repeated_and_dropped_segments_do_not_open() {
    let fixture = Fixture::new();
    let sealed = fixture.vault.seal_blob(WORKSPACE, BLOB, &pattern(3 * BLOB_SEGMENT_BYTES)).unwrap();
    let (header, body) = sealed.split_at(BLOB_HEADER_BYTES);
    let parts: Vec<_> = body.chunks(SEALED_SEGMENT).collect();
    for order in [&[1, 0, 2][..], &[0, 0, 2], &[0, 2], &[1, 2], &[0, 1], &[0, 1, 1, 2], &[2], &[2, 1, 0]] {
        let body = order.iter().map(|i| parts[*i]).collect::<Vec<_>>().concat();
        assert!(fixture.vault.open_blob(WORKSPACE, BLOB, &[header, &body].concat()).is_err(), "{order:?}");
    }
}

#[test]
fn a_blob_moved_to_another_id_or_workspace_does_not_open() {
    let fixture = Fixture::new();
    let vault = &fixture.vault;
    let sealed = vault.seal_blob(WORKSPACE, BLOB, b"log").unwrap();
    let other = BlobId::from_bytes([9; 16]);
    assert_eq!(vault.open_blob(WORKSPACE, other, &sealed), Err(Error::Damaged { what: "blob" }));
    assert!(matches!(vault.open_blob(OTHER_WORKSPACE, BLOB, &sealed), Err(Error::UnknownKey { .. })));
    // Segments under another blob's header.
    let mine = vault.seal_blob(WORKSPACE, BLOB, b"abc").unwrap();
    let mixed = [&sealed[..BLOB_HEADER_BYTES], &mine[BLOB_HEADER_BYTES..]].concat();
    assert!(vault.open_blob(WORKSPACE, BLOB, &mixed).is_err());
}

#[test]
fn every_changed_bit_and_every_cut_is_noticed() {
    let fixture = Fixture::new();
    let sealed = fixture.vault.seal_blob(WORKSPACE, BLOB, b"a line of a log").unwrap();
    for other in damaged(&sealed) {
        assert!(fixture.vault.open_blob(WORKSPACE, BLOB, &other).is_err());
    }
}

#[test]
fn a_sealer_refuses_what_the_format_does_not_have() {
    let fixture = Fixture::new();
    let sealer = || fixture.vault.blob_sealer(WORKSPACE, BLOB).unwrap();
    let full = pattern(BLOB_SEGMENT_BYTES);
    let refused = |length| Err(Error::Segment { length });

    assert_eq!(sealer().segment(b"short", false), refused(5));
    assert_eq!(sealer().segment(b"", false), refused(0));
    assert_eq!(sealer().segment(&pattern(BLOB_SEGMENT_BYTES + 1), true), refused(BLOB_SEGMENT_BYTES + 1));
    let mut sealer = sealer();
    sealer.segment(&full, false).unwrap();
    assert_eq!(sealer.segment(b"", true), refused(0), "an empty last segment would make two forms of one blob");
    sealer.segment(b"end", true).unwrap();
    assert_eq!(sealer.segment(b"more", true), refused(4));
}

#[test]
fn an_opener_that_saw_no_last_segment_says_so() {
    let fixture = Fixture::new();
    let mut sealer = fixture.vault.blob_sealer(WORKSPACE, BLOB).unwrap();
    let header = sealer.header().to_vec();
    let first = sealer.segment(&pattern(BLOB_SEGMENT_BYTES), false).unwrap();
    let last = sealer.segment(b"end", true).unwrap();
    let opener = || fixture.vault.blob_opener(WORKSPACE, BLOB, &header).unwrap();

    let mut complete = opener();
    complete.segment(&first, false).unwrap();
    assert_eq!(complete.segment(&last, true).unwrap(), b"end");
    assert!(complete.segment(&last, true).is_err(), "nothing follows the last one");

    let mut cut = opener();
    cut.segment(&first, false).unwrap();
    assert!(cut.finish().is_err());

    let mut pretending = opener();
    assert!(pretending.segment(&first, true).is_err());
    assert!(pretending.segment(&first, false).is_err(), "after a failure nothing opens");
    assert!(pretending.finish().is_err());
}

#[test]
fn a_snapshots_address_depends_on_content_and_workspace_alone() {
    let fixture = Fixture::new();
    let address = |vault: &kluis_vault::Vault, workspace, parts: &[&[u8]]| {
        let mut hasher = vault.blob_hasher(workspace);
        for part in parts {
            hasher.update(part);
        }
        hasher.finish()
    };
    let here = address(&fixture.vault, WORKSPACE, &[b"content"]);
    assert_eq!(here, address(&fixture.vault, WORKSPACE, &[b"con", b"", b"tent"]));
    assert_eq!(here, address(&fixture.reopen(), WORKSPACE, &[b"content"]));
    assert_ne!(here, address(&fixture.vault, OTHER_WORKSPACE, &[b"content"]));
    assert_ne!(here, address(&fixture.vault, WORKSPACE, &[b"Content"]));
    let page = fixture.by_the_page().blob_address(WORKSPACE.as_bytes(), b"content");
    assert_eq!(here.as_bytes(), &page);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_bytes_are_read_back(content in prop::collection::vec(any::<u8>(), 0..25_600)) {
        let fixture = Fixture::new();
        let sealed = fixture.vault.seal_blob(WORKSPACE, BLOB, &content).unwrap();
        prop_assert_eq!(fixture.vault.open_blob(WORKSPACE, BLOB, &sealed).unwrap(), content);
    }
}
