//! Packing a source tree. First everything is listed and measured, so that a tree that can not be packed is refused
//! before a byte is written; then each file is copied and looked at again, so that what was packed is what was there.

use std::fs::{File, Metadata};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ignore::WalkBuilder;
use kluis_core::api::runs::MAX_SNAPSHOT_BYTES;
use rustix::fs::OFlags;
use tar::{EntryType, Header};

use super::rules::check_link;
use super::{ALWAYS_OUT, IGNORE_FILES, KEPT_LINK, MAX_ENTRIES, ROOT_OUT, SnapshotError};

/// zstd's default: the fastest level with a good ratio.
const LEVEL: i32 = 3;
/// Every entry's time, 2000-01-01: late enough for zip files, which know nothing before 1980.
const MTIME: u64 = 946_684_800;

/// What to do with links that lead out of the tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Links {
    /// Refuse the tree.
    #[default]
    Refuse,
    /// Store the link itself, unread.
    Keep,
}

/// How to pack.
#[derive(Clone, Debug)]
pub struct PackOptions {
    /// Links that lead out of the tree.
    pub links: Links,
    /// Where the packed file is made.
    pub scratch: PathBuf,
}

/// A packed tree: a private file that is deleted when this is dropped.
#[derive(Debug)]
pub struct Packed {
    file: tempfile::NamedTempFile,
    /// The packed size, in bytes.
    pub bytes: u64,
    /// The size of the files in it, in bytes.
    pub tree_bytes: u64,
    /// How many files.
    pub files: usize,
    /// The ignore file that applied.
    pub ignore_file: Option<&'static str>,
    /// Sockets, pipes and devices, which were left out.
    pub left_out: Vec<String>,
}

impl Packed {
    /// Where the file lies.
    pub fn path(&self) -> &Path {
        self.file.path()
    }
}

struct Item {
    path: String,
    kind: Kind,
}

enum Kind {
    Folder,
    File(Identity),
    Link { target: String, kept: bool },
}

/// What makes a file the same file with the same content, as far as can be told without reading it twice.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    executable: bool,
}

impl Identity {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            executable: metadata.mode() & 0o100 != 0,
        }
    }
}

/// Packs the tree below `source`. Blocks: give it a thread of its own.
pub fn pack(source: &Path, options: &PackOptions) -> Result<Packed, SnapshotError> {
    let root = source.canonicalize().map_err(|source_error| io(source, source_error))?;
    let ignore_file = IGNORE_FILES.into_iter().find(|name| root.join(name).is_file());
    let (items, left_out) = collect(&root, ignore_file, options.links)?;
    let sizes = || {
        items.iter().filter_map(|item| match &item.kind {
            Kind::File(identity) => Some((item.path.clone(), identity.bytes)),
            _ => None,
        })
    };
    let tree_bytes: u64 = sizes().map(|(_, bytes)| bytes).sum();
    if tree_bytes > MAX_SNAPSHOT_BYTES {
        let mut largest: Vec<_> = sizes().collect();
        largest.sort_by_key(|(path, bytes)| (std::cmp::Reverse(*bytes), path.clone()));
        largest.truncate(10);
        return Err(SnapshotError::TooLarge { bytes: tree_bytes, largest });
    }
    let scratch = |error| io(&options.scratch, error);
    let file = tempfile::Builder::new().prefix("kluis-snapshot-").tempfile_in(&options.scratch).map_err(scratch)?; // 0600
    let encoder = zstd::Encoder::new(std::io::BufWriter::new(file.as_file()), LEVEL).map_err(scratch)?;
    let mut archive = tar::Builder::new(encoder);
    for item in &items {
        append(&mut archive, &root, item).map_err(|error| match error {
            Append::Scratch(error) => scratch(error),
            Append::Source(error) => error,
        })?;
    }
    archive.into_inner().and_then(zstd::Encoder::finish).and_then(|mut buffered| buffered.flush()).map_err(scratch)?;
    let bytes = file.as_file().metadata().map_err(scratch)?.len();
    Ok(Packed { bytes, tree_bytes, files: sizes().count(), ignore_file, left_out, file })
}

/// Everything that will be packed, in the order of the archive, and what could not be.
fn collect(
    root: &Path,
    ignore_file: Option<&'static str>,
    links: Links,
) -> Result<(Vec<Item>, Vec<String>), SnapshotError> {
    let mut walk = WalkBuilder::new(root);
    walk.standard_filters(false).follow_links(false).filter_entry(|entry| {
        let name = entry.file_name().to_str().unwrap_or_default();
        entry.depth() == 0 || !(ALWAYS_OUT.contains(&name) || (entry.depth() == 1 && ROOT_OUT.contains(&name)))
    });
    if let Some(name) = ignore_file {
        walk.add_custom_ignore_filename(name);
    }
    let mut items = Vec::new();
    let mut left_out = Vec::new();
    for entry in walk.build() {
        let entry = entry.map_err(|error| walk_failed(root, error))?;
        if entry.depth() == 0 {
            continue;
        }
        if let Some(error) = entry.error() {
            return Err(SnapshotError::IgnoreFile { path: entry.path().into(), reason: error.to_string() });
        }
        let relative = entry.path().strip_prefix(root).expect("the walk stays below its root");
        let path = relative.to_str().ok_or_else(|| SnapshotError::NotText(relative.into()))?.to_owned();
        let metadata = entry.path().symlink_metadata().map_err(|error| io(entry.path(), error))?;
        let kind = if metadata.is_dir() {
            Kind::Folder
        } else if metadata.is_file() {
            Kind::File(Identity::of(&metadata))
        } else if metadata.is_symlink() {
            link(entry.path(), &path, links)?
        } else {
            left_out.push(path);
            continue;
        };
        items.push(Item { path, kind });
        if items.len() > MAX_ENTRIES {
            return Err(SnapshotError::TooMany);
        }
    }
    // By bytes: the same everywhere, and a folder comes before what is in it.
    items.sort_by(|a, b| a.path.cmp(&b.path));
    Ok((items, left_out))
}

