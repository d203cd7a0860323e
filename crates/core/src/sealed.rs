//! What the store may hold: bytes that only the vault can open, and MACs that only the vault can make.
//! The byte layout is specified in docs/format.md; these types carry it and never look inside.

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use crate::id::KeyId;

/// One sealed version of a secret: the value under its data key, and the data key under a workspace key.
/// Two parts, so that rotating the workspace key touches no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Which workspace key wraps the data key.
    pub key_id: KeyId,
    /// The wrapped data key.
    pub wrapped_key: Vec<u8>,
    /// The sealed value.
    pub value: Vec<u8>,
}

/// A 256-bit message authentication code over a row or an audit record.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mac(pub [u8; 32]);

impl std::fmt::Debug for Mac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mac({})", HEXLOWER.encode(&self.0[..4]))
    }
}

/// The keyed hash under which a token, ticket or code is stored and looked up. Useless to whoever reads it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LookupHash(pub [u8; 32]);

impl std::fmt::Debug for LookupHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LookupHash({}..)", HEXLOWER.encode(&self.0[..4]))
    }
}

/// What stands for a long field in a canonical encoding: its SHA-256.
pub fn sha256(field: &[u8]) -> [u8; 32] {
    Sha256::digest(field).into()
}

/// A canonical, unambiguous encoding for what is authenticated: each field is preceded by its length.
///
/// Associated data, row MACs and audit leaves all use it, so `("ab","c")` and `("a","bc")` never meet.
#[derive(Clone, Debug, Default)]
pub struct Canonical(Vec<u8>);

impl Canonical {
    /// Starts an encoding for one purpose; the purpose is its first field.
    pub fn new(purpose: &str) -> Self {
        Self::default().text(purpose)
    }

    /// Appends bytes.
    #[must_use]
    pub fn bytes(mut self, field: &[u8]) -> Self {
        let length = u32::try_from(field.len()).expect("no field is larger than 4 GiB");
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(field);
        self
    }

    /// Appends a text.
    #[must_use]
    pub fn text(self, field: &str) -> Self {
        self.bytes(field.as_bytes())
    }

    /// Appends a number, as eight bytes, most significant first.
    #[must_use]
    pub fn number(self, field: u64) -> Self {
        self.bytes(&field.to_be_bytes())
    }

    /// Appends a signed number, in two's complement.
    #[must_use]
    pub fn signed(self, field: i64) -> Self {
        self.bytes(&field.to_be_bytes())
    }

    /// Appends a field that may be absent: absent and empty differ.
    #[must_use]
    pub fn optional(self, field: Option<&[u8]>) -> Self {
        match field {
            None => self.bytes(&[0]),
            Some(bytes) => self.bytes(&[1]).bytes(bytes),
        }
    }

    /// The finished bytes.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moving_a_byte_between_fields_changes_the_encoding() {
        let a = Canonical::new("t").text("ab").text("c").finish();
        let b = Canonical::new("t").text("a").text("bc").finish();
        assert_ne!(a, b);
        assert_ne!(Canonical::new("t").optional(None).finish(), Canonical::new("t").optional(Some(b"")).finish());
    }
}
