//! Processes of a run whose launcher was killed. The kernel ends the run's main process with it; what that one started
//! goes to init, with values in its memory and a device in use. They are known by their environment: `KLUIS_RUN_DIR` is
//! the run's own folder. A process that has written over its environment is not found.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// What forks faster than we look is met again in the next round.
const ROUNDS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(20);

/// Ends every process of the run that works in this folder, at once. Says how many there were. Blocks.
pub(super) fn end(folder: &Path) -> usize {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let mut wanted = b"KLUIS_RUN_DIR=".to_vec();
    wanted.extend_from_slice(folder.as_os_str().as_encoded_bytes());
    let mut ended = HashSet::new();
    for _ in 0..ROUNDS {
        let found = with_variable(&wanted);
        if found.is_empty() {
            break;
        }
        for pid in found {
            let Some(id) = Pid::from_raw(pid) else { continue };
            // Looked at again once it is held: the id may have come to mean another process.
            if let Ok(handle) = pidfd_open(id, PidfdFlags::empty())
                && has_variable(pid, &wanted)
            {
                let _gone = pidfd_send_signal(handle, Signal::KILL);
                ended.insert(pid);
            }
        }
        std::thread::sleep(PAUSE);
    }
    ended.len()
}

fn with_variable(wanted: &[u8]) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| has_variable(*pid, wanted)).collect()
}

/// Of processes of other users, and of those that have ended, nothing can be read.
fn has_variable(pid: i32, wanted: &[u8]) -> bool {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|variable| variable == wanted)
}
