//! The routes, as the OpenAPI document has them: a new one is in every test of this folder without anybody thinking of it.

use kluis_server::api;
use serde_json::Value;

use crate::world::text;

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Route {
    /// As in the document, with the prefix and `{parameters}`.
    pub(crate) path: String,
    pub(crate) method: String,
    pub(crate) by: By,
    /// Whether it takes one.
    pub(crate) body: bool,
}

/// How it is authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum By {
    Nobody,
    Token,
    Session,
    /// Signed by the key that the body brings.
    OwnKey,
}

impl Route {
    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

pub(crate) fn all() -> Vec<Route> {
    let document = serde_json::to_value(api::document()).unwrap();
    let mut routes = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let body = operation.get("requestBody").is_some();
            let method = method.to_ascii_uppercase();
            routes.push(Route { path: path.clone(), method, by: by(operation), body });
        }
    }
    routes.sort();
    assert!(routes.len() > 50, "the document was read");
    routes
}

fn by(operation: &Value) -> By {
    let [requirement] = &operation["security"].as_array().expect("every operation says how")[..] else {
        panic!("{operation} has more than one way in")
    };
    let names: Vec<&str> = requirement.as_object().unwrap().keys().map(String::as_str).collect();
    match &names[..] {
        [] => By::Nobody,
        ["token"] => By::Token,
        ["session", "signature"] => By::Session,
        ["signature"] => By::OwnKey,
        other => panic!("{other:?} is no way in"),
    }
}

#[test]
fn what_is_public_is_a_checked_in_list() {
    let public: Vec<String> = all().iter().filter(|r| r.by == By::Nobody).map(Route::name).collect();
    let mut listed: Vec<&str> = include_str!("public.txt").lines().collect();
    listed.sort_by_key(|line| line.split_once(' ').map(|(method, path)| (path, method)));
    assert_eq!(public, listed);
}

#[test]
fn operations_have_names_of_their_own() {
    let document = serde_json::to_value(api::document()).unwrap();
    let items = document["paths"].as_object().unwrap().values().flat_map(|i| i.as_object().unwrap().values());
    let mut names: Vec<String> = items.map(|o| text(&o["operationId"])).collect();
    let all = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), all);
}
