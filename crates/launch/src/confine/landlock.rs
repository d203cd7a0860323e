//! Landlock, for machines whose user namespaces are closed. It is an allow-list, so a covered folder is hidden by
//! allowing everything beside it: each entry of each folder on the way down, but not those folders themselves.
//!
//! Hence its coarser limits: the folders on the way to a covered one cannot be listed, and nothing new can be made in
//! them (with a covered folder in `/tmp`, no new file directly in `/tmp`; the run has a `TMPDIR` of its own). What the
//! kernel's Landlock does not know yet it does not forbid (before ABI 9: connecting to a socket in a covered folder), and
//! private folders of other runs of the same user are hidden only where they lie in a covered folder. Processes outside
//! cannot be traced.
//!
//! [`scope`] is Landlock's other half, and is put up behind bubblewrap too: from Linux 6.12 on, a run signals no process
//! outside and connects to no abstract socket outside.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope, path_beneath_rules,
};

use super::Covers;

/// Confines this process, and what it becomes, for good.
pub(super) fn restrict(covers: &Covers) -> Result<(), String> {
    // The crate leaves out what the kernel does not know.
    let access = AccessFs::from_all(ABI::V10);
    let enforce = || {
        Ruleset::default()
            .handle_access(access)?
            .create()?
            .add_rules(path_beneath_rules(allowed(covers), access))?
            .restrict_self()
    };
    match enforce().map_err(|e| format!("Landlock: {e}"))?.ruleset {
        RulesetStatus::NotEnforced => Err("this kernel has no Landlock".to_owned()),
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
    }
}

/// Keeps this process, and what it becomes, from signalling processes outside and from their abstract sockets. Says
/// whether the kernel can.
pub(super) fn scope() -> bool {
    let enforce = || Ruleset::default().scope(Scope::Signal | Scope::AbstractUnixSocket)?.create()?.restrict_self();
    enforce().is_ok_and(|status| status.ruleset == RulesetStatus::FullyEnforced)
}

/// Everything but the covered paths, in the fewest folders; then what is kept.
fn allowed(covers: &Covers) -> Vec<PathBuf> {
    let mut allowed = Vec::new();
    allow_beneath(Path::new("/"), &covers.covered, &mut allowed);
    allowed.extend(covers.kept.iter().cloned());
    allowed
}

fn allow_beneath(path: &Path, covered: &[PathBuf], allowed: &mut Vec<PathBuf>) {
    if covered.iter().any(|c| path.starts_with(c)) {
        return;
    }
    if !covered.iter().any(|c| c.starts_with(path)) {
        allowed.push(path.to_owned());
        return;
    }
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        // A rule on a link would be a rule on its target, which has a place of its own.
        if entry.file_type().is_ok_and(|kind| !kind.is_symlink()) {
            allow_beneath(&entry.path(), covered, allowed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_but_the_covered_and_the_way_to_it_is_allowed() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        for folder in ["a/covered/own", "a/beside", "b/deep"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        std::os::unix::fs::symlink(root.join("a/covered"), root.join("a/link")).unwrap();
        let covers = Covers::new(&[root.join("a/covered")], None, vec![root.join("a/covered/own")]).unwrap();
        let allowed = allowed(&covers);
        let here: Vec<_> = allowed.iter().filter_map(|p| p.strip_prefix(&root).ok()).collect();
        assert_eq!(
            std::collections::BTreeSet::from_iter(here),
            ["a/beside", "b", "a/covered/own"].map(Path::new).into_iter().collect()
        );
        assert!(allowed.contains(&PathBuf::from("/usr")) && !allowed.contains(&PathBuf::from("/")));
    }
}
