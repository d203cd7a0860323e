//! What a run writes: its log in order and masked, its files.

use serde_json::json;

use crate::harness::Run;

#[tokio::test]
async fn output_arrives_in_order_whole_and_numbered() {
    let script = "for i in 1 2 3 4 5; do echo out $i; sleep 0.02; echo err $i >&2; sleep 0.02; done";
    let ended = Run::of_shell(script).await.finish().await;
    ended.succeeded();
    let told = ended.fake.told();
    let user = told.logs.iter().filter(|r| r.stream != kluis_core::api::runs::Stream::System);
    let text: String = user.map(|r| String::from_utf8_lossy(&r.data).into_owned()).collect();
    let expected = "out 1\nerr 1\nout 2\nerr 2\nout 3\nerr 3\nout 4\nerr 4\nout 5\nerr 5\n";
    assert_eq!(text, expected);
    assert!(told.logs.iter().enumerate().all(|(i, r)| r.seq == i as u64));
}

#[tokio::test]
async fn a_flood_arrives_complete_in_records_of_the_allowed_size() {
    let ended = Run::of_shell("seq 1 400000; printf 'no newline'").await.finish().await;
    let out = ended.succeeded();
    assert_eq!(out.lines().count(), 400_001);
    assert!(out.ends_with("400000\nno newline"));
    assert!(ended.fake.told().logs.iter().all(|r| r.data.len() <= 64 * 1024));
}

#[tokio::test]
async fn a_value_is_masked_before_it_leaves_wherever_it_is_cut() {
    let script = "
import sys, time
from kluis import Run
value = Run.get_context().get_secret('db')
for cut in (1, 4, len(value) - 1):
    sys.stdout.write(value[:cut]); sys.stdout.flush(); time.sleep(0.15)
    sys.stdout.write(value[cut:] + '\\n'); sys.stdout.flush()
raise RuntimeError(value)
";
    let ended = Run::of_python(script).await.secret("db", "correct horse battery").finish().await;
    assert_eq!(ended.stdout(), "***\n".repeat(3));
    assert!(ended.stderr().contains("RuntimeError: ***"), "{}", ended.stderr());
    let told = ended.fake.told();
    let leaks = &told.end.as_ref().unwrap().leaks;
    assert_eq!(leaks.iter().map(|leak| leak.count).collect::<Vec<_>>(), [3, 1]);
    assert!(told.logs.iter().all(|r| !r.data.windows(13).any(|w| w == b"correct horse")));
}

#[tokio::test]
async fn outputs_and_logs_are_uploaded_with_their_folders() {
    let script = "mkdir -p outputs/deep; printf a > outputs/deep/a; : > outputs/empty; printf l > logs/l; \
                  head -c 9000000 /dev/zero > outputs/large; ln -s deep/a outputs/link; ln -s /etc/passwd outputs/out; exit 3";
    let ended = Run::of_shell(script).await.finish().await;
    let told = ended.fake.told();
    let sizes: Vec<_> = told.outputs.iter().map(|(name, data)| (name.as_str(), data.len())).collect();
    assert_eq!(
        sizes,
        [("logs/l", 1), ("outputs/deep/a", 1), ("outputs/empty", 0), ("outputs/large", 9_000_000), ("outputs/link", 1)]
    );
    drop(told);
    assert!(ended.system().contains("1 entries of ./outputs"), "{}", ended.system());
}

#[tokio::test]
async fn logs_are_uploaded_while_the_run_runs_and_again_when_they_change() {
    let script = "echo one > logs/l; while [ ! -e go ]; do sleep 0.05; done; echo two >> logs/l
                  while [ ! -e stop ]; do sleep 0.05; done";
    let running = Run::of_shell(script).await.start().await;
    let tree = running.folder.path().join("runs/test_1-1/tree");
    running.fake.until("the first line", |told| told.outputs.get("logs/l").is_some_and(|l| l == b"one\n")).await;
    std::fs::write(tree.join("go"), "").unwrap();
    running.fake.until("the second line", |told| told.outputs["logs/l"] == b"one\ntwo\n").await;
    std::fs::write(tree.join("stop"), "").unwrap();
    running.finish().await.succeeded();
}

#[tokio::test]
async fn a_value_in_a_name_leaves_neither_by_the_servers_way_nor_by_the_launchers_own_log() {
    let script = "
import os
from kluis import Run, ServiceException
run = Run.get_context()
value = run.get_secret('db')
open('outputs/' + value, 'w').write('x')
os.symlink('/etc/passwd', 'outputs/out')
run.upload_file('models/' + value + '/m', 'outputs/' + value)
try:
    run.upload_file('models/' + value, 'not there')
except ServiceException as error:
    print(error)
try:
    run.child_run(run_id='fold-' + value)
except ServiceException as error:
    print(error.code)
run.set_tags({value: 'x'})
run._change(remove_tags=[value])
";
    let ended = Run::of_python(script).await.secret("db", "correct-horse-battery").finish().await;
    let said = ended.succeeded();
    assert!(said.ends_with("bad_request\n"), "{said}");
    let told = ended.fake.told();
    assert_eq!(told.outputs.keys().collect::<Vec<_>>(), ["models/***/m", "outputs/***"]);
    assert_eq!(told.changes.last().unwrap().remove_tags, ["***"]);
    assert!(told.children.is_empty());
    assert!(!ended.stderr.contains("correct-horse"), "{}", ended.stderr);
}

#[tokio::test]
async fn the_phases_of_a_run_are_told() {
    let ended = Run::of_python("import time; time.sleep(0.3)").await.context("tags", json!({})).finish().await;
    ended.succeeded();
    let phases = ended.fake.told().phases.clone();
    let mut seen = phases.clone();
    seen.dedup();
    assert!(phases.contains(&"running".to_owned()), "{seen:?}");
}
