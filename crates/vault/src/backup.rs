//! Backups of one secret, for somebody to keep outside: sealed under a key that only this installation can derive, for one
//! workspace and one backup. So they outlive every rotation, and open in no other workspace and no other installation.
//! The values in a backup are sealed as they were; only their data keys change hands, and making one opens no value.
//!
//! `FORMAT (1) ‖ backup id (16) ‖ box`; the bytes are specified in docs/format.md.

use kluis_core::id::WorkspaceId;
use kluis_core::plaintext::Plaintext;
use kluis_core::sealed::Sealed;
use zeroize::Zeroizing;

use crate::binding::{self, Binding, FORMAT};
use crate::error::Error;
use crate::keyring::WrappingKey;
use crate::vault::Vault;
use crate::{derive, envelope};

const WHAT: &str = "backup";
const ID_BYTES: usize = 16;

/// Makes one backup.
#[derive(Debug)]
pub struct BackupSealer<'v> {
    vault: &'v Vault,
    workspace: WorkspaceId,
    id: [u8; ID_BYTES],
    key: WrappingKey,
}

/// Opens the values of one backup.
#[derive(Debug)]
pub struct BackupOpener<'v> {
    vault: &'v Vault,
    key: WrappingKey,
}

impl Vault {
    /// A new backup of something in this workspace.
    pub fn backup(&self, workspace: WorkspaceId) -> BackupSealer<'_> {
        let mut id = [0; ID_BYTES];
        self.rng.fill(&mut id);
        BackupSealer { vault: self, workspace, id, key: self.backup_key(workspace, &id) }
    }

    /// What [`BackupSealer::seal`] sealed, if it was for this workspace of this installation, and the way to the values.
    pub fn backup_open(
        &self,
        workspace: WorkspaceId,
        sealed: &[u8],
    ) -> Result<(Zeroizing<Vec<u8>>, BackupOpener<'_>), Error> {
        let damaged = Error::Damaged { what: WHAT };
        match sealed.first() {
            Some(&FORMAT) => {}
            Some(&format) => return Err(Error::UnknownFormat { what: WHAT, format }),
            None => return Err(damaged),
        }
        let (id, sealed) = sealed[1..].split_first_chunk::<ID_BYTES>().ok_or(damaged)?;
        let key = self.backup_key(workspace, id);
        let place = binding::backup(self.installation, workspace, id, key.id);
        let content = envelope::open(WHAT, &key.key, key.id, &place, sealed)?;
        Ok((content, BackupOpener { vault: self, key }))
    }

    fn backup_key(&self, workspace: WorkspaceId, id: &[u8]) -> WrappingKey {
        let place = [&self.installation.as_bytes()[..], workspace.as_bytes(), id];
        let key = derive::key(&self.installation_key, "kluis/backup-key", &place);
        let id = key.id();
        WrappingKey::new(key, id)
    }
}

impl BackupSealer<'_> {
    /// Takes a version along: its value as it is sealed, its data key under the backup's key.
    pub fn take(&self, binding: &Binding, sealed: &Sealed) -> Result<Sealed, Error> {
        let data_key = self.vault.unwrap(binding, sealed)?;
        let wrapped_key = self.key.wrap(&binding.wrap(self.key.id), data_key.expose(), &*self.vault.rng)?;
        Ok(Sealed { key_id: self.key.id, wrapped_key, value: sealed.value.clone() })
    }

    /// The backup, with what it says of the versions that were taken along.
    pub fn seal(self, content: &[u8]) -> Result<Vec<u8>, Error> {
        let place = binding::backup(self.vault.installation, self.workspace, &self.id, self.key.id);
        let sealed = self.key.wrap(&place, content, &*self.vault.rng)?;
        Ok([&[FORMAT], &self.id[..], &sealed].concat())
    }
}

impl BackupOpener<'_> {
    /// The value of a version that was taken along, for sealing it anew.
    pub fn value(&self, binding: &Binding, wrapped_key: &[u8], value: &[u8]) -> Result<Plaintext, Error> {
        let data_key = self.key.unwrap_key("data key", &binding.wrap(self.key.id), wrapped_key)?;
        self.vault.unseal_with(&data_key, binding, value)
    }
}
