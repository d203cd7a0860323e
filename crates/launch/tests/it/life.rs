//! From ticket to end: redeeming, stopping, what survives what, who is blamed.

use std::time::Duration;

use kluis_core::run::{Blame, ExitStatus};
use rustix::process::Signal;
use serde_json::json;
use tokio::time::Instant;

use crate::harness::{Run, processes_with};

#[tokio::test]
async fn a_command_runs_and_its_end_is_reported() {
    let ended = Run::of_shell("echo out; echo err >&2; pwd").await.finish().await;
    let work = ended.folder.path().join("runs/test_1-1/tree").canonicalize().unwrap();
    assert_eq!(ended.succeeded(), format!("out\n{}\n", work.display()));
    assert_eq!(ended.stderr(), "err\n");
    assert_eq!(ended.fake.told().end.as_ref().unwrap().blame, None);
}

#[tokio::test]
async fn a_ticket_is_tried_until_its_agent_has_confirmed_with_one_key() {
    let run = Run::of_command(&["true"]).await;
    run.fake.told().unconfirmed = 3;
    let ended = run.finish().await;
    ended.succeeded();
    assert_eq!(ended.fake.told().redeemed_with.len(), 1);
}

#[tokio::test]
async fn the_end_of_a_program_is_told_as_it_was() {
    for (script, exit, blame) in [
        ("exit 7", ExitStatus::Code(7), Blame::Script),
        ("exit 137", ExitStatus::Code(137), Blame::Script),
        ("kill -9 $$", ExitStatus::Signal(9), Blame::Script),
        ("kill -15 $$", ExitStatus::Signal(15), Blame::Script),
    ] {
        let ended = Run::of_shell(script).await.finish().await;
        let (told, blamed, reason) = ended.end();
        assert_eq!((told, blamed), (Some(exit), Some(blame)), "{script}: {reason}");
        assert!(ended.status.success(), "the launcher did its part");
    }
}

#[tokio::test]
async fn a_script_or_program_that_is_not_there_is_the_scripts_fault_and_named() {
    let ended = Run::of_python("").await.context("program", json!({"script": {"path": "trian.py"}})).finish().await;
    let (exit, blame, reason) = ended.end();
    assert_eq!((exit, blame), (None, Some(Blame::Script)));
    assert!(reason.contains("trian.py") && reason.contains("does not exist"), "{reason}");

    let ended = Run::of_command(&["no-such-program"]).await.finish().await;
    let (exit, blame, reason) = ended.end();
    assert_eq!((exit, blame), (None, Some(Blame::Script)));
    assert!(reason.contains("no-such-program"), "{reason}");

    let ended = Run::of_python("").await.context("python", json!("/nonexistent/python")).finish().await;
    let (_, blame, reason) = ended.end();
    assert!(blame == Some(Blame::Script) && reason.contains("/nonexistent/python"), "{reason}");
}

#[tokio::test]
async fn the_first_system_line_says_which_python() {
    let ended = Run::of_python("import sys; print(sys.argv)").await.finish().await;
    assert_eq!(ended.succeeded(), "['train.py', 'an argument']\n");
    let first = ended.system().lines().next().unwrap_or_default().to_owned();
    assert!(first.starts_with("Python 3.") && first.contains("/python3"), "{first}");
}

const STUBBORN: &str = "trap '' TERM; echo ready; while :; do sleep 0.1; done";
const POLITE: &str = "trap 'echo saving; exit 5' TERM; echo ready; while :; do sleep 0.05; done";

#[tokio::test]
async fn a_cancel_asks_first_and_waits_for_the_grace() {
    let running = Run::of_shell(POLITE).await.start().await;
    running.fake.until("the script", |told| told.logs.iter().any(|r| r.data == b"ready\n")).await;
    running.fake.notice(json!({"stop": "canceled by ada"}));
    let ended = running.finish().await;
    assert_eq!(ended.stdout(), "ready\nsaving\n");
    assert_eq!(ended.end(), (Some(ExitStatus::Code(5)), Some(Blame::User), "canceled by ada".to_owned()));
}

