//! Ending processes of the run: first asked, then made.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::time::Instant;

use crate::processes;

/// How often the process table is looked at while something ends.
const LOOK: Duration = Duration::from_millis(20);

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
    let me = std::process::id().cast_signed();
    let leftovers = processes::below(me);
    let count = leftovers.len();
    signal_each(&leftovers, Signal::TERM);
    let patience = Instant::now() + grace;
    while Instant::now() < patience && !processes::below(me).is_empty() {
        tokio::time::sleep(LOOK).await;
    }
    // What forks faster than we look is met again in the next round.
    for _ in 0..250 {
        let alive = processes::below(me);
        if alive.is_empty() {
            break;
        }
        signal_each(&alive, Signal::KILL);
        tokio::time::sleep(LOOK).await;
    }
    count
}

fn signal_each(processes: &[processes::Process], signal: Signal) {
    for process in processes {
        if let Some(pid) = Pid::from_raw(process.pid) {
            let _gone = kill_process(pid, signal);
        }
    }
}
