//! A submission, from the form to the run, and what changes it afterwards.

use std::time::Duration;

use serde_json::{Value, json};

use super::forms::{Entry, definition, form, post, zip};
use super::{ask, at, refused};
use crate::session::stage::{Stage, spec};
use crate::world::{Answer, text};

async fn start(stage: &Stage, more: Value) -> Answer {
    let definition = definition(&more).to_string();
    let tree = zip(&[Entry::new("train.py", b"print(1)\n")]);
    let form = form(&[
        ("runDefinitionFile", "definition.json", definition.as_bytes()),
        ("projectZipFile", "project.zip", &tree),
    ]);
    let path = at("execution/v1.0", "/experiments/churn/startrun?runId=churn_1_ab");
    post(&stage.world, &path, &stage.ada, form).await
}

fn run(rest: &str) -> String {
    at("history/v1.0", &format!("/experiments/churn/runs/churn_1_ab{rest}"))
}

#[tokio::test]
async fn a_script_is_queued_as_the_clients_run_and_once() {
    let stage = Stage::new().await;
    let more = json!({
        "environmentVariables": { "LEVEL": "info", "KLUIS_SECRETS": "db-password" },
        "maxRunDurationSeconds": 60,
    });
    assert_eq!(start(&stage, more.clone()).await.ok()["runId"], "churn_1_ab");
    let shown = stage.show("churn_1_ab").await;
    assert_eq!(shown["program"], json!({ "script": { "path": "train.py", "arguments": ["--epochs", "3"] } }));
    assert_eq!((&shown["compute"], &shown["status"]), (&json!("cluster"), &json!("queued")));
    assert_eq!((&shown["environment"], &shown["secrets"]), (&json!({ "LEVEL": "info" }), &json!(["db-password"])));
    // The client repeats what it does not hear an answer to.
    assert_eq!(start(&stage, more).await.ok()["runId"], "churn_1_ab");
    let other = start(&stage, json!({})).await;
    assert_eq!(refused(&other).0, 409);

    let document = ask(&stage.world, "GET", &run(""), Some(&stage.ada), None).await.ok();
    assert_eq!((&document["runNumber"], &document["rootRunId"]), (&json!(1), &json!("churn_1_ab")));
    assert_eq!((&document["status"], &document["dataContainerId"]), (&json!("Queued"), &json!("dcid.churn_1_ab")));
    let elsewhere = at("history/v1.0", "/experiments/other/runs/churn_1_ab");
    assert_eq!(refused(&ask(&stage.world, "GET", &elsewhere, Some(&stage.ada), None).await).0, 404);
}

#[tokio::test]
async fn what_can_not_be_run_is_refused_with_a_reason() {
    let stage = Stage::new().await;
    for (more, status, words) in [
        (json!({ "target": "nope" }), 404, "compute target"),
        (json!({ "script": "../x.py" }), 400, "path"),
        (json!({ "environmentVariables": { "KLUIS_SECRETS": "nope" } }), 404, "nope"),
        (json!({ "environmentVariables": { "KLUIS_RUN_ID": "x" } }), 400, "reserved"),
        (json!({ "nodeCount": 4 }), 400, "nodes"),
        (json!({ "target": "local" }), 400, "own machine"),
    ] {
        let answer = start(&stage, more).await;
        let (found, _, said) = refused(&answer);
        assert!(found == status && said.contains(words), "{}", answer.text());
    }
    let snapshots = at("execution/v1.0", "/experiments/churn/snapshotrun?runId=churn_1_ab");
    let answer = ask(&stage.world, "POST", &snapshots, Some(&stage.ada), Some(json!({}))).await;
    assert!(refused(&answer).2.contains("AML_FORCE_EXECUTE_WITH_ZIP=1"), "{}", answer.text());
}

#[tokio::test]
async fn tags_properties_and_cancelling() {
    let stage = Stage::new().await;
    let world = &stage.world;
    start(&stage, json!({})).await.ok();
    let change = json!({
        "runId": "churn_1_ab",
        "tags": { "k": "v", "empty": null },
        "properties": { "ContentSnapshotId": null, "p": "1" },
    });
    let changed = ask(world, "PATCH", &run(""), Some(&stage.ada), Some(change)).await.ok();
    assert_eq!(changed["tags"], json!({ "empty": "", "k": "v" }));
    assert_eq!(changed["properties"], json!({ "p": "1" }));
    let fewer = ask(world, "DELETE", &run("/tags"), Some(&stage.ada), Some(json!(["empty"]))).await.ok();
    assert_eq!(fewer["tags"], json!({ "k": "v" }));

    let event = |name: &str| Some(json!({ "name": format!("Microsoft.MachineLearning.Run.{name}"), "data": {} }));
    let told = ask(world, "POST", &run("/events"), Some(&stage.ada), event("Completed")).await;
    assert_eq!(refused(&told).0, 400, "only the run itself completes");
    ask(world, "POST", &run("/events"), Some(&stage.ada), event("Canceled")).await.ok();
    assert_eq!(ask(world, "GET", &run(""), Some(&stage.ada), None).await.ok()["status"], "Canceled");
    let token = ask(world, "GET", &run("/token"), Some(&stage.ada), None).await;
    assert_eq!(refused(&token).0, 403);
}

