//! What does not belong in a request: bodies that are no JSON or another one than documented, names that are none, queries
//! that make no sense. Always a refusal with a stable code, never the server's fault, never "try again", nothing changed,
//! and nothing of what came in goes out again. Bodies, parameters and their types are those of the OpenAPI document.

use axum::body::Body;
use http::Request;
use http::header::CONTENT_TYPE;
use kluis_core::api::{MAX_JSON_BODY, MAX_JSON_DEPTH};
use kluis_server::api;
use serde_json::{Value, json};

use super::routes::{Route, all};
use super::scene::{Ask, Scene};
use crate::world::Answer;

/// Stands in every bad part of a request.
const MARKER: &str = "mArKeR7f3a9c";
/// The ways to say that a request is not understood.
const CODES: [&str; 4] = ["bad_request", "invalid_name", "invalid_value", "too_large"];

/// The operation in the OpenAPI document, and the document.
struct Documented {
    document: Value,
}

impl Documented {
    fn new() -> Self {
        Self { document: serde_json::to_value(api::document()).unwrap() }
    }

    fn operation(&self, route: &Route) -> &Value {
        &self.document["paths"][&route.path][route.method.to_ascii_lowercase()]
    }

    /// What a schema is in the end: without references, and without the `null` of what may be left out.
    fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        if let Some(name) = schema["$ref"].as_str() {
            return self.resolve(&self.document["components"]["schemas"][name.rsplit('/').next().unwrap()]);
        }
        match schema["oneOf"].as_array() {
            Some(either) if either.iter().any(|s| s["type"] == "null") => {
                self.resolve(either.iter().find(|s| s["type"] != "null").unwrap())
            }
            _ => schema,
        }
    }

    /// The schema of a JSON body.
    fn body(&self, route: &Route) -> Option<&Value> {
        let schema = &self.operation(route)["requestBody"]["content"]["application/json"]["schema"];
        (!schema.is_null()).then(|| self.resolve(schema))
    }

    fn parameters(&self, route: &Route, place: &str) -> Vec<(&str, &Value)> {
        let all = self.operation(route)["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
        let here = all.iter().filter(|p| p["in"] == place);
        here.map(|p| (p["name"].as_str().unwrap(), self.resolve(&p["schema"]))).collect()
    }
}

/// Values of other types than the schema's.
fn of_another_type(schema: &Value) -> Vec<Value> {
    let object = json!({ MARKER: MARKER });
    let list = json!([MARKER]);
    let mut kinds = match &schema["type"] {
        Value::Array(kinds) => kinds.clone(),
        kind => vec![kind.clone()],
    };
    kinds.retain(|kind| kind != "null");
    match kinds.first().and_then(Value::as_str) {
        Some("string") if schema["pattern"].is_string() || schema["enum"].is_array() => {
            vec![json!(17), json!(true), list, object, json!(format!("{MARKER}!"))]
        }
        Some("string") => vec![json!(17), json!(true), list, object],
        Some("integer") => vec![json!(MARKER), json!(-1), json!(1.5), json!(1e30), list, object],
        Some("boolean") => vec![json!(MARKER), json!(1), list, object],
        Some("array") => vec![json!(MARKER), json!(17), object],
        _ => vec![json!(MARKER), json!(17), json!(true), json!([[MARKER]])],
    }
}

fn asked(scene: &Scene, ask: &Ask, body: &[u8], content_type: Option<&'static str>) -> Request<Body> {
    let mut changed = ask.clone();
    changed.body = body.to_vec();
    changed.content_type = content_type;
    scene.request(Scene::who_may(&ask.route), &changed)
}

/// A refusal as it should be.
#[track_caller]
fn refused(what: &str, answer: &Answer, codes: &[&str]) {
    let said = format!("{what}: {} {}", answer.status, answer.text());
    assert!(answer.status.is_client_error(), "{said}");
    assert!(answer.status != 429, "{said}");
    let (_, code) = answer.refused();
    assert!(codes.contains(&code.as_str()), "{said}");
    silent(what, answer);
}

/// Nothing of the request comes back.
#[track_caller]
fn silent(what: &str, answer: &Answer) {
    assert!(!answer.text().contains(MARKER), "{what}: the answer holds what came in: {}", answer.text());
    assert!(!format!("{:?}", answer.headers).contains(MARKER), "{what}: a header holds what came in");
}

