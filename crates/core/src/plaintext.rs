//! Values in the clear. [`Plaintext`] is wiped when dropped and prints as `Plaintext(***)`; the one way
//! out is [`Plaintext::expose`], so every place where a value meets a socket, a process or the cipher can be
//! found by searching for that word. Buffers of serde and the HTTP stack are outside its reach; the threat
//! model says so.

use zeroize::Zeroizing;

/// The largest value a secret can have: 25,600 bytes, the Key Vault's limit.
pub const MAX_VALUE_BYTES: usize = 25_600;

/// Why bytes are not a secret's value. Never holds the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidValue {
    /// More than [`MAX_VALUE_BYTES`].
    #[error("the value has {0} bytes; at most {MAX_VALUE_BYTES} are allowed")]
    TooLong(usize),
    /// Not text.
    #[error(
        "the value is not UTF-8 text (first bad byte at position {0}); encode binary values, for example as base64"
    )]
    NotText(usize),
}

/// A secret value in memory: UTF-8 text of at most [`MAX_VALUE_BYTES`] bytes, wiped on drop.
#[derive(Clone, PartialEq, Eq)]
pub struct Plaintext(Zeroizing<String>);

impl Plaintext {
    /// Checks size and encoding. Takes the bytes over, so no copy is left behind.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, InvalidValue> {
        let bytes = Zeroizing::new(bytes);
        let text = std::str::from_utf8(&bytes).map_err(|e| InvalidValue::NotText(e.valid_up_to()))?;
        Self::from_text(text)
    }

    /// Checks size. Copies; the caller's own copy is the caller's to wipe.
    pub fn from_text(text: &str) -> Result<Self, InvalidValue> {
        if text.len() > MAX_VALUE_BYTES {
            return Err(InvalidValue::TooLong(text.len()));
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// The value itself. The one way out: think before you type it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the value is the empty text.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Debug for Plaintext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Plaintext(***)")
    }
}

/// For the few wire types that exist to carry a value; see `api::secrets`.
impl serde::Serialize for Plaintext {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.expose())
    }
}

impl<'de> serde::Deserialize<'de> for Plaintext {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Plaintext;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text of at most 25600 bytes")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Plaintext, E> {
                Plaintext::from_text(text).map_err(E::custom)
            }

            fn visit_string<E: serde::de::Error>(self, text: String) -> Result<Plaintext, E> {
                self.visit_str(&Zeroizing::new(text))
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Plaintext::from_text("hunter2").unwrap()), "Plaintext(***)");
    }

    #[test]
    fn size_and_encoding_are_checked_without_showing_the_value() {
        assert!(Plaintext::from_text(&"x".repeat(MAX_VALUE_BYTES)).is_ok());
        assert_eq!(Plaintext::from_text(&"x".repeat(MAX_VALUE_BYTES + 1)), Err(InvalidValue::TooLong(25_601)));
        assert_eq!(Plaintext::from_bytes(vec![b'a', 0xff]), Err(InvalidValue::NotText(1)));
        assert!(serde_json::from_str::<Plaintext>("17").is_err());
    }
}
