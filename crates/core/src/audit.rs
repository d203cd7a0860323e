//! The audit log: what a record may hold, how it becomes a leaf, and the Merkle log over the leaves.
//!
//! Final from the first release on. A record's fields are an allow-list: ids, names, numbers and times; never a
//! value, never a hash that can be guessed from one. New fields get new tags; a tag is never used again for
//! something else. The byte layout is specified in docs/format.md ("Audit").

use std::fmt;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::clock::Timestamp;
use crate::id::{
    BlobId, ComputeId, InstallationId, InviteId, KeyId, PrincipalId, SecretId, SessionId, TokenId, VersionId,
    WorkspaceId,
};
use crate::name::RunId;
use crate::sealed::Mac;

macro_rules! actions {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $text:literal;)*) => {
        /// What was done. The code stands in the leaf, the text on the wire; neither ever changes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum AuditAction { $($(#[$doc])* $variant = $code,)* }

        impl AuditAction {
            /// Every action.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The number in the leaf.
            pub const fn code(self) -> u16 { self as u16 }

            /// The text on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// From the number in a leaf.
            pub fn from_code(code: u16) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

actions! {
    /// First start.
    InstallationCreated = 1, "installation.created";
    /// A server process opened the store.
    ServerStarted = 2, "server.started";
    /// The root key was rotated.
    RootKeyRotated = 3, "key.root_rotated";
    /// A workspace got a new key generation.
    WorkspaceKeyRotated = 4, "key.workspace_rotated";
    /// Every data key of a workspace is under its current generation.
    WorkspaceKeyRewrapped = 5, "key.workspace_rewrapped";
    /// A backup was restored; the installation's epoch moved.
    InstallationRestored = 6, "installation.restored";
    /// The owner's login was made anew on the server's machine.
    OwnerReset = 7, "installation.owner_reset";
    /// The private authority or the server's own certificate was made anew.
    CertificateIssued = 8, "certificate.issued";

    /// A principal was created.
    PrincipalCreated = 20, "principal.created";
    /// A principal was enabled or disabled.
    PrincipalChanged = 21, "principal.changed";
    /// A grant was given or changed.
    GrantSet = 22, "grant.set";
    /// A grant was taken.
    GrantRemoved = 23, "grant.removed";
    /// A token was issued.
    TokenIssued = 24, "token.issued";
    /// A token was revoked.
    TokenRevoked = 25, "token.revoked";
    /// An invitation was made.
    InviteCreated = 26, "invite.created";
    /// An invitation was used.
    InviteRedeemed = 27, "invite.redeemed";
    /// A client secret was made for a service principal.
    ClientSecretCreated = 28, "client_secret.created";
    /// An invitation was taken back before it was used.
    InviteRevoked = 29, "invite.revoked";
    /// A client secret was revoked.
    ClientSecretRevoked = 30, "client_secret.revoked";
    /// Somebody approved a login by device code, as their own.
    LoginApproved = 31, "login.approved";
    /// Somebody denied a login by device code.
    LoginDenied = 32, "login.denied";

    /// A workspace was created.
    WorkspaceCreated = 40, "workspace.created";
    /// A workspace was deleted.
    WorkspaceDeleted = 41, "workspace.deleted";
    /// A workspace's settings changed.
    WorkspaceChanged = 42, "workspace.changed";
    /// A compute target was created.
    ComputeCreated = 43, "compute.created";
    /// A compute target was deleted.
    ComputeDeleted = 44, "compute.deleted";
    /// Everything in a deleted workspace was erased, its keys last.
    WorkspacePurged = 45, "workspace.purged";

    /// A secret got a new version.
    SecretSet = 60, "secret.set";
    /// A value was delivered. Committed before the value leaves.
    SecretDelivered = 61, "secret.delivered";
    /// A rank read a delivered value from its launcher; `count` times, where many reads share a record.
    SecretRead = 62, "secret.read";
    /// A version's attributes changed.
    SecretChanged = 63, "secret.changed";
    /// A secret was deleted softly.
    SecretDeleted = 64, "secret.deleted";
    /// A deleted secret was recovered.
    SecretRecovered = 65, "secret.recovered";
    /// A deleted secret was purged.
    SecretPurged = 66, "secret.purged";
    /// The launcher's read records have a gap; `count` are missing.
    SecretReadGap = 67, "secret.read_gap";
    /// A read, change or submission was refused to a known caller; `count` more often than once within a minute.
    Refused = 68, "refused";
    /// A backup of a secret was made, sealed: it opens nowhere but here.
    SecretBackedUp = 69, "secret.backed_up";
    /// A purged secret was restored from a backup.
    SecretRestored = 70, "secret.restored";

    /// A run was submitted.
    RunSubmitted = 80, "run.submitted";
    /// An agent leased a run for an attempt.
    RunLeased = 81, "run.leased";
    /// The engine runs the attempt's job.
    RunConfirmed = 82, "run.confirmed";
    /// A launcher redeemed its ticket.
    TicketRedeemed = 83, "ticket.redeemed";
    /// A ticket came with a second key: theft.
    TicketTheft = 84, "ticket.theft";
    /// A run ended.
    RunEnded = 85, "run.ended";
    /// Somebody asked for a run's end.
    RunCanceled = 86, "run.canceled";
    /// A run fell silent, or spoke again.
    RunContact = 87, "run.contact";
    /// A run's log held a secret value, masked.
    RunLeak = 88, "run.leak";
    /// An attempt was given up and the run waits for another.
    RunRequeued = 89, "run.requeued";
    /// A run's tags, properties or display name changed.
    RunChanged = 90, "run.changed";
    /// A run made a child run.
    ChildCreated = 91, "run.child_created";
    /// A run ended a child run of its own.
    ChildEnded = 92, "run.child_ended";
    /// A source tree was stored.
    SnapshotStored = 93, "snapshot.stored";
}

impl fmt::Display for AuditAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for AuditAction {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for AuditAction {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::ALL
            .iter()
            .copied()
            .find(|a| a.as_str() == text)
            .ok_or_else(|| serde::de::Error::custom("unknown audit action"))
    }
}

/// The longest text a record may carry, in bytes. Names fit; nothing else is text.
pub const MAX_AUDIT_TEXT: usize = 255;

/// One thing that happened. Only what is known is filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// When, by the server's clock.
    pub time: Timestamp,
    /// What.
    pub action: AuditAction,
    /// Who asked; for a run's read its submitter. `None`: the server itself.
    pub principal: Option<PrincipalId>,
    /// With which token. The one that was acted on is `credential`.
    pub token: Option<TokenId>,
    /// In which workspace.
    pub workspace: Option<WorkspaceId>,
    /// The secret.
    pub secret: Option<SecretId>,
    /// The version.
    pub version: Option<VersionId>,
    /// The revision of the row that granted or changed.
    pub revision: Option<u64>,
    /// The run.
    pub run: Option<RunId>,
    /// Its attempt, from 1.
    pub attempt: Option<u32>,
    /// The node of the attempt, from 0.
    pub node: Option<u32>,
    /// The rank that read.
    pub rank: Option<u32>,
    /// The process that read.
    pub pid: Option<u32>,
    /// The launcher's sequence number of a read.
    pub sequence: Option<u64>,
    /// The launcher's session.
    pub session: Option<SessionId>,
    /// The principal that was acted on.
    pub subject: Option<PrincipalId>,
    /// The key generation.
    pub key: Option<KeyId>,
    /// How many.
    pub count: Option<u64>,
    /// A name from the glossary's names (a secret's, a workspace's, a role, a status, a refused action).
    pub name: Option<String>,
    /// The client's address without port.
    pub source: Option<String>,
    /// The token or client secret that was issued or revoked.
    pub credential: Option<TokenId>,
    /// The invitation.
    pub invite: Option<InviteId>,
    /// The compute target.
    pub compute: Option<ComputeId>,
    /// The source tree.
    pub snapshot: Option<BlobId>,
}

/// A leaf that can not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an audit leaf: byte {position} is wrong")]
pub struct InvalidLeaf {
    /// Where reading stopped.
    pub position: usize,
}

const LEAF_VERSION: u8 = 1;

mod tag {
    pub(super) const TIME: u8 = 1;
    pub(super) const ACTION: u8 = 2;
    pub(super) const PRINCIPAL: u8 = 3;
    pub(super) const TOKEN: u8 = 4;
    pub(super) const WORKSPACE: u8 = 5;
    pub(super) const SECRET: u8 = 6;
    pub(super) const VERSION: u8 = 7;
    pub(super) const REVISION: u8 = 8;
    pub(super) const RUN: u8 = 9;
    pub(super) const ATTEMPT: u8 = 10;
    pub(super) const NODE: u8 = 11;
    pub(super) const RANK: u8 = 12;
    pub(super) const PID: u8 = 13;
    pub(super) const SEQUENCE: u8 = 14;
    pub(super) const SESSION: u8 = 15;
    pub(super) const SUBJECT: u8 = 16;
    pub(super) const KEY: u8 = 17;
    pub(super) const COUNT: u8 = 18;
    pub(super) const NAME: u8 = 19;
    pub(super) const SOURCE: u8 = 20;
    pub(super) const CREDENTIAL: u8 = 21;
    pub(super) const INVITE: u8 = 22;
    pub(super) const COMPUTE: u8 = 23;
    pub(super) const SNAPSHOT: u8 = 24;
    pub(super) const MAC: u8 = 255;
}

impl AuditRecord {
    /// A record with nothing but time and action.
    pub fn new(time: Timestamp, action: AuditAction) -> Self {
        Self {
            time,
            action,
            principal: None,
            token: None,
            workspace: None,
            secret: None,
            version: None,
            revision: None,
            run: None,
            attempt: None,
            node: None,
            rank: None,
            pid: None,
            sequence: None,
            session: None,
            subject: None,
            key: None,
            count: None,
            name: None,
            source: None,
            credential: None,
            invite: None,
            compute: None,
            snapshot: None,
        }
    }

    /// The canonical bytes: the version byte, then each known field in the order of its tag, as tag, length
    /// (two bytes, most significant first) and content. What the MAC covers. Texts are cut at
    /// [`MAX_AUDIT_TEXT`] bytes.
    pub fn canonical(&self) -> Vec<u8> {
        fn put(out: &mut Vec<u8>, tag: u8, content: &[u8]) {
            out.push(tag);
            out.extend_from_slice(&(content.len() as u16).to_be_bytes());
            out.extend_from_slice(content);
        }
        fn text(out: &mut Vec<u8>, tag: u8, content: Option<&str>) {
            if let Some(content) = content {
                let mut end = content.len().min(MAX_AUDIT_TEXT);
                while !content.is_char_boundary(end) {
                    end -= 1;
                }
                put(out, tag, &content.as_bytes()[..end]);
            }
        }
        fn bytes(out: &mut Vec<u8>, tag: u8, content: Option<&[u8; 16]>) {
            if let Some(content) = content {
                put(out, tag, content);
            }
        }
        fn number(out: &mut Vec<u8>, tag: u8, content: Option<u64>) {
            if let Some(content) = content {
                put(out, tag, &content.to_be_bytes());
            }
        }

        let mut out = Vec::with_capacity(160);
        out.push(LEAF_VERSION);
        put(&mut out, tag::TIME, &self.time.millis().to_be_bytes());
        put(&mut out, tag::ACTION, &self.action.code().to_be_bytes());
        bytes(&mut out, tag::PRINCIPAL, self.principal.as_ref().map(PrincipalId::as_bytes));
        bytes(&mut out, tag::TOKEN, self.token.as_ref().map(TokenId::as_bytes));
        bytes(&mut out, tag::WORKSPACE, self.workspace.as_ref().map(WorkspaceId::as_bytes));
        bytes(&mut out, tag::SECRET, self.secret.as_ref().map(SecretId::as_bytes));
        bytes(&mut out, tag::VERSION, self.version.as_ref().map(VersionId::as_bytes));
        number(&mut out, tag::REVISION, self.revision);
        text(&mut out, tag::RUN, self.run.as_ref().map(RunId::as_str));
        number(&mut out, tag::ATTEMPT, self.attempt.map(u64::from));
        number(&mut out, tag::NODE, self.node.map(u64::from));
        number(&mut out, tag::RANK, self.rank.map(u64::from));
        number(&mut out, tag::PID, self.pid.map(u64::from));
        number(&mut out, tag::SEQUENCE, self.sequence);
        bytes(&mut out, tag::SESSION, self.session.as_ref().map(SessionId::as_bytes));
        bytes(&mut out, tag::SUBJECT, self.subject.as_ref().map(PrincipalId::as_bytes));
        bytes(&mut out, tag::KEY, self.key.as_ref().map(KeyId::as_bytes));
        number(&mut out, tag::COUNT, self.count);
        text(&mut out, tag::NAME, self.name.as_deref());
        text(&mut out, tag::SOURCE, self.source.as_deref());
        bytes(&mut out, tag::CREDENTIAL, self.credential.as_ref().map(TokenId::as_bytes));
        bytes(&mut out, tag::INVITE, self.invite.as_ref().map(InviteId::as_bytes));
        bytes(&mut out, tag::COMPUTE, self.compute.as_ref().map(ComputeId::as_bytes));
        bytes(&mut out, tag::SNAPSHOT, self.snapshot.as_ref().map(BlobId::as_bytes));
        out
    }
}

/// A record with its MAC: what a command hands to the store, and what becomes a leaf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// What happened.
    pub record: AuditRecord,
    /// The vault's MAC over [`AuditRecord::canonical`].
    pub mac: Mac,
}

