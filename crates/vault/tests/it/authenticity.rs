//! Rows, audit records, tokens and checkpoints: what the vault vouched for is recognised, anything else is not.

use kluis_core::access::{Effect, Grant, Role, Scope};
use kluis_core::audit::{AuditAction, AuditEntry, AuditRecord, Checkpoint};
use kluis_core::clock::Timestamp;
use kluis_core::id::{InstallationId, PrincipalId, WorkspaceId};
use kluis_core::name::RunId;
use kluis_core::rng::CountingRng;
use kluis_core::sealed::Mac;
use kluis_vault::{TicketPlace, token, verify_checkpoint};

use crate::fixture::{Fixture, INSTALLATION, WORKSPACE};
use crate::spec;

fn checkpoint() -> Checkpoint {
    let time = Timestamp::from_millis(1_795_530_000_123);
    Checkpoint { installation: INSTALLATION, epoch: 1, size: 3, root: [0xab; 32], time }
}

#[test]
fn a_changed_row_or_mac_is_noticed() {
    let fixture = Fixture::new();
    let grant = Grant {
        principal: PrincipalId::from_bytes([1; 16]),
        scope: Scope::Workspace(WORKSPACE),
        role: Role::Reader,
        effect: Effect::Allow,
        revision: 1,
    };
    let mac = fixture.vault.mac(&grant.canonical());
    assert!(fixture.vault.mac_ok(&grant.canonical(), &mac));
    let greedy = [
        Grant { role: Role::Owner, ..grant },
        Grant { scope: Scope::Installation, ..grant },
        Grant { principal: PrincipalId::from_bytes([2; 16]), ..grant },
        Grant { revision: 2, ..grant },
    ];
    for other in greedy {
        assert!(!fixture.vault.mac_ok(&other.canonical(), &mac), "{other:?}");
    }
    for bit in 0..256 {
        let mut other = mac;
        other.0[bit / 8] ^= 1 << (bit % 8);
        assert!(!fixture.vault.mac_ok(&grant.canonical(), &other));
    }
}

#[test]
fn a_row_is_authenticated_as_the_page_says() {
    let fixture = Fixture::new();
    let principal = [1; 16];
    let grant = Grant {
        principal: PrincipalId::from_bytes(principal),
        scope: Scope::Workspace(WORKSPACE),
        role: Role::SecretsWriter,
        effect: Effect::Deny,
        revision: 9,
    };
    let row = spec::c(&[
        b"kluis/row/grant/1",
        &principal,
        b"workspace",
        WORKSPACE.as_bytes(),
        b"secrets-writer",
        &0_u64.to_be_bytes(),
        &9_u64.to_be_bytes(),
    ]);
    assert_eq!(fixture.vault.mac(&grant.canonical()).0, fixture.by_the_page().row_mac(&row));
}

#[test]
fn a_ticket_is_found_for_its_own_node_of_its_own_attempt_only() {
    let fixture = Fixture::new();
    let run = RunId::parse("churn_1").unwrap();
    let other = RunId::parse("churn_2").unwrap();
    let place = TicketPlace { workspace: WORKSPACE, run: &run, attempt: 3, node: 7 };
    let hash = fixture.vault.ticket_hash(place, "kls_tkt_x");
    assert_eq!(hash.0, fixture.by_the_page().ticket_lookup("kls_tkt_x", WORKSPACE.as_bytes(), "churn_1", 3, 7));
    assert_ne!(hash, fixture.vault.lookup_hash("tkt", "kls_tkt_x"), "a ticket without a place is none");
    let elsewhere = [
        TicketPlace { workspace: WorkspaceId::from_bytes([9; 16]), ..place },
        TicketPlace { run: &other, ..place },
        TicketPlace { attempt: 7, ..place },
        TicketPlace { node: 3, ..place },
        TicketPlace { attempt: 7, node: 3, ..place },
    ];
    for place in elsewhere {
        assert_ne!(hash, fixture.vault.ticket_hash(place, "kls_tkt_x"), "{place:?}");
    }
}

#[test]
fn a_row_mac_is_no_audit_mac() {
    let fixture = Fixture::new();
    let record = AuditRecord::new(Timestamp::from_seconds(1), AuditAction::SecretDelivered);
    let mac = fixture.vault.mac(&record.canonical());
    assert!(!fixture.vault.audit_entry_ok(&AuditEntry { record, mac }));
}

