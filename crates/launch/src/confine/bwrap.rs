//! Bubblewrap: a user and a mount namespace in which covered folders are empty and processes outside cannot be traced.
//!
//! No PID namespace: the launcher knows its run's processes by their ids. Bubblewrap's own process ends as soon as the
//! stage is up (see [`super::stage`]), so the program becomes the launcher's own child and its exit status arrives as it
//! is, a signal as a signal.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use tokio::net::unix::pipe;

use super::{Covers, StartError};

/// Bubblewrap and its options, up to the program that it runs.
pub(super) fn command(covers: &Covers, stage: &[OsString], path: &OsStr) -> Result<Vec<OsString>, StartError> {
    let bwrap = find(path).ok_or_else(|| StartError::confine("bubblewrap (bwrap) is not installed"))?;
    let mut argv: Vec<OsString> = vec![bwrap.into()];
    let mut option = |parts: &[&OsStr]| argv.extend(parts.iter().map(|part| (*part).to_owned()));
    let o = OsStr::new;
    option(&[o("--unshare-user"), o("--cap-drop"), o("ALL"), o("--dev-bind"), o("/"), o("/")]);
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
    // The stage's own program may lie in a covered folder.
    let program = Path::new(&stage[0]);
    if covers.covered.iter().any(|covered| program.starts_with(covered)) {
        option(&[o("--ro-bind"), program.as_os_str(), program.as_os_str()]);
    }
    option(&[o("--")]);
    Ok(argv)
}

fn find(path: &OsStr) -> Option<PathBuf> {
    path.as_bytes()
        .split(|b| *b == b':')
        .map(|folder| Path::new(OsStr::from_bytes(folder)).join("bwrap"))
        .chain([PathBuf::from("/usr/bin/bwrap")])
        .find(|candidate| candidate.is_absolute() && candidate.is_file())
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