impl AuditEntry {
    /// The leaf: the record's canonical bytes and, under its own tag, the MAC.
    pub fn leaf(&self) -> Vec<u8> {
        let mut leaf = self.record.canonical();
        leaf.push(tag::MAC);
        leaf.extend_from_slice(&32_u16.to_be_bytes());
        leaf.extend_from_slice(&self.mac.0);
        leaf
    }

    /// Reads a leaf back. Strict: tags in order, each once, no byte left over.
    pub fn from_leaf(leaf: &[u8]) -> Result<Self, InvalidLeaf> {
        let wrong = |position| InvalidLeaf { position };
        if leaf.first() != Some(&LEAF_VERSION) {
            return Err(wrong(0));
        }
        let mut record = AuditRecord::new(Timestamp::default(), AuditAction::InstallationCreated);
        let (mut position, mut last) = (1, 0_u8);
        let mut seen = (false, false, None);
        while position < leaf.len() {
            let at = position;
            let field = leaf[at];
            if field <= last {
                return Err(wrong(at));
            }
            last = field;
            let length = leaf.get(at + 1..at + 3).ok_or(wrong(at))?;
            let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
            let content = leaf.get(at + 3..at + 3 + length).ok_or(wrong(at))?;
            position = at + 3 + length;

            let id = || <[u8; 16]>::try_from(content).map_err(|_| wrong(at));
            let number = || <[u8; 8]>::try_from(content).map(u64::from_be_bytes).map_err(|_| wrong(at));
            let small = || number().and_then(|n| u32::try_from(n).map_err(|_| wrong(at)));
            let text = || std::str::from_utf8(content).map(str::to_owned).map_err(|_| wrong(at));
            match field {
                tag::TIME => {
                    record.time = Timestamp::from_millis(number()? as i64);
                    seen.0 = true;
                }
                tag::ACTION => {
                    let code = <[u8; 2]>::try_from(content).map_err(|_| wrong(at))?;
                    record.action = AuditAction::from_code(u16::from_be_bytes(code)).ok_or(wrong(at))?;
                    seen.1 = true;
                }
                tag::PRINCIPAL => record.principal = Some(PrincipalId::from_bytes(id()?)),
                tag::TOKEN => record.token = Some(TokenId::from_bytes(id()?)),
                tag::WORKSPACE => record.workspace = Some(WorkspaceId::from_bytes(id()?)),
                tag::SECRET => record.secret = Some(SecretId::from_bytes(id()?)),
                tag::VERSION => record.version = Some(VersionId::from_bytes(id()?)),
                tag::REVISION => record.revision = Some(number()?),
                tag::RUN => record.run = Some(RunId::parse(&text()?).map_err(|_| wrong(at))?),
                tag::ATTEMPT => record.attempt = Some(small()?),
                tag::NODE => record.node = Some(small()?),
                tag::RANK => record.rank = Some(small()?),
                tag::PID => record.pid = Some(small()?),
                tag::SEQUENCE => record.sequence = Some(number()?),
                tag::SESSION => record.session = Some(SessionId::from_bytes(id()?)),
                tag::SUBJECT => record.subject = Some(PrincipalId::from_bytes(id()?)),
                tag::KEY => record.key = Some(KeyId::from_bytes(id()?)),
                tag::COUNT => record.count = Some(number()?),
                tag::NAME => record.name = Some(text()?),
                tag::SOURCE => record.source = Some(text()?),
                tag::CREDENTIAL => record.credential = Some(TokenId::from_bytes(id()?)),
                tag::INVITE => record.invite = Some(InviteId::from_bytes(id()?)),
                tag::COMPUTE => record.compute = Some(ComputeId::from_bytes(id()?)),
                tag::SNAPSHOT => record.snapshot = Some(BlobId::from_bytes(id()?)),
                tag::MAC => seen.2 = Some(Mac(content.try_into().map_err(|_| wrong(at))?)),
                _ => return Err(wrong(at)),
            }
        }
        match seen {
            (true, true, Some(mac)) => Ok(Self { record, mac }),
            _ => Err(wrong(leaf.len())),
        }
    }
}