#[test]
fn an_audit_record_is_vouched_for_as_the_page_says() {
    let fixture = Fixture::new();
    let mut record = AuditRecord::new(Timestamp::from_seconds(1), AuditAction::SecretSet);
    record.name = Some("db-password".into());
    let entry = fixture.vault.audit_entry(record);
    assert!(fixture.vault.audit_entry_ok(&entry));
    assert_eq!(AuditEntry::from_leaf(&entry.leaf()).unwrap(), entry);

    let record = [&[1, 1, 0, 8][..], &1000_u64.to_be_bytes(), &[2, 0, 2, 0, 60, 19, 0, 11], b"db-password"].concat();
    let mac = fixture.by_the_page().audit_mac(&record);
    assert_eq!(entry.leaf(), [&record[..], &[255, 0, 32], &mac].concat());

    let mut other = entry.clone();
    other.record.name = Some("db-passwore".into());
    assert!(!fixture.vault.audit_entry_ok(&other));
    assert!(!fixture.vault.audit_entry_ok(&AuditEntry { mac: Mac([0; 32]), ..entry }));
}

#[test]
fn the_page_lists_every_audit_action() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/format.md")).unwrap();
    let cells: Vec<_> = page.split(['|', '\n']).map(str::trim).collect();
    for action in AuditAction::ALL {
        let code = action.code().to_string();
        assert!(cells.windows(2).any(|two| two == [code.as_str(), action.as_str()]), "{code} {action}");
    }
}

#[test]
fn a_token_is_found_under_its_own_purpose_only() {
    let fixture = Fixture::new();
    let hash = fixture.vault.lookup_hash("usr", "kls_usr_x");
    assert_eq!(hash.0, fixture.by_the_page().lookup("usr", "kls_usr_x"));
    assert_ne!(hash, fixture.vault.lookup_hash("tkt", "kls_usr_x"));
    assert_ne!(hash, fixture.vault.lookup_hash("us", "rkls_usr_x"));
    assert_ne!(hash, fixture.vault.lookup_hash("usr", "kls_usr_y"));
}

#[test]
fn a_token_reads_as_the_page_says() {
    let rng = CountingRng::new(3);
    for kind in token::Kind::ALL {
        let token = token::generate(*kind, &rng);
        let (read, random) = spec::token(&token).expect("the page reads it");
        assert_eq!(read, kind.as_str());
        assert_ne!(random, [0; 32]);
        assert!(spec::token(&token.replace(kind.as_str(), "xyz")).is_none(), "the checksum covers the kind");
    }
}

#[test]
fn a_checkpoint_is_signed_as_the_page_says() {
    let fixture = Fixture::new();
    let signed = fixture.vault.sign_checkpoint(checkpoint());
    let public_key = fixture.vault.public_key();
    assert!(verify_checkpoint(&signed, &public_key));
    let text = format!("kluis checkpoint 1 {}\n1\n3\n{}\n1795530000123\n", "22".repeat(16), "ab".repeat(32));
    let signature = data_encoding::HEXLOWER.decode(signed.signature.as_bytes()).unwrap();
    assert_eq!(spec::public_key(&fixture.by_the_page().signing_seed), public_key);
    assert!(spec::signed(&public_key, text.as_bytes(), &signature));
}

#[test]
fn a_changed_checkpoint_a_strangers_and_an_empty_one_do_not_verify() {
    let fixture = Fixture::new();
    let signed = fixture.vault.sign_checkpoint(checkpoint());
    let public_key = fixture.vault.public_key();
    let changes: [fn(&mut Checkpoint); 5] = [
        |c| c.installation = InstallationId::from_bytes([1; 16]),
        |c| c.epoch = 2,
        |c| c.size = 2,
        |c| c.root[31] ^= 1,
        |c| c.time = Timestamp::from_millis(1_795_530_000_124),
    ];
    for (i, change) in changes.iter().enumerate() {
        let mut other = signed.clone();
        change(&mut other.checkpoint);
        assert!(!verify_checkpoint(&other, &public_key), "change {i}");
    }

    let (stranger, _) =
        kluis_vault::Vault::create(crate::fixture::root(), INSTALLATION, std::sync::Arc::new(CountingRng::new(99)))
            .unwrap();
    let forged = stranger.sign_checkpoint(checkpoint());
    assert!(verify_checkpoint(&forged, &stranger.public_key()));
    assert!(!verify_checkpoint(&forged, &public_key), "its own key proves nothing");
    let public = data_encoding::HEXLOWER.encode(&stranger.public_key());
    let confusing = kluis_core::audit::SignedCheckpoint { public_key: public, ..signed.clone() };
    assert!(!verify_checkpoint(&confusing, &public_key), "it must name the key that signed it");
    let renamed = kluis_core::audit::SignedCheckpoint { public_key: signed.public_key.clone(), ..forged };
    assert!(!verify_checkpoint(&renamed, &public_key));

    for signature in ["", "00", "zz", &"0".repeat(128), &signed.signature.to_uppercase(), &signed.signature[2..]] {
        let other = kluis_core::audit::SignedCheckpoint { signature: signature.to_owned(), ..signed.clone() };
        assert!(!verify_checkpoint(&other, &public_key), "{signature}");
    }
}
