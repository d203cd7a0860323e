//! A run that somebody waits for: what they type, what they see, and what happens when they go.

use kluis_core::api::agents::TerminalSize;
use kluis_core::run::{Blame, ExitStatus};
use kluis_launch::console::Frame;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use crate::harness::Run;

/// What is shown until it holds this text, or until the launcher closes; both streams in one.
async fn shown_until(console: &mut UnixStream, text: &str) -> String {
    let mut shown = Vec::new();
    let read = async {
        while let Some(frame) = Frame::read(console).await.unwrap() {
            match frame {
                Frame::Stdout(data) | Frame::Stderr(data) => shown.extend(data),
                Frame::More => {}
                other => panic!("not for this end: {other:?}"),
            }
            if !text.is_empty() && String::from_utf8_lossy(&shown).contains(text) {
                break;
            }
        }
    };
    let in_time = tokio::time::timeout(std::time::Duration::from_secs(30), read).await;
    assert!(in_time.is_ok(), "{text:?} is not shown in time, but {:?}", String::from_utf8_lossy(&shown));
    String::from_utf8(shown).unwrap()
}

async fn say(console: &mut UnixStream, frame: Frame) {
    console.write_all(&frame.to_bytes()).await.unwrap();
}

fn typed(text: &[u8]) -> Frame {
    Frame::Input(text.to_vec().into())
}

#[tokio::test]
async fn what_is_typed_reaches_the_program_and_what_it_writes_is_shown_masked_and_logged() {
    let run = Run::of_shell("cat; echo $PASSWORD; echo oops >&2; test -t 0 || echo no terminal; exit 3").await;
    let run = run.secret("db", "correct-horse").context("secrets", json!(["db"]));
    let (run, mut console) = run.context("secret_env", json!({"PASSWORD": "db"})).console(json!({}));
    let running = run.start().await;
    say(&mut console, typed(b"one\n")).await;
    say(&mut console, typed(b"two\n")).await;
    say(&mut console, Frame::End).await;
    let shown = shown_until(&mut console, "").await;
    let ended = running.finish().await;
    assert_eq!(ended.end().0, Some(ExitStatus::Code(3)), "{}", ended.system());
    for text in ["one\ntwo\n***\n", "no terminal\n", "oops\n"] {
        assert!(shown.contains(text), "{shown}");
    }
    assert_eq!(ended.stdout(), "one\ntwo\n***\nno terminal\n");
    assert!(!shown.contains("correct-horse"));
}

#[tokio::test]
async fn on_a_terminal_the_program_gets_one_of_its_own_and_is_interrupted_through_it() {
    // `exec`, because dash loses an interrupt that comes while it starts a program.
    let script = "tty >/dev/null && echo terminal; echo $TERM; stty size; read line; echo got $line; stty size; \
                  echo $PASSWORD; exec sleep 60";
    let run = Run::of_shell(script).await.env("TERM", "xterm-256color");
    let run = run.secret("db", "correct-horse").context("secrets", json!(["db"]));
    let run = run.context("secret_env", json!({"PASSWORD": "db"}));
    let (run, mut console) = run.console(json!({"terminal": {"rows": 33, "columns": 99}}));
    let running = run.start().await;
    let shown = shown_until(&mut console, "33 99").await;
    assert!(shown.contains("terminal\r\nxterm-256color\r\n"), "{shown}");
    say(&mut console, Frame::Resize(TerminalSize { rows: 40, columns: 120 })).await;
    say(&mut console, typed(b"a line\r")).await;
    let shown = shown_until(&mut console, "***").await;
    assert!(shown.contains("got a line") && shown.contains("40 120"), "{shown}");
    say(&mut console, typed(b"\x03")).await;
    assert!(!shown_until(&mut console, "").await.contains("correct-horse"));
    assert_eq!(running.finish().await.end().0, Some(ExitStatus::Signal(2)));
}

#[tokio::test]
async fn a_signal_reaches_the_program_past_input_that_it_does_not_read() {
    let (run, mut console) = Run::of_shell("echo ready; exec sleep 60").await.console(json!({}));
    let running = run.start().await;
    shown_until(&mut console, "ready").await;
    say(&mut console, typed(&vec![b'x'; 64 * 1024])).await;
    say(&mut console, typed(&vec![b'x'; 64 * 1024])).await;
    say(&mut console, Frame::Signal(15)).await;
    assert_eq!(running.finish().await.end().0, Some(ExitStatus::Signal(15)));
}

#[tokio::test]
async fn the_run_ends_when_nobody_waits_for_it_any_more() {
    let (run, mut console) = Run::of_shell("echo ready; trap '' HUP; sleep 60").await.console(json!({}));
    let running = run.start().await;
    shown_until(&mut console, "ready").await;
    drop(console);
    let (_, blame, reason) = running.finish().await.end();
    assert_eq!((blame, reason.as_str()), (Some(Blame::User), "whoever waited for the command is gone"));
}

#[tokio::test]
async fn a_run_that_nobody_waits_for_reads_nothing_and_has_no_terminal() {
    let ended = Run::of_shell("cat; (: </dev/tty) 2>/dev/null || echo none; test -n \"$TERM\" && echo a kind").await;
    let ended = ended.env("TERM", "xterm").finish().await;
    assert_eq!(ended.stdout(), "none\n");
}
