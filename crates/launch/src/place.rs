//! Where a run lives on its node: the work folder that the engine made, and a private folder, in memory where there is
//! one, for the broker's socket and for secrets delivered as files.
//!
//! All private folders of a user lie in one parent, so that a run's walls hide the others' by covering that parent. A
//! folder's name says which launcher made it; what a killed launcher left is removed by the next one, and by
//! [`crate::sweep`].

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use kluis_core::plaintext::Plaintext;

use crate::processes;

/// The longest path a UNIX socket may have here, in bytes. Linux allows 107.
const MAX_SOCKET_PATH: usize = 100;

/// A step that failed on this machine.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub(crate) struct PlaceError {
    what: String,
    source: std::io::Error,
}

impl PlaceError {
    /// Whether the name of a secret's file is the mistake, and not this machine.
    pub(crate) fn is_of_a_name(&self) -> bool {
        use std::io::ErrorKind as K;
        matches!(self.source.kind(), K::InvalidFilename | K::AlreadyExists | K::NotADirectory | K::IsADirectory)
    }
}

fn failed(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> PlaceError {
    let what = what.into();
    move |source| PlaceError { what, source }
}

/// The work folder and what is in it.
#[derive(Clone, Debug)]
pub(crate) struct WorkFolder {
    /// The run's own folder, canonical.
    pub(crate) root: PathBuf,
    /// The snapshot's writable copy: where the script starts.
    pub(crate) tree: PathBuf,
    /// The run's `TMPDIR`.
    pub(crate) temporary: PathBuf,
    /// Where the small Python client lies.
    pub(crate) sdk: PathBuf,
}

impl WorkFolder {
    /// Checks the folder and makes what belongs in it.
    pub(crate) fn prepare(root: &Path) -> Result<Self, PlaceError> {
        let root = root.canonicalize().map_err(failed("the run's work folder"))?;
        let metadata = root.metadata().map_err(failed("the run's work folder"))?;
        if !metadata.is_dir() || metadata.uid() != uid() || metadata.mode() & 0o077 != 0 {
            let source = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
            return Err(failed("the run's work folder must be a folder of this user with mode 0700")(source));
        }
        let folder = Self { tree: root.join("tree"), temporary: root.join("tmp"), sdk: root.join("sdk"), root };
        for path in [&folder.tree, &folder.temporary] {
            make_private(path).map_err(failed("a folder of the run"))?;
        }
        Ok(folder)
    }

    /// `./outputs` and `./logs`, made after the snapshot is unpacked.
    pub(crate) fn make_collected(&self) -> Result<(), PlaceError> {
        for name in ["outputs", "logs"] {
            make_private(&self.tree.join(name)).map_err(failed(format!("the run's folder ./{name}")))?;
        }
        Ok(())
    }
}

/// The launcher's private folder for this run; removed when dropped.
#[derive(Debug)]
pub(crate) struct PrivateFolder {
    path: PathBuf,
    /// What holds all private folders of this user.
    parent: PathBuf,
    in_memory: bool,
}

impl PrivateFolder {
    /// Makes the folder in the first place that fits. `runtime` is `XDG_RUNTIME_DIR`, if there is one: it goes away with
    /// its user's last session, so it comes second, unless it is the one place that the wall hides from other runs.
    pub(crate) fn make(runtime: Option<&Path>, runtime_first: bool) -> Result<Self, PlaceError> {
        let shared = Some(Path::new("/dev/shm"));
        let bases = if runtime_first { [runtime, shared] } else { [shared, runtime] };
        let bases = bases.into_iter().flatten().filter(|base| is_in_memory(base));
        let candidates = bases.map(|base| (base, true)).chain([(Path::new("/tmp"), false)]);
        let mut last = std::io::Error::from(std::io::ErrorKind::NotFound);
        for (base, in_memory) in candidates {
            match Self::make_in(base, in_memory) {
                Ok(folder) if folder.socket().as_os_str().len() < MAX_SOCKET_PATH => return Ok(folder),
                Ok(_too_long) => last = std::io::Error::from(std::io::ErrorKind::InvalidFilename),
                Err(error) => last = error,
            }
        }
        Err(failed("a private folder for the run's socket")(last))
    }

    fn make_in(base: &Path, in_memory: bool) -> std::io::Result<Self> {
        let parent = base.join(format!("kluis-{}", uid()));
        make_private(&parent)?;
        let metadata = parent.symlink_metadata()?;
        // Anybody may make folders here: this one must really be ours alone.
        if !metadata.is_dir() || metadata.uid() != uid() || metadata.mode() & 0o077 != 0 {
            return Err(std::io::ErrorKind::PermissionDenied.into());
        }
        let parent = parent.canonicalize()?;
        sweep(&parent);
        let path = parent.join(own_name());
        make_private(&path)?;
        Ok(Self { path, parent, in_memory })
    }

    /// The folder itself.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What a run's walls cover, this folder excepted.
    pub(crate) fn parent(&self) -> &Path {
        &self.parent
    }

    /// The broker's socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.path.join("s")
    }

    /// Where secrets delivered as files lie.
    pub(crate) fn secrets(&self) -> PathBuf {
        self.path.join("secrets")
    }

    /// Writes one secret's file, readable by this user only. Never outside memory.
    pub(crate) fn write_secret(&self, name: &str, value: &Plaintext) -> Result<(), PlaceError> {
        let refused = |kind: std::io::ErrorKind| failed(format!("the secret file `{name}`"))(kind.into());
        if !self.in_memory {
            let what = "secret files need a file system in memory (/dev/shm or XDG_RUNTIME_DIR), and there is none";
            return Err(failed(what)(std::io::ErrorKind::Unsupported.into()));
        }
        let relative = Path::new(name);
        if name.is_empty() || !relative.components().all(|c| matches!(c, Component::Normal(_))) {
            return Err(refused(std::io::ErrorKind::InvalidFilename));
        }
        let path = self.secrets().join(relative);
        let folder = path.parent().expect("it was joined to a folder");
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(failed(format!("the secret file `{name}`")))?;
        let mut options = std::fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o400)
            .open(&path)
            .map_err(failed(format!("the secret file `{name}`")))?;
        file.write_all(value.expose().as_bytes()).map_err(failed(format!("the secret file `{name}`")))
    }
}

