//! `kluis azure env`: what packages made for Azure need in their environment to find this server instead, for `eval`. It is
//! the one command that prints a credential: a fresh token of its own with a short life, or the client secret that was
//! given; whoever runs it puts it into an environment, so that is where it goes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kluis_client::Client;
use kluis_client::config::{Login, Resolved};
use kluis_core::api::identity::CreateToken;
use kluis_core::id::PrincipalId;
use kluis_core::plaintext::Plaintext;

use super::local;
use crate::args::{Azure, AzureEnv, Shell};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::vault_names::{self, VaultHost};

/// The tenant for which Azure's clients ask nobody else whether we may be trusted.
const TENANT: &str = "adfs";
/// In the config folder.
const BUNDLE: &str = "azure-ca-bundle.pem";
/// All that some client reads its authorities from. They replace the system's, all but the last.
const BUNDLE_VARIABLES: [&str; 4] = ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"];
/// Where systems keep theirs.
const SYSTEM_BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// What an Azure machine sets, and clients prefer to what we set.
const STRAY: [&str; 4] = ["IDENTITY_ENDPOINT", "IDENTITY_HEADER", "IDENTITY_SERVER_THUMBPRINT", "IMDS_ENDPOINT"];

pub(super) async fn run(context: &Context<'_>, command: Azure) -> Outcome<u8> {
    match command {
        Azure::Env(env) => print(context, env).await,
    }
}

async fn print(context: &Context<'_>, env: AzureEnv) -> Outcome<u8> {
    local::refuse_in_run(context)?;
    let resolved = as_whom(context, &env)?;
    let workspace = resolved.workspace.clone().ok_or_else(|| Failure::usage("no workspace is named: --workspace"))?;
    let vault = VaultHost::new(&resolved.server.origin, &workspace)?;
    let client = Client::connect(&resolved).await?;
    // That it exists and can be seen is said now, not by a client that nobody here has written.
    client.workspace(&workspace).await?;
    let bundle = bundle(context, &client.ca().await?)?;

    let mut set = Variables::default();
    let base = vault.installation();
    // What `azureml-core` starts on this machine calls `kluis`, which knows its logins by the address that they are for.
    set.put("KLUIS_ADDR", resolved.server.origin.to_string());
    set.put("KLUIS_CA_SHA256", resolved.server.ca_sha256.to_string());
    set.put("KLUIS_VAULT_URL", vault.url());
    set.put("AZURE_AUTHORITY_HOST", base.clone());
    set.put("AZURE_TENANT_ID", TENANT);
    // A script keeps the tenant that stands in it: which one a vault names changes nothing here.
    set.put("AZURE_IDENTITY_DISABLE_MULTITENANTAUTH", "1");
    if let Login::Client { id, secret } = &resolved.login {
        set.service_principal(id, secret);
    } else {
        let token = token(context, &client, env.life).await?;
        set.managed_identity(&base, &token);
    }
    for variable in BUNDLE_VARIABLES {
        set.put(variable, bundle.display().to_string());
    }
    set.put("AZUREML_CURRENT_CLOUD", "AzureCloud");
    set.put("ARM_CLOUD_METADATA_URL", metadata(&base)?);
    set.put("AML_FORCE_EXECUTE_WITH_ZIP", "1");
    let stray: Vec<&str> = STRAY.into_iter().filter(|name| variable(context, name).is_some()).collect();

    if context.out.is_json() {
        context.out.json(&serde_json::json!({ "environment": set.0, "unset": stray }));
    } else {
        for name in stray {
            context.out.line(env.shell.unset(name));
        }
        for (name, value) in &set.0 {
            context.out.line(env.shell.set(name, value));
        }
    }
    if let Some(note) = vault_names::unresolved(&vault).await {
        context.out.note(format_args!("note: {note}"));
    }
    Ok(0)
}

/// The login that is configured; with `--client-id`, that service principal's, whose secret the environment holds.
fn as_whom(context: &Context<'_>, env: &AzureEnv) -> Outcome<Resolved> {
    let mut resolved = context.resolved()?;
    if let Some(id) = env.client_id {
        let secret = context.environment.client.client_secret.clone();
        let secret = secret.ok_or_else(|| Failure::usage("--client-id needs its secret in KLUIS_CLIENT_SECRET"))?;
        resolved.login = Login::Client { id, secret };
    }
    Ok(resolved)
}

/// A token of its own: it has a name in the list of logins, and can be taken without signing anybody out.
async fn token(context: &Context<'_>, client: &Client, life: Duration) -> Outcome<Plaintext> {
    let create = CreateToken { label: "azure env".to_owned(), life_seconds: Some(life.as_secs()) };
    let issued = client.token_create(&create).await?;
    if let Some(expires) = issued.view.expires {
        let id = issued.view.id;
        context.out.note(format_args!("good until {expires}; `kluis token revoke {id}` ends it earlier"));
    }
    Ok(issued.token)
}

/// Where `azureml-core` asks what the cloud looks like. It wants its workspace's subscription to be one of ours.
fn metadata(base: &str) -> Outcome<String> {
    let address = format!("{base}/azure/metadata");
    let names = Context::project()?.and_then(|project| project.azure);
    Ok(match names.and_then(|names| names.subscription_id) {
        Some(id) if id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') => {
            format!("{address}?subscription={id}")
        }
        _ => address,
    })
}

