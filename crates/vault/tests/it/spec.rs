//! docs/format.md a second time, from the page alone and on other libraries (RustCrypto): shares no line with the vault
//! and none of the core's encodings. If this opens what the vault seals, the page is true.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

pub(crate) type Key = [u8; 32];
pub(crate) type Id = [u8; 16];

/// Canonical encoding.
pub(crate) fn c(fields: &[&[u8]]) -> Vec<u8> {
    fields.iter().flat_map(|f| [&(f.len() as u32).to_be_bytes(), *f].concat()).collect()
}

/// Canonical encoding after format and purpose.
pub(crate) fn p(purpose: &str, fields: &[&[u8]]) -> Vec<u8> {
    c(&[&[&[1_u8][..], purpose.as_bytes()], fields].concat())
}

pub(crate) fn hkdf(key: &Key, info: &[u8]) -> Key {
    let mut out = [0; 32];
    hkdf::Hkdf::<Sha256>::new(None, key).expand(info, &mut out).expect("32 bytes are allowed");
    out
}

pub(crate) fn hmac(key: &Key, data: &[u8]) -> Key {
    let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(key).expect("any length is a key");
    mac.update(data);
    mac.finalize().into_bytes().into()
}

pub(crate) fn sha256(data: &[u8]) -> Key {
    Sha256::digest(data).into()
}

pub(crate) fn first16(bytes: &Key) -> Id {
    *bytes.first_chunk().expect("32 bytes hold 16")
}

/// The id of a root key, installation key or workspace key.
pub(crate) fn key_id(key: &Key) -> Id {
    first16(&hkdf(key, &p("kluis/key-id", &[])))
}

pub(crate) fn gcm_open(key: &Key, nonce: &[u8], ad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let nonce = Nonce::try_from(nonce).ok()?;
    Aes256Gcm::new(key.into()).decrypt(&nonce, Payload { msg: sealed, aad: ad }).ok()
}

pub(crate) fn gcm_seal(key: &Key, nonce: &[u8], ad: &[u8], content: &[u8]) -> Vec<u8> {
    let nonce = Nonce::try_from(nonce).expect("12 bytes");
    Aes256Gcm::new(key.into()).encrypt(&nonce, Payload { msg: content, aad: ad }).expect("small enough")
}

/// Opens a box that must be sealed under the key that goes by `id`.
pub(crate) fn box_open(key: &Key, id: &Id, ad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let (header, rest) = sealed.split_at_checked(17)?;
    let (nonce, body) = rest.split_at_checked(12)?;
    (header[0] == 1 && header[1..] == id[..]).then(|| gcm_open(key, nonce, ad, body)).flatten()
}

fn key(bytes: Vec<u8>) -> Option<Key> {
    bytes.try_into().ok()
}

/// Seals a box, as whoever holds the key could.
pub(crate) fn box_seal(key: &Key, id: &Id, ad: &[u8], content: &[u8]) -> Vec<u8> {
    let nonce = [9; 12];
    [&[1], &id[..], &nonce, &gcm_seal(key, &nonce, ad, content)].concat()
}

/// What an installation's three stored boxes hold.
pub(crate) struct Installation {
    pub(crate) id: Id,
    pub(crate) root: Key,
    pub(crate) key: Key,
    pub(crate) signing_seed: Key,
}

impl Installation {
    pub(crate) fn open(
        root: Key,
        installation: Id,
        installation_key: &[u8],
        signing_key: &[u8],
        canary: &[u8],
    ) -> Option<Self> {
        let wrap = hkdf(&root, &p("kluis/root-wrap", &[&installation]));
        let id = key_id(&root);
        let canary = box_open(&wrap, &id, &p("kluis/canary", &[&installation, &id]), canary)?;
        if canary != b"kluis: this root key opens this." {
            return None;
        }
        let ad = p("kluis/installation-key", &[&installation, &id]);
        let own = key(box_open(&wrap, &id, &ad, installation_key)?)?;
        let small = hkdf(&own, &p("kluis/small", &[&installation]));
        let own_id = key_id(&own);
        let ad = p("kluis/signing-key", &[&installation, &own_id]);
        let signing_seed = key(box_open(&small, &own_id, &ad, signing_key)?)?;
        Some(Self { id: installation, root, key: own, signing_seed })
    }

    fn derived(&self, purpose: &str) -> Key {
        hkdf(&self.key, &p(purpose, &[&self.id]))
    }

    pub(crate) fn workspace_key(&self, workspace: &Id, id: &Id, wrapped: &[u8]) -> Option<Key> {
        let wrap = hkdf(&self.root, &p("kluis/root-wrap", &[&self.id]));
        let root_id = key_id(&self.root);
        let ad = p("kluis/workspace-key", &[&self.id, workspace, id, &root_id]);
        key(box_open(&wrap, &root_id, &ad, wrapped)?).filter(|k| key_id(k) == *id)
    }

