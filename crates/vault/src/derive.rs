//! Keys from keys: HKDF-SHA256 with an empty salt, and an `info` that names format, purpose and place. The purposes
//! are listed in docs/format.md; two purposes never give the same key.

use aws_lc_rs::hkdf;
use kluis_core::id::KeyId;

use crate::binding;
use crate::memory::{KEY_BYTES, Key};

/// The key for `purpose` in the place named by `context`.
pub(crate) fn key(from: &Key, purpose: &str, context: &[&[u8]]) -> Key {
    let info = context.iter().fold(binding::associated(purpose), |info, part| info.bytes(part)).finish();
    Key::write(|out| expand(from, &info, out)).expect("HKDF gives 32 bytes")
}

/// A key's public name: the first 16 bytes of a derived key that is used for nothing else.
pub(crate) fn key_id(of: &Key) -> KeyId {
    let named = key(of, "kluis/key-id", &[]);
    let (id, _) = named.expose().split_first_chunk().expect("32 bytes hold 16");
    KeyId::from_bytes(*id)
}

fn expand(from: &Key, info: &[u8], out: &mut [u8; KEY_BYTES]) -> Result<(), aws_lc_rs::error::Unspecified> {
    hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(from.expose()).expand(&[info], hkdf::HKDF_SHA256)?.fill(out)
}
