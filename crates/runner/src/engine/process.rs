//! The process engine: the job is a launcher on this machine, in a process group of its own, that outlives the agent.
//!
//! A handle names boot, process and its start time, so that neither a reboot nor a reused process id is mistaken for the
//! job. The launcher is started without a fork of this process's memory (no `pre_exec`): that is slow from a big parent.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
use zeroize::Zeroizing;

use super::{Executor, Job, JobStatus, SubmitError, Submitted, leftovers};

/// How long removing what killed launchers left may take.
const SWEEP_PATIENCE: Duration = Duration::from_secs(10);

/// Runs jobs as processes of this machine.
#[derive(Debug)]
pub struct ProcessEngine {
    launcher: PathBuf,
    environment: Vec<(OsString, OsString)>,
    host: String,
    boot: String,
    /// Our own children by handle, which leave a status; jobs adopted from an earlier agent are not among them, and one of
    /// them may have had a process id that is a child's now.
    children: Mutex<HashMap<String, Child>>,
}

impl ProcessEngine {
    /// An engine that starts this launcher with this environment. What belongs to Kluis itself (`KLUIS_*`: a login may
    /// be among it) is left out.
    pub fn new(launcher: PathBuf, environment: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let environment =
            environment.into_iter().filter(|(name, _)| !name.as_encoded_bytes().starts_with(b"KLUIS_")).collect();
        let read = |path| std::fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
        Self {
            launcher,
            environment,
            host: read("/proc/sys/kernel/hostname"),
            boot: read("/proc/sys/kernel/random/boot_id"),
            children: Mutex::default(),
        }
    }

    fn handle(&self, pid: u32) -> Option<String> {
        Some(format!("{}/{pid}/{}", self.boot, start_time(pid)?))
    }

    /// The process of a handle, while it lives.
    fn living(&self, handle: &str) -> Option<u32> {
        let (boot, rest) = handle.split_once('/')?;
        let (pid, started) = rest.split_once('/')?;
        let pid = pid.parse().ok()?;
        (boot == self.boot && start_time(pid)?.to_string() == started).then_some(pid)
    }

    fn spawn(&self, job: Job) -> Result<Submitted, SubmitError> {
        let unable = |what: &str, error: &dyn std::fmt::Display| SubmitError::Unable(format!("{what}: {error}"));
        let log = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&job.log)
            .map_err(|e| unable("the launcher's log", &e))?;
        let errors = log.try_clone().map_err(|e| unable("the launcher's log", &e))?;
        let mut command = Command::new(&self.launcher);
        command.env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(devices) = &job.devices {
            // AMD's runtime knows the first name too; its lower layer counts anew what is left, so it is told only of none.
            for name in ["CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"] {
                command.env(name, devices.join(","));
            }
            if devices.is_empty() {
                command.env("ROCR_VISIBLE_DEVICES", "");
            }
        }
        command.current_dir(&job.hand_over.work_dir).process_group(0);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(job.connection.map_or_else(|| Stdio::from(log), Stdio::from))
            .stderr(errors)
            .spawn()
            .map_err(|e| unable(&format!("the launcher {}", self.launcher.display()), &e))?;
        let pid = child.id();
        // The hand-over is small and the pipe holds 64 KiB; a launcher that reads nothing can not hold this up for long.
        let json = Zeroizing::new(serde_json::to_vec(&job.hand_over).expect("a hand-over is plain data"));
        let handed = child.stdin.take().expect("standard input is a pipe").write_all(&json);
        let handle = match (handed, self.handle(pid)) {
            (Ok(()), Some(handle)) => handle,
            (handed, _) => {
                // Nobody will ask for its status: it is ended and waited for here.
                let _ended_already = child.kill();
                let _status = child.wait();
                let why = handed.err().map_or_else(|| "it ended at once".to_owned(), |e| format!("the hand-over: {e}"));
                return Err(unable("the launcher", &why));
            }
        };
        self.children.lock().unwrap_or_else(PoisonError::into_inner).insert(handle.clone(), child);
        Ok(Submitted { handle, description: format!("process {pid} on {}", self.host) })
    }
}

impl Executor for ProcessEngine {
    async fn submit(&self, job: Job) -> Result<Submitted, SubmitError> {
        self.spawn(job)
    }

    async fn status(&self, handle: &str) -> JobStatus {
        let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(child) = children.get_mut(handle) {
            return match child.try_wait() {
                Ok(None) => JobStatus::Alive,
                Ok(Some(status)) => {
                    children.remove(handle);
                    JobStatus::Over { success: Some(status.success()) }
                }
                Err(_) => JobStatus::Over { success: None },
            };
        }
        match self.living(handle) {
            Some(_) => JobStatus::Alive,
            None => JobStatus::Over { success: None },
        }
    }

    fn is_from_here(&self, handle: &str) -> bool {
        handle.split_once('/').is_some_and(|(boot, _)| boot == self.boot)
    }

