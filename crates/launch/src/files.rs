//! Files of the run on their way to the server. The launcher sees more than the run does, so it opens nothing by a path
//! that the run could have bent: paths are resolved by the kernel inside a folder that the run has as well
//! (openat2 with `RESOLVE_BENEATH` or `RESOLVE_IN_ROOT`), and covered places stay covered.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use kluis_client::Error;
use kluis_client::session::Session;
use kluis_core::api::code;
use kluis_core::api::session::{MAX_PIECE, OutputQuery};
use kluis_core::name::RunId;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};

use crate::confine::Covers;
use crate::processes::Process;
use crate::retry;

/// The type of `/proc`, see statfs(2).
const PROC: i64 = 0x9fa0;
/// How long a full server is tried with one piece.
const ROOM_PATIENCE: std::time::Duration = std::time::Duration::from_mins(2);
/// The most files of one folder.
const MOST_FILES: usize = 100_000;

/// Why a file was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// It is not there, not readable, or not a file.
    #[error("{name}: {source}")]
    Local {
        /// As the run calls it.
        name: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The server refused.
    #[error(transparent)]
    Server(#[from] Error),
}

fn local(name: &str) -> impl FnOnce(std::io::Error) -> FileError {
    let name = name.to_owned();
    move |source| FileError::Local { name, source }
}

fn refused(name: &str, why: &'static str) -> FileError {
    local(name)(std::io::Error::other(why))
}

/// A place whose files the run may give away.
#[derive(Debug)]
pub(crate) struct Source {
    folder: OwnedFd,
    resolve: ResolveFlags,
    covers: Covers,
}

impl Source {
    /// A folder of the run; links that lead out of it are not followed.
    pub(crate) fn folder(path: &Path, covers: &Covers) -> std::io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let folder = rustix::fs::open(path, flags, Mode::empty())?;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        Ok(Self { folder, resolve, covers: covers.clone() })
    }

    /// Everything that a process of the run sees, as it sees it.
    pub(crate) fn seen_by(process: Process, covers: &Covers) -> std::io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(format!("/proc/{}/root", process.pid), flags, Mode::empty())?;
        // Asked after opening: the folder is this process's and not that of another with a reused id.
        if crate::processes::read(process.pid).is_none_or(|now| now.start != process.start) {
            return Err(std::io::ErrorKind::NotFound.into());
        }
        Ok(Self { folder, resolve: ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS, covers: covers.clone() })
    }

    /// Opens a file or folder. Never waits for the other end of a pipe.
    fn open(&self, path: &Path) -> std::io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = loop {
            match rustix::fs::openat2(&self.folder, path, flags, Mode::empty(), self.resolve) {
                Err(rustix::io::Errno::AGAIN) => {}
                outcome => break outcome?,
            }
        };
        // What `/proc` shows depends on who looks, and it is the launcher that looks.
        if rustix::fs::fstatfs(&fd)?.f_type == PROC {
            return Err(std::io::ErrorKind::PermissionDenied.into());
        }
        let real = std::fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd)))?;
        let beneath = |paths: &[PathBuf]| paths.iter().any(|p| real.starts_with(p));
        if beneath(&self.covers.covered) && !beneath(&self.covers.kept) {
            return Err(std::io::ErrorKind::PermissionDenied.into());
        }
        Ok(fd)
    }

    /// As [`Self::files`], off the launcher's own thread: a folder may hold very many, on a disk that is slow.
    pub(crate) async fn list(self: &Arc<Self>, path: &Path, name: &str) -> Result<Found, FileError> {
        let (source, path, name) = (self.clone(), path.to_owned(), name.to_owned());
        blocking(move || source.files(&path, &name)).await
    }

    /// The files at `path`: itself, or everything beneath it. Names come with `name` in front; links to folders and
    /// what is neither file nor folder are left out and counted.
    fn files(&self, path: &Path, name: &str) -> Result<Found, FileError> {
        let mut found = Found::default();
        let fd = self.open(path).map_err(local(name))?;
        self.collect(fd, path, name, &mut found)?;
        Ok(found)
    }

    fn collect(&self, fd: OwnedFd, path: &Path, name: &str, found: &mut Found) -> Result<(), FileError> {
        let stat = rustix::fs::fstat(&fd).map_err(|e| local(name)(e.into()))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                if found.files.len() >= MOST_FILES {
                    return Err(refused(name, "the folder holds too many files"));
                }
                let metadata = std::fs::File::from(fd).metadata().map_err(local(name))?;
                let stamp = Stamp { bytes: metadata.len(), modified: (metadata.mtime(), metadata.mtime_nsec()) };
                found.files.push(FoundFile { name: name.to_owned(), path: path.to_owned(), stamp });
                Ok(())
            }
            FileType::Directory => {
                let mut entries = Vec::new();
                for entry in rustix::fs::Dir::read_from(&fd).map_err(|e| local(name)(e.into()))? {
                    let entry = entry.map_err(|e| local(name)(e.into()))?.file_name().to_owned();
                    if ![&b"."[..], b".."].contains(&entry.to_bytes()) {
                        let is_link = rustix::fs::statat(&fd, &entry, AtFlags::SYMLINK_NOFOLLOW)
                            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_symlink());
                        entries.push((entry, is_link));
                    }
                }
                drop(fd);
                entries.sort();
                for (entry, is_link) in entries {
                    let inner = path.join(std::ffi::OsStr::from_bytes(entry.to_bytes()));
                    match (entry.to_str(), self.open(&inner)) {
                        // A link to a folder could lead round in circles.
                        (Ok(text), Ok(fd)) if !is_link || is_file(&fd) => {
                            self.collect(fd, &inner, &format!("{name}/{text}"), found)?;
                        }
                        _ => found.left_out += 1,
                    }
                }
                Ok(())
            }
            _ => {
                found.left_out += 1;
                Ok(())
            }
        }
    }

    /// Sends one file, at the length that it has now, in pieces.
    pub(crate) async fn upload(
        self: &Arc<Self>,
        session: &Session,
        run: Option<&RunId>,
        name: &str,
        path: &Path,
    ) -> Result<u64, FileError> {
        let open = || {
            let (source, path) = (self.clone(), path.to_owned());
            blocking(move || {
                let file = std::fs::File::from(source.open(&path)?);
                file.metadata().map(|metadata| (file, metadata))
            })
        };
        let (file, metadata) = open().await.map_err(local(name))?;
        if !metadata.is_file() {
            return Err(refused(name, "not a file"));
        }
        let mut restarts = 0;
        let mut sending = Sending { file, left: metadata.len(), offset: 0 };
        loop {
            let (next, piece) = sending.piece().await.map_err(local(name))?;
            let query = OutputQuery { offset: next.offset, last: next.left == 0, run: run.cloned() };
            let length = piece.len() as u64;
            match retry::persist_for_room(ROOM_PATIENCE, || session.output(name, &query, piece.clone())).await {
                Ok(()) if query.last => return Ok(query.offset + length),
                Ok(()) => sending = Sending { offset: next.offset + length, ..next },
                // The server is at another place, for example after a restart: from the beginning, a few times.
                Err(error) if error.code() == Some(code::CONFLICT) && restarts < 3 => {
                    restarts += 1;
                    let (file, metadata) = open().await.map_err(local(name))?;
                    sending = Sending { file, left: metadata.len(), offset: 0 };
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Does something slow on another thread.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("looking at files does not panic")
}

fn is_file(fd: &OwnedFd) -> bool {
    rustix::fs::fstat(fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_file())
}

/// What a place holds.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) files: Vec<FoundFile>,
    /// Links that lead out, sockets, pipes, names that are not UTF-8, what can not be opened.
    pub(crate) left_out: usize,
}

/// A file that was found.
#[derive(Debug)]
pub(crate) struct FoundFile {
    /// Among the run's files.
    pub(crate) name: String,
    /// Inside the source.
    pub(crate) path: PathBuf,
    /// What it was like.
    pub(crate) stamp: Stamp,
}

/// What tells a file from itself after a change: length and time of the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    bytes: u64,
    modified: (i64, i64),
}

struct Sending {
    file: std::fs::File,
    left: u64,
    offset: u64,
}

impl Sending {
    /// The next piece, read off the launcher's own thread: the disk may be slow.
    async fn piece(self) -> std::io::Result<(Self, Bytes)> {
        let Self { mut file, left, offset } = self;
        let read = move || {
            let mut piece = Vec::new();
            (&mut file).take(left.min(MAX_PIECE as u64)).read_to_end(&mut piece)?;
            // A file that became shorter meanwhile ends here.
            let left = if piece.is_empty() { 0 } else { left - piece.len() as u64 };
            Ok((Self { file, left, offset }, Bytes::from(piece)))
        };
        tokio::task::spawn_blocking(read).await.map_err(std::io::Error::other)?
    }
}

/// A name among the run's files as a process gave it, tidied; `None` when it is none.
pub(crate) fn output_name(name: &str) -> Option<String> {
    let parts: Vec<&str> = name.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let fits = !parts.is_empty()
        && name.len() <= 1024
        && !name.contains('\\')
        && parts.iter().all(|part| *part != ".." && part.len() <= 255 && !part.chars().any(char::is_control));
    fits.then(|| parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_lead_out_are_not_followed_and_inner_ones_are() {
        let root = tempfile::tempdir().unwrap();
        let tree = root.path().join("outputs");
        std::fs::create_dir_all(tree.join("sub")).unwrap();
        std::fs::write(root.path().join("secret"), "x").unwrap();
        std::fs::write(tree.join("sub/last.ckpt"), "x").unwrap();
        let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, tree.join(name)).unwrap();
        link("sub/last.ckpt", "latest");
        link("../secret", "relative");
        link(root.path().join("secret").to_str().unwrap(), "absolute");
        link("/etc/passwd", "passwd");
        link("sub", "folder");
        rustix::fs::mkfifoat(rustix::fs::CWD, tree.join("pipe"), Mode::RWXU).unwrap();
        let source = Source::folder(&tree, &Covers::default()).unwrap();
        let found = source.files(Path::new("."), "outputs").unwrap();
        let names: Vec<&str> = found.files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["outputs/latest", "outputs/sub/last.ckpt"]);
        assert_eq!(found.left_out, 5);
    }

    #[test]
    fn what_is_covered_can_not_be_given_away_through_the_launcher() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("data/runs/own")).unwrap();
        std::fs::write(root.join("data/root.key"), "x").unwrap();
        std::fs::write(root.join("data/runs/own/model"), "x").unwrap();
        std::os::unix::fs::symlink(root.join("data/root.key"), root.join("data/runs/own/innocent")).unwrap();
        let covers = Covers::new(&[root.join("data")], None, vec![root.join("data/runs/own")]).unwrap();
        let me = crate::processes::read(std::process::id().cast_signed()).unwrap();
        let source = Source::seen_by(me, &covers).unwrap();
        assert!(source.files(&root.join("data/root.key"), "x").is_err());
        assert!(source.files(&root.join("data/runs/own/innocent"), "x").is_err());
        assert!(source.files(Path::new("/proc/self/environ"), "x").is_err());
        assert_eq!(source.files(&root.join("data/runs/own"), "x").unwrap().files.len(), 1);
        let gone = Process { start: me.start + 1, ..me };
        assert!(Source::seen_by(gone, &covers).is_err());
    }

    #[test]
    fn names_are_tidied_and_ways_out_are_none() {
        assert_eq!(output_name("./outputs//model.pkl").as_deref(), Some("outputs/model.pkl"));
        assert_eq!(output_name("/abs/x").as_deref(), Some("abs/x"));
        for bad in ["", ".", "a/../b", "..", "a\nb", "a\\b"] {
            assert_eq!(output_name(bad), None, "{bad}");
        }
    }
}
