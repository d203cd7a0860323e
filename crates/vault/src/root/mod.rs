//! The root key and where it comes from. A source is anything that can [`load`](RootKeySource::load) the same 256 bits
//! at each start; tests/it/root_sources.rs holds what every source promises.

pub mod file;
pub mod passphrase;
mod private_file;

use std::path::PathBuf;

use kluis_core::id::KeyId;
use kluis_core::rng::Rng;

use crate::memory::Key;

/// The key over all keys. In locked memory, wiped on drop; losing it loses everything.
#[derive(Debug)]
pub struct RootKey(pub(crate) Key);

impl RootKey {
    /// A new random root key.
    pub fn generate(rng: &dyn Rng) -> Self {
        Self(Key::generate(rng))
    }

    /// From its 32 bytes; the caller's copy is the caller's to wipe. For a source that this crate does not have.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        let copied: Result<_, std::convert::Infallible> = Key::write(|slot| {
            slot.copy_from_slice(bytes);
            Ok(())
        });
        match copied {
            Ok(key) => Self(key),
        }
    }

    /// The key's public name, derived from it. Everything that it wraps says this name.
    pub fn id(&self) -> KeyId {
        self.0.id()
    }
}

/// Gives the root key. Called once at start, may take a second (a passphrase is stretched) and may block.
pub trait RootKeySource {
    /// The root key, or why it can not be had. Changes nothing.
    fn load(&self) -> Result<RootKey, RootKeyError>;
}

/// Why there is no root key. Never holds a key or a passphrase.
#[derive(Debug, thiserror::Error)]
pub enum RootKeyError {
    /// There is no such file.
    #[error("{path} is not there; restore it from your backup: without the root key nothing can be opened")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// Creating would replace a file.
    #[error("{path} exists already; it is never replaced")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Something else than a regular file stands there.
    #[error("{path} is not a regular file")]
    NotAFile {
        /// What stands there.
        path: PathBuf,
    },
    /// The file belongs to somebody else.
    #[error(
        "{path} belongs to user {owner}, this process runs as {expected}; run `chown {expected}` on it, if you trust what it holds"
    )]
    Owner {
        /// The file.
        path: PathBuf,
        /// Its owner's user id.
        owner: u32,
        /// This process's effective user id.
        expected: u32,
    },
    /// Group or others may do something with the file.
    #[error(
        "{path} has mode {mode:04o}: others can reach it; run `chmod 600` on it, and rotate the root key if anybody may have read it"
    )]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file does not hold what it should.
    #[error("{path}: {problem}; restore it from your backup")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, without its content.
        problem: &'static str,
    },
    /// The passphrase is not the one that the parameter file was made with.
    #[error("the passphrase does not fit {path}")]
    WrongPassphrase {
        /// The parameter file.
        path: PathBuf,
    },
    /// A new passphrase is too short.
    #[error("the passphrase has {length} bytes; a new one needs at least {minimum}")]
    PassphraseTooShort {
        /// Its length in bytes.
        length: usize,
        /// The shortest allowed.
        minimum: usize,
    },
    /// The cost of stretching is out of bounds, or the memory for it is not there.
    #[error("the passphrase can not be stretched: {problem}")]
    Stretch {
        /// What is wrong.
        problem: &'static str,
    },
    /// The operating system refused something.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_root_key_depends_on_nothing_but_the_key() {
        let (a, b) = (RootKey::from_bytes(&[1; 32]), RootKey::from_bytes(&[2; 32]));
        assert_eq!(a.id(), RootKey::from_bytes(&[1; 32]).id());
        assert_ne!(a.id(), b.id());
        assert_ne!(a.id().as_bytes(), &[1; 16]);
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", RootKey::from_bytes(&[1; 32])), "RootKey(Key(***))");
    }
}
