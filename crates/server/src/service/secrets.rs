//! Secrets: set, read, list, delete, recover, purge. A value leaves only after the record of its delivery is committed.
//!
//! | | |
//! |---|---|
//! | `set` | new versions, one or many at once |
//! | `read` | values for a caller |
//! | `run` | values for a run, with its submitter's rights narrowed to what it declared |
//! | `list` | names and versions, without values |
//! | `change` | attributes, deletion, recovery, purge |
//! | `backup` | one secret as a sealed whole, out and back in |

use kluis_core::access::Action;
use kluis_core::api::secrets::{SecretValue, SecretView, VersionView};
use kluis_core::clock::Timestamp;
use kluis_core::name::SecretName;
use kluis_core::plaintext::Plaintext;
use kluis_core::secret::{Secret, SecretState, Version};
use kluis_store::secrets::{Found, SecretListed};
use kluis_store::workspaces::Workspace;
use kluis_vault::Binding;

use crate::app::App;
use crate::caller::Caller;
use crate::error::{Error, Result};

mod backup;
mod change;
mod list;
mod read;
mod run;
mod set;

pub use run::RunReader;

/// How often a change is tried again when others change the same secret at the same time.
const TRIES: usize = 8;

/// A secret with one of its versions, for a face to tell of.
#[derive(Clone, Debug)]
pub struct Described {
    /// The secret.
    pub secret: Secret,
    /// The version that was asked for or changed; else the current one.
    pub version: Version,
    /// For how many days its workspace keeps what is deleted.
    pub retention_days: u16,
}

/// The same with the version's value. Its delivery is on record.
#[derive(Debug)]
pub struct Opened {
    /// The value.
    pub value: Plaintext,
    /// Everything else.
    pub described: Described,
}

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

impl Secrets<'_> {
    /// A secret and its current version, verified; deleted ones too.
    async fn listed(&self, workspace: &Workspace, name: &SecretName) -> Result<Option<(Secret, Version)>> {
        match self.app.store.secret_get(workspace.id, name).await? {
            None => Ok(None),
            Some(listed) => {
                let (secret, version) = self.verify(listed)?;
                // The name is under the MAC; the index that was looked through is not.
                let fits = secret.workspace == workspace.id && secret.name == *name && version.id == secret.current;
                if fits { Ok(Some((secret, version))) } else { Err(damaged(&secret)) }
            }
        }
    }

    /// Rows that the vault made, of one and the same secret.
    fn verify(&self, listed: SecretListed) -> Result<(Secret, Version)> {
        let SecretListed { secret, version } = listed;
        let secret = self.app.verified(secret, Secret::canonical, "secret", |s| s.id.to_string())?;
        let version = self.app.verified(version, Version::canonical, "version", |v| v.id.to_string())?;
        if version.secret == secret.id && version.workspace == secret.workspace {
            Ok((secret, version))
        } else {
            Err(damaged(&secret))
        }
    }

    /// What was found for a name, verified and good to be delivered. `None`: there is no such secret.
    fn readable(&self, workspace: &Workspace, name: &SecretName, found: &Found, now: Timestamp) -> Result<Readable> {
        let rows = SecretListed { secret: found.secret.clone(), version: found.version.clone() };
        let (secret, version) = self.verify(rows)?;
        if secret.workspace != workspace.id || secret.name != *name {
            return Err(damaged(&secret));
        }
        secret.state.require_active()?;
        let attributes = &version.attributes;
        if !attributes.enabled {
            return Err(Error::SecretDisabled("disabled"));
        }
        if workspace.settings.enforce_validity {
            if attributes.not_before.is_some_and(|from| now < from) {
                return Err(Error::SecretDisabled("not valid yet, and this workspace enforces that"));
            }
            if attributes.expires.is_some_and(|until| now >= until) {
                return Err(Error::SecretDisabled("expired, and this workspace enforces that"));
            }
        }
        Ok(Readable { binding: binding(&version), secret, version })
    }

    /// The workspace of a caller that may do this to its secrets.
    async fn workspace(
        &self,
        caller: &Caller,
        name: &kluis_core::name::WorkspaceName,
        action: Action,
    ) -> Result<Workspace> {
        self.app.workspace_for(caller, name, action).await
    }
}

/// Verified, active, enabled.
struct Readable {
    secret: Secret,
    version: Version,
    binding: Binding,
}

fn binding(version: &Version) -> Binding {
    Binding { workspace: version.workspace, secret: version.secret, version: version.id }
}

fn damaged(secret: &Secret) -> Error {
    Error::Inconsistent { table: "secret", row: secret.id.to_string() }
}

impl From<Described> for SecretView {
    fn from(Described { secret, version, .. }: Described) -> Self {
        let (deleted, purge_at) = match secret.state {
            SecretState::Active => (None, None),
            SecretState::Deleted { at, purge_at } => (Some(at), Some(purge_at)),
        };
        Self {
            name: secret.name,
            version: version.id,
            attributes: version.attributes,
            created: secret.created,
            updated: secret.updated,
            revision: secret.revision,
            deleted,
            purge_at,
        }
    }
}

impl From<Described> for VersionView {
    fn from(Described { secret, version, .. }: Described) -> Self {
        Self {
            name: secret.name,
            version: version.id,
            current: version.id == secret.current,
            attributes: version.attributes,
            created: version.created,
            updated: version.updated,
            revision: version.revision,
        }
    }
}

impl From<Opened> for SecretValue {
    fn from(Opened { value, described }: Opened) -> Self {
        Self { value, secret: described.into() }
    }
}