/// A folder that cannot be read is told apart from a mistake in an ignore file, and named.
fn walk_failed(root: &Path, error: ignore::Error) -> SnapshotError {
    let path = failed_path(&error).unwrap_or(root).to_owned();
    let reason = error.to_string();
    match error.into_io_error() {
        Some(source) => SnapshotError::Io { path, source },
        None => SnapshotError::IgnoreFile { path, reason },
    }
}

fn failed_path(error: &ignore::Error) -> Option<&Path> {
    match error {
        ignore::Error::WithPath { path, .. } => Some(path),
        ignore::Error::WithDepth { err, .. } | ignore::Error::WithLineNumber { err, .. } => failed_path(err),
        _ => None,
    }
}

fn link(at: &Path, path: &str, links: Links) -> Result<Kind, SnapshotError> {
    let target = std::fs::read_link(at).map_err(|error| io(at, error))?;
    let target = target.to_str().ok_or_else(|| SnapshotError::NotText(path.into()))?.to_owned();
    match (check_link(path, &target), links) {
        (Ok(()), _) => Ok(Kind::Link { target, kept: false }),
        (Err(_), Links::Keep) if !target.is_empty() => Ok(Kind::Link { target, kept: true }),
        (Err(reason), _) => Err(SnapshotError::LinkOut { path: path.to_owned(), reason }),
    }
}

/// Whose fault a failure is: the packed file's, or the tree's.
enum Append {
    Scratch(std::io::Error),
    Source(SnapshotError),
}

fn append<W: Write>(archive: &mut tar::Builder<W>, root: &Path, item: &Item) -> Result<(), Append> {
    let mut header = Header::new_ustar();
    header.set_mtime(MTIME);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    match &item.kind {
        Kind::Folder => {
            header.set_entry_type(EntryType::Directory);
            header.set_mode(0o755);
            archive.append_data(&mut header, format!("{}/", item.path), std::io::empty()).map_err(Append::Scratch)
        }
        Kind::Link { target, kept } => {
            if *kept {
                archive.append_pax_extensions([(KEPT_LINK, &b"kept"[..])]).map_err(Append::Scratch)?;
            }
            header.set_entry_type(EntryType::Symlink);
            header.set_mode(0o777);
            archive.append_link(&mut header, &item.path, target).map_err(Append::Scratch)
        }
        Kind::File(listed) => {
            let at = root.join(&item.path);
            let changed = || Append::Source(SnapshotError::Changed { path: item.path.clone() });
            let unreadable = |error| Append::Source(io(&at, error));
            // Neither through a link put in its place, nor waiting for a pipe put there.
            let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
            let file = match File::options().read(true).custom_flags(flags.bits() as i32).open(&at) {
                Ok(file) => file,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(changed()),
                Err(error) => return Err(unreadable(error)),
            };
            if Identity::of(&file.metadata().map_err(unreadable)?) != *listed {
                return Err(changed());
            }
            header.set_entry_type(EntryType::Regular);
            header.set_mode(if listed.executable { 0o755 } else { 0o644 });
            header.set_size(listed.bytes);
            let mut body = Exactly { file: &file, left: listed.bytes, failure: None };
            let appended = archive.append_data(&mut header, &item.path, &mut body);
            match (body.failure.take(), body.left) {
                (Some(error), _) => return Err(unreadable(error)),
                (None, 0) => appended.map_err(Append::Scratch)?,
                (None, _) if appended.is_err() => return appended.map_err(Append::Scratch),
                (None, _) => return Err(changed()),
            }
            if Identity::of(&file.metadata().map_err(unreadable)?) != *listed {
                return Err(changed());
            }
            Ok(())
        }
    }
}

/// A file's first so many bytes; remembers its own failure, so that it is not taken for the archive's.
struct Exactly<'f> {
    file: &'f File,
    left: u64,
    failure: Option<std::io::Error>,
}

impl Read for Exactly<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let room = out.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        match self.file.read(&mut out[..room]) {
            Ok(read) => {
                self.left -= read as u64;
                Ok(read)
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let kind = error.kind();
                self.failure = Some(error);
                Err(kind.into())
            }
        }
    }
}

fn io(path: &Path, source: std::io::Error) -> SnapshotError {
    SnapshotError::Io { path: path.to_owned(), source }
}