#[tokio::test]
async fn a_body_that_is_not_understood_is_refused_and_changes_nothing() {
    let documented = Documented::new();
    let scene = Scene::new().await;
    let mut asks = Vec::new();
    for route in all() {
        if let Some(schema) = documented.body(&route) {
            asks.push((scene.ask(&route).await, schema));
        }
    }
    let (seen, last) = (scene.seen().await, scene.last_record().await);
    for (ask, schema) in &asks {
        let name = ask.route.name();
        for (what, body) in bad_bodies(&documented, ask, schema) {
            let request = asked(&scene, ask, &body, Some("application/json"));
            refused(&format!("{name}, {what}"), &scene.world.send(request).await, &CODES);
        }
        for content_type in
            [None, Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("application/jsonx")]
        {
            let request = asked(&scene, ask, &ask.body, content_type);
            refused(&format!("{name}, as {content_type:?}"), &scene.world.send(request).await, &CODES);
        }
        let mut request = asked(&scene, ask, &ask.body, None);
        request.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_bytes(b"application/json\xff").unwrap());
        refused(&format!("{name}, as no text"), &scene.world.send(request).await, &CODES);
    }
    unchanged(&scene, &seen, last).await;
}

async fn unchanged(scene: &Scene, seen: &[(String, String)], last: Option<String>) {
    let records = scene.records(last).await;
    assert!(records.iter().all(|record| record["action"] == "refused"), "{records:?}");
    for (before, after) in seen.iter().zip(scene.seen().await) {
        assert_eq!(*before, after, "a refused request changed something");
    }
}

fn bad_bodies(documented: &Documented, ask: &Ask, schema: &Value) -> Vec<(String, Vec<u8>)> {
    let good: Value = serde_json::from_slice(&ask.body).unwrap();
    let text = good.to_string();
    let open = &text[..text.len() - 1];
    let with = |key: &str, value: Value| {
        let mut body = good.clone();
        body[key] = value;
        body.to_string().into_bytes()
    };
    let mut bad: Vec<(String, Vec<u8>)> = vec![
        ("empty".into(), Vec::new()),
        ("not JSON".into(), format!("{MARKER}={MARKER}").into_bytes()),
        ("one byte short".into(), open.as_bytes().to_vec()),
        ("half of it".into(), text.as_bytes()[..text.len() / 2].to_vec()),
        ("something after it".into(), format!("{text}{MARKER}").into_bytes()),
        ("an unknown field".into(), with(MARKER, json!(MARKER))),
        (
            "its fields as a list".into(),
            json!(good.as_object().unwrap().values().collect::<Vec<_>>()).to_string().into(),
        ),
        ("too deep".into(), with("x", nested(MAX_JSON_DEPTH))),
        ("not UTF-8 in a name".into(), [open.as_bytes(), b",\"mArKeR7f3a9c\xff\":1}"].concat()),
        ("over 4 MiB".into(), format!("{text}{}", " ".repeat(MAX_JSON_BODY + 1 - text.len())).into_bytes()),
        ("over 4 MiB in a text".into(), with(MARKER, json!(MARKER.repeat(MAX_JSON_BODY / MARKER.len() + 1)))),
    ];
    for other in [json!([]), json!(MARKER), json!(17), json!(null), json!([MARKER]), json!([good.clone()])] {
        bad.push((format!("{other} instead"), other.to_string().into_bytes()));
    }
    let properties = schema["properties"].as_object().unwrap_or_else(|| panic!("{}: no object", ask.route.name()));
    for (field, schema) in properties {
        let kind = documented.resolve(schema);
        for value in of_another_type(kind) {
            bad.push((format!("`{field}` is {value}"), with(field, value)));
        }
        if kind["type"] == "string" || kind["type"][0] == "string" {
            let bytes = with(field, json!("mArKeR7f3a9c@"));
            let bytes = bytes.iter().map(|b| if *b == b'@' { 0xff } else { *b }).collect();
            bad.push((format!("`{field}` is not UTF-8"), bytes));
        }
        if let Some(value) = good.get(field) {
            bad.push((format!("`{field}` twice"), format!("{open},\"{field}\":{value}}}").into_bytes()));
        }
    }
    let required = schema["required"].as_array().map(Vec::as_slice).unwrap_or_default();
    for field in required.iter().map(|f| f.as_str().unwrap()) {
        let mut body = good.clone();
        body.as_object_mut().unwrap().remove(field);
        bad.push((format!("no `{field}`"), body.to_string().into_bytes()));
        bad.push((format!("`{field}` is null"), with(field, Value::Null)));
    }
    bad
}

/// So many lists inside each other.
fn nested(levels: usize) -> Value {
    (0..levels).fold(json!(MARKER), |inner, _| json!([inner]))
}

#[tokio::test]
async fn a_piece_of_an_output_over_4_mib_is_refused() {
    let scene = Scene::new().await;
    let route = all().into_iter().find(|r| r.method == "PUT" && r.path.contains("/session/outputs/")).unwrap();
    let ask = scene.ask(&route).await;
    let piece = vec![b'x'; kluis_core::api::session::MAX_PIECE + 1];
    let request = asked(&scene, &ask, &piece, Some("application/octet-stream"));
    refused("a piece that is too large", &scene.world.send(request).await, &["too_large"]);
}