/// What to set, in the order of the names: the same command prints the same.
#[derive(Default)]
struct Variables(BTreeMap<&'static str, String>);

impl Variables {
    fn put(&mut self, name: &'static str, value: impl Into<String>) {
        self.0.insert(name, value.into());
    }

    fn managed_identity(&mut self, base: &str, token: &Plaintext) {
        self.put("MSI_ENDPOINT", format!("{base}/azure/identity/token"));
        self.put("MSI_SECRET", token.expose());
        // `azureml-core` asks whether this is set, and then sends the secret.
        self.put("APPSETTING_WEBSITE_SITE_NAME", "kluis");
        self.put("AZURE_TOKEN_CREDENTIALS", "ManagedIdentityCredential");
    }

    fn service_principal(&mut self, id: &PrincipalId, secret: &Plaintext) {
        self.put("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential");
        self.put("KLUIS_CLIENT_ID", id.to_string());
        self.put("KLUIS_CLIENT_SECRET", secret.expose());
        for (of_identity, of_azureml, value) in [
            ("AZURE_TENANT_ID", "AZUREML_SERVICE_PRINCIPAL_TENANT_ID", TENANT),
            ("AZURE_CLIENT_ID", "AZUREML_SERVICE_PRINCIPAL_ID", &id.to_string()),
            ("AZURE_CLIENT_SECRET", "AZUREML_SERVICE_PRINCIPAL_PASSWORD", secret.expose()),
        ] {
            self.put(of_identity, value);
            self.put(of_azureml, value);
        }
    }
}

impl Shell {
    fn set(self, name: &str, value: &str) -> String {
        match self {
            Self::Sh => format!("export {name}='{}'", value.replace('\'', r"'\''")),
            Self::Fish => format!("set -gx {name} '{}'", value.replace('\\', r"\\").replace('\'', r"\'")),
            Self::Powershell => format!("$env:{name} = '{}'", value.replace('\'', "''")),
        }
    }

    fn unset(self, name: &str) -> String {
        match self {
            Self::Sh => format!("unset {name}"),
            Self::Fish => format!("set -e {name}"),
            Self::Powershell => format!("Remove-Item Env:{name}"),
        }
    }
}

// Authorities -------------------------------------------------------------------------------------------------------

/// A file with the authorities that clients trusted so far, and the server's: what they are given replaces what they had.
fn bundle(context: &Context<'_>, ca: &str) -> Outcome<PathBuf> {
    let path = std::path::absolute(context.config_folder()?.join(BUNDLE))
        .map_err(|e| Failure::failed(format!("the config folder: {e}")))?;
    let mut text = String::new();
    match trusted_so_far(context, &path) {
        Some((from, roots)) => {
            text = roots;
            if !text.ends_with('\n') {
                text.push('\n');
            }
            tracing::debug!(from = %from.display(), "authorities that were trusted so far");
        }
        None => context.out.note(
            "note: this system's authorities were not found, so clients with these variables trust this server alone; \
             name a file with them in SSL_CERT_FILE, and run this again",
        ),
    }
    text.push_str(ca);
    write_whole(&path, &text).map_err(|e| Failure::failed(format!("{}: {e}", path.display())))?;
    Ok(path)
}

/// What the environment names already (a site may have its own), but for our own file; else what the system has.
fn trusted_so_far(context: &Context<'_>, ours: &Path) -> Option<(PathBuf, String)> {
    let named = BUNDLE_VARIABLES[..3].iter().filter_map(|name| variable(context, name)).map(PathBuf::from);
    let all = named.filter(|path| path != ours).chain(SYSTEM_BUNDLES.map(PathBuf::from));
    all.filter_map(|path| std::fs::read_to_string(&path).ok().map(|text| (path, text)))
        .find(|(_, text)| text.contains("-----BEGIN CERTIFICATE-----"))
}

/// Clients may be reading it.
fn write_whole(path: &Path, text: &str) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let beside = path.with_extension(format!("{}.tmp", std::process::id()));
    std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, path)).inspect_err(|_| {
        let _left = std::fs::remove_file(&beside);
    })
}

fn variable<'c>(context: &'c Context<'_>, name: &str) -> Option<&'c std::ffi::OsStr> {
    let found = context.environment.all.iter().find(|(known, _)| known == name);
    found.map(|(_, value)| value.as_os_str()).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a shell makes of a value must be the value, whatever a workspace or a folder is called.
    #[test]
    fn values_are_quoted_for_their_shell() {
        let nasty = r#"a'b"c$(d)`e`\f;g"#;
        assert_eq!(Shell::Sh.set("A", nasty), r#"export A='a'\''b"c$(d)`e`\f;g'"#);
        assert_eq!(Shell::Fish.set("A", nasty), r#"set -gx A 'a\'b"c$(d)`e`\\f;g'"#);
        assert_eq!(Shell::Powershell.set("A", nasty), r#"$env:A = 'a''b"c$(d)`e`\f;g'"#);
        let said = std::process::Command::new("sh")
            .arg("-c")
            .arg(format!("{}; printf %s \"$A\"", Shell::Sh.set("A", nasty)))
            .output()
            .expect("there is a shell");
        assert_eq!(said.stdout, nasty.as_bytes());
    }
}
