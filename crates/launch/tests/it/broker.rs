//! Secrets inside a run: who gets them, in which order things happen, what is told to whom.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use kluis_client::broker::{Broker, Error};
use kluis_core::api::broker::{Answer, Request};
use kluis_core::name::SecretName;
use serde_json::json;

use crate::harness::{Ended, Run, Running};

const WAIT: &str = "import os, sys, time\nprint('socket', os.environ['KLUIS_RUN_SOCKET'])\n\
                    sys.stdout.flush()\nwhile not os.path.exists('stop'): time.sleep(0.02)\n";

/// The run's socket, told by the run itself.
async fn socket_of(running: &Running) -> std::path::PathBuf {
    let stdout = || running.fake.log(kluis_core::api::runs::Stream::Stdout);
    running.fake.until("the socket's path", |told| told.logs.iter().any(|r| r.data.starts_with(b"socket "))).await;
    stdout().lines().find_map(|line| line.strip_prefix("socket ").map(Into::into)).unwrap()
}

async fn stop(running: Running) -> Ended {
    std::fs::write(running.folder.path().join("runs/test_1-1/tree/stop"), "").unwrap();
    running.finish().await
}

const READ: &str = "
from kluis import Run
run = Run.get_context()
value = run.get_secret('Db-Password')
print('the value is', value, len(value))
print(run.get_secrets(['db-password', 'unknown'])['unknown'])
";

#[tokio::test]
async fn a_secret_is_read_by_name_masked_in_the_log_and_every_read_is_told() {
    let ended = Run::of_python(READ).await.secret("db-password", "correct horse").finish().await;
    assert_eq!(ended.succeeded(), "the value is *** 13\nNone\n");
    let told = ended.fake.told();
    // The second read found the value in the cache; only the unknown name made it ask again.
    assert_eq!(told.reads_of_secrets.len(), 2);
    let reads: Vec<_> = told.reads.iter().map(|r| (r.sequence, r.name.key().to_owned(), r.rank)).collect();
    assert_eq!(reads, [(1, "db-password".to_owned(), 0), (2, "db-password".to_owned(), 0)]);
    let leaks = &told.end.as_ref().unwrap().leaks;
    assert_eq!((leaks.len(), leaks[0].secret.key(), leaks[0].count), (1, "db-password", 1));
}

#[tokio::test]
async fn an_undeclared_secret_is_an_error_with_its_code() {
    let script = "
from kluis import Run, ServiceException
try:
    Run.get_context().get_secret('other')
except ServiceException as error:
    print(error.code)
";
    let run = Run::of_python(script).await;
    run.fake.told().undeclared.push("other".to_owned());
    assert_eq!(run.finish().await.succeeded(), "secret_undeclared\n");
}

#[tokio::test]
async fn a_stranger_of_the_same_user_gets_a_clear_refusal_and_no_value() {
    let running = Run::of_python(WAIT).await.secret("mine", "only for the run").start().await;
    let socket = socket_of(&running).await;
    let refused = tokio::task::spawn_blocking(move || {
        let mut broker = Broker::connect(&socket).unwrap();
        let outcome = broker.secrets(vec![SecretName::parse("mine").unwrap()], false, 0, None);
        // And the launcher hangs up.
        assert!(matches!(broker.context(), Err(Error::Gone(_))));
        drop(UnixStream::connect(&socket));
        outcome.unwrap_err()
    });
    let refused = refused.await.unwrap();
    assert_eq!(refused.code(), Some("forbidden"));
    assert!(refused.to_string().contains("started by the run"), "{refused}");
    let ended = stop(running).await;
    ended.succeeded();
    assert!(ended.fake.told().reads_of_secrets.is_empty());
    assert!(ended.system().contains("outside the run"));
}

#[tokio::test]
async fn a_double_forked_child_in_a_session_of_its_own_is_still_served() {
    let script = "
import os, sys, time
from kluis import Run
read, write = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(0.1)
        os.write(write, str(len(Run.get_context().get_secret('db'))).encode())
    os._exit(0)
os.wait()
print(os.read(read, 100).decode())
";
    let ended = Run::of_python(script).await.secret("db", "correct horse").finish().await;
    assert_eq!(ended.succeeded(), "13\n");
}

