//! A value goes where values go and nowhere else: every route is asked, well and badly, as everybody, with a value planted
//! wherever one can be; then it is looked for, in every encoding that we could think of, in the answers of all routes
//! that carry none (values.txt lists those that do), in everything that was logged, and in every file of the server.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

use aho_corasick::AhoCorasick;
use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER, HEXUPPER};
use serde_json::{Value, json};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::routes::all;
use super::scene::{CALLERS, Scene, VALUE};

/// What no escaping and quoting touches.
pub(crate) const CORE: &str = "cAnArY5e7d19cAnArY";

/// Looks for texts in all their forms.
pub(crate) struct Search {
    finder: AhoCorasick,
    forms: Vec<&'static str>,
}

impl Search {
    pub(crate) fn new(texts: &[(String, String)]) -> Self {
        let forms: Vec<_> = texts.iter().flat_map(|(whole, core)| forms(whole, core)).collect();
        let finder = AhoCorasick::new(forms.iter().map(|(_, bytes)| bytes)).unwrap();
        Self { finder, forms: forms.into_iter().map(|(name, _)| name).collect() }
    }

    pub(crate) fn find(&self, bytes: &[u8]) -> Option<&'static str> {
        self.finder.find(bytes).map(|found| self.forms[found.pattern()])
    }
}

