//! The agent with the real process engine, a launcher that is a shell script, and a board in memory.

#![expect(clippy::unwrap_used, reason = "helpers of tests, outside of #[test] functions")]

use std::collections::VecDeque;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kluis_client::{ApiError, Error};
use kluis_core::api::agents::{
    AttemptId, AttemptView, Confine, ConfirmAttempt, EngineEvent, JobSpec, Lease, LeaseRequest, LocalRun, ReportAttempt,
};
use kluis_core::api::runs::{Program, Resources};
use kluis_core::clock::Timestamp;
use kluis_core::id::PrincipalId;
use kluis_core::plaintext::Plaintext;
use kluis_runner::board::Board;
use kluis_runner::engine::{Executor, Job, JobStatus, ProcessEngine, SubmitError, Submitted};
use kluis_runner::{Agent, AgentError, AgentOptions};
use tokio_util::sync::CancellationToken;

const TICKET: &str = "kls_tkt_a-ticket-that-stands-nowhere-else";

/// What the server would have been told.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Heard {
    Confirmed(AttemptId, String),
    Reported(EngineEvent, String),
}

#[derive(Clone, Default)]
struct Memory(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    leases: Vec<Lease>,
    heard: Vec<Heard>,
    /// What the next leases and confirmations are refused with.
    refuse_leases: VecDeque<Error>,
    refuse_confirms: VecDeque<Error>,
    /// No confirmation is ever answered.
    lose_confirms: bool,
    /// What the server believes to be alive.
    attempts: Vec<AttemptView>,
}

impl Memory {
    fn with(leases: Vec<Lease>) -> Self {
        Self(Arc::new(Mutex::new(State { leases, ..State::default() })))
    }

    fn heard(&self) -> Vec<Heard> {
        self.0.lock().unwrap().heard.clone()
    }

