//! What a server is started with, typed and checked once. The command line fills it in; nothing behind it reads the
//! environment.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use kluis_core::clock::{Clock, SystemClock};
use kluis_core::name::PrincipalName;
use kluis_core::rng::Rng;
use kluis_vault::SystemRng;
use rustls_pki_types::DnsName;
use zeroize::Zeroizing;

use crate::app::Settings;
use crate::server::StartError;
use crate::tls;

/// Where a server listens unless told otherwise.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:8443";

/// How to start a server.
#[derive(Clone)]
pub struct ServerOptions {
    /// The folder with everything but, perhaps, the root key. Made when it is not there.
    pub data: PathBuf,
    /// `HOST:PORT`; port 0 picks a free one.
    pub listen: String,
    /// Further names and addresses that clients reach this server by. Names once given stay.
    pub hosts: Vec<HostName>,
    /// A site's own certificate instead of the private authority.
    pub tls: TlsSource,
    /// Where the root key comes from.
    pub root_key: RootKeyOption,
    /// The owner's name at first start.
    pub owner: PrincipalName,
    /// What the owner's first login is made for, such as this machine's name.
    pub owner_label: String,
    /// Limits and times.
    pub settings: Settings,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub rng: Arc<dyn Rng>,
}

impl ServerOptions {
    /// The usual server over this folder.
    pub fn new(data: impl Into<PathBuf>, owner: PrincipalName) -> Self {
        Self {
            data: data.into(),
            listen: DEFAULT_LISTEN.to_owned(),
            hosts: Vec::new(),
            tls: TlsSource::Authority,
            root_key: RootKeyOption::File(None),
            owner,
            owner_label: "first start".to_owned(),
            settings: Settings::default(),
            clock: Arc::new(SystemClock),
            rng: Arc::new(SystemRng),
        }
    }
}

impl std::fmt::Debug for ServerOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerOptions")
            .field("data", &self.data)
            .field("listen", &self.listen)
            .field("hosts", &self.hosts)
            .field("tls", &self.tls)
            .field("root_key", &self.root_key)
            .finish_non_exhaustive()
    }
}

/// Whose certificate is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsSource {
    /// One of the installation's private authority, made and renewed by the server.
    Authority,
    /// A site's, read again when its files change. Both are PEM.
    Files {
        /// The chain, the server's own certificate first.
        certificate: PathBuf,
        /// Its key.
        key: PathBuf,
    },
}

impl TlsSource {
    /// Whether the server can be reached under this name: whether the certificate was made out for it. The private
    /// authority's is made out for every name that the server is started with.
    pub fn is_for(&self, host: &HostName) -> Result<bool, StartError> {
        let Self::Files { certificate, key } = self else { return Ok(true) };
        let (chain, _) = tls::from_files(certificate, key)?;
        Ok(chain.first().is_some_and(|certificate| tls::is_for(certificate, host)))
    }
}

/// Where the root key comes from.
#[derive(Clone)]
pub enum RootKeyOption {
    /// A file; `root.key` in the data folder when no path is given. Made at first start.
    File(Option<PathBuf>),
    /// A passphrase; salt and cost stand in `root.json` in the data folder.
    Passphrase(Zeroizing<String>),
}

impl std::fmt::Debug for RootKeyOption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Passphrase(_) => f.write_str("Passphrase(***)"),
        }
    }
}

/// A DNS name or an IP address by which clients reach this server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostName {
    /// A name, lower case.
    Dns(String),
    /// An address.
    Ip(IpAddr),
}

/// The text is neither a DNS name nor an IP address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a host: a DNS name without a wildcard, or an IP address, without a port")]
pub struct InvalidHost;

impl std::str::FromStr for HostName {
    type Err = InvalidHost;

    fn from_str(text: &str) -> Result<Self, InvalidHost> {
        let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
        if let Ok(address) = bare.parse() {
            return Ok(Self::Ip(address));
        }
        let name = text.trim_end_matches('.').to_ascii_lowercase();
        DnsName::try_from(name.as_str()).map_err(|_| InvalidHost)?;
        Ok(Self::Dns(name))
    }
}

impl std::fmt::Display for HostName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(address) => write!(f, "{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address() {
        for (text, shown) in [
            ("Vault.Example.ORG.", "vault.example.org"),
            ("localhost", "localhost"),
            ("10.0.0.5", "10.0.0.5"),
            ("::1", "::1"),
            ("[fd00::1]", "fd00::1"),
        ] {
            assert_eq!(text.parse::<HostName>().unwrap().to_string(), shown);
        }
        for text in ["", "*.example.org", "a b", "host:8443", "-a", "10.0.0.5/8", "https://a"] {
            assert_eq!(text.parse::<HostName>(), Err(InvalidHost), "{text}");
        }
    }
}