/// A SHA-256 node of the Merkle log.
pub type Hash = [u8; 32];

/// The hash of a leaf, RFC 6962 section 2.1: SHA-256(0x00 || leaf).
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(leaf).finalize().into()
}

fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// The right edge of the Merkle log: enough to append and to know the root, in logarithmic space.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    /// Roots of the full subtrees, largest first; one for each bit set in `size`.
    peaks: Vec<Hash>,
}

impl Frontier {
    /// How many leaves there are.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends the hash of one leaf.
    pub fn append(&mut self, leaf: Hash) {
        let mut node = leaf;
        let mut size = self.size;
        while size & 1 == 1 {
            let left = self.peaks.pop().expect("there is a peak for each bit set in the size");
            node = node_hash(&left, &node);
            size >>= 1;
        }
        self.peaks.push(node);
        self.size += 1;
    }

    /// The Merkle tree hash of RFC 6962; of the empty log, SHA-256 of nothing.
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        match peaks.next() {
            None => Sha256::digest([]).into(),
            Some(last) => peaks.fold(*last, |right, left| node_hash(left, &right)),
        }
    }

    /// As the store keeps it: the size, then the peaks.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.size.to_be_bytes().to_vec();
        out.extend(self.peaks.iter().flatten());
        out
    }

    /// Reads it back; `None` when the number of peaks does not fit the size.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (size, peaks) = bytes.split_first_chunk::<8>()?;
        let size = u64::from_be_bytes(*size);
        let (peaks, rest) = peaks.as_chunks::<32>();
        (rest.is_empty() && peaks.len() == size.count_ones() as usize).then(|| Self { size, peaks: peaks.to_vec() })
    }
}

