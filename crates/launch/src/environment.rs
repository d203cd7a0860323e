//! The environment of the user's process, built from nothing: a few variables of the node, the engine's, ours, the
//! run's own, and the secrets that the submission asked to have there. No session, no ticket, and nothing of the
//! submitter's or the agent's environment beyond this list.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;

use kluis_core::api::session::RunContext;
use kluis_core::plaintext::Plaintext;

/// What a process needs to find programs, its home and its language. `TERM` only on a terminal: else output is a pipe.
const NODE: &[&str] = &["PATH", "HOME", "USER", "LANG", "TZ", "GPU_DEVICE_ORDINAL"];
/// By prefix: languages, and what schedulers and accelerators tell a job.
const PREFIXES: &[&str] =
    &["LC_", "CUDA_", "NVIDIA_", "ROCR_", "HIP_", "ZE_", "NCCL_", "SLURM_", "PMI_", "PMIX_", "OMP_"];
/// Begins like one of them and is a credential.
const NEVER: &[&str] = &["SLURM_JWT"];
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Variables, one value each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    /// The node's and the engine's part of the launcher's own environment.
    pub(crate) fn of_node(launcher: &[(OsString, OsString)]) -> Self {
        let kept = launcher.iter().filter(|(name, _)| {
            name.to_str().is_some_and(|name| {
                !NEVER.contains(&name) && (NODE.contains(&name) || PREFIXES.iter().any(|p| name.starts_with(p)))
            })
        });
        let mut environment = Self(kept.cloned().collect());
        environment.0.entry("PATH".into()).or_insert_with(|| DEFAULT_PATH.into());
        environment
    }

    /// What programs ask a terminal's kind by.
    pub(crate) fn add_terminal(&mut self, launcher: &[(OsString, OsString)]) {
        let terminal = |(name, _): &&(OsString, OsString)| name == "TERM" || name == "COLORTERM";
        self.0.extend(launcher.iter().filter(terminal).cloned());
    }

    pub(crate) fn set(&mut self, name: &str, value: impl AsRef<OsStr>) {
        self.0.insert(name.into(), value.as_ref().to_owned());
    }

    /// The run's own variables. What Kluis says of the run comes afterwards and cannot be overwritten.
    pub(crate) fn add_run(&mut self, context: &RunContext) {
        for (name, value) in &context.environment {
            self.set(name, value);
        }
    }

    /// Which run this is, where its launcher listens and where it may write.
    pub(crate) fn add_kluis(&mut self, context: &RunContext, work: &Path, temporary: &Path, socket: &Path) {
        self.set("KLUIS_RUN_ID", context.run.as_str());
        self.set("KLUIS_RUN_DIR", work);
        self.set("KLUIS_ATTEMPT", context.attempt.to_string());
        self.set("KLUIS_RANK", context.node.to_string());
        self.set("KLUIS_WORLD_SIZE", context.nodes.max(1).to_string());
        self.set("KLUIS_RUN_SOCKET", socket);
        self.set("KLUIS_WORKSPACE", context.workspace.as_str());
        self.set("KLUIS_EXPERIMENT", context.experiment.as_str());
        self.set("PYTHONUNBUFFERED", "1");
        self.set("TMPDIR", temporary);
    }

    /// A secret that the submission asked to have in a variable.
    pub(crate) fn add_secret(&mut self, name: &str, value: &Plaintext) {
        self.set(name, value.expose());
    }

    /// Puts a folder behind what `PYTHONPATH` already holds.
    pub(crate) fn append_python_path(&mut self, folder: &Path) {
        let mut path = self.0.get(OsStr::new("PYTHONPATH")).cloned().unwrap_or_default();
        if !path.is_empty() {
            path.push(":");
        }
        path.push(folder);
        self.set("PYTHONPATH", path);
    }

    /// As a process takes it.
    pub(crate) fn to_vec(&self) -> Vec<(OsString, OsString)> {
        self.0.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn context() -> RunContext {
        serde_json::from_value(serde_json::json!({
            "workspace": "default", "experiment": "churn", "run": "churn_1", "number": 1, "attempt": 2, "node": 0,
            "nodes": 1, "submitted_by": "00000000000000000000000000000001", "submitter": "ada",
            "program": {"script": {"path": "train.py"}},
            "environment": {"EPOCHS": "3", "KLUIS_RUN_SOCKET": "/elsewhere", "LD_PRELOAD": "/tmp/x.so"},
        }))
        .unwrap()
    }

    #[test]
    fn only_what_is_listed_gets_in_and_the_run_cannot_redirect_its_socket() {
        let launcher: Vec<(OsString, OsString)> = [
            ("PATH", "/bin"),
            ("HOME", "/home/ada"),
            ("LC_ALL", "C.UTF-8"),
            ("CUDA_VISIBLE_DEVICES", "1"),
            ("SLURM_JOB_ID", "7"),
            ("SLURM_JWT", "a credential"),
            ("HIP_VISIBLE_DEVICES", "1"),
            ("TERM", "xterm"),
            ("KLUIS_TOKEN", "kls_usr_x"),
            ("AWS_SECRET_ACCESS_KEY", "x"),
            ("SSH_AUTH_SOCK", "/tmp/x"),
            ("LD_PRELOAD", "/tmp/agent.so"),
        ]
        .map(|(k, v)| (k.into(), v.into()))
        .into();
        let mut environment = Environment::of_node(&launcher);
        environment.add_run(&context());
        environment.add_kluis(&context(), Path::new("/w"), Path::new("/w/tmp"), Path::new("/p/s"));
        environment.append_python_path(Path::new("/w/sdk"));
        let names: Vec<String> =
            environment.to_vec().iter().map(|(k, v)| format!("{}={}", k.display(), v.display())).collect();
        assert_eq!(
            names,
            [
                "CUDA_VISIBLE_DEVICES=1",
                "EPOCHS=3",
                "HIP_VISIBLE_DEVICES=1",
                "HOME=/home/ada",
                "KLUIS_ATTEMPT=2",
                "KLUIS_EXPERIMENT=churn",
                "KLUIS_RANK=0",
                "KLUIS_RUN_DIR=/w",
                "KLUIS_RUN_ID=churn_1",
                "KLUIS_RUN_SOCKET=/p/s",
                "KLUIS_WORKSPACE=default",
                "KLUIS_WORLD_SIZE=1",
                "LC_ALL=C.UTF-8",
                "LD_PRELOAD=/tmp/x.so",
                "PATH=/bin",
                "PYTHONPATH=/w/sdk",
                "PYTHONUNBUFFERED=1",
                "SLURM_JOB_ID=7",
                "TMPDIR=/w/tmp",
            ]
        );
    }
}
