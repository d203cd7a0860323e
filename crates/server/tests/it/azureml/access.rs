//! Every address of this face as everybody: without a good credential 401, who may not see a thing hears 404, who sees
//! it and may not act 403. A run's session opens nothing here.

use serde_json::{Value, json};

use super::forms::{Entry, definition, form, post, zip};
use super::{ask, at, face_token, refused};
use crate::session::stage::Stage;
use crate::world::{Answer, CANARY, World};

/// Who comes: nobody, with a stranger's word, an outsider, an agent, a reader, who only writes secrets, a contributor.
const CALLERS: [&str; 7] = ["nobody", "garbage", "outsider", "agent", "reader", "writer", "contributor"];

/// What each of them is answered: `+` an answer, else the first digit but one of the status: 401 1, 403 3, 404 4.
const TABLE: &[(&str, &str, &str)] = &[
    ("GET", "arm:/workspaces/team", "1144+++"),
    ("GET", "credential/v2.0:/secrets", "1144+++"),
    ("PUT", "credential/v2.0:/secrets", "11443++"),
    ("GET", "credential/v2.0:/secrets/db-password", "114433+"),
    ("POST", "credential/v2.0:/secrets:getbatch", "114433+"),
    ("PUT", "credential/v2.0:/secrets:putbatch", "11443++"),
    ("POST", "credential/v2.0:/secrets:deletebatch", "11443++"),
    ("DELETE", "credential/v2.0:/secrets/spare", "11443++"),
    ("GET", "history/v1.0:/experiments/churn", "1144+3+"),
    ("POST", "history/v1.0:/experiments/churn", "1144+3+"),
    ("POST", "history/v1.0:/experiments:query", "1144+3+"),
    ("POST", "history/v1.0:/experiments/churn/runs:query", "1144+3+"),
    ("GET", "history/v1.0:/experiments/churn/runs/RUN", "1144+3+"),
    ("GET", "history/v1.0:/runs/RUN", "1144+3+"),
    ("GET", "history/v1.0:/experiments/churn/runs/RUN/details", "1144+3+"),
    ("GET", "history/v1.0:/experiments/churn/runs/RUN/children", "1144+3+"),
    ("GET", "history/v1.0:/experiments/churn/runs/RUN/metricsingest/wait", "1144+3+"),
    ("PATCH", "history/v1.0:/experiments/churn/runs/RUN", "114433+"),
    ("DELETE", "history/v1.0:/experiments/churn/runs/RUN/tags", "114433+"),
    ("POST", "history/v1.0:/experiments/churn/runs/RUN/events", "114433+"),
    ("GET", "history/v1.0:/experiments/churn/runs/RUN/token", "1144333"),
    ("POST", "metric/v2.0:/runs/RUN/list", "1144+3+"),
    ("POST", "metric/v2.0:/runs/RUN/full", "1144+3+"),
    ("GET", "artifact/v2.0:/artifacts/ExperimentRun/dcid.RUN", "1144+3+"),
    ("GET", "artifact/v2.0:/artifacts/contentinfo/ExperimentRun/dcid.RUN/user_logs/std_log.txt", "1144+3+"),
    ("GET", "artifact/v2.0:/artifacts/prefix/contentinfo/ExperimentRun/dcid.RUN/outputs", "1144+3+"),
    ("GET", "content/v1.0:/snapshots/latest/metadata", "114433+"),
    ("POST", "content/v2.0:/snapshots/getblob", "114433+"),
    ("POST", "content/v2.0:/snapshots/0b6f", "114433+"),
    ("POST", "execution/v1.0:/experiments/churn/startrun", "114433+"),
    ("POST", "execution/v1.0:/experiments/churn/localrun", "114433+"),
];

fn body(path: &str) -> Value {
    let named = json!({ "secrets": [{ "name": "spare" }] });
    match path.rsplit('/').next().unwrap() {
        "secrets" => json!({ "name": "spare", "value": "v" }),
        "secrets:getbatch" | "secrets:deletebatch" => named,
        "secrets:putbatch" => json!({ "secrets": [{ "name": "spare", "value": "v" }] }),
        "tags" => json!(["x"]),
        "events" => json!({ "name": "Microsoft.MachineLearning.Run.Canceled" }),
        "full" => json!({ "metricName": "loss" }),
        _ => json!({ "tags": { "x": "1" } }),
    }
}

