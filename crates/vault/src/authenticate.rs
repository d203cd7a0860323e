//! What only the vault can make: MACs over rows that grant and over audit records, and the keyed hashes under which
//! tokens are looked up. HMAC-SHA256, each use with a key of its own; comparisons take the same time whatever differs.

use aws_lc_rs::hmac;
use kluis_core::audit::{AuditEntry, AuditRecord};
use kluis_core::id::WorkspaceId;
use kluis_core::name::RunId;
use kluis_core::sealed::{Canonical, LookupHash, Mac};
use subtle::ConstantTimeEq;

use crate::memory::Key;
use crate::token::Kind;
use crate::vault::Vault;

/// What a ticket is for. Its lookup hash covers this, so a ticket's row that was moved to another run is not found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TicketPlace<'a> {
    /// The run's workspace.
    pub workspace: WorkspaceId,
    /// The run, as it was first spelled.
    pub run: &'a RunId,
    /// The attempt, from 1.
    pub attempt: u32,
    /// The node, from 0.
    pub node: u32,
}

impl Vault {
    /// The MAC of a row, over its `canonical()` bytes.
    pub fn mac(&self, canonical: &[u8]) -> Mac {
        Mac(hmac_sha256(&self.row_mac, canonical))
    }

    /// Whether a row is as the vault last saw it.
    pub fn mac_ok(&self, canonical: &[u8], mac: &Mac) -> bool {
        same(&self.mac(canonical).0, &mac.0)
    }

    /// An audit record with its MAC, ready for the command that records it.
    pub fn audit_entry(&self, record: AuditRecord) -> AuditEntry {
        let mac = Mac(hmac_sha256(&self.audit_mac, &record.canonical()));
        AuditEntry { record, mac }
    }

    /// Whether an audit record was made by this installation and not changed since.
    pub fn audit_entry_ok(&self, entry: &AuditEntry) -> bool {
        same(&hmac_sha256(&self.audit_mac, &entry.record.canonical()), &entry.mac.0)
    }

    /// Under what a token, ticket or code is stored and looked up. The purpose keeps one kind from standing in for
    /// another. Whoever has only the store can neither recover a token from it nor make one up.
    pub fn lookup_hash(&self, purpose: &str, token: &str) -> LookupHash {
        LookupHash(hmac_sha256(&self.lookup, &Canonical::new(purpose).text(token).finish()))
    }

    /// Under what a ticket is stored and looked up: as other tokens, and for one node of one attempt only.
    pub fn ticket_hash(&self, place: TicketPlace<'_>, ticket: &str) -> LookupHash {
        let canonical = Canonical::new(Kind::Ticket.as_str())
            .text(ticket)
            .bytes(place.workspace.as_bytes())
            .text(place.run.as_str())
            .number(place.attempt.into())
            .number(place.node.into());
        LookupHash(hmac_sha256(&self.lookup, &canonical.finish()))
    }
}

pub(crate) fn hmac_sha256(key: &Key, data: &[u8]) -> [u8; 32] {
    let mut context = hmac_context(key);
    context.update(data);
    finish(context)
}

pub(crate) fn hmac_context(key: &Key) -> hmac::Context {
    hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key.expose()))
}

pub(crate) fn finish(context: hmac::Context) -> [u8; 32] {
    context.sign().as_ref().try_into().expect("HMAC-SHA256 gives 32 bytes")
}

fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    a.ct_eq(b).into()
}
