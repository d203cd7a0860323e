//! Files that only their owner may reach: read with owner and mode checked on the open file, and created whole or not
//! at all, never over another.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use kluis_core::rng::Rng;
use zeroize::Zeroizing;

use super::RootKeyError;

/// No file of ours is larger.
const MAX_BYTES: usize = 4096;

/// The file's bytes, if it is a regular file of this process's user that nobody else may reach. A symbolic link at
/// `path` itself is followed (secrets mounted by an orchestrator are links); the file behind it is what is checked.
pub(super) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, RootKeyError> {
    let io = |source| RootKeyError::Io { path: path.into(), source };
    // NONBLOCK: opening a pipe in the file's place must not hang.
    let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|e| match e.kind() {
        ErrorKind::NotFound => RootKeyError::Missing { path: path.into() },
        _ => io(e),
    })?;
    let metadata = file.metadata().map_err(io)?;
    let expected = rustix::process::geteuid().as_raw();
    if !metadata.is_file() {
        return Err(RootKeyError::NotAFile { path: path.into() });
    }
    if metadata.uid() != expected {
        return Err(RootKeyError::Owner { path: path.into(), owner: metadata.uid(), expected });
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(RootKeyError::Mode { path: path.into(), mode: metadata.mode() & 0o7777 });
    }
    // Read into one buffer that never grows: growing would leave copies behind.
    let mut bytes = Zeroizing::new(vec![0; MAX_BYTES + 1]);
    let mut length = 0;
    loop {
        match file.read(&mut bytes[length..]) {
            Ok(0) => break,
            Ok(n) => length += n,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(io(e)),
        }
    }
    if length > MAX_BYTES {
        return Err(RootKeyError::Malformed { path: path.into(), problem: "it is too long" });
    }
    bytes.truncate(length);
    Ok(bytes)
}

/// Writes a new file with mode 0600: it appears under its name complete and on disk, or not at all.
pub(super) fn create_new(path: &Path, bytes: &[u8], rng: &dyn Rng) -> Result<(), RootKeyError> {
    let io = |source| RootKeyError::Io { path: path.into(), source };
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let unfinished = Unfinished::beside(path, rng);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished.0).map_err(io)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(io)?;
    // A hard link never replaces what is there.
    std::fs::hard_link(&unfinished.0, path).map_err(|e| match e.kind() {
        ErrorKind::AlreadyExists => RootKeyError::Exists { path: path.into() },
        _ => io(e),
    })?;
    drop(unfinished);
    File::open(directory).and_then(|d| d.sync_all()).map_err(io)
}

/// The name under which a file is written; removed on every way out.
struct Unfinished(PathBuf);

impl Unfinished {
    fn beside(path: &Path, rng: &dyn Rng) -> Self {
        let mut random = [0; 8];
        rng.fill(&mut random);
        let mut name = path.as_os_str().to_owned();
        name.push(".new-");
        name.push(HEXLOWER.encode(&random));
        Self(name.into())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}