async fn send(world: &World, method: &str, path: &str, token: Option<&str>) -> Answer {
    if path.ends_with("startrun") || path.ends_with("localrun") {
        let local = path.ends_with("localrun");
        let definition = definition(&json!({ "target": if local { "local" } else { "cluster" } })).to_string();
        let tree = zip(&[Entry::new("train.py", b"")]);
        let parts: [(&str, &str, &[u8]); 2] = if local {
            [("files", "definition.json", definition.as_bytes()), ("files", "aml_config.zip", b"")]
        } else {
            [("runDefinitionFile", "definition.json", definition.as_bytes()), ("projectZipFile", "project.zip", &tree)]
        };
        return post(world, &format!("{path}?runId=churn_9_ab"), token.unwrap_or_default(), form(&parts)).await;
    }
    let body = (method != "GET" && !path.ends_with("/secrets/spare")).then(|| body(path));
    ask(world, method, path, token, body).await
}

#[tokio::test]
async fn every_address_answers_everybody_as_the_table_says() {
    let stage = Stage::new().await;
    let world = &stage.world;
    world.workspace("elsewhere").await;
    let mut tokens = vec![None, Some("kls_usr_garbage".to_owned())];
    for (name, membership) in [
        ("outsider", Some(("elsewhere", "owner"))),
        ("reader", Some(("team", "reader"))),
        ("writer", Some(("team", "secrets-writer"))),
    ] {
        let native = world.user(name, membership).await;
        tokens.push(Some(face_token(world, &native).await));
    }
    tokens.insert(3, Some(face_token(world, &stage.agent).await));
    tokens.push(Some(face_token(world, &stage.ada).await));
    stage.set("spare", "v").await;
    let (run, launcher) = stage.running(json!({})).await;
    let time = "2026-11-24T14:20:00.000Z";
    let metric = json!({ "metric": { "name": "loss", "kind": "scalar", "value": 1, "time": time } });
    launcher.post(world, "/session/metrics", json!({ "first": 0, "metrics": [metric] })).await.ok();

    let mut differences = Vec::new();
    for (method, address, expected) in TABLE {
        let (service, rest) = address.split_once(':').unwrap();
        let path = match service {
            "arm" => format!(
                "/azure/arm/sub-1/subscriptions/sub-1/resourceGroups/rg/providers/Microsoft.MachineLearningServices{rest}"
            ),
            service => at(service, rest).replace("RUN", &run),
        };
        let mut found = String::new();
        for (caller, token) in CALLERS.iter().zip(&tokens) {
            let recover = "/workspaces/team/deleted-secrets/spare/recover";
            world.call("POST", recover, Some(&world.owner), None).await;
            let answer = send(world, method, &path, token.as_deref()).await;
            found.push(if answer.status == 200 {
                '+'
            } else {
                let (status, _, said) = refused(&answer);
                assert!(!said.contains(CANARY), "{caller} {method} {address}");
                char::from_digit(u32::from(status % 10), 10).unwrap()
            });
        }
        if found != *expected {
            differences.push(format!("{method} {address}: {found}, expected {expected}"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// A launcher signs; what it signs with is no bearer token, and its id is none either.
#[tokio::test]
async fn a_runs_session_opens_nothing() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let (_, launcher) = stage.running(json!({})).await;
    let path = at("credential/v2.0", "/secrets/db-password");
    let answer = ask(world, "GET", &path, Some(&launcher.session), None).await;
    assert_eq!(refused(&answer).0, 401);
    let signed = launcher.sign(world.app.now().millis(), "GET", &path, &path, b"");
    assert_eq!(world.send(signed).await.status, 401);
}

#[tokio::test]
async fn what_is_not_there_is_told_in_words_that_the_client_understands() {
    let stage = Stage::new().await;
    for path in [
        at("credential/v2.0", "/nope"),
        at("nope/v1.0", ""),
        "/azure/ml/nope".to_owned(),
        "/azure/arm/sub-1/nope".to_owned(),
    ] {
        assert_eq!(refused(&ask(&stage.world, "GET", &path, Some(&stage.ada), None).await).0, 404, "{path}");
    }
    let wrong = ask(&stage.world, "POST", &at("credential/v2.0", "/secrets/a"), Some(&stage.ada), None).await;
    assert_eq!(refused(&wrong).0, 405);
}
