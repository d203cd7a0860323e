//! The root key in a file: one line of text, so that it can be kept on paper and typed back, with a checksum, so that a
//! cut or mistyped one is noticed before anything is opened with it. The format stands in docs/format.md.

use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use data_encoding::HEXLOWER;
use kluis_core::rng::Rng;
use zeroize::{Zeroize, Zeroizing};

use super::{RootKey, RootKeyError, RootKeySource, private_file};
use crate::memory::{KEY_BYTES, Key};

const PREFIX: &str = "kluis-root-key 1 ";
const KEY_DIGITS: usize = 2 * KEY_BYTES;
const CHECKSUM_BYTES: usize = 4;

/// A root key file: mode 0600 or stricter, owned by the user this process runs as.
#[derive(Clone, Debug)]
pub struct RootKeyFile {
    path: PathBuf,
}

impl RootKeyFile {
    /// The file at this path; nothing is looked at before [`load`](RootKeySource::load).
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Makes a new root key and its file, on disk when this returns. Never replaces a file.
    pub fn create_new(path: impl Into<PathBuf>, rng: &dyn Rng) -> Result<Self, RootKeyError> {
        let file = Self::new(path);
        private_file::create_new(&file.path, line(&RootKey::generate(rng)).as_bytes(), rng)?;
        Ok(file)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl RootKeySource for RootKeyFile {
    fn load(&self) -> Result<RootKey, RootKeyError> {
        let bytes = private_file::read(&self.path)?;
        parse(&bytes).map_err(|problem| RootKeyError::Malformed { path: self.path.clone(), problem })
    }
}

fn line(root: &RootKey) -> Zeroizing<String> {
    let mut digits = [0; KEY_DIGITS];
    HEXLOWER.encode_mut(root.0.expose(), &mut digits);
    let mut out = Zeroizing::new(String::with_capacity(PREFIX.len() + KEY_DIGITS + 2 * CHECKSUM_BYTES + 2));
    out.push_str(PREFIX);
    out.extend(digits.iter().map(|digit| char::from(*digit)));
    digits.zeroize();
    let checksum = HEXLOWER.encode(&checksum(out.as_bytes()));
    out.push(' ');
    out.push_str(&checksum);
    out.push('\n');
    out
}

fn parse(bytes: &[u8]) -> Result<RootKey, &'static str> {
    let line = bytes.trim_ascii_end();
    let rest = line.strip_prefix(PREFIX.as_bytes()).ok_or("it is not a root key file, or of a newer format")?;
    let (key, rest) = rest.split_at_checked(KEY_DIGITS).ok_or("it is too short")?;
    let sum = rest.strip_prefix(b" ").filter(|s| s.len() == 2 * CHECKSUM_BYTES).ok_or("its checksum is missing")?;
    if sum != HEXLOWER.encode(&checksum(&line[..PREFIX.len() + KEY_DIGITS])).as_bytes() {
        return Err("its checksum does not fit");
    }
    let decoded = Key::write(|slot| HEXLOWER.decode_mut(key, slot).map(drop));
    decoded.map(RootKey).map_err(|_| "the key is not lower-case hex")
}

fn checksum(signed: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let hash = digest::digest(&digest::SHA256, signed);
    *hash.as_ref().first_chunk().expect("32 bytes hold 4")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_back_with_or_without_its_line_break() {
        let root = RootKey::from_bytes(&[0xa5; 32]);
        let text = line(&root);
        assert_eq!(*text, format!("kluis-root-key 1 {} 9df53648\n", "a5".repeat(32)));
        for given in [text.as_bytes(), text.trim_end().as_bytes(), format!("{}\r\n", text.trim_end()).as_bytes()] {
            assert_eq!(parse(given).unwrap().id(), root.id());
        }
    }

    #[test]
    fn a_cut_or_changed_line_is_noticed() {
        let text = line(&RootKey::from_bytes(&[0xa5; 32]));
        let text = text.trim_end();
        for i in 0..text.len() {
            assert!(parse(&text.as_bytes()[..i]).is_err(), "cut at {i}");
            let mut other = text.to_owned();
            other.replace_range(i..=i, if &text[i..=i] == "0" { "1" } else { "0" });
            assert!(parse(other.as_bytes()).is_err(), "changed at {i}");
        }
    }
}
