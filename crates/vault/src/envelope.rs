//! The one box that everything but a blob's segments is sealed in: `format(1) ‖ key id(16) ‖ nonce(12) ‖ AES-256-GCM
//! ciphertext ‖ tag(16)`. Specified in docs/format.md; change both or neither.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use kluis_core::id::KeyId;
use kluis_core::rng::Rng;
use zeroize::Zeroizing;

use crate::binding::FORMAT;
use crate::error::Error;
use crate::memory::Key;

pub(crate) const TAG_BYTES: usize = 16;
const HEADER_BYTES: usize = 1 + 16;
/// What a box adds to what it holds.
pub(crate) const OVERHEAD: usize = HEADER_BYTES + NONCE_LEN + TAG_BYTES;

/// Seals `plaintext` under `key`, which goes by `id`, bound to `associated`. The nonce is random.
pub(crate) fn seal(key: &Key, id: KeyId, associated: &[u8], plaintext: &[u8], rng: &dyn Rng) -> Vec<u8> {
    let mut nonce = [0; NONCE_LEN];
    rng.fill(&mut nonce);
    let mut out = vec![0; OVERHEAD + plaintext.len()];
    let (header, body) = out.split_at_mut(HEADER_BYTES + NONCE_LEN);
    header[0] = FORMAT;
    header[1..HEADER_BYTES].copy_from_slice(id.as_bytes());
    header[HEADER_BYTES..].copy_from_slice(&nonce);
    let (ciphertext, tag) = body.split_at_mut(plaintext.len());
    cipher(key)
        .seal_out_of_place_scatter(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(associated),
            plaintext,
            ciphertext,
            &[],
            tag,
        )
        .expect("sizes fit and are far below the cipher's limits");
    out
}

/// The key that a box asks for.
pub(crate) fn key_id(what: &'static str, sealed: &[u8]) -> Result<KeyId, Error> {
    match sealed.first() {
        Some(&FORMAT) => {}
        Some(&format) => return Err(Error::UnknownFormat { what, format }),
        None => return Err(Error::Damaged { what }),
    }
    let id = sealed.get(1..HEADER_BYTES).and_then(|id| id.try_into().ok()).ok_or(Error::Damaged { what })?;
    Ok(KeyId::from_bytes(id))
}

/// Opens a box that holds exactly `out.len()` bytes. On failure `out` is zeros.
pub(crate) fn open_into(
    what: &'static str,
    key: &Key,
    id: KeyId,
    associated: &[u8],
    sealed: &[u8],
    out: &mut [u8],
) -> Result<(), Error> {
    let damaged = Error::Damaged { what };
    if key_id(what, sealed)? != id || sealed.len() != OVERHEAD + out.len() {
        return Err(damaged);
    }
    let (nonce, body) = sealed[HEADER_BYTES..].split_first_chunk::<NONCE_LEN>().ok_or(damaged)?;
    let (ciphertext, tag) = body.split_at(out.len());
    cipher(key)
        .open_separate_gather(Nonce::assume_unique_for_key(*nonce), Aad::from(associated), ciphertext, tag, out)
        .map_err(|_| {
            out.fill(0);
            damaged
        })
}

/// Opens a box of any size.
pub(crate) fn open(
    what: &'static str,
    key: &Key,
    id: KeyId,
    associated: &[u8],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let length = sealed.len().checked_sub(OVERHEAD).ok_or(Error::Damaged { what });
    // The format comes first: a box of a newer format may be shorter than ours.
    key_id(what, sealed)?;
    let mut out = Zeroizing::new(vec![0; length?]);
    open_into(what, key, id, associated, sealed, &mut out)?;
    Ok(out)
}

/// The cipher for one operation; aws-lc wipes it when it goes.
pub(crate) fn cipher(key: &Key) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.expose()).expect("a key has 32 bytes"))
}