/// What the server vouches for: the log's size and root at a moment.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Checkpoint {
    /// Which installation.
    pub installation: InstallationId,
    /// The installation's epoch: moves when a backup is restored.
    pub epoch: u64,
    /// How many records.
    pub size: u64,
    /// The Merkle root over them, in hex.
    #[serde(with = "hex_hash")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub root: Hash,
    /// When it was signed.
    pub time: Timestamp,
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Checkpoint({} epoch {} size {} root {})",
            self.installation,
            self.epoch,
            self.size,
            HEXLOWER.encode(&self.root)
        )
    }
}

impl Checkpoint {
    /// What the signature covers: five lines, the first naming format and origin.
    pub fn signed_text(&self) -> String {
        format!(
            "kluis checkpoint 1 {}\n{}\n{}\n{}\n{}\n",
            self.installation,
            self.epoch,
            self.size,
            HEXLOWER.encode(&self.root),
            self.time.millis()
        )
    }
}

/// A checkpoint with its Ed25519 signature over [`Checkpoint::signed_text`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SignedCheckpoint {
    /// What is vouched for.
    pub checkpoint: Checkpoint,
    /// The signature, 128 hex digits.
    pub signature: String,
    /// The public key, 64 hex digits.
    pub public_key: String,
}

mod hex_hash {
    use data_encoding::HEXLOWER;

