//! What Azure clients read from their environment. What the submitter has set stays as it is, and a group of variables that
//! belong together is theirs when one of them is: half of one identity and half of another is none.
//!
//! Which flavours of managed identity: both that need nothing but an address and a secret. Clients in Python, JavaScript,
//! Go, Java and .NET that know App Service's take that one first, so it decides for them; Azure ML's is for those that
//! know no other (older clients, and old code that looks for `MSI_ENDPOINT`). Neither variable of the flavours that would
//! come before them (`IDENTITY_SERVER_THUMBPRINT`, `IMDS_ENDPOINT`) reaches a run from its node.

use std::path::Path;

use kluis_core::api::session::RunContext;

use super::names::Names;
use super::tokens::Token;
use super::{azureml, identity};

/// With one of these the run brings credentials of its own for other services; a pin would hide them.
const OWN_CREDENTIALS: [&str; 5] = [
    "AZURE_CLIENT_SECRET",
    "AZURE_CLIENT_CERTIFICATE_PATH",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_USERNAME",
    "AZURE_TOKEN_CREDENTIALS",
];
/// Bundles that replace a client's own roots: requests and azureml-core; aiohttp, Go, .NET and what else leans on OpenSSL; curl.
pub(super) const BUNDLES: [&str; 3] = ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE"];
/// Node's, which adds to them.
pub(super) const EXTRA_BUNDLE: &str = "NODE_EXTRA_CA_CERTS";

/// What there is to tell.
pub(super) struct Offer<'o> {
    pub(super) names: &'o Names,
    /// The port of the plain listener on 127.0.0.1.
    pub(super) plain: u16,
    pub(super) secret: &'o str,
    pub(super) run_token: &'o Token,
    pub(super) trust: Option<Trusted<'o>>,
    /// The proxy's port, where the vault's name needs one.
    pub(super) proxy: Option<u16>,
}

/// Bundles to trust.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trusted<'t> {
    /// The system's roots and this run's authority; `None` where the system has none.
    pub(super) all: Option<&'t Path>,
    /// This run's authority alone.
    pub(super) authority: &'t Path,
}

/// A variable that the submission sets, by value or with a secret.
fn is_given(context: &RunContext, name: &str) -> bool {
    context.environment.contains_key(name) || context.secret_env.contains_key(name)
}

/// The value that the submission gives in plain.
pub(super) fn given<'c>(context: &'c RunContext, names: &[&str]) -> Option<&'c str> {
    names.iter().find_map(|name| context.environment.get(*name)).map(String::as_str).filter(|value| !value.is_empty())
}

