//! The walls of docs/architecture.md, held against the resolved dependency graph: which of our crates may import
//! which, that no plaintext type is nameable in the store, and that there is one TLS and one crypto stack.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

/// Who may import whom. A new edge is a decision: change docs/architecture.md with it.
const ALLOWED: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("mask", &[]),
    ("vault", &["core"]),
    ("store", &["core"]),
    ("client", &["core"]),
    ("launch", &["core", "mask", "client"]),
    ("runner", &["core", "client"]),
    ("server", &["core", "vault", "store"]),
    ("cli", &["core", "client", "launch", "mask", "runner", "server"]),
    ("python", &["core", "client", "mask"]),
];

/// Second TLS or crypto stacks, and crates with known better replacements.
const BANNED: &[&str] = &["openssl", "openssl-sys", "native-tls", "ring", "rustls-pemfile"];

fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml"))
        .other_options(vec!["--locked".into()])
        .exec()
        .expect("cargo metadata reads this workspace")
}

fn short(name: &str) -> Option<&str> {
    name.strip_prefix("kluis-")
}

fn ours(metadata: &Metadata) -> Vec<&Package> {
    metadata.workspace_packages().into_iter().filter(|p| short(p.name.as_str()).is_some()).collect()
}

#[test]
fn crates_import_only_what_the_architecture_allows() {
    let metadata = metadata();
    let allowed: BTreeMap<&str, BTreeSet<&str>> =
        ALLOWED.iter().map(|(from, to)| (*from, to.iter().copied().collect())).collect();
    let mut wrong = Vec::new();
    for package in ours(&metadata) {
        let from = short(package.name.as_str()).expect("ours are named kluis-*");
        let Some(allowed) = allowed.get(from) else {
            wrong.push(format!("kluis-{from} is not in the list"));
            continue;
        };
        for dependency in package.dependencies.iter().filter(|d| d.kind == DependencyKind::Normal) {
            if let Some(to) = short(&dependency.name).filter(|to| !allowed.contains(to)) {
                wrong.push(format!("kluis-{from} imports kluis-{to}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_store_can_name_no_plaintext_and_no_key() {
    let metadata = metadata();
    for package in ours(&metadata).into_iter().filter(|p| ["kluis-store", "kluis-runner"].contains(&p.name.as_str())) {
        let core = package
            .dependencies
            .iter()
            .find(|d| d.name == "kluis-core" && d.kind == DependencyKind::Normal)
            .expect("both depend on kluis-core");
        if package.name.as_str() == "kluis-store" {
            assert!(!core.features.iter().any(|f| f == "plaintext"), "kluis-store asks for plaintext");
            let crypto = ["aws-lc-rs", "aes-gcm", "zeroize", "kluis-vault"];
            let found: Vec<_> =
                package.dependencies.iter().filter(|d| crypto.contains(&d.name.as_str())).map(|d| &d.name).collect();
            assert!(found.is_empty(), "kluis-store links {found:?}");
        }
    }
}

/// `cargo tree` and not the metadata's graph: the latter also follows weak dependency features that nothing turns on.
#[test]
fn there_is_one_tls_and_one_crypto_stack() {
    let tree = std::process::Command::new(env!("CARGO"))
        .args(["tree", "--workspace", "--locked", "--edges", "normal,build", "--prefix", "none", "--format", "{p}"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .output()
        .expect("cargo runs");
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8_lossy(&tree.stdout);
    let crates: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(crates.contains("rustls") && crates.contains("aws-lc-rs"), "the tree was not read");
    let found: Vec<_> = BANNED.iter().filter(|b| crates.contains(*b)).collect();
    assert!(found.is_empty(), "banned crates are linked: {found:?}");
}
