//! Checkpoints of the audit log, signed with the installation's Ed25519 key. Whoever remembers one and its public key
//! can tell later that the log was rolled back or rewritten.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use data_encoding::HEXLOWER;
use kluis_core::audit::{Checkpoint, SignedCheckpoint};

use crate::memory::Key;
use crate::vault::Vault;

impl Vault {
    /// Signs a checkpoint.
    pub fn sign_checkpoint(&self, checkpoint: Checkpoint) -> SignedCheckpoint {
        let signature = key_pair(&self.signing_seed).sign(checkpoint.signed_text().as_bytes());
        SignedCheckpoint {
            checkpoint,
            signature: HEXLOWER.encode(signature.as_ref()),
            public_key: HEXLOWER.encode(&self.public_key),
        }
    }

    /// The key that verifies this installation's checkpoints. The same for the installation's whole life.
    pub fn public_key(&self) -> [u8; 32] {
        self.public_key
    }
}

/// Whether a checkpoint was signed with the secret half of `public_key`, which the caller knows from elsewhere: the
/// key that the checkpoint itself names proves nothing, and must be the same.
pub fn verify_checkpoint(signed: &SignedCheckpoint, public_key: &[u8; 32]) -> bool {
    let Ok(signature) = HEXLOWER.decode(signed.signature.as_bytes()) else { return false };
    signed.public_key == HEXLOWER.encode(public_key)
        && UnparsedPublicKey::new(&ED25519, public_key)
            .verify(signed.checkpoint.signed_text().as_bytes(), &signature)
            .is_ok()
}

pub(crate) fn public_key(seed: &Key) -> [u8; 32] {
    key_pair(seed).public_key().as_ref().try_into().expect("an Ed25519 public key has 32 bytes")
}

/// The key pair for one operation; aws-lc wipes it when it goes.
fn key_pair(seed: &Key) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(seed.expose()).expect("any 32 bytes are an Ed25519 seed")
}
