//! Which server, which login, which workspace: pure decisions over what the caller has read (flags, environment, files).
//!
//! Precedence: flag, environment, project file, user file. A project file may name an address and a pin; it never
//! establishes trust: a stored login is used only for exactly its own origin and pin, and a token from the environment
//! only for an address that came from a flag or the environment.

mod files;
mod resolve;

use std::path::PathBuf;

use kluis_core::plaintext::Plaintext;

pub use files::{AzureNames, PROJECT_FILE, Project, USER_FILE, UserFile, find_project};
pub use resolve::{Login, Resolved, Source, resolve};

use crate::credentials::CredentialsError;
use crate::trust::Origin;

/// What the environment says, read once by whoever may read it.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `KLUIS_ADDR`.
    pub address: Option<String>,
    /// `KLUIS_CA_SHA256`.
    pub ca_sha256: Option<String>,
    /// `KLUIS_WORKSPACE`.
    pub workspace: Option<String>,
    /// `KLUIS_TOKEN`.
    pub token: Option<Plaintext>,
    /// `KLUIS_CLIENT_ID`.
    pub client_id: Option<String>,
    /// `KLUIS_CLIENT_SECRET`.
    pub client_secret: Option<Plaintext>,
    /// `KLUIS_CONFIG_DIR`.
    pub config_dir: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`.
    pub xdg_config_home: Option<PathBuf>,
    /// `HOME`.
    pub home: Option<PathBuf>,
}

impl Environment {
    /// The config folder: `KLUIS_CONFIG_DIR`, else `kluis` in the XDG config folder, else `~/.config/kluis`. Always
    /// absolute.
    pub fn config_folder(&self) -> Result<PathBuf, ConfigError> {
        let absolute = |path: &Option<PathBuf>| path.clone().filter(|p| p.is_absolute());
        // KLUIS_CONFIG_DIR may be relative to where the command was typed; the XDG specification says that a relative
        // path there is ignored.
        let folder = self
            .config_dir
            .clone()
            .filter(|p| !p.as_os_str().is_empty())
            .or_else(|| absolute(&self.xdg_config_home).map(|p| p.join("kluis")))
            .or_else(|| absolute(&self.home).map(|p| p.join(".config/kluis")))
            .ok_or(ConfigError::NoConfigFolder)?;
        std::path::absolute(&folder).map_err(|source| ConfigError::Io { path: folder, source })
    }
}

/// What was said on the command line or in the call.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--addr`.
    pub address: Option<String>,
    /// `--ca-sha256`.
    pub ca_sha256: Option<String>,
    /// `--workspace`.
    pub workspace: Option<String>,
}

/// Configuration that does not lead to a server. Says where the mistake stands and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A flag, variable or file entry that can not be what it should be.
    #[error("{place}: {reason}")]
    Invalid {
        /// Which flag, variable or file entry.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file without an entry that it must have.
    #[error("{path} has no `{key}`")]
    MissingKey {
        /// Which file.
        path: PathBuf,
        /// Which entry.
        key: &'static str,
    },
    /// A file that can not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// No file at or above the folder.
    #[error(
        "no .kluis/config.json, .azureml/config.json, aml_config/config.json or config.json in {0} or above; `kluis init` writes one"
    )]
    NoProject(PathBuf),
    /// Neither `KLUIS_CONFIG_DIR` nor a home.
    #[error("there is no config folder: set KLUIS_CONFIG_DIR, XDG_CONFIG_HOME or HOME")]
    NoConfigFolder,
    /// The server's CA pin is not known.
    #[error("{0} is not known on this machine; sign in with `kluis login CODE`, or give its pin with --ca-sha256")]
    UnknownServer(Origin),
    /// Several logins for one origin, with different pins.
    #[error("there are logins for {0} with different CA pins; choose one with --ca-sha256")]
    SeveralPins(Origin),
    /// A project file names a pin that no login was made with.
    #[error(
        "{path} names another CA pin for {origin} than the login on this machine was made with; nothing was sent. \
             Either the file is wrong, or the installation was set up anew and needs a new `kluis login`"
    )]
    OtherPin {
        /// The project file.
        path: PathBuf,
        /// The origin that it names.
        origin: Origin,
    },
    /// No login for the server.
    #[error("not signed in to {origin}; use `kluis login`{hint}")]
    NotSignedIn {
        /// Where.
        origin: Origin,
        /// What else may be the matter.
        hint: &'static str,
    },
    /// The logins can not be read.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_config_folder_is_absolute_whatever_the_environment_says() {
        let folder = |config_dir: Option<&str>| {
            let environment = Environment {
                config_dir: config_dir.map(PathBuf::from),
                xdg_config_home: Some("relative".into()),
                home: Some("/home/ann".into()),
                ..Environment::default()
            };
            environment.config_folder().unwrap()
        };
        assert_eq!(folder(Some("cfg")), std::env::current_dir().unwrap().join("cfg"));
        assert_eq!(folder(Some("/etc/kluis")), PathBuf::from("/etc/kluis"));
        assert_eq!(folder(None), PathBuf::from("/home/ann/.config/kluis"));
    }
}
