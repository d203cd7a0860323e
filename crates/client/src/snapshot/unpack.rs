//! Checking and unpacking a snapshot. The archive comes from somebody else: nothing in it decides where a byte is written.
//! Everything is created anew in an empty folder, parents only where this archive made them folders, so that no link of
//! the archive is ever followed.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use kluis_core::api::runs::MAX_SNAPSHOT_BYTES;
use tar::EntryType;

use super::rules::{check_link, check_path};
use super::{KEPT_LINK, MAX_ENTRIES, SnapshotError};

/// The archive itself: files, and room for the headers of many small ones.
const MAX_ARCHIVE_BYTES: u64 = 2 * MAX_SNAPSHOT_BYTES;

/// What one extension header may hold, in bytes: the longest path that a system takes, and room. It is read into memory.
const MAX_EXTENSION: u64 = 64 * 1024;

/// What a snapshot holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Files.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Folders.
    pub folders: usize,
    /// Symbolic links.
    pub links: usize,
}

/// Checks a packed tree without writing anything. Blocks.
pub fn verify(packed: impl Read) -> Result<Contents, SnapshotError> {
    walk(packed, None)
}

/// Unpacks into `folder`, which must exist and be empty. On an error it may hold a part of the tree. Blocks.
pub fn unpack(packed: impl Read, folder: &Path) -> Result<Contents, SnapshotError> {
    let mut entries = std::fs::read_dir(folder).map_err(|error| io(folder, error))?;
    if entries.next().is_some() {
        return Err(io(folder, std::io::ErrorKind::DirectoryNotEmpty.into()));
    }
    walk(packed, Some(folder))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Folder,
    Other,
}

fn walk(packed: impl Read, folder: Option<&Path>) -> Result<Contents, SnapshotError> {
    let decoder = zstd::Decoder::new(packed).map_err(|error| damaged(&error))?;
    let bounded = BufReader::new(Bounded { inner: decoder, left: MAX_ARCHIVE_BYTES });
    let mut archive = tar::Archive::new(bounded);
    let mut seen: HashMap<String, Kind> = HashMap::new();
    let mut contents = Contents::default();
    let mut extensions = Extensions::default();
    // Raw: the library would read an extension header of any size into memory.
    for entry in archive.entries().map_err(|error| damaged(&error))?.raw(true) {
        let mut entry = entry.map_err(|error| damaged(&error))?;
        if extensions.take_in(&mut entry)? {
            continue;
        }
        let Extensions { path, link, kept } = std::mem::take(&mut extensions);
        let path = path.unwrap_or_else(|| entry.path_bytes().into_owned());
        let path = text(&path, "has a path that is not UTF-8")?;
        let refuse = |reason| SnapshotError::Refused { entry: path.clone(), reason };
        let clean = check_path(&path).map_err(refuse)?.to_owned();
        if seen.len() >= MAX_ENTRIES {
            return Err(SnapshotError::TooMany);
        }
        let kind = match entry.header().entry_type() {
            EntryType::Directory => Kind::Folder,
            EntryType::Regular | EntryType::Symlink => Kind::Other,
            EntryType::Link => return Err(refuse("is a hard link")),
            EntryType::Char | EntryType::Block | EntryType::Fifo => return Err(refuse("is a device or a pipe")),
            _ => return Err(refuse("is neither file, folder nor link")),
        };
        for (parent, made) in parents(&clean).map(|parent| (parent, seen.get(parent).copied())) {
            match made {
                Some(Kind::Folder) => {}
                Some(Kind::Other) => return Err(refuse("lies below something that is not a folder")),
                None => return Err(SnapshotError::Refused { entry: parent.to_owned(), reason: "is missing" }),
            }
        }
        if seen.insert(clean.clone(), kind).is_some() {
            return Err(refuse("stands twice in it"));
        }
        let target = folder.map(|folder| folder.join(&clean));
        match entry.header().entry_type() {
            EntryType::Directory => {
                contents.folders += 1;
                if let Some(at) = &target {
                    std::fs::DirBuilder::new().mode(0o755).create(at).map_err(|error| io(at, error))?;
                }
            }
            EntryType::Symlink => {
                contents.links += 1;
                let link = link.unwrap_or_else(|| entry.link_name_bytes().unwrap_or_default().into_owned());
                let link = text(&link, "has a target that is not UTF-8")?;
                if link.is_empty() || link.contains('\0') {
                    return Err(refuse("is a link without a proper target"));
                }
                if !kept && check_link(&clean, &link).is_err() {
                    return Err(refuse("is a link that leads out of the tree"));
                }
                if let Some(at) = &target {
                    std::os::unix::fs::symlink(&link, at).map_err(|error| io(at, error))?;
                }
            }
            _ => {
                contents.files += 1;
                contents.bytes = contents.bytes.saturating_add(entry.size());
                if contents.bytes > MAX_SNAPSHOT_BYTES {
                    return Err(SnapshotError::Bomb { limit: MAX_SNAPSHOT_BYTES });
                }
                let executable = entry.header().mode().is_ok_and(|mode| mode & 0o100 != 0);
                copy(&mut entry, target.as_deref(), executable)?;
            }
        }
    }
    if extensions != Extensions::default() {
        return Err(SnapshotError::Damaged("it ends with a header that describes nothing".to_owned()));
    }
    Ok(contents)
}

