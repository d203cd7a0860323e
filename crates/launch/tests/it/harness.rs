//! Starting the launcher as an engine does.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use kluis_client::snapshot::{Links, PackOptions, pack};
use kluis_core::run::{Blame, ExitStatus as RunExit};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

use crate::fake::Fake;

/// A run that is about to be started.
pub(crate) struct Run {
    pub(crate) fake: Fake,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) hand_over: Value,
    environment: Vec<(String, String)>,
    stdout: Stdio,
    within: Vec<String>,
}

/// A launcher that runs.
pub(crate) struct Running {
    pub(crate) fake: Fake,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) child: Child,
}

/// A run that has ended, and what the launcher said on standard error.
pub(crate) struct Ended {
    pub(crate) fake: Fake,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) status: ExitStatus,
    pub(crate) stderr: String,
}

impl Run {
    /// A run of a command, in an empty tree.
    pub(crate) async fn of_command(argv: &[&str]) -> Self {
        Self::of(json!({"command": {"argv": argv}})).await
    }

    /// A run of a shell script.
    pub(crate) async fn of_shell(script: &str) -> Self {
        Self::of_command(&["sh", "-c", script]).await
    }

    /// A run of a Python script that is packed as the snapshot.
    pub(crate) async fn of_python(script: &str) -> Self {
        let run = Self::of(json!({"script": {"path": "train.py", "arguments": ["an argument"]}})).await;
        let source = run.folder.path().join("source");
        std::fs::create_dir(&source).unwrap();
        std::fs::write(source.join("train.py"), script).unwrap();
        {
            let mut told = run.fake.told();
            let options = PackOptions { links: Links::Refuse, scratch: run.folder.path().to_owned() };
            told.snapshot = std::fs::read(pack(&source, &options).unwrap().path()).unwrap();
            told.context["snapshot"] = json!("000000000000000000000000000000aa");
        }
        run
    }

    async fn of(program: Value) -> Self {
        let fake = Fake::start().await;
        fake.told().context = json!({
            "workspace": "default", "experiment": "test", "run": "test_1", "number": 1, "attempt": 1, "node": 0,
            "nodes": 1, "submitted_by": "00000000000000000000000000000001", "submitter": "ada", "program": program,
        });
        let folder = tempfile::tempdir().unwrap();
        let work = folder.path().join("runs/test_1-1");
        make_private(&work);
        let hand_over = json!({
            "address": fake.address, "ca_sha256": fake.pin, "ticket": "kls_tkt_test", "work_dir": work,
            "attempt": {"workspace": "default", "run": "test_1", "attempt": 1}, "grace_seconds": 2,
        });
        Self { fake, folder, hand_over, environment: Vec::new(), within: Vec::new(), stdout: Stdio::piped() }
    }

    /// Changes the run's context.
    pub(crate) fn context(self, key: &str, value: Value) -> Self {
        self.fake.told().context[key] = value;
        self
    }

    /// Changes the hand-over.
    pub(crate) fn hand_over(mut self, key: &str, value: Value) -> Self {
        self.hand_over[key] = value;
        self
    }

    pub(crate) fn secret(self, name: &str, value: &str) -> Self {
        self.fake.told().secrets.insert(name.to_owned(), value.to_owned());
        self
    }

    /// A variable in the launcher's own environment.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// As `kluis exec` starts it; the other end of the connection.
    pub(crate) fn console(self, console: Value) -> (Self, tokio::net::UnixStream) {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let run = Self { stdout: std::os::fd::OwnedFd::from(theirs).into(), ..self.hand_over("console", console) };
        (run, tokio::net::UnixStream::from_std(ours).unwrap())
    }

    /// Starts the launcher by way of another program, which must become it.
    pub(crate) fn within(mut self, argv: &[&str]) -> Self {
        self.within = argv.iter().map(|&part| part.to_owned()).collect();
        self
    }

    pub(crate) async fn start(self) -> Running {
        let argv = [self.within, vec![env!("CARGO_BIN_EXE_kluis-launch").to_owned()]].concat();
        let mut child = Command::new(&argv[0])
            .args(&argv[1..])
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", "/nonexistent")
            .envs(self.environment)
            .stdin(Stdio::piped())
            .stdout(self.stdout)
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(self.hand_over.to_string().as_bytes()).await.unwrap();
        drop(stdin);
        Running { fake: self.fake, folder: self.folder, child }
    }

    /// Starts it and waits for its end.
    pub(crate) async fn finish(self) -> Ended {
        self.start().await.finish().await
    }
}

impl Running {
    pub(crate) fn pid(&self) -> i32 {
        self.child.id().unwrap().cast_signed()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_raw(self.pid()).unwrap(), signal).unwrap();
    }

    pub(crate) async fn finish(self) -> Ended {
        let output = tokio::time::timeout(Duration::from_mins(1), self.child.wait_with_output())
            .await
            .expect("the launcher ends within a minute")
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Ended { fake: self.fake, folder: self.folder, status: output.status, stderr }
    }
}

impl Ended {
    pub(crate) fn stdout(&self) -> String {
        self.fake.log(kluis_core::api::runs::Stream::Stdout)
    }

    pub(crate) fn stderr(&self) -> String {
        self.fake.log(kluis_core::api::runs::Stream::Stderr)
    }

    pub(crate) fn system(&self) -> String {
        self.fake.log(kluis_core::api::runs::Stream::System)
    }

    /// How the run's end was reported.
    pub(crate) fn end(&self) -> (Option<RunExit>, Option<Blame>, String) {
        let told = self.fake.told();
        let end = told.end.as_ref().unwrap_or_else(|| panic!("no end was reported: {}", self.stderr));
        (end.exit, end.blame, end.reason.clone().unwrap_or_default())
    }

    /// Asserts a reported success and gives the standard output.
    pub(crate) fn succeeded(&self) -> String {
        assert_eq!(self.end().0, Some(RunExit::Code(0)), "{}\n{}", self.system(), self.stderr());
        assert!(self.status.success(), "{}", self.stderr);
        self.stdout()
    }
}

pub(crate) fn make_private(path: &Path) {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).unwrap();
}

/// Says aloud that something is not tested here.
#[expect(clippy::print_stderr, clippy::disallowed_methods, reason = "a skip is said aloud, and is a failure in CI")]
pub(crate) fn skip(why: &str) {
    eprintln!("SKIPPED: {why}");
    assert!(std::env::var_os("CI").is_none(), "in CI a skip is a failure");
}

/// Whether bubblewrap works here. A machine without it does not test the usual walls, and says so.
pub(crate) fn bwrap_works() -> bool {
    let works = std::process::Command::new("bwrap")
        .args(["--unshare-user", "--dev-bind", "/", "/", "true"])
        .status()
        .is_ok_and(|status| status.success());
    if !works {
        skip("bubblewrap does not work on this machine, so its walls are not tested");
    }
    works
}

/// Processes whose command line holds this text.
pub(crate) fn processes_with(text: &str) -> Vec<PathBuf> {
    let all = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    all.filter(|path| {
        std::fs::read(path.join("cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).contains(text))
    })
    .collect()
}
