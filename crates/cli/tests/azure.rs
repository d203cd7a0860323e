//! `kluis azure env` and logins by device code, with the real program against a server of its own.

#![expect(clippy::unwrap_used, reason = "helpers of tests, outside of #[test] functions")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

/// A server of this test's own, and its owner's folders.
struct Server {
    child: Child,
    folder: PathBuf,
    address: String,
}

impl Server {
    fn start(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        let _left = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let mut child = kluis(&folder, "owner")
            .args(["up", "--listen", "127.0.0.1:0", "--no-runner", "--data"])
            .arg(folder.join("data"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        let address = ready.trim().strip_prefix("ready ").expect("the server says where it is").to_owned();
        Self { child, folder, address }
    }

    fn port(&self) -> &str {
        self.address.rsplit(':').next().unwrap()
    }

    fn pin(&self) -> String {
        let file = std::fs::read(self.folder.join("owner/config/config.json")).unwrap();
        let file: Value = serde_json::from_slice(&file).unwrap();
        file["ca_sha256"].as_str().unwrap().to_owned()
    }

    fn run(&self, user: &str, args: &[&str]) -> Output {
        kluis(&self.folder, user).args(args).output().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
        let _left = std::fs::remove_dir_all(&self.folder);
    }
}

/// The program with folders of a user's own.
fn kluis(folder: &Path, user: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kluis"));
    let home = folder.join(user);
    std::fs::create_dir_all(&home).unwrap();
    command.env_clear().env("HOME", &home).env("KLUIS_CONFIG_DIR", home.join("config"));
    command.env("XDG_STATE_HOME", home.join("state")).current_dir(&home).stdin(Stdio::null());
    command
}

#[track_caller]
fn ok(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn a_program_signs_in_when_somebody_approves_its_code_and_azure_env_prints_what_packages_need() {
    let server = Server::start("azure-env");
    let pin = server.pin();

    // Another user's machine.
    let mut waiting = kluis(&server.folder, "node")
        .args(["login", "--device-code", &server.address, "--ca-sha256", &pin, "--label", "node17"])
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(waiting.stderr.take().unwrap()).lines();
    let code = lines
        .by_ref()
        .find_map(|line| line.unwrap().trim().strip_prefix("kluis login approve ").map(ToOwned::to_owned))
        .expect("it says what to type");
    let without_yes = server.run("owner", &["login", "approve", &code]);
    assert_eq!(without_yes.status.code(), Some(2), "without a terminal nobody is asked");
    let approved = server.run("owner", &["login", "approve", &code.to_lowercase(), "--yes"]);
    ok(&approved);
    let told = String::from_utf8(approved.stderr).unwrap();
    assert!(told.contains("node17") && told.contains("127.0.0.1"), "{told}");
    assert!(waiting.wait().unwrap().success());
    let who: Value = serde_json::from_str(&ok(&server.run("node", &["whoami", "--json"]))).unwrap();
    assert_eq!(who["token"]["label"], "node17");
    let again = server.run("owner", &["login", "approve", &code, "--yes"]);
    assert_eq!(again.status.code(), Some(3), "a code works once");

    // What packages need, as the user who was let in.
    let printed = ok(&server.run("node", &["azure", "env", "--workspace", "default", "--json"]));
    let printed: Value = serde_json::from_str(&printed).unwrap();
    let set = &printed["environment"];
    let base = format!("https://localhost:{}", server.port());
    for (name, value) in [
        ("KLUIS_VAULT_URL", format!("https://default.vault.localhost:{}", server.port())),
        ("AZURE_AUTHORITY_HOST", base.clone()),
        ("AZURE_TENANT_ID", "adfs".into()),
        ("AZURE_IDENTITY_DISABLE_MULTITENANTAUTH", "1".into()),
        ("MSI_ENDPOINT", format!("{base}/azure/identity/token")),
        ("ARM_CLOUD_METADATA_URL", format!("{base}/azure/metadata")),
    ] {
        assert_eq!(set[name], value.as_str(), "{name}");
    }
    let bundle = std::fs::read_to_string(set["SSL_CERT_FILE"].as_str().unwrap()).unwrap();
    assert!(bundle.trim_end().ends_with("-----END CERTIFICATE-----"));
    let tokens = ok(&server.run("node", &["token", "list"]));
    assert!(tokens.contains("azure env"), "{tokens}");
    assert!(!tokens.contains(set["MSI_SECRET"].as_str().unwrap()));

    // For a shell, where the token is what is exported and the old bundle is not taken for the system's.
    let mut again = kluis(&server.folder, "node");
    again.env("SSL_CERT_FILE", set["SSL_CERT_FILE"].as_str().unwrap()).env("IDENTITY_ENDPOINT", "http://x");
    let text = ok(&again.args(["azure", "env", "--workspace", "default", "--life", "1h"]).output().unwrap());
    assert!(text.starts_with("unset IDENTITY_ENDPOINT\n"), "{text}");
    assert!(text.contains("\nexport MSI_SECRET='kls_usr_"));
    assert_eq!(std::fs::read_to_string(set["SSL_CERT_FILE"].as_str().unwrap()).unwrap(), bundle, "it does not grow");

    // As a service principal.
    ok(&server.run("owner", &["admin", "principal", "create", "ci"]));
    ok(&server.run("owner", &["workspace", "member", "add", "ci", "--role", "reader", "--workspace", "default"]));
    let secret = ok(&server.run("owner", &["admin", "client-secret", "create", "ci", "--json"]));
    let secret: Value = serde_json::from_str(&secret).unwrap();
    let (id, secret) = (secret["client_id"].as_str().unwrap(), secret["client_secret"].as_str().unwrap());
    let mut service = kluis(&server.folder, "node");
    service.env("KLUIS_CLIENT_SECRET", secret);
    let service = service.args(["azure", "env", "--workspace", "default", "--client-id", id, "--shell", "fish"]);
    let text = ok(&service.output().unwrap());
    assert!(text.contains(&format!("set -gx AZURE_CLIENT_ID '{id}'\n")), "{text}");
    assert!(text.contains(&format!("set -gx AZURE_CLIENT_SECRET '{secret}'\n")) && !text.contains("MSI_"));
    let without = server.run("node", &["azure", "env", "--workspace", "default", "--client-id", id]);
    assert_eq!(without.status.code(), Some(2));
}
