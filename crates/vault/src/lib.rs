//! Envelope encryption, row authentication and checkpoint signing: the only crate that can open a secret.
//!
//! A *root key* wraps the installation key and the *workspace keys*; a workspace key wraps a fresh *data key* per
//! version; a data key seals one value. What the installation itself needs (row and audit MACs, token lookup, blob
//! addresses, its own small secrets, the checkpoint key) comes from the *installation key*, so that a new root key
//! changes no token, MAC or signature. The bytes are specified in docs/format.md.
//!
//! | task | where |
//! |---|---|
//! | get a root key | [`root::RootKeySource`]: [`root::file::RootKeyFile`], [`root::passphrase::PassphraseRoot`] |
//! | first start, start, new root key | [`Vault::create`], [`Vault::open`], [`Vault::rotate_root`] |
//! | workspace key generations | [`Vault::workspace_key_create`], [`Vault::workspace_key_load`] |
//! | values | [`Vault::seal`], [`Vault::unseal`], [`Vault::rewrap`] |
//! | rows, audit records, tokens | [`Vault::mac`], [`Vault::audit_entry`], [`Vault::lookup_hash`], [`Vault::ticket_hash`], [`token`], [`face`] |
//! | checkpoints | [`Vault::sign_checkpoint`], [`verify_checkpoint`] |
//! | backups of one secret | [`Vault::backup`], [`Vault::backup_open`] |
//! | the server's own small secrets | [`Vault::seal_small`] |
//! | snapshots, logs, outputs | [`Vault::blob_sealer`], [`Vault::blob_opener`], [`Vault::blob_hasher`] |
//! | the process itself | [`harden_process`] |
//!
//! To add a root key source: a file in `root/`, its lines in the conformance suite `tests/it/root_sources.rs`, and a
//! variant in the server's configuration.

mod authenticate;
mod backup;
mod binding;
mod blob;
mod checkpoint;
mod derive;
mod envelope;
mod error;
pub mod face;
mod hardening;
mod keyring;
mod memory;
mod rng;
pub mod root;
mod small;
pub mod token;
mod value;
mod vault;

pub use authenticate::TicketPlace;
pub use backup::{BackupOpener, BackupSealer};
pub use binding::Binding;
pub use blob::{BLOB_HEADER_BYTES, BLOB_SEGMENT_BYTES, BLOB_SEGMENT_OVERHEAD, BlobHasher, BlobOpener, BlobSealer};
pub use checkpoint::verify_checkpoint;
pub use error::Error;
pub use hardening::{Weakness, harden_process, memory_weaknesses};
pub use keyring::{KeyWear, MAX_WRAPS};
pub use rng::SystemRng;
pub use root::file::RootKeyFile;
pub use root::passphrase::{PassphraseCost, PassphraseRoot};
pub use root::{RootKey, RootKeyError, RootKeySource};
pub use vault::{InstallationKeys, RotatedRoot, Vault, WorkspaceKey};