fn copy(entry: &mut impl Read, target: Option<&Path>, executable: bool) -> Result<(), SnapshotError> {
    let Some(at) = target else {
        return std::io::copy(entry, &mut std::io::sink()).map(drop).map_err(|error| damaged(&error));
    };
    let mode = if executable { 0o755 } else { 0o644 };
    // `create_new` follows no link and opens nothing that is there.
    let mut file = File::options().write(true).create_new(true).mode(mode).open(at).map_err(|error| io(at, error))?;
    let mut buffer = vec![0; 128 * 1024];
    loop {
        let read = entry.read(&mut buffer).map_err(|error| damaged(&error))?;
        if read == 0 {
            return Ok(());
        }
        std::io::Write::write_all(&mut file, &buffer[..read]).map_err(|error| io(at, error))?;
    }
}

/// What the headers in front of an entry say of it.
#[derive(Default, PartialEq, Eq)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    /// The packer was told to keep this link although it leads out of the tree.
    kept: bool,
}

impl Extensions {
    /// Takes an extension header in; false when the entry is none.
    fn take_in(&mut self, entry: &mut tar::Entry<'_, impl Read>) -> Result<bool, SnapshotError> {
        let kind = entry.header().entry_type();
        if !matches!(kind, EntryType::GNULongName | EntryType::GNULongLink | EntryType::XHeader) {
            return Ok(false);
        }
        if entry.size() > MAX_EXTENSION {
            let entry = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            return Err(SnapshotError::Refused { entry, reason: "describes the next entry in more than 64 KiB" });
        }
        let mut data = Vec::new();
        entry.read_to_end(&mut data).map_err(|error| damaged(&error))?;
        let put = |place: &mut Option<Vec<u8>>, value: &[u8]| {
            let value = value.strip_suffix(b"\0").unwrap_or(value).to_vec();
            place.replace(value).is_none()
        };
        let first = match kind {
            EntryType::GNULongName => put(&mut self.path, &data),
            EntryType::GNULongLink => put(&mut self.link, &data),
            _ => {
                let mut first = true;
                for extension in tar::PaxExtensions::new(&data) {
                    let extension = extension.map_err(|error| damaged(&error))?;
                    match extension.key() {
                        Ok("path") => first &= put(&mut self.path, extension.value_bytes()),
                        Ok("linkpath") => first &= put(&mut self.link, extension.value_bytes()),
                        Ok(KEPT_LINK) => self.kept = true,
                        // A second opinion on where the next header is.
                        Ok("size") => return Err(SnapshotError::Damaged("it has a size outside of a header".into())),
                        _ => {}
                    }
                }
                first
            }
        };
        if first { Ok(true) } else { Err(SnapshotError::Damaged("it describes an entry twice".to_owned())) }
    }
}

fn parents(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at])
}

fn text(bytes: &[u8], reason: &'static str) -> Result<String, SnapshotError> {
    String::from_utf8(bytes.to_vec())
        .map_err(|_| SnapshotError::Refused { entry: String::from_utf8_lossy(bytes).into_owned(), reason })
}

/// Fails once more than its share was read: a small file that unpacks to a large one stops here.
struct Bounded<R> {
    inner: R,
    left: u64,
}

#[derive(Debug, thiserror::Error)]
#[error("too much")]
struct TooMuch;

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(out)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| std::io::Error::other(TooMuch))?;
        Ok(read)
    }
}

fn damaged(error: &std::io::Error) -> SnapshotError {
    let mut inner: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = inner {
        if error.is::<TooMuch>() {
            return SnapshotError::Bomb { limit: MAX_ARCHIVE_BYTES };
        }
        inner = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    SnapshotError::Damaged(error.to_string())
}

fn io(path: &Path, source: std::io::Error) -> SnapshotError {
    SnapshotError::Io { path: path.to_owned(), source }
}
