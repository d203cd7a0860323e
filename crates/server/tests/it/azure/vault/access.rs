//! Every operation as everybody. What each of them answers stands in access.txt: `yes`, or the status of the refusal. A
//! difference is a decision: look at it, then accept it with `KLUIS_ACCEPT=1`.
//!
//! The rules are those of the native face: without a good credential 401; who may not see the vault 404; who sees it and
//! may not act 403. Launchers sign, and no client of Azure does: their runs read at the launcher.

use std::fmt::Write;

use serde_json::{Value, json};

use super::face_token;
use crate::all::scene::{Ask, CALLERS, Scene, VALUE};
use crate::world::{Answer, text};

const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/azure/vault/access.txt");
const TEAM: &str = "https://team.vault.localhost:8443";
const RESOURCE: &str = "https://vault.localhost:8443";
/// Those who come with a token of the token authority: a contributor's; one for another resource; one whose login was
/// revoked since; one of somebody who is in another workspace.
const FACES: [&str; 4] = ["face", "resource", "orphan", "stranger"];
const OPERATIONS: [&str; 12] = [
    "set",
    "get",
    "update",
    "list",
    "versions",
    "delete",
    "list-deleted",
    "get-deleted",
    "recover",
    "purge",
    "backup",
    "restore",
];

/// The scene, with the tokens of [`FACES`].
struct Vault {
    scene: Scene,
    faces: [String; 4],
    made: std::cell::Cell<u32>,
}

impl Vault {
    async fn new() -> Self {
        let scene = Scene::new().await;
        let world = &scene.world;
        let login = world.post("/tokens", scene.token("contrib"), json!({ "label": "x" })).await.ok();
        let orphan = face_token(world, &text(&login["token"]), RESOURCE).await;
        world.delete(&format!("/tokens/{}", text(&login["view"]["id"])), scene.token("contrib")).await.ok();
        let faces = [
            face_token(world, scene.token("contrib"), RESOURCE).await,
            face_token(world, scene.token("contrib"), "https://localhost:8443").await,
            orphan,
            face_token(world, scene.token("outsider"), RESOURCE).await,
        ];
        Self { scene, faces, made: std::cell::Cell::new(0) }
    }

    async fn send(&self, caller: &str, method: &str, path: &str, body: &Value) -> Answer {
        let ask = Ask::at(method, format!("{TEAM}{path}?api-version=7.6"), body);
        let mut request = self.scene.request(caller, &ask);
        if let Some(n) = FACES.iter().position(|face| *face == caller) {
            request.headers_mut().insert("authorization", format!("Bearer {}", self.faces[n]).parse().unwrap());
        }
        self.scene.world.send(request).await
    }

    async fn first(&self, method: &str, path: &str, body: Value) -> Value {
        let answer = self.send("first", method, path, &body).await;
        assert!(answer.status.is_success(), "{method} {path}: {}", answer.text());
        serde_json::from_slice(&answer.body).unwrap_or_default()
    }

    /// An operation that succeeds when the right caller asks for it: method, path, body, on a secret of its own.
    async fn ask(&self, operation: &str) -> (&'static str, String, Value) {
        self.made.set(self.made.get() + 1);
        let name = format!("own-{}", self.made.get());
        let path = format!("/secrets/{name}");
        if operation != "set" {
            self.first("PUT", &path, json!({ "value": VALUE })).await;
        }
        let blob = match operation {
            "restore" => self.first("POST", &format!("{path}/backup"), Value::Null).await,
            _ => Value::Null,
        };
        if ["get-deleted", "recover", "purge", "restore"].contains(&operation) {
            self.first("DELETE", &path, Value::Null).await;
        }
        if operation == "restore" {
            self.first("DELETE", &format!("/deletedsecrets/{name}"), Value::Null).await;
        }
        let deleted = format!("/deletedsecrets/{name}");
        match operation {
            "set" => ("PUT", path, json!({ "value": VALUE })),
            "get" => ("GET", path + "/", Value::Null),
            "update" => ("PATCH", path + "/", json!({ "tags": { "a": "b" } })),
            "list" => ("GET", "/secrets".into(), Value::Null),
            "versions" => ("GET", path + "/versions", Value::Null),
            "delete" => ("DELETE", path, Value::Null),
            "list-deleted" => ("GET", "/deletedsecrets".into(), Value::Null),
            "get-deleted" => ("GET", deleted, Value::Null),
            "recover" => ("POST", deleted + "/recover", Value::Null),
            "purge" => ("DELETE", deleted, Value::Null),
            "backup" => ("POST", path + "/backup", Value::Null),
            "restore" => ("POST", "/secrets/restore".into(), blob),
            other => panic!("{other} is no operation"),
        }
    }

    /// What can be seen of the vault.
    async fn seen(&self) -> Vec<Value> {
        let mut seen = Vec::new();
        for path in ["/workspaces/team/secrets", "/workspaces/team/deleted-secrets"] {
            seen.push(self.scene.world.get(path, self.scene.token("first")).await.ok());
        }
        seen
    }
}

#[tokio::test]
async fn every_operation_answers_everybody_as_the_table_says_and_a_refusal_changes_nothing() {
    let vault = Vault::new().await;
    let callers: Vec<&str> = CALLERS.iter().chain(&FACES).copied().collect();
    let row = |name: &str, cells: &[String]| {
        let mut line = format!("{name:12}");
        for (column, (cell, caller)) in cells.iter().zip(&callers).enumerate() {
            // Nobody we know | not of this workspace | members | launchers | tokens of the authority.
            if [6, 10, 16, 21].contains(&column) {
                line.push_str(" |");
            }
            write!(line, " {cell:>width$}", width = caller.len().max(3)).unwrap();
        }
        line + "\n"
    };
    let mut table =
        "# What every operation of the vault face answers to everybody; see access.rs, and all/scene.rs for who they are.\n"
            .to_owned();
    table.push_str(&row("#", &callers.iter().map(|&c| c.to_owned()).collect::<Vec<_>>()));
    for operation in OPERATIONS {
        let mut cells = Vec::new();
        for caller in &callers {
            let (method, path, body) = vault.ask(operation).await;
            let before = vault.seen().await;
            let answer = vault.send(caller, method, &path, &body).await;
            if answer.status.is_success() {
                cells.push("yes".to_owned());
                continue;
            }
            cells.push(answer.status.as_str().to_owned());
            assert!(answer.status.is_client_error() && answer.status != 429, "{operation}: {}", answer.text());
            assert!(!answer.text().contains("cAnArY"), "{operation} as {caller}: {}", answer.text());
            assert_eq!(answer.headers.contains_key("www-authenticate"), answer.status == 401);
            assert_eq!(before, vault.seen().await, "{operation} as {caller} was refused and changed something");
        }
        table.push_str(&row(operation, &cells));
    }
    #[expect(clippy::disallowed_methods, reason = "accepting a table is said from outside")]
    if std::env::var_os("KLUIS_ACCEPT").is_some() {
        std::fs::write(TABLE, &table).unwrap();
        return;
    }
    let listed = std::fs::read_to_string(TABLE).unwrap_or_default();
    assert!(
        listed == table,
        "\n{listed}\nis listed, and this is found:\n{table}accept what is meant with KLUIS_ACCEPT=1"
    );
}