    pub(super) fn serialize<S: serde::Serializer>(hash: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&HEXLOWER.encode(hash))
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
        let text = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)?;
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| serde::de::Error::custom("not hex"))?;
        bytes.try_into().map_err(|_| serde::de::Error::custom("not 64 hex digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> AuditRecord {
        let mut record = AuditRecord::new(Timestamp::from_millis(1_795_530_000_123), AuditAction::SecretDelivered);
        record.principal = Some(PrincipalId::from_bytes([1; 16]));
        record.token = Some(TokenId::from_bytes([2; 16]));
        record.workspace = Some(WorkspaceId::from_bytes([3; 16]));
        record.secret = Some(SecretId::from_bytes([4; 16]));
        record.version = Some(VersionId::from_bytes([5; 16]));
        record.revision = Some(7);
        record.run = Some(RunId::parse("churn_1_aa").unwrap());
        record.attempt = Some(1);
        record.node = Some(0);
        record.rank = Some(3);
        record.pid = Some(4242);
        record.sequence = Some(9);
        record.session = Some(SessionId::from_bytes([6; 16]));
        record.subject = Some(PrincipalId::from_bytes([7; 16]));
        record.key = Some(KeyId::from_bytes([8; 16]));
        record.count = Some(2);
        record.name = Some("db-password".into());
        record.source = Some("127.0.0.1".into());
        record.credential = Some(TokenId::from_bytes([10; 16]));
        record.invite = Some(InviteId::from_bytes([11; 16]));
        record.compute = Some(ComputeId::from_bytes([12; 16]));
        record.snapshot = Some(BlobId::from_bytes([13; 16]));
        record
    }

    #[test]
    fn a_leaf_is_read_back() {
        for record in [full(), AuditRecord::new(Timestamp::default(), AuditAction::ServerStarted)] {
            let entry = AuditEntry { record, mac: Mac([9; 32]) };
            assert_eq!(AuditEntry::from_leaf(&entry.leaf()), Ok(entry));
        }
    }

    #[test]
    fn a_changed_leaf_is_another_record_or_none() {
        let entry = AuditEntry { record: full(), mac: Mac([9; 32]) };
        let leaf = entry.leaf();
        for i in 0..leaf.len() {
            let mut other = leaf.clone();
            other[i] ^= 1;
            assert_ne!(AuditEntry::from_leaf(&other).ok().as_ref(), Some(&entry), "byte {i}");
            assert!(AuditEntry::from_leaf(&leaf[..i]).is_err(), "cut at {i}");
        }
    }

    #[test]
    fn the_leaf_encoding_is_pinned() {
        let first = AuditRecord { credential: None, invite: None, compute: None, snapshot: None, ..full() };
        for (record, hash) in [
            (first, "329faa5f0b07ccca60cfe71bd530e7cce40dafc16e9d000d95d7aa027df0d4b2"),
            (full(), "0730960c225c63fc89496aaeb391e26567b1aa6aff078c6e0a494cf3f6b28919"),
        ] {
            let entry = AuditEntry { record, mac: Mac([9; 32]) };
            let found = HEXLOWER.encode(&leaf_hash(&entry.leaf()));
            assert_eq!(found, hash, "docs/format.md promises that this never changes");
        }
    }

    #[test]
    fn action_codes_and_texts_are_unique() {
        let codes: std::collections::BTreeSet<_> = AuditAction::ALL.iter().map(|a| a.code()).collect();
        let texts: std::collections::BTreeSet<_> = AuditAction::ALL.iter().map(|a| a.as_str()).collect();
        assert_eq!((codes.len(), texts.len()), (AuditAction::ALL.len(), AuditAction::ALL.len()));
    }

    /// The definition in RFC 6962 section 2.1, word for word: split at the largest power of two below n.
    fn definition(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Sha256::digest([]).into(),
            [one] => *one,
            many => {
                let k = 1 << (usize::BITS - 1 - (many.len() - 1).leading_zeros());
                node_hash(&definition(&many[..k]), &definition(&many[k..]))
            }
        }
    }

    #[test]
    fn the_frontier_agrees_with_the_definition_at_every_size() {
        let leaves: Vec<Hash> = (0_u32..130).map(|i| leaf_hash(&i.to_be_bytes())).collect();
        let mut frontier = Frontier::default();
        assert_eq!(frontier.root(), definition(&[]));
        for (i, leaf) in leaves.iter().enumerate() {
            frontier.append(*leaf);
            assert_eq!(frontier.root(), definition(&leaves[..=i]), "size {}", i + 1);
            assert_eq!(Frontier::from_bytes(&frontier.to_bytes()).as_ref(), Some(&frontier));
        }
        assert_eq!(Frontier::from_bytes(&frontier.to_bytes()[..40]), None);
    }
}
