//! The credential service, as the whole `Keyvault` class uses it.

use serde_json::{Value, json};

use super::{ask, at, refused};
use crate::session::stage::Stage;
use crate::world::{Answer, CANARY};

async fn call(stage: &Stage, method: &str, rest: &str, body: Value) -> Answer {
    let body = (!body.is_null()).then_some(body);
    ask(&stage.world, method, &at("credential/v2.0", rest), Some(&stage.ada), body).await
}

/// A success of this service is 200 and nothing else.
#[track_caller]
fn ok(answer: Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.ok()
}

#[tokio::test]
async fn set_get_list_and_delete() {
    let stage = Stage::new().await;
    let given = json!({ "name": "token", "value": "v1", "contentType": "application/NotProvided" });
    let set = ok(call(&stage, "PUT", "/secrets", given).await);
    assert_eq!((&set["name"], set.get("value")), (&json!("token"), None));
    let got = ok(call(&stage, "GET", "/secrets/token", Value::Null).await);
    assert_eq!((&got["value"], &got["contentType"]), (&json!("v1"), &json!("application/NotProvided")));
    let given = json!({ "name": "token", "value": "v2", "contentType": "application/x-pem-file" });
    ok(call(&stage, "PUT", "/secrets", given).await);
    let got = ok(call(&stage, "GET", "/secrets/TOKEN", Value::Null).await);
    assert_eq!((&got["value"], &got["contentType"]), (&json!("v2"), &json!("application/x-pem-file")));
    let listed = ok(call(&stage, "GET", "/secrets", Value::Null).await);
    assert_eq!(listed["value"], json!([{ "name": "db-password" }, { "name": "hub-token" }, { "name": "token" }]));
    assert_eq!(listed["continuationToken"], Value::Null);
    ok(call(&stage, "DELETE", "/secrets/token", Value::Null).await);
    let gone = call(&stage, "GET", "/secrets/token", Value::Null).await;
    assert_eq!(refused(&gone), (404, "secret_not_found".into(), "Secret token not found.".into()));
    let again = call(&stage, "DELETE", "/secrets/token", Value::Null).await;
    assert_eq!(refused(&again).0, 404);
}

#[tokio::test]
async fn batches_tell_what_is_missing_and_set_all_or_none() {
    let stage = Stage::new().await;
    let both = json!({ "secrets": [{ "name": "a", "value": "1" }, { "name": "b", "value": "2" }] });
    ok(call(&stage, "PUT", "/secrets:putbatch", both).await);
    let asked = json!({ "secrets": [{ "name": "A" }, { "name": "nope" }, { "name": "b" }] });
    let got = ok(call(&stage, "POST", "/secrets:getbatch", asked).await);
    let pairs: Vec<_> = got["secrets"].as_array().unwrap().iter().map(|s| (&s["name"], &s["value"])).collect();
    assert_eq!(pairs, [(&json!("A"), &json!("1")), (&json!("b"), &json!("2"))]);
    assert_eq!(got["notFoundSecrets"], json!(["nope"]));
    let none = ok(call(&stage, "POST", "/secrets:getbatch", json!({ "secrets": [] })).await);
    assert_eq!((&none["secrets"], &none["notFoundSecrets"]), (&json!([]), &json!([])));

    // Azure's client leaves out a value of None.
    let one_bad = json!({ "secrets": [{ "name": "c", "value": "3" }, { "name": "d" }] });
    let answer = call(&stage, "PUT", "/secrets:putbatch", one_bad).await;
    let (status, code, words) = refused(&answer);
    assert_eq!((status, &*code), (400, "invalid_value"));
    assert!(words.contains("environment variable"), "{words}");
    assert_eq!(refused(&call(&stage, "GET", "/secrets/c", Value::Null).await).0, 404);

    let names = json!({ "secrets": [{ "name": "a" }, { "name": "b" }] });
    ok(call(&stage, "POST", "/secrets:deletebatch", names).await);
    assert_eq!(refused(&call(&stage, "GET", "/secrets/b", Value::Null).await).0, 404);
}

#[tokio::test]
async fn a_list_goes_on_where_it_stopped() {
    let stage = Stage::new().await;
    let many: Vec<Value> = (0..205).map(|i| json!({ "name": format!("s{i:03}"), "value": "x" })).collect();
    ok(call(&stage, "PUT", "/secrets:putbatch", json!({ "secrets": many })).await);
    let first = ok(call(&stage, "GET", "/secrets", Value::Null).await);
    let token = first["continuationToken"].as_str().unwrap();
    let rest = ok(call(&stage, "GET", &format!("/secrets?continuationToken={token}"), Value::Null).await);
    let count = |page: &Value| page["value"].as_array().unwrap().len();
    assert_eq!((count(&first), count(&rest)), (200, 7));
    assert_eq!(rest["continuationToken"], Value::Null);
}

#[tokio::test]
async fn what_is_refused_never_holds_what_was_sent() {
    let stage = Stage::new().await;
    for (method, rest, body) in [
        ("PUT", "/secrets", json!({ "name": "a/b", "value": CANARY })),
        ("PUT", "/secrets", json!({ "name": CANARY, "value": "v" })),
        ("PUT", "/secrets", json!({ "name": "a", "value": [CANARY] })),
        ("PUT", "/secrets", json!({ "name": "a", "value": CANARY.repeat(1000) })),
        ("PUT", "/secrets", json!({ "name": "a", "value": "v", "contentType": CANARY.repeat(100) })),
        ("PUT", "/secrets", json!([CANARY])),
        (
            "PUT",
            "/secrets:putbatch",
            json!({ "secrets": [{ "name": "a", "value": CANARY }, { "name": "A", "value": CANARY }] }),
        ),
        ("POST", "/secrets:getbatch", json!({ "secrets": [{ "name": CANARY }] })),
        ("GET", "/secrets/kluis-canary%20x", Value::Null),
    ] {
        let answer = call(&stage, method, rest, body).await;
        let (status, ..) = refused(&answer);
        assert!((400..500).contains(&status), "{}", answer.text());
        assert!(!answer.text().contains("kluis-canary"), "{}", answer.text());
    }
    assert_eq!(refused(&call(&stage, "GET", "/secrets/a", Value::Null).await).0, 404, "nothing was set");
}

#[tokio::test]
async fn a_delivery_is_on_record() {
    let stage = Stage::new().await;
    assert_eq!(ok(call(&stage, "GET", "/secrets/db-password", Value::Null).await)["value"], CANARY);
    assert_eq!(stage.world.actions().await.last().map(String::as_str), Some("secret.delivered"));
}