/// The forms of a text, of which `core` is a part that no escaping and quoting touches.
fn forms(whole: &str, core: &str) -> Vec<(&'static str, Vec<u8>)> {
    let numbers = core.bytes().map(|b| b.to_string()).collect::<Vec<_>>().join(", ");
    let url = whole.bytes().map(|b| format!("%{b:02X}")).collect::<Vec<_>>().concat();
    let ascii: String = whole.chars().map(escaped).collect();
    let mut forms = vec![
        ("raw", whole.as_bytes().to_vec()),
        ("its plain part", core.as_bytes().to_vec()),
        ("backwards", core.bytes().rev().collect()),
        ("JSON", json!(whole).to_string().trim_matches('"').as_bytes().to_vec()),
        ("JSON in ASCII", ascii.into_bytes()),
        ("URL", url.into_bytes()),
        ("hex", HEXLOWER.encode(core.as_bytes()).into_bytes()),
        ("HEX", HEXUPPER.encode(core.as_bytes()).into_bytes()),
        ("UTF-16", core.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("a list of numbers", numbers.into_bytes()),
    ];
    // base64 of anything that holds it: what stays the same wherever it begins.
    for start in 0..3 {
        let part = &core.as_bytes()[start..];
        let part = &part[..part.len() / 3 * 3];
        forms.push(("base64", BASE64.encode(part).into_bytes()));
        forms.push(("base64url", BASE64URL_NOPAD.encode(part).into_bytes()));
    }
    forms
}

fn escaped(c: char) -> String {
    match c {
        '"' => "\\\"".into(),
        '\\' => "\\\\".into(),
        '\t' => "\\t".into(),
        c if c.is_ascii() => c.to_string(),
        c => format!("\\u{:04x}", c as u32),
    }
}

/// Everything that is logged, at every level, by every thread.
#[derive(Clone, Default)]
pub(crate) struct Heard(pub(crate) Arc<Mutex<String>>);

impl Heard {
    fn say(&self, metadata: &Metadata<'_>, visit: impl FnOnce(&mut Line)) {
        let mut line = Line(format!("{} {} {}", metadata.level(), metadata.target(), metadata.name()));
        visit(&mut line);
        let mut heard = self.0.lock().unwrap();
        writeln!(heard, "{}", line.0).unwrap();
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        write!(self.0, " {}={value:?}", field.name()).unwrap();
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        write!(self.0, " {}={value}", field.name()).unwrap();
    }
}

impl Subscriber for Heard {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.say(span.metadata(), |line| span.record(line));
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        let mut line = Line("span".into());
        values.record(&mut line);
        writeln!(self.0.lock().unwrap(), "{}", line.0).unwrap();
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        self.say(event.metadata(), |line| event.record(line));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// What signs in and was shown once, in the answers of the test.
#[derive(Default)]
struct Credentials(BTreeSet<String>);

impl Credentials {
    fn learn(&mut self, value: &Value) {
        match value {
            Value::String(text) if text.len() > 40 && text.starts_with("kls_") => {
                self.0.insert(text.clone());
            }
            Value::Array(items) => items.iter().for_each(|item| self.learn(item)),
            Value::Object(fields) => fields.values().for_each(|field| self.learn(field)),
            _ => {}
        }
    }

    fn search(&self) -> Search {
        let texts: Vec<_> = self.0.iter().map(|text| (text.clone(), text[8..40].to_owned())).collect();
        Search::new(&texts)
    }
}

fn json_of(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_default()
}

#[tokio::test]
async fn a_value_is_in_the_answers_that_carry_values_and_nowhere_else() {
    let heard = Heard::default();
    tracing::subscriber::set_global_default(heard.clone()).expect("no other test sets one");
    let scene = Scene::new().await;
    let value = Search::new(&[(VALUE.to_owned(), CORE.to_owned())]);
    let mut credentials = Credentials::default();
    scene.credentials().for_each(|credential| credentials.learn(&json!(credential)));

    let mut carriers = BTreeSet::new();
    for route in all() {
        let name = route.name();
        for caller in CALLERS {
            let ask = scene.ask(&route).await;
            let answer = scene.send(caller, &ask).await;
            if value.find(&answer.body).is_some() {
                assert!(answer.status.is_success(), "{name} as {caller} refuses with a value: {}", answer.text());
                carriers.insert(name.clone());
            }
            let headers = format!("{:?}", answer.headers);
            assert_eq!(value.find(headers.as_bytes()), None, "{name} has a value in a header");
            credentials.learn(&json_of(&ask.body));
            credentials.learn(&json_of(&answer.body));
        }
    }
    let listed: BTreeSet<String> = include_str!("values.txt").lines().map(ToOwned::to_owned).collect();
    assert_eq!(carriers, listed);
    errors(&scene, &value).await;

    assert!(credentials.0.len() > 50, "tokens, codes and tickets were seen");
    let credentials = credentials.search();
    let nowhere_in = |place: &str, bytes: &[u8]| {
        assert_eq!(value.find(bytes), None, "{place} holds a value");
        assert_eq!(credentials.find(bytes), None, "{place} holds a token, a code or a ticket");
    };
    let audit = json!(scene.records(None).await).to_string();
    assert!(audit.len() > 100_000, "the audit log was read");
    nowhere_in("the audit log", audit.as_bytes());
    let log = heard.0.lock().unwrap().clone();
    assert!(log.contains("refused") && log.len() > 10_000, "what was logged was heard");
    nowhere_in("the log", log.as_bytes());
    let looked_through = files(&nowhere_in, scene.world.folder.path());
    assert!(looked_through > 1_000_000, "the database and the blobs were looked through: {looked_through}");
    scene.world.app.store.close();
    files(&nowhere_in, scene.world.folder.path());
}

/// Values in requests that are refused, by the rules and by what goes wrong.
async fn errors(scene: &Scene, value: &Search) {
    let world = &scene.world;
    let owner = scene.token("first");
    let put = |name: &'static str, body: Value| async move {
        let answer = world.put(&format!("/workspaces/team/secrets/{name}"), owner, body).await;
        assert!(answer.status.is_client_error(), "{}", answer.text());
        assert_eq!(value.find(&answer.body), None, "{}", answer.text());
    };
    put("db-password", json!({ "value": VALUE, "if_revision": 0 })).await;
    put("db-password", json!({ "value": VALUE, "if_revision": VALUE })).await;
    put("db-password", json!({ "value": VALUE, "attributes": { "tags": VALUE } })).await;
    put("db-password", json!({ "value": VALUE, "attributes": { "expires": VALUE } })).await;
    put("db-password", json!({ "value": VALUE, VALUE: VALUE })).await;
    put("db-password", json!({ "value": [VALUE] })).await;
    put("db-password", json!({ "value": VALUE.repeat(1000) })).await;
    put("db-password", json!([VALUE])).await;
    put("db-password", json!(VALUE)).await;
    world.put("/workspaces/team/secrets/gone", owner, json!({ "value": VALUE })).await.ok();
    world.delete("/workspaces/team/secrets/gone", owner).await.ok();
    put("gone", json!({ "value": VALUE })).await;
    for items in [
        json!([{ "name": "gone", "value": VALUE }]),
        json!([{ "name": "a", "value": VALUE }, { "name": "A", "value": VALUE }]),
        json!([{ "name": VALUE, "value": VALUE }]),
    ] {
        let answer = world.post("/workspaces/team/secrets:set", owner, json!({ "items": items })).await;
        assert!(answer.status.is_client_error(), "{}", answer.text());
        assert_eq!(value.find(&answer.body), None, "{}", answer.text());
    }
    for label in [VALUE.to_owned(), VALUE.repeat(10)] {
        let answer = world.post("/tokens", owner, json!({ "label": label })).await;
        assert_eq!(value.find(&answer.body), None, "{}", answer.text());
    }
    // Where a submitter should not have put it, but did.
    for more in [
        json!({ "environment": { "A": format!("secret://{VALUE}") } }),
        json!({ "environment": { VALUE: "a" } }),
        json!({ "secret_env": { VALUE: "db-password" } }),
        json!({ "secret_files": { format!("../{VALUE}"): "db-password" } }),
        json!({ "secrets": [VALUE] }),
        json!({ "tags": { VALUE.repeat(100): "a" } }),
        json!({ "run": VALUE }),
        json!({ "snapshot": VALUE }),
        json!({ "compute": VALUE }),
    ] {
        let spec = crate::session::stage::spec(more);
        let answer = world.post("/workspaces/team/runs", owner, spec).await;
        assert!(answer.status.is_client_error(), "{}", answer.text());
        assert_eq!(value.find(&answer.body), None, "{}", answer.text());
    }
    // A value whose row was damaged, and a disabled one.
    let disabled = json!({ "enabled": false });
    world.patch("/workspaces/team/secrets/db-password/versions/current", owner, disabled).await.ok();
    for path in ["/workspaces/team/secrets/db-password", "/workspaces/team/secrets/gone"] {
        let answer = world.get(path, owner).await;
        assert!(answer.status.is_client_error());
        assert_eq!(value.find(&answer.body), None, "{}", answer.text());
    }
}

/// Looks through every file; how many bytes there were.
pub(crate) fn files(nowhere_in: &impl Fn(&str, &[u8]), folder: &Path) -> usize {
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            seen += files(nowhere_in, &path);
        } else {
            let bytes = std::fs::read(&path).unwrap();
            seen += bytes.len();
            nowhere_in(&path.display().to_string(), &bytes);
            nowhere_in("a file's name", path.as_os_str().as_encoded_bytes());
        }
    }
    seen
}