    async fn tidy(&self, over: Option<&Path>) -> usize {
        let ended = match over.map(Path::to_owned) {
            Some(folder) => tokio::task::spawn_blocking(move || leftovers::end(&folder)).await.unwrap_or_default(),
            None => 0,
        };
        let mut sweep = tokio::process::Command::new(&self.launcher);
        sweep.arg("sweep").env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        sweep.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        match tokio::time::timeout(SWEEP_PATIENCE, sweep.status()).await {
            Ok(Ok(status)) if status.success() => {}
            outcome => tracing::debug!(?outcome, "what killed launchers left was not removed"),
        }
        ended
    }

    async fn cancel(&self, handle: &str) {
        let Some(pid) = self.living(handle).and_then(|pid| Pid::from_raw(pid.cast_signed())) else { return };
        let told = match pidfd_open(pid, PidfdFlags::empty()) {
            // Looked at again once it is held: the id may have come to mean another process.
            Ok(held) if self.living(handle).is_some() => pidfd_send_signal(held, Signal::TERM),
            Ok(_) | Err(Errno::SRCH) => Ok(()),
            Err(Errno::NOSYS) => kill_process(pid, Signal::TERM),
            Err(error) => Err(error),
        };
        if let Err(error) = told {
            tracing::warn!(%error, %handle, "the launcher could not be told to stop");
        }
    }
}

/// When a process started, in ticks since boot; `None` when there is none, or only its status is left.
fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; what follows the last one are numbers, from field 3 (state) on.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?;
    if state == "Z" || state == "X" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// The launcher: as configured, else beside the running program, else in `../lib/kluis` from there.
pub fn find_launcher(configured: Option<&Path>, program: &Path) -> Result<PathBuf, SubmitError> {
    let can_run = |path: &Path| path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    let found = |path: &Path| can_run(path).then(|| path.to_owned());
    if let Some(path) = configured {
        return found(path).ok_or_else(|| {
            let path = path.display();
            SubmitError::Refused(format!("the launcher {path} does not exist, or can not be executed"))
        });
    }
    let beside = program.parent().unwrap_or(Path::new("/"));
    found(&beside.join("kluis-launch")).or_else(|| found(&beside.join("../lib/kluis/kluis-launch"))).ok_or_else(|| {
        let beside = beside.display();
        SubmitError::Refused(format!(
            "kluis-launch was found neither in {beside} nor in {beside}/../lib/kluis; name it with --launcher"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_boot_or_another_start_time_is_another_job() {
        let engine = ProcessEngine::new("/bin/true".into(), []);
        let own = std::process::id();
        let handle = engine.handle(own).expect("this process lives");
        assert_eq!(engine.living(&handle), Some(own));
        assert_eq!(engine.living(&handle.replace(&engine.boot, "another-boot")), None);
        assert_eq!(engine.living(&format!("{}/{own}/1", engine.boot)), None);
        assert_eq!(engine.living("rubbish"), None);
    }

    #[tokio::test]
    async fn a_dead_jobs_process_id_that_a_child_has_now_is_not_that_job() {
        let engine = ProcessEngine::new("/bin/true".into(), []);
        let child = Command::new("sleep").arg("60").spawn().expect("started");
        let (pid, handle) = (child.id(), engine.handle(child.id()).expect("it lives"));
        engine.children.lock().expect("unused").insert(handle.clone(), child);
        let adopted = format!("{}/{pid}/1", engine.boot);
        assert!(engine.is_from_here(&adopted) && !engine.is_from_here("another-boot/1/1"));
        engine.cancel(&adopted).await;
        assert_eq!(engine.status(&adopted).await, JobStatus::Over { success: None });
        assert_eq!(engine.status(&handle).await, JobStatus::Alive);
        engine.cancel(&handle).await;
        while engine.status(&handle).await == JobStatus::Alive {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[test]
    fn a_login_in_the_agents_environment_does_not_reach_the_launcher() {
        let environment = [("KLUIS_TOKEN", "kls_agt_x"), ("PATH", "/bin")].map(|(k, v)| (k.into(), v.into()));
        let engine = ProcessEngine::new("/bin/true".into(), environment);
        assert_eq!(engine.environment, [("PATH".into(), "/bin".into())]);
    }

    #[test]
    fn the_launcher_is_looked_for_in_three_places() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (bin, lib) = (dir.path().join("bin"), dir.path().join("lib/kluis"));
        std::fs::create_dir_all(&bin).expect("made");
        std::fs::create_dir_all(&lib).expect("made");
        let program = bin.join("kluis");
        assert!(find_launcher(None, &program).expect_err("none there").to_string().contains("--launcher"));
        let executable = |path: PathBuf| {
            std::fs::write(&path, "").expect("written");
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("made executable");
        };
        std::fs::write(lib.join("kluis-launch"), "").expect("written");
        assert!(find_launcher(None, &program).is_err(), "a file that can not be executed is no launcher");
        executable(lib.join("kluis-launch"));
        assert!(find_launcher(None, &program).expect("in lib").ends_with("lib/kluis/kluis-launch"));
        executable(bin.join("kluis-launch"));
        assert_eq!(find_launcher(None, &program).expect("beside"), bin.join("kluis-launch"));
        assert!(find_launcher(Some(Path::new("/nowhere")), &program).is_err());
    }
}