    async fn wait(&self, count: usize) -> Vec<Heard> {
        tokio::time::timeout(Duration::from_secs(20), async {
            while self.heard().len() < count {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
        .unwrap_or_else(|_| panic!("only heard {:?}", self.heard()));
        self.heard()
    }
}

impl Board for Memory {
    async fn lease(&self, _request: &LeaseRequest) -> Result<Option<Lease>, Error> {
        if let Some(error) = self.0.lock().unwrap().refuse_leases.pop_front() {
            return Err(error);
        }
        let lease = self.0.lock().unwrap().leases.pop();
        if lease.is_none() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(lease)
    }

    async fn confirm(&self, confirm: &ConfirmAttempt) -> Result<(), Error> {
        let mut state = self.0.lock().unwrap();
        if let Some(error) = state.refuse_confirms.pop_front() {
            return Err(error);
        }
        if state.lose_confirms {
            return Err(unreachable());
        }
        state.heard.push(Heard::Confirmed(confirm.attempt.clone(), confirm.handle.clone()));
        Ok(())
    }

    async fn report(&self, report: &ReportAttempt) -> Result<(), Error> {
        self.0.lock().unwrap().heard.push(Heard::Reported(report.event, report.reason.clone()));
        Ok(())
    }

    async fn attempts(&self, _compute: &kluis_core::name::ComputeName) -> Result<Vec<AttemptView>, Error> {
        Ok(self.0.lock().unwrap().attempts.clone())
    }

    fn server(&self) -> (String, String) {
        ("https://127.0.0.1:1".into(), "00".repeat(32))
    }
}

fn unreachable() -> Error {
    let origin = kluis_client::trust::Origin::parse("localhost").unwrap();
    Error::Unreachable { action: "test", origin, reason: "the answer was lost".into() }
}

fn refusal(status: u16, code: &str) -> Error {
    Error::Api(ApiError {
        status,
        code: code.into(),
        detail: String::new(),
        request_id: None,
        retry_after: None,
        server_seconds: None,
    })
}

fn lease(run: &str, gpus: Option<u32>) -> Lease {
    Lease {
        attempt: AttemptId { workspace: "default".parse().unwrap(), run: run.parse().unwrap(), attempt: 1 },
        job: JobSpec {
            experiment: "e".parse().unwrap(),
            submitted_by: PrincipalId::from_bytes([1; 16]),
            submitter: "ann".parse().unwrap(),
            program: Program::Command { argv: vec!["true".into()] },
            python: None,
            resources: Resources { gpus, ..Resources::default() },
            engine_options: std::collections::BTreeMap::new(),
        },
        tickets: vec![Plaintext::from_text(TICKET).unwrap()],
        expires: Timestamp::from_seconds(0),
    }
}

/// A launcher that is a shell script: its standard input is the hand-over. It counts how often it is to sweep.
fn launcher(dir: &Path, script: &str) -> PathBuf {
    let path = dir.join("launcher");
    std::fs::write(
        &path,
        format!("#!/bin/sh\nif [ \"$1\" = sweep ]; then echo >> {}/sweeps; exit 0; fi\n{script}\n", dir.display()),
    )
    .unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn options(dir: &Path) -> AgentOptions {
    AgentOptions {
        compute: "c".parse().unwrap(),
        only: None,
        mine: false,
        slots: 2,
        devices: vec!["0".into(), "1".into()],
        state: dir.join("state"),
        covered: vec![dir.join("data")],
        python: None,
        confine: Confine::None,
        grace_seconds: 1,
    }
}

fn agent(dir: &Path, script: &str, board: &Memory, options: AgentOptions) -> Agent<Memory, ProcessEngine> {
    let environment = [("PATH".into(), "/usr/bin:/bin".into()), ("KLUIS_TOKEN".into(), "kls_agt_x".into())];
    let engine = ProcessEngine::new(launcher(dir, script), environment);
    Agent::new(board.clone(), engine, options).unwrap()
}

/// Runs an agent until the board has heard so much, then stops it.
async fn until(agent: Agent<Memory, ProcessEngine>, board: &Memory, count: usize) -> Vec<Heard> {
    let stop = CancellationToken::new();
    let running = tokio::spawn(agent.run(stop.clone()));
    let heard = board.wait(count).await;
    stop.cancel();
    running.await.unwrap().unwrap();
    heard
}

async fn empty(dir: &Path) {
    for _ in 0..200 {
        if std::fs::read_dir(dir.join("state/runs")).unwrap().next().is_none() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("something of the run was left behind");
}

#[tokio::test]
async fn a_leased_run_is_handed_over_by_standard_input_and_confirmed() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let script = format!(
        "cat > {0}.json; env > {0}.env; pwd > {0}.pwd; tr '\\0' ' ' < /proc/$$/cmdline > {0}.cmdline",
        out.display()
    );
    let board = Memory::with(vec![lease("a_1_b", None)]);
    let agent = agent(dir.path(), &script, &board, options(dir.path()));
    let stop = CancellationToken::new();
    let running = tokio::spawn(agent.run(stop.clone()));
    let heard = board.wait(1).await;
    assert!(matches!(&heard[0], Heard::Confirmed(attempt, _) if attempt.run.as_str() == "a_1_b"));
    empty(dir.path()).await;
    stop.cancel();
    running.await.unwrap().unwrap();
    assert_eq!(board.heard().len(), 1, "a launcher that left with success has reported the end itself");
    let read = |end: &str| std::fs::read_to_string(format!("{}.{end}", out.display())).unwrap();
    let hand_over: kluis_core::api::agents::HandOver = serde_json::from_str(&read("json")).unwrap();
    assert_eq!(hand_over.ticket.expose(), TICKET);
    assert_eq!(hand_over.covered, [dir.path().join("data"), dir.path().join("state")]);
    assert_eq!(Path::new(read("pwd").trim()).canonicalize().ok(), None, "the run's folder is gone");
    for place in ["env", "cmdline"] {
        assert!(!read(place).contains("kls_"), "{place}");
    }
}

#[tokio::test]
async fn a_launcher_that_fails_is_reported_with_its_last_words() {
    let dir = tempfile::tempdir().unwrap();
    let board = Memory::with(vec![lease("a_1_b", None)]);
    let agent = agent(dir.path(), "cat >/dev/null; echo no room here >&2; exit 3", &board, options(dir.path()));
    let heard = until(agent, &board, 2).await;
    assert_eq!(heard[1], Heard::Reported(EngineEvent::LauncherFailed, "no room here".into()));
}

#[tokio::test]
async fn what_killed_launchers_left_in_memory_is_removed_at_the_start_and_after_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    let sweeps = || std::fs::read_to_string(dir.path().join("sweeps")).unwrap_or_default().lines().count();
    let board = Memory::with(vec![lease("a_1_b", None), lease("c_1_d", None)]);
    // One of them fails, the other has done its part.
    let script = "grep -q a_1_b && exit 3; exit 0";
    until(agent(dir.path(), script, &board, options(dir.path())), &board, 3).await;
    empty(dir.path()).await;
    assert_eq!(sweeps(), 2);
}

#[tokio::test]
async fn a_launcher_that_does_not_exist_gives_the_run_back() {
    let dir = tempfile::tempdir().unwrap();
    let board = Memory::with(vec![lease("a_1_b", None)]);
    let engine = ProcessEngine::new(dir.path().join("nothing"), []);
    let agent = Agent::new(board.clone(), engine, options(dir.path())).unwrap();
    let heard = until(agent, &board, 1).await;
    assert!(matches!(&heard[0], Heard::Reported(EngineEvent::Returned, reason) if reason.contains("nothing")));
    empty(dir.path()).await;
}

#[tokio::test]
async fn a_job_whose_confirmation_is_refused_is_ended() {
    let dir = tempfile::tempdir().unwrap();
    let board = Memory::with(vec![lease("a_1_b", None)]);
    board.0.lock().unwrap().refuse_confirms.push_back(refusal(409, "conflict"));
    let pid = dir.path().join("pid");
    let agent = agent(dir.path(), &format!("echo $$ > {}; exec sleep 60", pid.display()), &board, options(dir.path()));
    let heard = until(agent, &board, 1).await;
    assert!(matches!(heard[0], Heard::Reported(EngineEvent::Returned, _)));
    let pid = std::fs::read_to_string(pid).unwrap_or_default();
    assert!(pid.is_empty() || !Path::new("/proc").join(pid.trim()).exists(), "the launcher lives");
}

#[tokio::test]
async fn a_restarted_agent_adopts_what_runs_and_reports_what_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let end = dir.path().join("end");
    let script = format!("cat >/dev/null; while [ ! -e {} ]; do sleep 0.05; done; exit 1", end.display());
    let board = Memory::with(vec![lease("a_1_b", None), lease("c_1_d", None)]);
    let first = agent(dir.path(), &script, &board, options(dir.path()));
    until(first, &board, 2).await;

    // The same jobs, another agent: nothing is leased or started again, nothing is reported while they run.
    let second = agent(dir.path(), &script, &board, options(dir.path()));
    let stop = CancellationToken::new();
    let running = tokio::spawn(second.run(stop.clone()));
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(board.heard().len(), 2);
    std::fs::write(&end, "").unwrap();
    let heard = board.wait(4).await;
    assert!(heard[2..].iter().all(|h| matches!(h, Heard::Reported(EngineEvent::Gone, _))), "{heard:?}");
    empty(dir.path()).await;
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn each_slot_has_devices_of_its_own_and_no_run_gets_more() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("devices");
    let script = format!("cat >/dev/null; echo $CUDA_VISIBLE_DEVICES >> {}; sleep 0.5", out.display());
    let board = Memory::with(vec![lease("a_1_b", Some(1)), lease("c_1_d", Some(1)), lease("e_1_f", Some(2))]);
    let agent = agent(dir.path(), &script, &board, options(dir.path()));
    let heard = until(agent, &board, 3).await;
    let refused =
        heard.iter().filter(|h| matches!(h, Heard::Reported(EngineEvent::Refused, r) if r.contains("2 GPUs")));
    assert_eq!(refused.count(), 1, "{heard:?}");
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut devices: Vec<_> = std::fs::read_to_string(out).unwrap().lines().map(str::to_owned).collect();
    devices.sort();
    assert_eq!(devices, ["0", "1"]);
}

#[tokio::test]
async fn an_agent_for_one_run_ends_with_it_or_says_that_it_is_not_to_be_had() {
    let dir = tempfile::tempdir().unwrap();
    let only = Some(LocalRun { workspace: "default".parse().unwrap(), run: "a_1_b".parse().unwrap() });
    let board = Memory::with(vec![lease("a_1_b", None)]);
    let one = agent(dir.path(), "cat >/dev/null", &board, AgentOptions { only: only.clone(), ..options(dir.path()) });
    one.run(CancellationToken::new()).await.unwrap();
    let two = agent(dir.path(), "cat >/dev/null", &board, AgentOptions { only, ..options(dir.path()) });
    assert!(matches!(two.run(CancellationToken::new()).await, Err(AgentError::NotLeased(_))));
}

async fn exists(path: &Path) {
    let wait = async {
        while !path.exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap_or_else(|_| panic!("no {}", path.display()));
}

#[tokio::test]
async fn an_outage_at_the_confirmation_costs_the_run_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let board = Memory::with(vec![lease("a_1_b", None)]);
    board.0.lock().unwrap().refuse_confirms.extend([
        unreachable(),
        refusal(503, "unavailable"),
        refusal(500, "internal"),
        refusal(401, "clock_skew"),
    ]);
    let done = dir.path().join("done");
    let agent =
        agent(dir.path(), &format!("cat >/dev/null; sleep 4; touch {}", done.display()), &board, options(dir.path()));
    let stop = CancellationToken::new();
    let running = tokio::spawn(agent.run(stop.clone()));
    assert!(matches!(board.wait(1).await[0], Heard::Confirmed(..)));
    exists(&done).await;
    empty(dir.path()).await;
    assert_eq!(board.heard().len(), 1, "{:?}", board.heard());
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_job_that_may_have_been_confirmed_is_left_to_itself() {
    let dir = tempfile::tempdir().unwrap();
    let board = Memory::with(vec![lease("a_1_b", None)]);
    board.0.lock().unwrap().lose_confirms = true;
    // The lease is over after five seconds.
    let done = dir.path().join("done");
    let agent =
        agent(dir.path(), &format!("cat >/dev/null; sleep 7; touch {}", done.display()), &board, options(dir.path()));
    let stop = CancellationToken::new();
    let running = tokio::spawn(agent.run(stop.clone()));
    exists(&done).await;
    empty(dir.path()).await;
    assert!(board.heard().is_empty(), "{:?}", board.heard());
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn passing_errors_do_not_end_an_agent_and_a_login_that_is_gone_does() {
    let dir = tempfile::tempdir().unwrap();
    let board = Memory::with(vec![lease("a_1_b", None)]);
    let origin = || kluis_client::trust::Origin::parse("localhost").unwrap();
    board.0.lock().unwrap().refuse_leases.extend([
        Error::Untrusted { action: "test", origin: origin(), reason: "expired".into() },
        Error::Answer { action: "test", origin: origin(), reason: "a proxy's page".into() },
        refusal(507, "storage_full"),
        refusal(409, "conflict"),
    ]);
    let agent = agent(dir.path(), "cat >/dev/null", &board, options(dir.path()));
    let running = tokio::spawn(agent.run(CancellationToken::new()));
    assert!(matches!(board.wait(1).await[0], Heard::Confirmed(..)));
    board.0.lock().unwrap().refuse_leases.push_back(refusal(401, "unauthenticated"));
    let outcome = tokio::time::timeout(Duration::from_secs(20), running).await.unwrap().unwrap();
    assert!(matches!(outcome, Err(AgentError::Server(_))), "{outcome:?}");
}

#[tokio::test]
async fn what_a_killed_launcher_left_running_is_ended_before_the_report() {
    let dir = tempfile::tempdir().unwrap();
    let board = Memory::with(vec![lease("a_1_b", None)]);
    let pid = dir.path().join("pid");
    // In a session of its own, as a data loader or a daemon may be, and with a child.
    let script = format!(
        "cat >/dev/null; export KLUIS_RUN_DIR=\"$(pwd)\"; setsid sh -c 'echo $$ > {}; sleep 300; :' & sleep 0.5; kill -9 $$",
        pid.display()
    );
    let agent = agent(dir.path(), &script, &board, options(dir.path()));
    let heard = until(agent, &board, 2).await;
    assert!(matches!(heard[1], Heard::Reported(EngineEvent::LauncherFailed, _)), "{heard:?}");
    let pid = std::fs::read_to_string(pid).unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    assert!(stat.is_empty() || stat.contains(") Z "), "it lives: {stat}");
}

#[tokio::test]
async fn a_run_that_asks_for_no_number_of_gpus_sees_its_slots_and_one_that_asks_for_none_sees_none() {
    for (gpus, expected) in [(None, "[0] [0] [unset]\n"), (Some(0), "[] [] []\n")] {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("devices");
        let script = format!(
            "cat >/dev/null; echo \"[$CUDA_VISIBLE_DEVICES] [$HIP_VISIBLE_DEVICES] [${{ROCR_VISIBLE_DEVICES-unset}}]\" > {}",
            out.display()
        );
        let board = Memory::with(vec![lease("a_1_b", gpus)]);
        let stop = CancellationToken::new();
        let running = tokio::spawn(agent(dir.path(), &script, &board, options(dir.path())).run(stop.clone()));
        board.wait(1).await;
        exists(&out).await;
        empty(dir.path()).await;
        stop.cancel();
        running.await.unwrap().unwrap();
        assert_eq!(std::fs::read_to_string(out).unwrap(), expected);
    }
}

#[tokio::test]
async fn a_restarted_agent_for_one_run_goes_on_watching_it() {
    let dir = tempfile::tempdir().unwrap();
    let only = Some(LocalRun { workspace: "default".parse().unwrap(), run: "a_1_b".parse().unwrap() });
    let options = || AgentOptions { only: only.clone(), ..options(dir.path()) };
    let end = dir.path().join("end");
    let script = format!("cat >/dev/null; while [ ! -e {} ]; do sleep 0.05; done; exit 1", end.display());
    let board = Memory::with(vec![lease("a_1_b", None)]);
    until(agent(dir.path(), &script, &board, options()), &board, 1).await;
    let second = agent(dir.path(), &script, &board, options());
    let running = tokio::spawn(second.run(CancellationToken::new()));
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!running.is_finished());
    std::fs::write(&end, "").unwrap();
    running.await.unwrap().unwrap();
    assert!(matches!(board.heard()[1], Heard::Reported(EngineEvent::Gone, _)));
    empty(dir.path()).await;
}

fn view(board: &Memory) -> AttemptView {
    let Heard::Confirmed(attempt, handle) = board.heard()[0].clone() else { panic!("{:?}", board.heard()) };
    AttemptView {
        attempt,
        handle: Some(handle),
        status: kluis_core::run::RunStatus::Running,
        cancel_requested: false,
        last_contact: None,
    }
}

#[tokio::test]
async fn a_job_whose_note_can_not_be_read_is_found_by_what_the_server_knows() {
    let dir = tempfile::tempdir().unwrap();
    let end = dir.path().join("end");
    let script = format!("cat >/dev/null; while [ ! -e {} ]; do sleep 0.05; done; exit 1", end.display());
    let board = Memory::with(vec![lease("a_1_b", None)]);
    until(agent(dir.path(), &script, &board, options(dir.path())), &board, 1).await;
    let view = view(&board);
    board.0.lock().unwrap().attempts.push(view);
    let runs = dir.path().join("state/runs");
    let note = runs.join("default.a_1_b.1.json");
    std::fs::write(&note, "{").unwrap();
    let stop = CancellationToken::new();
    let running = tokio::spawn(agent(dir.path(), &script, &board, options(dir.path())).run(stop.clone()));
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(runs.join("default.a_1_b.1").is_dir(), "the folder of a running job");
    assert!(std::fs::read_to_string(&note).unwrap().contains("handle"), "the note is written anew");
    std::fs::write(&end, "").unwrap();
    board.wait(2).await;
    empty(dir.path()).await;
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_job_that_is_gone_without_a_note_is_reported_and_other_machines_jobs_are_not_judged() {
    let dir = tempfile::tempdir().unwrap();
    let board = Memory::with(vec![lease("a_1_b", None)]);
    until(agent(dir.path(), "cat >/dev/null", &board, options(dir.path())), &board, 1).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    std::fs::remove_dir_all(dir.path().join("state")).unwrap();
    let lost = view(&board);
    let mut elsewhere = lost.clone();
    elsewhere.attempt.run = "other_1_b".parse().unwrap();
    elsewhere.handle = Some("another-boot/1/1".to_owned());
    board.0.lock().unwrap().attempts = vec![elsewhere, lost];
    let heard = until(agent(dir.path(), "cat >/dev/null", &board, options(dir.path())), &board, 2).await;
    assert!(matches!(&heard[1], Heard::Reported(EngineEvent::Gone, reason) if reason.contains("no note")), "{heard:?}");
    assert_eq!(heard.len(), 2);
}

#[tokio::test]
async fn what_is_to_be_hidden_is_there_before_a_run_starts() {
    let dir = tempfile::tempdir().unwrap();
    let board = Memory::with(vec![lease("a_1_b", None)]);
    let hidden = dir.path().join("config/kluis");
    let options = AgentOptions { covered: vec![hidden.clone()], ..options(dir.path()) };
    let out = dir.path().join("out");
    let agent =
        agent(dir.path(), &format!("ls -ld {} > {}; cat >/dev/null", hidden.display(), out.display()), &board, options);
    until(agent, &board, 1).await;
    exists(&out).await;
    assert!(std::fs::read_to_string(&out).unwrap().starts_with("drwx------"));
    // Where it can not be made, nothing is started.
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let board = Memory::with(vec![lease("a_1_b", None)]);
    let options = AgentOptions { covered: vec![file.join("inside")], ..self::options(dir.path()) };
    let agent = self::agent(dir.path(), "exit 1", &board, options);
    let heard = until(agent, &board, 1).await;
    assert!(
        matches!(&heard[0], Heard::Reported(EngineEvent::Returned, r) if r.contains("hidden from runs")),
        "{heard:?}"
    );
}

/// An engine whose launcher never ends, whatever it is told.
#[derive(Clone, Default)]
struct Hung(Arc<Mutex<u32>>);

impl Executor for Hung {
    async fn submit(&self, _job: Job) -> Result<Submitted, SubmitError> {
        Ok(Submitted { handle: "here/1/1".into(), description: "hung".into() })
    }

    async fn status(&self, _handle: &str) -> JobStatus {
        JobStatus::Alive
    }

    fn is_from_here(&self, _handle: &str) -> bool {
        true
    }

    async fn tidy(&self, _over: Option<&Path>) -> usize {
        0
    }

    async fn cancel(&self, _handle: &str) {
        *self.0.lock().unwrap() += 1;
    }
}

#[tokio::test(start_paused = true)]
async fn a_canceled_run_that_goes_on_has_its_launcher_told_by_the_agent() {
    let dir = tempfile::tempdir().unwrap();
    let board = Memory::with(vec![lease("a_1_b", None)]);
    let engine = Hung::default();
    let agent = Agent::new(board.clone(), engine.clone(), options(dir.path())).unwrap();
    let stop = CancellationToken::new();
    let running = tokio::spawn(agent.run(stop.clone()));
    board.wait(1).await;
    tokio::time::sleep(Duration::from_mins(10)).await;
    let mut view = view(&board);
    board.0.lock().unwrap().attempts.push(view.clone());
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert_eq!(*engine.0.lock().unwrap(), 0, "nobody wants it to end");
    view.cancel_requested = true;
    board.0.lock().unwrap().attempts = vec![view];
    tokio::time::sleep(Duration::from_secs(59)).await;
    assert_eq!(*engine.0.lock().unwrap(), 0, "its launcher has heard of it, and has its grace");
    tokio::time::sleep(Duration::from_mins(5)).await;
    assert!(*engine.0.lock().unwrap() > 0);
    stop.cancel();
    running.await.unwrap().unwrap();
}
