//! How processes ended. The launcher is parent of everything in its run, also of orphans it never started, and waits for
//! them all; the statuses that somebody will ask for are kept.

use std::collections::HashMap;

use kluis_core::run::ExitStatus;
use rustix::process::{WaitOptions, WaitStatus};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Collects ended children. One per process: it takes every child's status.
#[derive(Debug)]
pub(crate) struct Reaper {
    ended: watch::Sender<Ended>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Ended {
    statuses: HashMap<i32, ExitStatus>,
    /// Once known, the only one that is kept: a run may leave any number of orphans.
    only: Option<i32>,
}

impl Reaper {
    /// Starts collecting.
    pub(crate) fn start() -> std::io::Result<Self> {
        let child = signal(SignalKind::child())?;
        let ended = watch::Sender::new(Ended::default());
        let task = tokio::spawn(collect(child, ended.clone()));
        Ok(Self { ended, task })
    }

    /// How the child with this id ended, as soon as it has.
    pub(crate) async fn wait(&self, pid: i32) -> ExitStatus {
        let mut receiver = self.ended.subscribe();
        let ended = receiver.wait_for(|ended| ended.statuses.contains_key(&pid)).await;
        ended.expect("the sender lives as long as this reaper").statuses[&pid]
    }

    /// From now on only this child's status is kept.
    pub(crate) fn keep_only(&self, pid: i32) {
        self.ended.send_modify(|ended| {
            ended.only = Some(pid);
            ended.statuses.retain(|other, _| *other == pid);
        });
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn collect(mut child: Signal, ended: watch::Sender<Ended>) {
    loop {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let pid = pid.as_raw_nonzero().get();
            let Some(status) = exit_status(status) else { continue };
            ended.send_if_modified(|ended| {
                let kept = ended.only.is_none_or(|only| only == pid);
                if kept {
                    ended.statuses.insert(pid, status);
                }
                kept
            });
        }
        if child.recv().await.is_none() {
            return;
        }
    }
}

fn exit_status(status: WaitStatus) -> Option<ExitStatus> {
    let signal = status.terminating_signal().map(ExitStatus::Signal);
    status.exit_status().map(ExitStatus::Code).or(signal)
}
