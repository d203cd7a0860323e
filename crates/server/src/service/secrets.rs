//! Secrets: set, read, list, delete, recover, purge. A value leaves only after the record of its delivery is committed.

use kluis_core::api::session::SecretsRead;
use kluis_core::id::PrincipalId;
use kluis_core::name::SecretName;
use kluis_store::RunAuthority;
use kluis_store::workspaces::Workspace;

use crate::app::App;
use crate::caller::Caller;
use crate::error::{Error, Result};

/// The secrets of all workspaces.
#[derive(Clone, Copy, Debug)]
pub struct Secrets<'a> {
    app: &'a App,
}

impl App {
    /// Secrets.
    pub fn secrets(&self) -> Secrets<'_> {
        Secrets { app: self }
    }
}

/// A run that reads: with its submitter's rights at this moment, narrowed to what it declared.
#[derive(Clone, Debug)]
pub struct RunReader<'a> {
    /// Its workspace.
    pub workspace: &'a Workspace,
    /// The session it reads by.
    pub run: RunAuthority,
    /// The attempt's node, for the record.
    pub node: u32,
    /// Whose rights it has.
    pub submitter: PrincipalId,
    /// What it declared, if it did.
    pub declared: Option<&'a [SecretName]>,
    /// Where the request came from, for the record.
    pub source: std::net::IpAddr,
}

impl Secrets<'_> {
    /// The values of these names for a run, each pinned to a version for the attempt unless `refresh` moves the pins.
    /// Deliveries are recorded and committed before this returns. One undeclared or unreadable name refuses all.
    pub async fn read_for_run(
        &self,
        _reader: &RunReader<'_>,
        _names: &[SecretName],
        _refresh: bool,
    ) -> Result<SecretsRead> {
        Err(Error::internal("not built yet"))
    }

    /// Which of these names the caller could not read in this workspace now (missing, deleted, disabled), for checks at
    /// submission. Nothing is opened and nothing recorded.
    pub async fn unreadable(
        &self,
        _caller: &Caller,
        _workspace: &Workspace,
        _names: &[SecretName],
    ) -> Result<Vec<(SecretName, Error)>> {
        Err(Error::internal("not built yet"))
    }
}
