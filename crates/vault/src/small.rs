//! The server's own small secrets (the private CA's key, the TLS key), sealed under the installation key so that they
//! can stand in the store or in a file. Each is bound to its purpose.

use zeroize::Zeroizing;

use crate::error::Error;
use crate::vault::Vault;
use crate::{binding, envelope};

const WHAT: &str = "server secret";

impl Vault {
    /// Seals a few bytes for one purpose, such as `tls-key`.
    pub fn seal_small(&self, purpose: &str, bytes: &[u8]) -> Result<Vec<u8>, Error> {
        self.small.wrap(&binding::small(self.installation, purpose, self.small.id), bytes, &*self.rng)
    }

    /// Opens what was sealed for the same purpose in this installation.
    pub fn unseal_small(&self, purpose: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let place = binding::small(self.installation, purpose, self.small.id);
        envelope::open(WHAT, &self.small.key, self.small.id, &place, sealed)
    }
}