#[tokio::test]
async fn runs_are_listed_as_the_client_filters_them() {
    let stage = Stage::new().await;
    let world = &stage.world;
    for (id, tags) in [("a", json!({ "k": "v" })), ("b", json!({})), ("c", json!({ "k": "w" }))] {
        world.post("/workspaces/team/runs", &stage.ada, spec(json!({ "run": id, "tags": tags }))).await.ok();
    }
    stage.cancel("b").await.ok();
    let list = async |filter: &str| {
        let path = at("history/v1.0", "/experiments/churn/runs:query");
        let query = json!({ "filter": filter, "orderby": "StartTimeUtc desc", "top": 500 });
        let listed = ask(world, "POST", &path, Some(&stage.ada), Some(query)).await.ok();
        listed["value"].as_array().unwrap().iter().map(|run| text(&run["runId"])).collect::<Vec<_>>()
    };
    assert_eq!(list("").await, ["c", "b", "a"]);
    assert_eq!(list("(ParentRunId eq null)").await, ["c", "b", "a"]);
    assert_eq!(list("(Tags/k eq \"v\")").await, ["a"]);
    assert_eq!(list("(Tags/k ne null or Tags/k eq null)").await, ["c", "a"]);
    assert_eq!(list("((Status eq Canceled) and (ParentRunId eq null))").await, ["b"]);
    assert_eq!(list("RunId eq a or RunId eq nope or RunId eq c").await, ["a", "c"]);
    let unknown = json!({ "filter": "(CreatedUtc ge 2020-01-01)" });
    let path = at("history/v1.0", "/experiments/churn/runs:query");
    assert_eq!(refused(&ask(world, "POST", &path, Some(&stage.ada), Some(unknown)).await).0, 400);
}

#[tokio::test]
async fn a_local_run_is_what_its_own_machine_submits() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let definition = definition(&json!({ "target": "local" })).to_string();
    let form = form(&[("files", "definition.json", definition.as_bytes()), ("files", "aml_config.zip", b"PK")]);
    let path = at("execution/v1.0", "/experiments/churn/localrun?runId=churn_1_ab");
    let answer = post(world, &path, &stage.ada, form).await;
    assert_eq!(answer.headers["content-type"], "application/zip");
    let mut zip = zip::ZipArchive::new(std::io::Cursor::new(answer.body)).unwrap();
    let script = std::io::read_to_string(zip.by_name("azureml-setup/Invocation.sh").unwrap()).unwrap();
    assert!(script.contains("KLUIS_ADDR='https://localhost:8443'") && script.contains("--run-id 'churn_1_ab'"));
    assert!(script.ends_with(" 'train.py' '--epochs' '3'\n"), "{script}");
    assert!(!script.contains("kls_"), "no token is in it");
    assert_eq!(zip.len(), 1);

    // The client sets a property at once, and the machine may still be packing.
    let set = json!({ "runId": "churn_1_ab", "properties": { "ContentSnapshotId": "123" } });
    let patched = async { ask(world, "PATCH", &run(""), Some(&stage.ada), Some(set)).await };
    let submitted = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        stage.run(json!({ "run": "churn_1_ab", "compute": "local" })).await
    };
    let (patched, _) = tokio::join!(patched, submitted);
    assert_eq!(patched.ok()["properties"], json!({ "ContentSnapshotId": "123" }));

    // A run that a script wants to make by hand is told at once that it can not.
    let by_hand = json!({ "runId": "x", "name": "run_x", "target": "local" });
    let path = at("history/v1.0", "/experiments/churn/runs/x");
    let answer = ask(world, "PATCH", &path, Some(&stage.ada), Some(by_hand)).await;
    assert!(refused(&answer).2.contains("start_logging"), "{}", answer.text());
}

#[tokio::test]
async fn what_comes_before_a_submission_is_answered() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let latest = at("content/v1.0", "/snapshots/latest/metadata");
    assert_eq!(ask(world, "GET", &latest, Some(&stage.ada), None).await.ok()["root"]["children"], json!({}));
    let names = Some(json!({ "FileNames": ["train.py"] }));
    let blobs = ask(world, "POST", &at("content/v2.0", "/snapshots/getblob"), Some(&stage.ada), names).await.ok();
    assert_eq!(blobs["fileNodes"], json!([]));
    let created = at("content/v2.0", "/snapshots/0b6f1b52-0000-0000-0000-000000000000");
    ask(world, "POST", &created, Some(&stage.ada), Some(json!({ "DirTreeNode": {} }))).await.ok();
}