impl Offer<'_> {
    /// Everything that is ours to set.
    pub(super) fn variables(&self, context: &RunContext) -> Vec<(&'static str, String)> {
        let mut all = Vec::new();
        let mut group = |variables: Vec<(&'static str, String)>| {
            let ours = !variables.iter().any(|(name, _)| is_given(context, name));
            if ours {
                all.extend(variables);
            }
            ours
        };
        let plain = format!("http://127.0.0.1:{}", self.plain);
        let token = format!("{plain}{}", identity::PATH);
        let identity = group(vec![
            ("IDENTITY_ENDPOINT", token.clone()),
            ("IDENTITY_HEADER", self.secret.to_owned()),
            ("MSI_ENDPOINT", token),
            ("MSI_SECRET", self.secret.to_owned()),
        ]);
        if identity && !OWN_CREDENTIALS.iter().any(|name| is_given(context, name)) {
            group(vec![("AZURE_TOKEN_CREDENTIALS", "ManagedIdentityCredential".to_owned())]);
        }
        group(azureml::variables(&plain, context, self.run_token));
        if let Some(trust) = self.trust {
            group(vec![("KLUIS_VAULT_URL", self.names.url.to_string())]);
            for (name, path) in
                BUNDLES.map(|name| (name, trust.all)).into_iter().chain([(EXTRA_BUNDLE, Some(trust.authority))])
            {
                if let Some(path) = path.and_then(Path::to_str) {
                    group(vec![(name, path.to_owned())]);
                }
            }
        }
        all.extend(self.proxies(context));
        all
    }

    /// The proxy, and what is reached without one. A proxy that the submission names is chained to, so ours takes its place.
    fn proxies(&self, context: &RunContext) -> Vec<(&'static str, String)> {
        let mut all = Vec::new();
        if let Some(port) = self.proxy {
            let proxy = format!("http://127.0.0.1:{port}");
            all.extend([("HTTPS_PROXY", proxy.clone()), ("https_proxy", proxy)]);
        }
        let theirs = ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
        if self.proxy.is_some() || theirs.iter().any(|name| is_given(context, name)) {
            let given = given(context, &["no_proxy", "NO_PROXY"]).unwrap_or_default();
            let given = given.split(',').map(str::trim).filter(|entry| !entry.is_empty());
            let mut direct: Vec<&str> = given.chain(["127.0.0.1", "localhost"]).collect();
            if self.proxy.is_none() {
                direct.push(&self.names.host);
            } else {
                // Clients take an entry for the end of a name, and would look for the vault by themselves.
                direct.retain(|entry| !self.names.host.ends_with(&entry.to_ascii_lowercase()));
            }
            let direct = direct.join(",");
            all.extend([("NO_PROXY", direct.clone()), ("no_proxy", direct)]);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::tests::context;
    use kluis_client::trust::Origin;
    use kluis_core::clock::Timestamp;
    use kluis_core::name::WorkspaceName;
    use std::collections::BTreeMap;
    use std::time::Duration;
    use zeroize::Zeroizing;

    fn variables(given: &[(&str, &str)], proxy: Option<u16>) -> BTreeMap<&'static str, String> {
        let names = Names::of(&WorkspaceName::parse("default").unwrap(), &Origin::parse("127.0.0.1:8443").unwrap());
        let run_token = Token {
            text: Zeroizing::new("a.b.c".to_owned()),
            expires: Timestamp::from_seconds(0),
            left: Duration::from_hours(1),
        };
        let offer = Offer {
            names: &names,
            plain: 4711,
            secret: "s3cret",
            run_token: &run_token,
            trust: Some(Trusted { all: Some(Path::new("/p/ca.pem")), authority: Path::new("/p/authority.pem") }),
            proxy,
        };
        let mut context = context();
        context.environment.extend(given.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        let all = offer.variables(&context);
        let count = all.len();
        let map: BTreeMap<_, _> = all.into_iter().collect();
        assert_eq!(map.len(), count, "each once");
        map
    }

    #[test]
    fn every_client_finds_its_identity_its_vault_and_whom_to_trust() {
        let all = variables(&[], None);
        for (name, value) in [
            ("IDENTITY_ENDPOINT", "http://127.0.0.1:4711/msi/token"),
            ("IDENTITY_HEADER", "s3cret"),
            ("MSI_ENDPOINT", "http://127.0.0.1:4711/msi/token"),
            ("MSI_SECRET", "s3cret"),
            ("AZURE_TOKEN_CREDENTIALS", "ManagedIdentityCredential"),
            ("KLUIS_VAULT_URL", "https://default.vault.localhost:8443"),
            ("REQUESTS_CA_BUNDLE", "/p/ca.pem"),
            ("SSL_CERT_FILE", "/p/ca.pem"),
            ("CURL_CA_BUNDLE", "/p/ca.pem"),
            ("NODE_EXTRA_CA_CERTS", "/p/authority.pem"),
            ("AZUREML_RUN_ID", "churn_1"),
            ("AZUREML_RUN_TOKEN", "a.b.c"),
        ] {
            assert_eq!(all.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert!(!all.keys().any(|name| name.to_ascii_lowercase().ends_with("_proxy")), "{all:?}");
    }

    #[test]
    fn what_the_submitter_set_wins_and_takes_its_group_along() {
        let all = variables(
            &[("MSI_ENDPOINT", "http://theirs"), ("SSL_CERT_FILE", "/theirs"), ("AZUREML_RUN_ID", "x")],
            None,
        );
        for gone in ["MSI_SECRET", "IDENTITY_ENDPOINT", "AZURE_TOKEN_CREDENTIALS", "SSL_CERT_FILE", "AZUREML_RUN_TOKEN"]
        {
            assert!(!all.contains_key(gone), "{gone}");
        }
        assert!(all.contains_key("REQUESTS_CA_BUNDLE"));
        let all = variables(&[("AZURE_CLIENT_SECRET", "theirs")], None);
        assert!(!all.contains_key("AZURE_TOKEN_CREDENTIALS") && all.contains_key("IDENTITY_ENDPOINT"));
    }

    #[test]
    fn a_proxy_is_only_there_where_it_is_needed_and_loopback_is_reached_without_one() {
        let all = variables(&[("NO_PROXY", "10.0.0.0/8, localhost")], Some(4712));
        assert_eq!(all["https_proxy"], "http://127.0.0.1:4712");
        assert_eq!(all["HTTPS_PROXY"], all["https_proxy"]);
        assert_eq!(all["no_proxy"], "10.0.0.0/8,127.0.0.1", "`localhost` would be taken for the vault's end");
        assert_eq!(all["NO_PROXY"], all["no_proxy"]);
        let all = variables(&[("HTTPS_PROXY", "http://proxy:3128")], None);
        assert!(!all.contains_key("HTTPS_PROXY"));
        assert_eq!(all["no_proxy"], "127.0.0.1,localhost,default.vault.localhost");
    }
}
