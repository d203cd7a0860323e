//! Examples pinned for ever, in tests/vectors. They were made once, by the vault with a counting generator, and nothing
//! makes them anew: the vault of every later version, and the page, must open them. A new format adds files.

use std::path::Path;
use std::sync::Arc;

use data_encoding::HEXLOWER;
use kluis_core::access::{Effect, Epoch, Grant, Principal, PrincipalKind, Role, Scope};
use kluis_core::audit::{AuditEntry, Frontier, SignedCheckpoint, leaf_hash};
use kluis_core::clock::Timestamp;
use kluis_core::id::{BlobId, ComputeId, PrincipalId, SecretId, VersionId, WorkspaceId};
use kluis_core::name::{PrincipalName, SecretName};
use kluis_core::rng::CountingRng;
use kluis_core::sealed::{Mac, Sealed};
use kluis_core::secret::{Attributes, Secret, SecretState, Version};
use kluis_vault::{
    Binding, InstallationKeys, PassphraseRoot, RootKey, RootKeyFile, RootKeySource, Vault, WorkspaceKey, token,
    verify_checkpoint,
};
use serde_json::Value;

use crate::spec;

fn read(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name).with_extension("json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

fn bytes(value: &Value) -> Vec<u8> {
    HEXLOWER.decode(text(value).as_bytes()).expect("hex")
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().expect("the right length")
}

fn list(value: &Value) -> &[Value] {
    let list = value.as_array().expect("a list");
    assert!(!list.is_empty(), "an empty list would test nothing");
    list
}

/// The installation of installation.json, opened by the vault and by the page, its workspace keys loaded.
struct Pinned {
    vault: Vault,
    page: spec::Installation,
    workspace: WorkspaceId,
    /// By the page, the same order as in the file.
    keys: Vec<spec::Key>,
}

impl Pinned {
    fn open() -> Self {
        let v = read("installation");
        let keys = InstallationKeys {
            installation_key: bytes(&v["installation_key"]),
            signing_key: bytes(&v["signing_key"]),
            canary: bytes(&v["canary"]),
        };
        let root = array(&v["root_key"]);
        let installation = text(&v["installation"]).parse().unwrap();
        let rng = Arc::new(CountingRng::new(1));
        let vault = Vault::open(RootKey::from_bytes(&root), installation, &keys, rng).unwrap();
        let id = *installation.as_bytes();
        let page = spec::Installation::open(root, id, &keys.installation_key, &keys.signing_key, &keys.canary).unwrap();

        assert_eq!(vault.root_key_id().to_string(), text(&v["root_key_id"]));
        assert_eq!(HEXLOWER.encode(&spec::key_id(&root)), text(&v["root_key_id"]));
        let opened = &v["opened"];
        assert_eq!(page.key, array(&opened["installation_key"]));
        assert_eq!(spec::key_id(&page.key), array(&opened["installation_key_id"]));
        assert_eq!(page.signing_seed, array(&opened["signing_seed"]));
        assert_eq!(spec::public_key(&page.signing_seed), array(&opened["public_key"]));
        assert_eq!(vault.public_key(), array(&opened["public_key"]));

        let workspace: WorkspaceId = text(&v["workspace"]).parse().unwrap();
        let keys = list(&v["workspace_keys"]).iter().map(|v| {
            let key = WorkspaceKey { workspace, id: text(&v["id"]).parse().unwrap(), wrapped: bytes(&v["wrapped"]) };
            vault.workspace_key_load(&key, true).unwrap();
            let opened = page.workspace_key(workspace.as_bytes(), key.id.as_bytes(), &key.wrapped).unwrap();
            assert_eq!(opened, array(&v["opened"]));
            opened
        });
        let keys = keys.collect();
        Self { vault, page, workspace, keys }
    }

    fn workspace_key(&self, id: &[u8; 16]) -> &spec::Key {
        self.keys.iter().find(|k| spec::key_id(k) == *id).expect("a key of the file")
    }
}

#[test]
fn the_pinned_installation_opens() {
    assert_eq!(Pinned::open().keys.len(), 2);
}

#[test]
fn the_pinned_values_open() {
    let pinned = Pinned::open();
    for v in list(&read("values")["values"]) {
        let binding = Binding {
            workspace: pinned.workspace,
            secret: text(&v["secret"]).parse().unwrap(),
            version: text(&v["version"]).parse().unwrap(),
        };
        let sealed = Sealed {
            key_id: text(&v["key_id"]).parse().unwrap(),
            wrapped_key: bytes(&v["wrapped_key"]),
            value: bytes(&v["value"]),
        };
        let opened = pinned.vault.unseal(&binding, &sealed).unwrap();
        assert_eq!(opened.expose(), text(&v["opened"]), "{}", v["name"]);
        let key = pinned.workspace_key(sealed.key_id.as_bytes());
        let place = [binding.workspace.as_bytes(), binding.secret.as_bytes(), binding.version.as_bytes()];
        let opened = spec::value(key, place, &sealed.wrapped_key, &sealed.value).unwrap();
        assert_eq!(opened, text(&v["opened"]).as_bytes(), "{}", v["name"]);
    }
}

#[test]
fn the_pinned_small_secrets_open() {
    let pinned = Pinned::open();
    for v in list(&read("small")["small"]) {
        let (purpose, sealed) = (text(&v["purpose"]), bytes(&v["sealed"]));
        assert_eq!(pinned.vault.unseal_small(purpose, &sealed).unwrap()[..], bytes(&v["opened"]));
        assert_eq!(pinned.page.small(purpose, &sealed).unwrap(), bytes(&v["opened"]));
    }
}

#[test]
fn the_pinned_blobs_open() {
    let pinned = Pinned::open();
    let workspace = pinned.workspace;
    for v in list(&read("blobs")["blobs"]) {
        let blob: BlobId = text(&v["blob"]).parse().unwrap();
        let length = v["length"].as_u64().unwrap();
        let content: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
        let header = bytes(&v["header"]);
        let key = pinned.workspace_key(header[1..17].try_into().unwrap());
        let key = spec::blob_key(key, workspace.as_bytes(), blob.as_bytes(), &header).unwrap();
        let segments = spec::segments(&key, workspace.as_bytes(), blob.as_bytes(), &content);
        assert_eq!(spec::sha256(&segments), array(&v["segments_sha256"]), "{length}");
        if let Some(pinned) = v.get("segments") {
            assert_eq!(segments, bytes(pinned), "{length}");
        }
        let opened = pinned.vault.open_blob(workspace, blob, &[header, segments].concat()).unwrap();
        assert!(opened == content, "{length}");

        let mut hasher = pinned.vault.blob_hasher(workspace);
        hasher.update(&content);
        assert_eq!(hasher.finish().as_bytes(), &array(&v["address"]));
        assert_eq!(pinned.page.blob_address(workspace.as_bytes(), &content), array(&v["address"]));
    }
}

/// The rows of rows.json, in its order.
fn rows(workspace: WorkspaceId) -> Vec<Vec<u8>> {
    let time = Timestamp::from_millis(1_795_530_000_123);
    let principal = PrincipalId::from_bytes([1; 16]);
    let active = Secret {
        workspace,
        id: SecretId::from_bytes([2; 16]),
        name: SecretName::parse("db-password").unwrap(),
        current: VersionId::from_bytes([3; 16]),
        state: SecretState::Active,
        revision: 1,
        created: time,
        updated: time,
    };
    let purge_at = Timestamp::from_millis(1_803_306_000_123);
    let deleted = Secret { state: SecretState::Deleted { at: time, purge_at }, revision: 2, ..active.clone() };
    let plain = Version {
        workspace,
        secret: active.id,
        id: active.current,
        attributes: Attributes::default(),
        revision: 1,
        created: time,
        updated: time,
        created_by: principal,
    };
    let attributes = Attributes {
        enabled: false,
        content_type: Some(String::new()),
        not_before: Some(Timestamp::from_millis(-1)),
        expires: Some(time),
        tags: [("team", "churn"), ("Team", "")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
    };
    let full = Version { attributes, ..plain.clone() };
    let service = Principal {
        id: principal,
        name: PrincipalName::parse("ci").unwrap(),
        kind: PrincipalKind::ServicePrincipal,
        enabled: true,
        epoch: Epoch(9),
        revision: 3,
    };
    let grant = |scope, role, effect| Grant { principal, scope, role, effect, revision: 1 }.canonical();
    vec![
        active.canonical(),
        deleted.canonical(),
        plain.canonical(),
        full.canonical(),
        service.canonical(),
        grant(Scope::Installation, Role::Owner, Effect::Allow),
        grant(Scope::Workspace(workspace), Role::SecretsWriter, Effect::Deny),
        grant(Scope::Compute(ComputeId::from_bytes([4; 16])), Role::Agent, Effect::Allow),
    ]
}

#[test]
fn the_pinned_rows_are_recognised() {
    let pinned = Pinned::open();
    let vectors = read("rows");
    let vectors = list(&vectors["rows"]);
    let rows = rows(pinned.workspace);
    assert_eq!(rows.len(), vectors.len());
    for (row, v) in rows.iter().zip(vectors) {
        assert_eq!(HEXLOWER.encode(row), text(&v["canonical"]), "{}", v["name"]);
        assert!(pinned.vault.mac_ok(row, &Mac(array(&v["mac"]))), "{}", v["name"]);
        assert_eq!(pinned.page.row_mac(row), array(&v["mac"]), "{}", v["name"]);
    }
}

#[test]
fn the_pinned_rows_read_as_the_page_says() {
    let vectors = read("rows");
    let canonical = |i: usize| bytes(&list(&vectors["rows"])[i]["canonical"]);
    let workspace = Pinned::open().workspace;
    let time = 1_795_530_000_123_u64.to_be_bytes();
    let (principal, secret, version) = ([1_u8; 16], [2_u8; 16], [3_u8; 16]);
    let n = u64::to_be_bytes;
    assert_eq!(
        canonical(1),
        spec::c(&[
            b"kluis/row/secret/1",
            workspace.as_bytes(),
            &secret,
            b"db-password",
            &version,
            &n(2),
            &time,
            &time,
            b"deleted",
            &time,
            &n(1_803_306_000_123),
        ])
    );
    assert_eq!(
        canonical(3),
        spec::c(&[
            b"kluis/row/version/1",
            workspace.as_bytes(),
            &secret,
            &version,
            &n(1),
            &time,
            &time,
            &principal,
            &n(0),
            &[1],
            b"",
            &[1],
            &[0xff; 8],
            &[1],
            &time,
            &n(2),
            b"Team",
            b"",
            b"team",
            b"churn",
        ])
    );
    assert_eq!(canonical(4), spec::c(&[b"kluis/row/principal/1", &principal, b"ci", &n(1), &n(1), &n(3)]));
}

#[test]
fn the_pinned_audit_log_is_vouched_for() {
    let pinned = Pinned::open();
    let v = read("audit");
    let mut frontier = Frontier::default();
    for v in list(&v["leaves"]) {
        let leaf = bytes(&v["leaf"]);
        let entry = AuditEntry::from_leaf(&leaf).unwrap();
        assert_eq!(entry.leaf(), leaf);
        assert!(pinned.vault.audit_entry_ok(&entry));
        let (record, mac) = leaf.split_at(leaf.len() - 35);
        assert_eq!(mac, [&[255, 0, 32], &pinned.page.audit_mac(record)[..]].concat());
        frontier.append(leaf_hash(&leaf));
        assert_eq!(frontier.root(), array(&v["root"]));
    }
    assert_eq!(frontier.to_bytes(), bytes(&v["frontier"]));

    // The root over three leaves, as the page says.
    let hashes: Vec<_> =
        list(&v["leaves"]).iter().map(|v| spec::sha256(&[&[0], &bytes(&v["leaf"])[..]].concat())).collect();
    let node = |left: &[u8], right: &[u8]| spec::sha256(&[&[1], left, right].concat());
    assert_eq!(frontier.root(), node(&node(&hashes[0], &hashes[1]), &hashes[2]));

    let signed: SignedCheckpoint = serde_json::from_value(v["signed"].clone()).unwrap();
    let public_key = pinned.vault.public_key();
    assert!(verify_checkpoint(&signed, &public_key));
    assert_eq!(signed.checkpoint.signed_text(), text(&v["signed_text"]));
    assert!(spec::signed(&public_key, text(&v["signed_text"]).as_bytes(), &bytes(&v["signed"]["signature"])));
    assert_eq!(pinned.vault.sign_checkpoint(signed.checkpoint), signed, "Ed25519 signs the same twice");
}

#[test]
fn the_pinned_tokens_are_known() {
    let pinned = Pinned::open();
    for v in list(&read("tokens")["tokens"]) {
        let (token, kind) = (text(&v["token"]), text(&v["kind"]));
        assert_eq!(token::check(token).unwrap().as_str(), kind);
        assert_eq!(spec::token(token).unwrap(), (kind.to_owned(), array(&v["random"])));
        assert_eq!(pinned.vault.lookup_hash(kind, token).0, array(&v["lookup_hash"]));
        assert_eq!(pinned.page.lookup(kind, token), array(&v["lookup_hash"]));
    }
}

#[test]
fn the_pinned_roots_load() {
    let v = read("roots");
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str, content: &[u8]| {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        let path = folder.path().join(name);
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true).mode(0o600).open(&path).unwrap().write_all(content).unwrap();
        path
    };
    let line = text(&v["file"]["text"]);
    let key: spec::Key = array(&Value::from(&line[17..81]));
    assert_eq!(spec::key_id(&key), array(&v["file"]["root_key_id"]));
    assert_eq!(spec::sha256(&line.as_bytes()[..81])[..4], bytes(&Value::from(&line[82..90])));
    let loaded = RootKeyFile::new(place("file", line.as_bytes())).load().unwrap();
    assert_eq!(loaded.id().as_bytes(), &spec::key_id(&key));

    for (i, v) in list(&v["passphrases"]).iter().enumerate() {
        let path = place(&format!("passphrase{i}"), v["file"].to_string().as_bytes());
        let passphrase = zeroize::Zeroizing::new(text(&v["passphrase"]).to_owned());
        let loaded = PassphraseRoot::new(path, passphrase).load().unwrap();
        let key: spec::Key = array(&v["root_key"]);
        assert_eq!(loaded.id().as_bytes(), &spec::key_id(&key));
        assert_eq!(spec::key_id(&key), array(&v["file"]["key_id"]));
    }
}
