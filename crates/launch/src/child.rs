//! Ending processes of the run: first asked, then made.

use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open, pidfd_send_signal};
use tokio::time::Instant;

use crate::processes::{self, Process};

/// How often the process table is looked at while something ends.
const LOOK: Duration = Duration::from_millis(20);
/// And later, when it takes its time.
const LONGEST_LOOK: Duration = Duration::from_millis(200);

fn signal_group(group: i32, signal: Signal) {
    if let Some(group) = Pid::from_raw(group) {
        // Gone already is as good.
        let _gone = kill_process_group(group, signal);
    }
}

/// Asks a process group to end.
pub(crate) fn ask(group: i32) {
    signal_group(group, Signal::TERM);
}

/// Ends a process group at once.
pub(crate) fn kill(group: i32) {
    signal_group(group, Signal::KILL);
}

/// Ends everything that is still below this process: asked, and killed after `grace`. Says how many there were.
pub(crate) async fn end_leftovers(grace: Duration) -> usize {
    let leftovers = below().await;
    let count = leftovers.len();
    signal_each(&leftovers, Signal::TERM);
    let patience = Instant::now() + grace;
    let mut pause = LOOK;
    while Instant::now() < patience && !below().await.is_empty() {
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(LONGEST_LOOK);
    }
    // What forks faster than we look is met again in the next round.
    for _ in 0..250 {
        let alive = below().await;
        if alive.is_empty() {
            break;
        }
        signal_each(&alive, Signal::KILL);
        tokio::time::sleep(LOOK).await;
    }
    count
}

/// Everything below this process. The machine's whole process table is read, so not on the launcher's own thread.
async fn below() -> Vec<Process> {
    let me = std::process::id().cast_signed();
    tokio::task::spawn_blocking(move || processes::below(me)).await.unwrap_or_default()
}

fn signal_each(processes: &[Process], signal: Signal) {
    for process in processes {
        let Some(pid) = Pid::from_raw(process.pid) else { continue };
        let _gone = match pidfd_open(pid, PidfdFlags::empty()) {
            // Looked at again once it is held: the id may have come to mean another process.
            Ok(handle) if processes::read(process.pid).is_some_and(|now| now.start == process.start) => {
                pidfd_send_signal(handle, signal)
            }
            Ok(_another) => Ok(()),
            Err(Errno::NOSYS) => kill_process(pid, signal),
            Err(gone) => Err(gone),
        };
    }
}