#[tokio::test]
async fn a_path_with_a_name_that_is_none_is_refused_and_changes_nothing() {
    let scene = Scene::new().await;
    let mut asks = Vec::new();
    for route in all() {
        if route.path.contains('{') {
            asks.push(scene.ask(&route).await);
        }
    }
    let (seen, last) = (scene.seen().await, scene.last_record().await);
    let encoded = ["%FF", "%00", "%2F", "%5C", "%0A", "%", "%zz"].map(|bytes| format!("{MARKER}{bytes}x"));
    let dots = ["..", "%2e%2e", "."].map(ToOwned::to_owned);
    let never: Vec<String> = encoded.into_iter().chain(dots).chain([MARKER.repeat(100)]).collect();
    let no_name = ["!", "%20x", "%C3%A9", "%22", "%7B%7D", ":set", "*", "'", "%3Cscript%3E"];
    let no_name = no_name.map(|bytes| format!("{MARKER}{bytes}"));
    for ask in &asks {
        let template: Vec<&str> = ask.route.path.split('/').collect();
        let (path, query) = ask.address.split_once('?').map_or((&*ask.address, ""), |(path, query)| (path, query));
        let parts: Vec<&str> = path.splitn(template.len(), '/').collect();
        for (place, parameter) in template.iter().enumerate().filter(|(_, part)| part.starts_with('{')) {
            // A file may be called almost anything, and may not be there.
            let names = no_name.iter().filter(|_| !parameter.starts_with("{*"));
            for bad in never.iter().chain(names) {
                let mut parts = parts.clone();
                parts[place] = bad;
                let mut changed = ask.clone();
                changed.address = format!("{}?{query}", parts.join("/")).trim_end_matches('?').to_owned();
                if changed.address.parse::<http::Uri>().is_err() {
                    continue;
                }
                let answer = scene.send(Scene::who_may(&ask.route), &changed).await;
                let what = format!("{} {}", ask.route.method, changed.address);
                let file = parameter.starts_with("{*");
                refused(&what, &answer, if file { &["bad_request", "not_found"] } else { &CODES[..2] });
            }
        }
    }
    unchanged(&scene, &seen, last).await;
}

#[tokio::test]
async fn a_query_that_makes_no_sense_is_refused_and_changes_nothing() {
    let documented = Documented::new();
    let scene = Scene::new().await;
    let mut asks = Vec::new();
    for route in all() {
        let parameters = documented.parameters(&route, "query");
        if !parameters.is_empty() {
            asks.push((scene.ask(&route).await, parameters));
        }
    }
    assert!(asks.len() > 15, "the document was read");
    let (seen, last) = (scene.seen().await, scene.last_record().await);
    for (ask, parameters) in &asks {
        let (path, query) = ask.address.split_once('?').map_or((&*ask.address, ""), |(path, query)| (path, query));
        let pairs: Vec<(&str, &str)> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
        // The good query with one parameter changed, or added.
        let with = |name: &str, value: &str| {
            let kept = pairs.iter().filter(|(key, _)| *key != name).map(|(key, value)| format!("{key}={value}"));
            kept.chain([format!("{name}={value}")]).collect::<Vec<_>>().join("&")
        };
        let mut bad = vec![with(MARKER, MARKER), with("Limit", "1"), with("%FF", MARKER)];
        for (name, schema) in parameters {
            let kind = if schema["type"].is_array() { &schema["type"][0] } else { &schema["type"] };
            let values: &[&str] = match kind.as_str() {
                Some("integer") => &[MARKER, "", "-1", "1.5", "99999999999999999999999", "0x1", "1%00"],
                Some("boolean") => &[MARKER, "", "1", "TRUE", "yes"],
                Some("string") if schema["pattern"].is_string() || schema["enum"].is_array() => {
                    &["mArKeR7f3a9c%21", "", "mArKeR7f3a9c%00", "mArKeR7f3a9c%FF"]
                }
                _ => &[],
            };
            bad.extend(values.iter().map(|value| with(name, value)));
            let twice = pairs.iter().find(|(key, _)| key == name).map_or("1", |(_, value)| value);
            bad.push(format!("{}&{name}={twice}", with(name, twice)));
            if *name == "limit" {
                bad.extend(["0", "201"].map(|value| with(name, value)));
            }
            // A page's mark is the list's own affair: refused, or an empty page; but never an accident.
            if *name == "after" {
                for value in [MARKER, "", "%FF", "%00", "-1", "99999999999999999999999", &MARKER.repeat(100)] {
                    let changed = Ask { address: format!("{path}?{}", with(name, value)), ..ask.clone() };
                    let answer = scene.send(Scene::who_may(&ask.route), &changed).await;
                    if !answer.status.is_success() {
                        refused(&changed.address, &answer, &CODES);
                    }
                    silent(&changed.address, &answer);
                }
            }
        }
        for query in bad {
            let changed = Ask { address: format!("{path}?{query}"), ..ask.clone() };
            let answer = scene.send(Scene::who_may(&ask.route), &changed).await;
            let what = format!("{} {}", ask.route.method, changed.address);
            refused(&what, &answer, &CODES[..2]);
        }
    }
    unchanged(&scene, &seen, last).await;
}