/// Where this user's session keeps its sockets: a message bus and a service manager there start programs outside of any
/// wall. Only folders that are this user's own.
pub(crate) fn runtime_folders(runtime: Option<&Path>) -> Vec<PathBuf> {
    let usual = PathBuf::from(format!("/run/user/{}", uid()));
    let own = |path: &PathBuf| path.metadata().is_ok_and(|m| m.is_dir() && m.uid() == uid() && m.mode() & 0o077 == 0);
    let named = runtime.filter(|path| path.is_absolute()).map(Path::to_owned);
    named.into_iter().chain([usual]).filter_map(|path| path.canonicalize().ok()).filter(own).collect()
}

impl Drop for PrivateFolder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            tracing::warn!(%error, "the run's private folder could not be removed");
        }
    }
}

fn uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn make_private(path: &Path) -> std::io::Result<()> {
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        // What the snapshot brought along keeps its content; its mode is ours to say.
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists && path.symlink_metadata()?.is_dir() => {
            if path.metadata()?.uid() == uid() {
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))?;
            }
            Ok(())
        }
        outcome => outcome,
    }
}

fn is_in_memory(path: &Path) -> bool {
    const TMPFS: i64 = 0x0102_1994;
    const RAMFS: i64 = 0x8584_58f6;
    rustix::fs::statfs(path).is_ok_and(|stat| [TMPFS, RAMFS].contains(&stat.f_type))
}

/// `run-<pid namespace>-<pid>-<start>`: one launcher for ever.
fn own_name() -> String {
    let pid = std::process::id().cast_signed();
    let start = processes::read(pid).map_or(0, |process| process.start);
    format!("run-{}-{pid}-{start}", pid_namespace())
}

fn pid_namespace() -> u64 {
    std::fs::metadata("/proc/self/ns/pid").map_or(0, |metadata| metadata.ino())
}

/// Removes what launchers of this user left that are no more, wherever they may have put it.
pub(crate) fn sweep_everywhere(runtime: Option<&Path>) {
    for base in [Some(Path::new("/dev/shm")), runtime, Some(Path::new("/tmp"))].into_iter().flatten() {
        sweep(&base.join(format!("kluis-{}", uid())));
    }
}

/// Removes what launchers left that are no more.
fn sweep(parent: &Path) {
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix("run-")) else { continue };
        let mut parts = rest.split('-').map(str::parse::<u64>);
        let (Some(Ok(namespace)), Some(Ok(pid)), Some(Ok(start)), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let lives = i32::try_from(pid).ok().and_then(processes::read).is_some_and(|process| process.start == start);
        if namespace == pid_namespace() && !lives {
            let _gone = std::fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_file_is_private_in_memory_and_gone_afterwards() {
        let folder = PrivateFolder::make(None, false).unwrap();
        let path = folder.path().to_owned();
        let value = Plaintext::from_text("the value").unwrap();
        folder.write_secret("deep/key.pem", &value).unwrap();
        let written = folder.secrets().join("deep/key.pem");
        assert_eq!(std::fs::read_to_string(&written).unwrap(), "the value");
        assert_eq!(written.metadata().unwrap().mode() & 0o777, 0o400);
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o700);
        assert!(is_in_memory(&written));
        for outside in ["../x", "/etc/x", "", "a/../../x"] {
            assert!(folder.write_secret(outside, &value).unwrap_err().is_of_a_name(), "{outside}");
        }
        for taken in ["deep", "deep/key.pem", "deep/key.pem/x"] {
            assert!(folder.write_secret(taken, &value).unwrap_err().is_of_a_name(), "{taken}");
        }
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn what_a_killed_launcher_left_is_swept_and_what_a_living_one_has_is_not() {
        let parent = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let dead = parent.path().join(format!("run-{}-{}-17", pid_namespace(), child.id()));
        let elsewhere = parent.path().join(format!("run-1-{}-17", child.id()));
        let living = parent.path().join(own_name());
        let other = parent.path().join("not-ours");
        for folder in [&dead, &elsewhere, &living, &other] {
            std::fs::create_dir(folder).unwrap();
        }
        sweep(parent.path());
        assert!(!dead.exists() && elsewhere.exists() && living.exists() && other.exists());
    }

    #[test]
    fn a_work_folder_that_others_can_enter_is_refused() {
        let root = tempfile::tempdir().unwrap();
        std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(WorkFolder::prepare(root.path()).is_err());
        std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let folder = WorkFolder::prepare(root.path()).unwrap();
        folder.make_collected().unwrap();
        assert!(folder.tree.join("outputs").is_dir());
    }
}
