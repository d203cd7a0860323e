//! What the vault promises, from outside. One binary; each file is named after what it holds the vault to.

#![expect(clippy::unwrap_used, reason = "in a test's helper an unwrap fails the test, as in the test itself")]

mod authenticity;
mod backups;
mod blobs;
mod fixture;
mod hardening;
mod installation;
mod root_sources;
mod rotation;
mod secrecy;
mod spec;
mod values;
mod vectors;
