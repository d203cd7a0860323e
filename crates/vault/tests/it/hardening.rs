//! The process that holds keys: dumps are off, and a system that will not lock memory is reported, not fatal.

use std::process::Command;

use kluis_vault::{Weakness, harden_process, memory_weaknesses};
use rustix::process::{DumpableBehavior, Resource, getrlimit};
use rustix::thread::CapabilitySet;

use crate::fixture::{BINDING, Fixture, text};

#[test]
fn a_hardened_process_leaves_no_core() {
    let weaknesses = harden_process();
    assert!(!weaknesses.iter().any(|w| matches!(w, Weakness::Dumpable(_) | Weakness::CoreLimit(_))), "{weaknesses:?}");
    assert_eq!(rustix::process::dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    assert_eq!(getrlimit(Resource::Core).current, Some(0));
}

/// Runs itself again under a lock limit of zero, because the limit is the whole process's.
#[test]
fn where_memory_can_not_be_locked_the_vault_works_and_says_so() {
    if getrlimit(Resource::Memlock).current == Some(0) {
        works_and_says_so();
        return;
    }
    let output = Command::new("sh")
        .args(["-c", "ulimit -c 0; ulimit -l 0 && exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "hardening::where_memory_can_not_be_locked_the_vault_works_and_says_so"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn works_and_says_so() {
    // Root may lock whatever the limit says, so give that up (for this thread).
    let mut capabilities = rustix::thread::capabilities(None).expect("a thread may ask for its own");
    capabilities.effective.remove(CapabilitySet::IPC_LOCK);
    rustix::thread::set_capabilities(None, capabilities).expect("a thread may give up its own");

    let fixture = Fixture::new();
    let sealed = fixture.vault.seal(&BINDING, &text("hunter2")).expect("the vault works");
    assert_eq!(fixture.vault.unseal(&BINDING, &sealed).expect("the vault works").expose(), "hunter2");
    let weaknesses = memory_weaknesses();
    assert_eq!(weaknesses, [Weakness::Swappable { unlocked: 1, pages: 1 }]);
    assert!(weaknesses[0].to_string().contains("RLIMIT_MEMLOCK"));
}
