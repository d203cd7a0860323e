//! What a token for the Azure faces can be good for: one resource of this installation, by one of its names. Clients
//! derive it from the address that they talk to, and spell it in several ways; here it has one.

use http::Uri;
use kluis_core::api::keyvault::VAULT_LABEL;

use crate::app::App;
use crate::config::HostName;

/// The port that nobody writes.
const HTTPS: u16 = 443;

/// A resource of this installation, as `https://HOST[:PORT]` in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Audience(String);

impl Audience {
    /// The text of it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The one spelling of a resource, whoever's it is: without a path, a trailing slash or the usual port. `None` for
    /// what is not an `https` address of a host.
    pub fn canonical(resource: &str) -> Option<String> {
        host_of(resource).map(|(_, canonical)| canonical)
    }
}

impl App {
    /// The audience that a resource stands for: `https://vault.NAME[:PORT]` for the vaults, `https://NAME[:PORT]` for the
    /// rest, by any name of this installation and whatever port its clients reach it by. `None`: not ours, so nobody
    /// gets a token for it here.
    pub fn audience(&self, resource: &str) -> Option<Audience> {
        let (host, canonical) = host_of(resource)?;
        let vaults_of = host.strip_prefix(VAULT_LABEL).and_then(|rest| rest.strip_prefix('.'));
        let ours = self.hosts.iter().any(|own| match own {
            HostName::Dns(name) => *name == host || vaults_of == Some(name),
            HostName::Ip(address) => host.trim_matches(['[', ']']).parse() == Ok(*address),
        });
        ours.then_some(Audience(canonical))
    }
}

/// The host of an `https` address, in lower case, and the address without anything behind the port.
fn host_of(resource: &str) -> Option<(String, String)> {
    let uri: Uri = resource.parse().ok()?;
    let authority = uri.authority().filter(|a| uri.scheme_str() == Some("https") && !a.as_str().contains('@'))?;
    let host = authority.host().trim_end_matches('.').to_ascii_lowercase();
    let port = match authority.port_u16() {
        None if authority.as_str().contains("]:") || authority.as_str().len() > authority.host().len() => return None,
        None | Some(HTTPS) => String::new(),
        Some(port) => format!(":{port}"),
    };
    let canonical = format!("https://{host}{port}");
    (!host.is_empty()).then_some((host, canonical))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_has_one_spelling() {
        for (text, canonical) in [
            ("https://vault.localhost:8443", "https://vault.localhost:8443"),
            ("https://Vault.LocalHost:8443/", "https://vault.localhost:8443"),
            ("HTTPS://vault.example.org:443", "https://vault.example.org"),
            ("https://kluis.example.org/azure/arm?x=1", "https://kluis.example.org"),
            ("https://[::1]:8443", "https://[::1]:8443"),
        ] {
            assert_eq!(Audience::canonical(text).as_deref(), Some(canonical), "{text}");
        }
        for text in
            ["", "vault.localhost", "http://vault.localhost", "https://", "https://a@b", "https://a:x", "https:/a"]
        {
            assert_eq!(Audience::canonical(text), None, "{text}");
        }
    }
}