#[tokio::test]
async fn many_processes_at_once_are_one_question_to_the_server() {
    let script = "
import multiprocessing
from kluis import Run
def read(_):
    return len(Run.get_context().get_secret('db'))
if __name__ == '__main__':
    with multiprocessing.get_context('fork').Pool(8) as pool:
        print(sum(pool.map(read, range(40), chunksize=1)))
";
    let ended = Run::of_python(script).await.secret("db", "correct horse").finish().await;
    assert_eq!(ended.succeeded(), format!("{}\n", 40 * 13));
    let told = ended.fake.told();
    assert_eq!(told.reads_of_secrets.len(), 1);
    let sequence: Vec<u64> = told.reads.iter().map(|read| read.sequence).collect();
    assert_eq!(sequence, (1..=40).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_server_that_is_away_is_unavailable_after_the_readers_own_patience_and_read_when_it_returns() {
    let script = "
import time
from kluis import Run, VaultUnavailable
run = Run.get_context()
print('ready', flush=True)
time.sleep(0.5)
try:
    run.get_secret('db', timeout=0.5)
except VaultUnavailable as error:
    print(error.code, flush=True)
print(len(run.get_secret('db')))
";
    let running = Run::of_python(script).await.secret("db", "correct horse").start().await;
    running.fake.until("the script", |told| told.logs.iter().any(|r| r.data == b"ready\n")).await;
    running.fake.told().down = true;
    tokio::time::sleep(Duration::from_secs(3)).await;
    running.fake.told().down = false;
    assert_eq!(running.finish().await.succeeded(), "ready\nunavailable\n13\n");
}

#[tokio::test]
async fn a_revoked_value_is_fetched_anew_and_a_rotation_is_told() {
    let script = "
import time
from kluis import Run
run = Run.get_context()
print(len(run.get_secret('db')), flush=True)
answer = run._launcher.call('wait_rotation', timeout_ms=20000, after=0)
print(answer['counter'], answer['names'], flush=True)
print(len(run.get_secret('db', refresh=True)))
";
    let running = Run::of_python(script).await.secret("db", "correct horse").start().await;
    running.fake.until("the read", |told| !told.reads_of_secrets.is_empty()).await;
    running.fake.told().secrets.insert("db".to_owned(), "battery staple horse".to_owned());
    running.fake.notice(json!({"rotated": ["db"], "revoked": ["other"]}));
    let ended = running.finish().await;
    assert_eq!(ended.succeeded(), "13\n1 ['db']\n20\n");
    assert!(ended.fake.told().reads_of_secrets[1].refresh);

    let running = Run::of_python(
        "
import os, time
from kluis import Run
run = Run.get_context()
run.get_secret('db'); run.get_secret('db')
print('read', flush=True)
while not os.path.exists('go'): time.sleep(0.02)
run.get_secret('db')
",
    )
    .await
    .secret("db", "correct horse")
    .start()
    .await;
    running.fake.until("the reads", |told| told.logs.iter().any(|r| r.data == b"read\n")).await;
    assert_eq!(running.fake.told().reads_of_secrets.len(), 1);
    running.fake.notice(json!({"revoked": ["db"]}));
    running.fake.until("the notice", |told| told.notices.is_empty()).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    std::fs::write(running.folder.path().join("runs/test_1-1/tree/go"), "").unwrap();
    let ended = running.finish().await;
    ended.succeeded();
    assert_eq!(ended.fake.told().reads_of_secrets.len(), 2);
}

#[tokio::test]
async fn declared_secrets_are_masked_even_if_the_run_never_asks_for_them() {
    let run = Run::of_shell("echo correct horse; echo corr; printf 'correct '; sleep 0.2; echo horse").await;
    let run = run.secret("db", "correct horse").context("secrets", json!(["db", "gone"]));
    let ended = run.finish().await;
    assert_eq!(ended.succeeded(), "***\ncorr\n***\n");
    assert!(ended.system().contains("`gone` does not exist"));
    // Read by the launcher, delivered to nobody.
    assert!(ended.fake.told().reads.is_empty());
}

#[tokio::test]
async fn a_value_too_short_to_be_masked_is_said_once() {
    let run = Run::of_python(
        "from kluis import Run; r = Run.get_context(); print(r.get_secret('pin')); r.get_secret('pin', refresh=True)",
    );
    let ended = run.await.secret("pin", "1234").finish().await;
    assert_eq!(ended.succeeded(), "1234\n");
    assert_eq!(ended.system().matches("`pin` has fewer than 8 bytes").count(), 1, "{}", ended.system());
}

#[tokio::test]
async fn one_refused_declared_secret_keeps_no_other_from_being_masked() {
    let run = Run::of_shell("echo correct horse battery staple").await;
    let run = run.secret("a", "correct horse").secret("c", "battery staple");
    run.fake.told().undeclared.push("b".to_owned());
    let ended = run.context("secrets", json!(["a", "b", "c"])).finish().await;
    assert_eq!(ended.succeeded(), "*** ***\n");
    assert!(ended.system().contains("`b` can not be read"), "{}", ended.system());
}

#[tokio::test]
async fn a_call_that_was_broken_off_does_not_answer_the_next_one() {
    let script = "
import signal, time
from kluis import Run
run = Run.get_context()
def ring(*_): raise KeyboardInterrupt
signal.signal(signal.SIGALRM, ring)
signal.setitimer(signal.ITIMER_REAL, 0.2)
try:
    run._launcher.call('wait_rotation', timeout_ms=600, after=0)
except KeyboardInterrupt:
    print('broken off')
time.sleep(0.6)
print(len(run.get_secret('db')))
";
    let ended = Run::of_python(script).await.secret("db", "correct horse").finish().await;
    assert_eq!(ended.succeeded(), "broken off\n13\n");
}

#[tokio::test]
async fn the_rank_that_a_read_is_told_with_is_the_processs_and_not_the_nodes() {
    let script = "from kluis import Run; Run.get_context().get_secret('db')";
    for (variable, expected) in [("RANK", 3), ("OMPI_COMM_WORLD_RANK", 3), ("OTHER", 0)] {
        let run = Run::of_python(script).await.secret("db", "correct horse");
        let ended = run.context("environment", json!({variable: "3"})).finish().await;
        ended.succeeded();
        assert_eq!(ended.fake.told().reads[0].rank, expected, "{variable}");
    }
}

#[tokio::test]
async fn a_read_may_ask_for_any_patience() {
    let script = "from kluis import Run; print(len(Run.get_context()._launcher.call('get_secrets', names=['db'], \
                  refresh=False, rank=0, timeout_ms=2**64 - 1)['items']))";
    let ended = Run::of_python(script).await.secret("db", "correct horse").finish().await;
    assert_eq!(ended.succeeded(), "1\n");
}

#[tokio::test]
async fn every_other_request_reaches_the_server_masked() {
    let script = "
from kluis import Run
run = Run.get_context()
secret = run.get_secret('db')
run.log('accuracy', 0.5, step=3); run.log('nan', float('nan')); run.log('note', 'x ' + secret)
run.log_list('losses', [1, 2]); run.log_row('table', a=1, b=secret)
run.tag('seen', secret); run.set_tags({'plain': 'yes'})
print(run.get_tags(), run.get_status(), run.number)
open('model.bin', 'wb').write(b'x' * 5_000_000)
run.upload_file('outputs/./model.bin', 'model.bin')
with run.child_run('fold ' + secret) as child:
    child.log('inner', 1)
run.flush()
";
    let ended = Run::of_python(script).await.secret("db", "correct horse").finish().await;
    assert_eq!(ended.succeeded(), "{'plain': 'yes', 'seen': '***'} Running 1\n");
    let told = ended.fake.told();
    let metrics = serde_json::to_string(&told.metrics).unwrap();
    assert!(!metrics.contains("correct horse") && metrics.contains("x ***"), "{metrics}");
    assert_eq!(told.metrics[0].metric.step, Some(3));
    assert_eq!(told.metrics.last().unwrap().run, told.children[0].run);
    assert_eq!(told.children[0].display_name.as_deref(), Some("fold ***"));
    assert_eq!(told.changes[0].tags["seen"], "***");
    assert_eq!(told.outputs["outputs/model.bin"].len(), 5_000_000);
}

#[tokio::test]
async fn a_metric_that_is_refused_costs_no_other() {
    let script = "
from kluis import Run, ServiceException
run = Run.get_context()
try:
    run.log('x' * 256, 1)
except ServiceException as error:
    print(error.code)
run.log('first', 1)
run._launcher.call('log_metrics', run='stranger', metrics=[
    {'name': 'bad', 'value': 1, 'kind': 'scalar', 'time': '2026-11-24T14:17:00Z'}])
run.log('last', 2)
run.flush()
";
    let ended = Run::of_python(script).await.finish().await;
    assert_eq!(ended.succeeded(), "bad_request\n");
    let names: Vec<_> = ended.fake.told().metrics.iter().map(|m| m.metric.name.clone()).collect();
    assert_eq!(names, ["first", "last"]);
    assert!(ended.system().contains("1 metrics were refused"), "{}", ended.system());
}

#[tokio::test]
async fn values_are_forgotten_after_too_long_without_contact() {
    let script = "
import os, time
from kluis import Run, VaultUnavailable
run = Run.get_context()
print(len(run.get_secret('db')), flush=True)
while not os.path.exists('go'): time.sleep(0.02)
try:
    print(run.get_secret('db', timeout=0.2))
except VaultUnavailable as error:
    print(error.code)
";
    let run = Run::of_python(script).await.secret("db", "correct horse");
    run.fake.told().cache_seconds = Some(1);
    let running = run.start().await;
    running.fake.until("the read", |told| told.logs.iter().any(|r| r.data == b"13\n")).await;
    running.fake.told().down = true;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    std::fs::write(running.folder.path().join("runs/test_1-1/tree/go"), "").unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    running.fake.told().down = false;
    assert_eq!(running.finish().await.succeeded(), "13\nunavailable\n");
}

/// The typed client speaks the same protocol; here through the launcher's own frames.
#[test]
fn a_request_of_the_typed_client_is_one_of_the_brokers() {
    let request = Request::CreateChild(kluis_core::api::session::CreateChild {
        run: None,
        display_name: Some("fold".to_owned()),
        tags: std::collections::BTreeMap::new(),
    });
    let json = serde_json::to_string(&request).unwrap();
    assert_eq!(json, r#"{"op":"create_child","display_name":"fold"}"#);
    assert_eq!(serde_json::from_str::<Request>(&json).unwrap(), request);
    assert_eq!(serde_json::to_string(&Answer::Done {}).unwrap(), r#"{"answer":"done"}"#);
}