#[tokio::test]
async fn who_does_not_end_when_asked_is_killed_after_the_grace() {
    let running = Run::of_shell(STUBBORN).await.start().await;
    running.fake.until("the script", |told| told.logs.iter().any(|r| r.data == b"ready\n")).await;
    let asked = Instant::now();
    running.fake.notice(json!({"stop": "canceled by ada"}));
    let ended = running.finish().await;
    assert!(asked.elapsed() >= Duration::from_secs(2), "the grace is two seconds here");
    assert_eq!(ended.end().0, Some(ExitStatus::Signal(9)));
    assert!(ended.system().contains("SIGKILL"));
}

#[tokio::test]
async fn the_engines_sigterm_ends_the_run_with_its_outputs() {
    let running = Run::of_shell(&format!("echo half > outputs/model; {POLITE}")).await.start().await;
    running.fake.until("the script", |told| told.logs.iter().any(|r| r.data == b"ready\n")).await;
    running.signal(Signal::TERM);
    let ended = running.finish().await;
    assert_eq!((ended.end().0, ended.end().1), (Some(ExitStatus::Code(5)), Some(Blame::Engine)));
    assert_eq!(ended.fake.told().outputs["outputs/model"], b"half\n");
}

#[tokio::test]
async fn a_run_ends_when_its_time_is_over() {
    let run = Run::of_shell("exec sleep 60").await.context("resources", json!({"time_seconds": 1}));
    let ended = run.finish().await;
    let (exit, blame, reason) = ended.end();
    assert_eq!((exit, blame), (Some(ExitStatus::Signal(15)), Some(Blame::Script)));
    assert!(reason.contains("1 s"), "{reason}");
}

#[tokio::test]
async fn a_healthy_run_survives_a_server_that_is_away() {
    let running = Run::of_shell("echo one; sleep 2; echo two; echo model > outputs/m").await.start().await;
    running.fake.until("the first line", |told| told.logs.iter().any(|r| r.data == b"one\n")).await;
    running.fake.told().down = true;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(running.fake.told().end.is_none());
    running.fake.told().down = false;
    let ended = running.finish().await;
    assert_eq!(ended.succeeded(), "one\ntwo\n");
    assert_eq!(ended.fake.told().outputs["outputs/m"], b"model\n");
}

#[tokio::test]
async fn a_dead_session_ends_no_healthy_process_but_theft_does() {
    let marker = format!("sleep 4{}", std::process::id());
    let running = Run::of_shell(&format!("echo ready; exec {marker}")).await.start().await;
    running.fake.until("the script", |told| told.logs.iter().any(|r| r.data == b"ready\n")).await;
    running.fake.told().refuse_heartbeats = Some("run_ended");
    running.fake.notice(json!({}));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(processes_with(&marker.replace(' ', "\0")).len(), 1);
    running.signal(Signal::TERM);
    running.finish().await;

    let running = Run::of_shell("echo ready; exec sleep 60").await.start().await;
    running.fake.until("the script", |told| told.logs.iter().any(|r| r.data == b"ready\n")).await;
    running.fake.told().refuse_heartbeats = Some("compromised");
    running.fake.notice(json!({}));
    let ended = running.finish().await;
    assert_eq!(ended.end().0, Some(ExitStatus::Signal(15)));
}

#[tokio::test]
async fn a_cancel_that_was_not_heard_in_time_ends_the_process_when_it_is() {
    let running = Run::of_shell("echo ready; exec sleep 60").await.start().await;
    running.fake.until("the script", |told| told.logs.iter().any(|r| r.data == b"ready\n")).await;
    running.fake.told().refuse_heartbeats = Some("run_canceled");
    running.fake.notice(json!({}));
    let ended = running.finish().await;
    assert_eq!((ended.end().0, ended.end().1), (Some(ExitStatus::Signal(15)), Some(Blame::User)));
}

