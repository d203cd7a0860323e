//! The machine's processes, as `/proc` tells: who is whose parent. The launcher is child subreaper, so whatever its
//! run starts stays below it, also after a double fork or `setsid`; ancestry is therefore membership.

/// One process at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) parent: i32,
    /// Ticks since boot: with the pid it names one process for ever.
    pub(crate) start: u64,
}

/// The process with this id, unless it is gone or a zombie.
pub(crate) fn read(pid: i32) -> Option<Process> {
    parse(pid, &std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// `pid (name) state ppid ...`, see proc_pid_stat(5). The name may hold anything, so counting starts behind its `)`.
fn parse(pid: i32, stat: &str) -> Option<Process> {
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    // The start time is field 22; the state was field 3 and the parent field 4.
    let start = fields.nth(17)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(Process { pid, parent, start })
}

/// The chain from a process up to, and without, `ancestor`. `None` when it does not lead there.
pub(crate) fn chain(pid: i32, ancestor: i32) -> Option<Vec<Process>> {
    let mut chain = Vec::new();
    let mut at = pid;
    while at != ancestor {
        let process = read(at)?;
        if process.parent <= 1 && process.parent != ancestor {
            return None;
        }
        // A chain cannot be longer than the process table; reuse of ids while we walk could make a ring.
        if chain.len() > 4096 {
            return None;
        }
        at = process.parent;
        chain.push(process);
    }
    Some(chain)
}

/// Everything below `ancestor`, itself left out.
pub(crate) fn below(ancestor: i32) -> Vec<Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let all: Vec<Process> =
        entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).filter_map(read).collect();
    let parents: std::collections::HashMap<i32, i32> = all.iter().map(|p| (p.pid, p.parent)).collect();
    let is_below = |process: &Process| {
        let mut at = process.parent;
        for _ in 0..=all.len() {
            if at == ancestor {
                return true;
            }
            match parents.get(&at) {
                Some(parent) => at = *parent,
                None => return false,
            }
        }
        false
    };
    all.iter().filter(|p| is_below(p)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_is_no_trap() {
        let mut stat = "17 (evil) S 1 (x) R 4 5 6".to_owned();
        stat.push_str(&" 0".repeat(15));
        stat.push_str(" 99 0 0");
        assert_eq!(parse(17, &stat), Some(Process { pid: 17, parent: 4, start: 99 }));
        assert_eq!(parse(17, &stat.replace(") R", ") Z")), None);
        assert_eq!(parse(17, "17 (cut"), None);
    }

    #[test]
    fn a_child_is_below_its_parent_and_init_is_not() {
        let me = std::process::id().cast_signed();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id().cast_signed();
        assert!(below(me).iter().any(|p| p.pid == pid));
        assert_eq!(chain(pid, me).unwrap().len(), 1);
        assert_eq!(chain(1, me), None);
        assert_eq!(chain(me, pid), None);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(read(pid), None);
    }
}
