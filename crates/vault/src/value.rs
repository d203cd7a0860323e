//! Values: each version is sealed under a data key of its own, and the data key under the workspace's current key.
//! Rotating the workspace key rewraps data keys and leaves the values' bytes alone.

use kluis_core::plaintext::Plaintext;
use kluis_core::sealed::Sealed;

use crate::binding::Binding;
use crate::envelope;
use crate::error::Error;
use crate::memory::Key;
use crate::vault::Vault;

impl Vault {
    /// Seals a version's value under a fresh data key.
    pub fn seal(&self, binding: &Binding, value: &Plaintext) -> Result<Sealed, Error> {
        let data_key = Key::generate(&*self.rng);
        let bytes = value.expose().as_bytes();
        let value = envelope::seal(&data_key, binding.data_key(), &binding.value(), bytes, &*self.rng);
        let (key_id, wrapped_key) = self.wrap(binding, &data_key)?;
        Ok(Sealed { key_id, wrapped_key, value })
    }

    /// Opens a version's value. Moved from any other version, secret or workspace, or changed in any bit, it does not
    /// open.
    pub fn unseal(&self, binding: &Binding, sealed: &Sealed) -> Result<Plaintext, Error> {
        self.unseal_with(&self.unwrap(binding, sealed)?, binding, &sealed.value)
    }

    pub(crate) fn unseal_with(&self, data_key: &Key, binding: &Binding, value: &[u8]) -> Result<Plaintext, Error> {
        let what = "value";
        let bytes = envelope::open(what, data_key, binding.data_key(), &binding.value(), value)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| Error::Damaged { what })?;
        Plaintext::from_text(text).map_err(|_| Error::Damaged { what })
    }

    /// Wraps a version's data key under the workspace's current key. The value's bytes are handed back as they were;
    /// what is under the current key already is handed back whole.
    pub fn rewrap(&self, binding: &Binding, sealed: &Sealed) -> Result<Sealed, Error> {
        let data_key = self.unwrap(binding, sealed)?;
        if self.keyring.current(binding.workspace)?.id == sealed.key_id {
            return Ok(sealed.clone());
        }
        let (key_id, wrapped_key) = self.wrap(binding, &data_key)?;
        Ok(Sealed { key_id, wrapped_key, value: sealed.value.clone() })
    }

    fn wrap(&self, binding: &Binding, data_key: &Key) -> Result<(kluis_core::id::KeyId, Vec<u8>), Error> {
        let current = self.keyring.current(binding.workspace)?;
        let wrapped = current.wrap(&binding.wrap(current.id), data_key.expose(), &*self.rng)?;
        Ok((current.id, wrapped))
    }

    pub(crate) fn unwrap(&self, binding: &Binding, sealed: &Sealed) -> Result<Key, Error> {
        let key = self.keyring.get(binding.workspace, sealed.key_id)?;
        key.unwrap_key("data key", &binding.wrap(key.id), &sealed.wrapped_key)
    }
}
