//! The root key from a passphrase, stretched with Argon2id (RFC 9106). Salt and cost stand in a small file beside the
//! data, with the root key's public name, so that a wrong passphrase is told from a wrong installation.

use std::path::{Path, PathBuf};

use argon2::{Algorithm, Argon2, Params, Version};
use data_encoding::HEXLOWER;
use kluis_core::id::KeyId;
use kluis_core::rng::Rng;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{RootKey, RootKeyError, RootKeySource, private_file};
use crate::memory::{KEY_BYTES, Key};

/// The shortest passphrase that a new installation accepts, in bytes.
pub const MIN_PASSPHRASE_BYTES: usize = 12;

/// What one guess costs. The default, 256 MiB in 3 passes over 4 lanes, takes about a second on one core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassphraseCost {
    /// Memory in KiB: 8,192 (8 MiB) to 4,194,304 (4 GiB).
    pub memory_kib: u32,
    /// Passes over the memory: 1 to 64.
    pub passes: u32,
    /// Lanes: 1 to 16.
    pub lanes: u32,
}

impl Default for PassphraseCost {
    fn default() -> Self {
        Self { memory_kib: 256 * 1024, passes: 3, lanes: 4 }
    }
}

impl PassphraseCost {
    fn params(self) -> Option<Params> {
        let allowed = (8192..=4 * 1024 * 1024).contains(&self.memory_kib)
            && (1..=64).contains(&self.passes)
            && (1..=16).contains(&self.lanes);
        allowed.then(|| Params::new(self.memory_kib, self.passes, self.lanes, Some(KEY_BYTES)).ok()).flatten()
    }
}

/// A passphrase and the file with its salt.
pub struct PassphraseRoot {
    path: PathBuf,
    passphrase: Zeroizing<String>,
}

impl PassphraseRoot {
    /// The passphrase for the parameter file at this path; nothing is looked at before
    /// [`load`](RootKeySource::load). The passphrase is taken byte for byte.
    pub fn new(path: impl Into<PathBuf>, passphrase: Zeroizing<String>) -> Self {
        Self { path: path.into(), passphrase }
    }

    /// First use: makes a salt and its file. Never replaces a file; refuses a passphrase under
    /// [`MIN_PASSPHRASE_BYTES`].
    pub fn create_new(
        path: impl Into<PathBuf>,
        passphrase: Zeroizing<String>,
        cost: PassphraseCost,
        rng: &dyn Rng,
    ) -> Result<Self, RootKeyError> {
        let source = Self::new(path, passphrase);
        let (length, minimum) = (source.passphrase.len(), MIN_PASSPHRASE_BYTES);
        if length < minimum {
            return Err(RootKeyError::PassphraseTooShort { length, minimum });
        }
        let mut salt = [0; SALT_BYTES];
        rng.fill(&mut salt);
        let root = source.stretch(cost, &salt)?;
        let file = ParameterFile {
            format: FORMAT,
            kdf: KDF.into(),
            memory_kib: cost.memory_kib,
            passes: cost.passes,
            lanes: cost.lanes,
            salt: HEXLOWER.encode(&salt),
            key_id: root.id(),
        };
        let mut text = serde_json::to_vec_pretty(&file).expect("numbers and texts become JSON");
        text.push(b'\n');
        private_file::create_new(&source.path, &text, rng)?;
        Ok(source)
    }

    /// Where the parameter file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The id of the root key that the parameter file at this path belongs to. No passphrase is needed.
    pub fn key_id_in(path: &Path) -> Result<KeyId, RootKeyError> {
        Ok(ParameterFile::read(path)?.key_id)
    }

    fn stretch(&self, cost: PassphraseCost, salt: &[u8]) -> Result<RootKey, RootKeyError> {
        let params = cost.params().ok_or(RootKeyError::Stretch { problem: "its cost is out of bounds" })?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        Key::write(|slot| argon2.hash_password_into(self.passphrase.as_bytes(), salt, slot))
            .map(RootKey)
            .map_err(|_| RootKeyError::Stretch { problem: "the memory that its cost asks for is not there" })
    }
}

impl RootKeySource for PassphraseRoot {
    fn load(&self) -> Result<RootKey, RootKeyError> {
        let file = ParameterFile::read(&self.path)?;
        let malformed = |problem| RootKeyError::Malformed { path: self.path.clone(), problem };
        let cost = PassphraseCost { memory_kib: file.memory_kib, passes: file.passes, lanes: file.lanes };
        let salt = HEXLOWER.decode(file.salt.as_bytes()).ok().filter(|s| s.len() == SALT_BYTES);
        let root = self.stretch(cost, &salt.ok_or_else(|| malformed("its salt is not 32 lower-case hex digits"))?)?;
        if root.id() == file.key_id { Ok(root) } else { Err(RootKeyError::WrongPassphrase { path: self.path.clone() }) }
    }
}

impl std::fmt::Debug for PassphraseRoot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PassphraseRoot").field("path", &self.path).finish_non_exhaustive()
    }
}

const FORMAT: u32 = 1;
const KDF: &str = "argon2id-19";
const SALT_BYTES: usize = 16;

/// The file beside the data. Nothing in it is secret; whoever changes it makes the right passphrase a wrong one.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ParameterFile {
    format: u32,
    kdf: String,
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: String,
    key_id: KeyId,
}

impl ParameterFile {
    fn read(path: &Path) -> Result<Self, RootKeyError> {
        let malformed = |problem| RootKeyError::Malformed { path: path.to_owned(), problem };
        let bytes = private_file::read(path)?;
        let file: Self =
            serde_json::from_slice(&bytes).map_err(|_| malformed("it is not a passphrase parameter file"))?;
        if file.format == FORMAT && file.kdf == KDF {
            Ok(file)
        } else {
            Err(malformed("it has a format that this version does not know"))
        }
    }
}
