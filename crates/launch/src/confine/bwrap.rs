//! Bubblewrap: a user and a mount namespace in which covered folders are empty and processes outside cannot be traced.
//!
//! No PID namespace: the launcher knows its run's processes by their ids. Bubblewrap's own process ends as soon as the
//! stage is up (see [`super::stage`]), so the program becomes the launcher's own child and its exit status arrives as it
//! is, a signal as a signal.
//!
//! Bubblewrap runs outside the wall, so it is only taken from where no run can have put it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tokio::net::unix::pipe;

use super::{Covers, StartError};

/// What is the kernel's and not the run's: root inside is root to these files, and some of them name programs that the
/// kernel starts outside.
const KERNEL: [&str; 3] = ["/proc/sys", "/proc/sysrq-trigger", "/sys/kernel"];

/// Bubblewrap and its options, up to the program that it runs.
pub(super) fn command(covers: &Covers, stage: &[OsString], path: &OsStr) -> Result<Vec<OsString>, StartError> {
    let bwrap = find(path).ok_or_else(|| {
        StartError::confine("bubblewrap (bwrap) is not installed, or not in a place that only root can write to")
    })?;
    let mut argv: Vec<OsString> = vec![bwrap.into()];
    let mut option = |parts: &[&OsStr]| argv.extend(parts.iter().map(|part| (*part).to_owned()));
    let o = OsStr::new;
    option(&[o("--unshare-user"), o("--cap-drop"), o("ALL"), o("--dev-bind"), o("/"), o("/")]);
    for path in KERNEL {
        option(&[o("--ro-bind-try"), o(path), o(path)]);
    }
    // Before what is covered: a covered place inside stays covered, and one that is inside a covered place as well.
    for frozen in covers.frozen.iter().filter(|frozen| !covers.hides(frozen)) {
        option(&[o("--ro-bind"), frozen.as_os_str(), frozen.as_os_str()]);
    }
    for covered in covers.covered.iter().chain(&covers.neighbours) {
        if covered.is_dir() {
            option(&[o("--tmpfs"), covered.as_os_str()]);
        } else {
            option(&[o("--ro-bind"), o("/dev/null"), covered.as_os_str()]);
        }
    }
    for kept in &covers.kept {
        option(&[o("--bind"), kept.as_os_str(), kept.as_os_str()]);
    }
    if let Some((file, over)) = &covers.hosts {
        option(&[o("--ro-bind"), file.as_os_str(), over.as_os_str()]);
    }
    // The stage's own program may lie in a covered folder.
    let program = Path::new(&stage[0]);
    if covers.hides(program) {
        option(&[o("--ro-bind"), program.as_os_str(), program.as_os_str()]);
    }
    option(&[o("--")]);
    Ok(argv)
}

fn find(path: &OsStr) -> Option<PathBuf> {
    let on_path =
        path.as_bytes().split(|b| *b == b':').map(|folder| Path::new(OsStr::from_bytes(folder)).join("bwrap"));
    [PathBuf::from("/usr/bin/bwrap")].into_iter().chain(on_path).find_map(|candidate| trusted(&candidate))
}

/// The program behind this path, if root alone decides what it is: the file and every folder above belong to root, and
/// nobody else may write to them, unless it is a group that can put something there and replace nothing (`/nix/store`).
fn trusted(candidate: &Path) -> Option<PathBuf> {
    let real = candidate.is_absolute().then(|| candidate.canonicalize().ok())??;
    let only_roots = |path: &Path| {
        path.metadata().is_ok_and(|m| {
            let sealed = m.mode() & 0o022 == 0 || (m.is_dir() && m.mode() & 0o1002 == 0o1000);
            m.uid() == 0 && sealed
        })
    };
    (real.is_file() && real.ancestors().all(only_roots)).then_some(real)
}

/// What an ended bubblewrap left on its standard error: its own words about this machine, no user's.
pub(super) async fn what_it_said(stderr: &pipe::Receiver) -> String {
    let mut buffer = [0; 400];
    let _in_time = tokio::time::timeout(std::time::Duration::from_millis(200), stderr.readable()).await;
    let length = stderr.try_read(&mut buffer).unwrap_or(0);
    let text = String::from_utf8_lossy(&buffer[..length]);
    match text.lines().next() {
        Some(line) if !line.is_empty() => line.to_owned(),
        _ => "it said nothing".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bubblewrap_is_not_taken_from_where_somebody_else_can_write() {
        use std::os::unix::fs::PermissionsExt;
        // Below `/tmp`, which everybody may write to.
        let folder = tempfile::tempdir().unwrap();
        let planted = folder.path().join("bwrap");
        std::fs::write(&planted, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&planted, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(trusted(&planted), None);
        assert_eq!(trusted(Path::new("bin/bwrap")), None);
        assert_ne!(find(folder.path().as_os_str()), Some(planted));
        assert_eq!(trusted(Path::new("/usr/bin/env")), Path::new("/usr/bin/env").canonicalize().ok());
    }
}
