//! What the vault is called. The same inside a run as outside: `https://WORKSPACE.vault.SERVER:PORT`. Clients want a DNS name
//! with a parent domain, so a server that is reached by its address alone is `localhost` in this name.

use kluis_client::trust::Origin;
use kluis_core::api::keyvault::{VAULT_LABEL, VaultUrl};
use kluis_core::name::WorkspaceName;

/// The vault of the run's workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Names {
    /// `workspace.vault.server`.
    pub(super) host: String,
    pub(super) port: u16,
    /// The whole address, without the port that https has anyway.
    pub(super) url: VaultUrl,
}

impl Names {
    pub(super) fn of(workspace: &WorkspaceName, server: &Origin) -> Self {
        let is_address = server.host().starts_with('[') || server.host().parse::<std::net::Ipv4Addr>().is_ok();
        let name = if is_address { "localhost" } else { server.host().trim_end_matches('.') };
        let host = format!("{}.{VAULT_LABEL}.{name}", workspace.key());
        let port = server.port();
        let authority = if port == 443 { host.clone() } else { format!("{host}:{port}") };
        let url = VaultUrl::from_host(&authority).expect("three labels or more, and a port");
        Self { host, port, url }
    }

    /// Whether a text means our resource: also as a scope.
    pub(super) fn is_resource(&self, text: &str) -> bool {
        self.url.is_audience(text.strip_suffix("/.default").unwrap_or(text))
    }

    /// Whether `HOST:PORT` or, for the usual port, `HOST` is the vault, or the files beside it.
    pub(super) fn is_vault(&self, authority: &str) -> bool {
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok()),
            None => (authority, Some(443)),
        };
        let host = host.trim_end_matches('.');
        let ours = host.eq_ignore_ascii_case(&self.host) || host.eq_ignore_ascii_case(&super::files::host(self));
        ours && port == Some(self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(server: &str) -> Names {
        Names::of(&WorkspaceName::parse("Team-A").unwrap(), &Origin::parse(server).unwrap())
    }

    #[test]
    fn the_name_is_the_servers_or_localhost() {
        for (server, url, resource) in [
            (
                "kluis.example.org:9000",
                "https://team-a.vault.kluis.example.org:9000",
                "https://vault.kluis.example.org:9000",
            ),
            ("127.0.0.1:8443", "https://team-a.vault.localhost:8443", "https://vault.localhost:8443"),
            ("[::1]:8443", "https://team-a.vault.localhost:8443", "https://vault.localhost:8443"),
            ("https://localhost", "https://team-a.vault.localhost", "https://vault.localhost"),
        ] {
            let names = names(server);
            assert_eq!((names.url.to_string().as_str(), names.url.resource().as_str()), (url, resource));
            assert!(names.is_resource(resource) && names.is_resource(&format!("{resource}/.default")));
            assert!(names.is_vault(&format!("{}:{}", names.host, names.port)));
        }
    }

    #[test]
    fn another_resource_or_host_is_another() {
        let names = names("127.0.0.1:8443");
        for other in ["https://vault.localhost", "https://vault.azure.net", "https://management.azure.com/", "", "x"] {
            assert!(!names.is_resource(other), "{other}");
        }
        assert!(names.is_vault("run.blob.team-a.vault.localhost:8443"));
        for other in ["team-a.vault.localhost", "team-b.vault.localhost:8443", "team-a.vault.localhost:8444", ":8443"] {
            assert!(!names.is_vault(other), "{other}");
        }
    }
}