    pub(crate) fn row_mac(&self, canonical: &[u8]) -> Key {
        hmac(&self.derived("kluis/row-mac"), canonical)
    }

    pub(crate) fn audit_mac(&self, record: &[u8]) -> Key {
        hmac(&self.derived("kluis/audit-mac"), record)
    }

    pub(crate) fn lookup(&self, purpose: &str, token: &str) -> Key {
        hmac(&self.derived("kluis/lookup"), &c(&[purpose.as_bytes(), token.as_bytes()]))
    }

    pub(crate) fn ticket_lookup(&self, ticket: &str, workspace: &Id, run: &str, attempt: u64, node: u64) -> Key {
        let place = [&workspace[..], run.as_bytes(), &attempt.to_be_bytes(), &node.to_be_bytes()];
        let fields = [&[&b"tkt"[..], ticket.as_bytes()], &place[..]].concat();
        hmac(&self.derived("kluis/lookup"), &c(&fields))
    }

    pub(crate) fn blob_address(&self, workspace: &Id, content: &[u8]) -> Id {
        first16(&hmac(&hkdf(&self.key, &p("kluis/blob-address", &[&self.id, workspace])), content))
    }

    pub(crate) fn small(&self, purpose: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let id = key_id(&self.key);
        let ad = p("kluis/small", &[&self.id, purpose.as_bytes(), &id]);
        box_open(&self.derived("kluis/small"), &id, &ad, sealed)
    }
}

/// A sealed version's value. `place` is workspace, secret, version.
pub(crate) fn value(workspace_key: &Key, place: [&Id; 3], wrapped_key: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let id = key_id(workspace_key);
    let place = place.map(|part| &part[..]);
    let ad = p("kluis/data-key", &[&place[..], &[&id]].concat());
    let data_key = key(box_open(workspace_key, &id, &ad, wrapped_key)?)?;
    box_open(&data_key, place[2].try_into().ok()?, &p("kluis/value", &place), sealed)
}

/// A blob's own key.
pub(crate) fn blob_key(workspace_key: &Key, workspace: &Id, blob: &Id, header: &[u8]) -> Option<Key> {
    let id = key_id(workspace_key);
    key(box_open(workspace_key, &id, &p("kluis/blob-key", &[workspace, blob, &id]), header)?)
}

/// A blob's segments, sealed in one go.
pub(crate) fn segments(blob_key: &Key, workspace: &Id, blob: &Id, content: &[u8]) -> Vec<u8> {
    let ad = p("kluis/blob", &[workspace, blob]);
    let count = content.len().div_ceil(65_536).max(1);
    let segment = |i: usize| {
        let mut nonce = [0; 12];
        nonce[3..11].copy_from_slice(&(i as u64).to_be_bytes());
        nonce[11] = u8::from(i + 1 == count);
        gcm_seal(blob_key, &nonce, &ad, &content[i * 65_536..content.len().min((i + 1) * 65_536)])
    };
    (0..count).flat_map(segment).collect()
}

/// Whether an Ed25519 signature over `signed` fits.
pub(crate) fn signed(public_key: &Key, signed: &[u8], signature: &[u8]) -> bool {
    let Ok(signature) = ed25519_dalek::Signature::from_slice(signature) else { return false };
    ed25519_dalek::VerifyingKey::from_bytes(public_key).is_ok_and(|k| k.verify_strict(signed, &signature).is_ok())
}

/// The public key of a signing seed.
pub(crate) fn public_key(seed: &Key) -> Key {
    ed25519_dalek::SigningKey::from_bytes(seed).verifying_key().to_bytes()
}

/// A token, if it has the form and the checksum of one: its kind and its 256 bits.
pub(crate) fn token(text: &str) -> Option<(String, Key)> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'A'..=b'Z' => Some(b - b'A' + 10),
        b'a'..=b'z' => Some(b - b'a' + 36),
        _ => None,
    };
    let [prefix, kind, random, checksum] = text.split('_').collect::<Vec<_>>().try_into().ok()?;
    if prefix != "kls" || random.len() != 43 || checksum.len() != 6 {
        return None;
    }
    // Horner's rule over 33 bytes: 62^43 does not fit into 32.
    let mut number = [0_u8; 33];
    for b in random.bytes() {
        let mut carry = u32::from(digit(b)?);
        for byte in number.iter_mut().rev() {
            let n = u32::from(*byte) * 62 + carry;
            *byte = n as u8;
            carry = n >> 8;
        }
    }
    let signed = &text[..text.len() - 7];
    let sum = u64::from_be_bytes(*sha256(signed.as_bytes()).first_chunk()?) % 62_u64.pow(6);
    let given = checksum.bytes().try_fold(0, |n, b| Some(n * 62 + u64::from(digit(b)?)))?;
    (number[0] == 0 && sum == given).then(|| Some((kind.to_owned(), number[1..].try_into().ok()?))).flatten()
}