#[tokio::test]
async fn who_had_a_run_ended_is_told_by_where_it_stands() {
    for (status, blame) in [("lost", Blame::Engine), ("compromised", Blame::Kluis), ("running", Blame::User)] {
        let running = Run::of_shell("echo ready; exec sleep 60").await.start().await;
        running.fake.until("the script", |told| told.logs.iter().any(|r| r.data == b"ready\n")).await;
        running.fake.notice(json!({"status": status, "stop": "it ends here"}));
        assert_eq!(running.finish().await.end().1, Some(blame), "{status}");
    }
}

#[tokio::test]
async fn an_end_that_is_asked_for_after_a_good_one_changes_nothing() {
    let running = Run::of_shell("(trap '' TERM; sleep 60) & sleep 0.2; echo over").await.start().await;
    running.fake.until("the script", |told| told.logs.iter().any(|r| r.data == b"over\n")).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    running.signal(Signal::TERM);
    let ended = running.finish().await;
    assert_eq!((ended.end().0, ended.end().1), (Some(ExitStatus::Code(0)), None), "{}", ended.system());
}

#[tokio::test]
async fn a_bad_name_for_a_secrets_file_is_the_submissions_mistake() {
    let run = Run::of_command(&["true"]).await.secret("key", "the private key");
    let (_, blame, reason) = run.context("secret_files", json!({"../key": "key"})).finish().await.end();
    assert!(blame == Some(Blame::Script) && reason.contains("../key"), "{reason}");
}

#[tokio::test]
async fn what_a_run_leaves_behind_is_ended_with_it() {
    let marker = format!("sleep 5{}", std::process::id());
    let script = format!("setsid sh -c '(trap \"\" TERM; {marker}) & exec {marker}' & sleep 0.3; echo over");
    let ended = Run::of_shell(&script).await.finish().await;
    ended.succeeded();
    assert!(ended.system().contains("left behind"), "{}", ended.system());
    assert!(processes_with(&marker.replace(' ', "\0")).is_empty());
}

#[tokio::test]
async fn the_run_dies_with_its_launcher() {
    let marker = format!("sleep 6{}", std::process::id());
    let mut running = Run::of_shell(&format!("echo ready; exec {marker}")).await.start().await;
    running.fake.until("the script", |told| told.logs.iter().any(|r| r.data == b"ready\n")).await;
    running.child.kill().await.unwrap();
    let gone = async {
        while !processes_with(&marker.replace(' ', "\0")).is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.expect("the user's process dies too");
}

#[test]
fn sweeping_removes_what_killed_launchers_left_in_memory() {
    use std::os::unix::fs::MetadataExt;
    let mut dead = std::process::Command::new("true").spawn().unwrap();
    dead.wait().unwrap();
    let namespace = std::fs::metadata("/proc/self/ns/pid").unwrap().ino();
    let user = rustix::process::geteuid().as_raw();
    let runtime = tempfile::tempdir_in("/dev/shm").unwrap();
    let left = runtime.path().join(format!("kluis-{user}/run-{namespace}-{}-17", dead.id()));
    crate::harness::make_private(&left.join("secrets"));
    let mut sweep = std::process::Command::new(env!("CARGO_BIN_EXE_kluis-launch"));
    assert!(sweep.arg("sweep").env("XDG_RUNTIME_DIR", runtime.path()).status().unwrap().success());
    assert!(!left.exists());
}

#[tokio::test]
async fn a_hand_over_that_is_none_is_refused_without_repeating_it() {
    let run = Run::of_command(&["true"]).await.hand_over("attempt", json!("hunter2"));
    let ended = run.finish().await;
    assert!(!ended.status.success() && ended.stderr.contains("hand-over"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("hunter2") && !ended.stderr.contains("kls_tkt"), "{}", ended.stderr);
    assert!(ended.fake.told().redeemed_with.is_empty());
}
