//! The names that Azure's clients know a vault by, `WORKSPACE.vault.NAME`, and whether this machine can find them: names
//! below `localhost` do not resolve everywhere, and then only the machine's own list of hosts helps.

use std::net::IpAddr;
use std::time::Duration;

use kluis_client::trust::Origin;
use kluis_core::name::WorkspaceName;

use crate::failure::{Failure, Outcome};

/// How long a name may take to be found: nobody waits for a note.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where a workspace's vault answers for Azure's clients.
#[derive(Clone, Debug)]
pub(crate) struct VaultHost {
    workspace: String,
    /// The installation's DNS name.
    name: String,
    port: u16,
    /// The address that the server is reached at, when it is known by that.
    address: Option<IpAddr>,
}

impl VaultHost {
    /// Of a server that is known by a DNS name, or that is on this machine.
    pub(crate) fn new(origin: &Origin, workspace: &WorkspaceName) -> Outcome<Self> {
        let address: Option<IpAddr> = origin.host().trim_matches(['[', ']']).parse().ok();
        let name = match address {
            None => origin.host().to_owned(),
            Some(address) if address.is_loopback() => "localhost".to_owned(),
            Some(_) => {
                return Err(Failure::usage(
                    "Azure's clients need a DNS name: sign in to the server by one of its names (`kluis up --host NAME` \
                     gives it one), or say it with --addr",
                ));
            }
        };
        let workspace = workspace.as_str().to_ascii_lowercase();
        // All else that a name may be fits a host's.
        if workspace.ends_with('-') {
            return Err(Failure::usage(
                "this workspace's name ends in a dash, so it can not be part of a host's name, and Azure's clients can not \
                 reach its vault",
            ));
        }
        Ok(Self { workspace, name, port: origin.port(), address })
    }

    /// `https://NAME:PORT`.
    pub(crate) fn installation(&self) -> String {
        format!("https://{}{}", self.name, self.port())
    }

    /// `https://WORKSPACE.vault.NAME:PORT`.
    pub(crate) fn url(&self) -> String {
        format!("https://{}{}", self.host(), self.port())
    }

    /// `WORKSPACE.vault.NAME`.
    pub(crate) fn host(&self) -> String {
        format!("{}.vault.{}", self.workspace, self.name)
    }

    fn port(&self) -> String {
        if self.port == 443 { String::new() } else { format!(":{}", self.port) }
    }
}

/// What to add where, if this machine does not find the vault's host.
pub(crate) async fn unresolved(vault: &VaultHost) -> Option<String> {
    let host = vault.host();
    if found(&host).await.is_some() {
        return None;
    }
    let address = match vault.address {
        Some(address) => Some(address),
        None => found(&vault.name).await,
    };
    let address = address.unwrap_or(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));
    Some(format!(
        "{host} does not resolve on this machine, and Azure's clients look for the vault there. Add this line to /etc/hosts, \
         and one like it for each further workspace's vault (inside runs nothing has to be added):\n    {address} {host}"
    ))
}

async fn found(host: &str) -> Option<IpAddr> {
    let looked_up = tokio::time::timeout(PATIENCE, tokio::net::lookup_host((host, 0))).await;
    let mut all = looked_up.ok()?.ok()?;
    all.next().map(|address| address.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault(origin: &str, workspace: &str) -> Outcome<VaultHost> {
        VaultHost::new(&origin.parse().expect("an origin"), &WorkspaceName::parse(workspace).expect("a name"))
    }

    #[test]
    fn a_vault_is_found_by_a_name_of_the_server() {
        for (origin, url) in [
            ("https://127.0.0.1:8443", "https://fraud.vault.localhost:8443"),
            ("https://[::1]:9000", "https://fraud.vault.localhost:9000"),
            ("https://kluis.example.org", "https://fraud.vault.kluis.example.org"),
        ] {
            assert_eq!(vault(origin, "Fraud").expect("it has a name").url(), url);
        }
        assert!(vault("https://192.0.2.1:8443", "fraud").is_err(), "an address is no name");
        assert!(vault("https://127.0.0.1:8443", "team-").is_err(), "no host's name ends so");
    }

    #[tokio::test]
    async fn what_to_add_is_said_to_the_letter() {
        let vault = vault("https://127.0.0.1:8443", "no-such-name-anywhere").expect("it has a name");
        if let Some(note) = unresolved(&vault).await {
            assert!(note.ends_with("\n    127.0.0.1 no-such-name-anywhere.vault.localhost"), "{note}");
        }
        let known = VaultHost { workspace: "a".into(), name: "invalid".into(), port: 1, address: None };
        let note = unresolved(&known).await.expect("nothing is found below this name");
        assert!(note.ends_with("\n    127.0.0.1 a.vault.invalid"), "{note}");
    }
}
