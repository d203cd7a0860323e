//! A tree that comes as a zip, from clients that know nothing else, repacked on its way into the store: nothing is held
//! but what is under way, and nothing of it touches a disk in the clear. Only what stands before each file is believed
//! (a zip says everything twice, and two readers of one that lies see two trees); its list of contents at the end is
//! passed over. So links can not come in: what they are stands in that list alone, and without it they are small files.
//!
//! What comes out is a packed tree as our own clients make it, see docs/format.md, but for the order: that of the zip.

use std::collections::HashMap;
use std::io::{self, Read, Write};

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream::{Stream, StreamExt};
use kluis_core::access::Action;
use kluis_core::api::runs::{
    MAX_SNAPSHOT_BYTES, MAX_SNAPSHOT_ENTRIES, SNAPSHOT_ALWAYS_OUT, SNAPSHOT_ROOT_OUT, SnapshotStored,
};
use kluis_core::name::WorkspaceName;
use tar::{EntryType, Header};
use tokio::sync::{Semaphore, mpsc};
use zip::read::{ZipFile, read_zipfile_from_stream};

use super::Snapshots;
use crate::caller::Caller;
use crate::error::{Error, Result};
use crate::service::runs::submission::relative_path;

/// As our own clients compress.
const LEVEL: i32 = 3;
/// As our own clients date every entry: 2000-01-01.
const MTIME: u64 = 946_684_800;
/// How many bytes all names together may have.
const MAX_NAMES: usize = 16 * 1024 * 1024;
/// How many trees are repacked at once.
static PLACES: Semaphore = Semaphore::const_new(4);

impl Snapshots<'_> {
    /// Stores the tree in a zip whose bytes come from `zip`, unless it is there already.
    pub async fn store_zip(
        &self,
        caller: &Caller,
        workspace: &WorkspaceName,
        zip: impl Stream<Item = Result<Bytes>> + Send,
    ) -> Result<SnapshotStored> {
        self.app.workspace_for(caller, workspace, Action::RunSubmit).await?;
        let busy = |_| Error::Unavailable("too many trees are arriving at once".into());
        let _place = PLACES.try_acquire().map_err(busy)?;
        let (incoming, zipped) = mpsc::channel(4);
        let (packed, outgoing) = mpsc::channel(4);
        let repacking = tokio::task::spawn_blocking(move || {
            let mut output = Outgoing(packed);
            let repacked = repack(Incoming { bytes: zipped, current: Bytes::new() }, &mut output);
            if repacked.is_err() {
                // Without its proper end it is not taken for a whole tree.
                output.cut_off();
            }
            repacked
        });
        let feeding = async {
            let mut zip = std::pin::pin!(zip);
            while let Some(bytes) = zip.next().await {
                if incoming.send(bytes?).await.is_err() {
                    break;
                }
            }
            // The end is the end of the zip, and not that of the other side's patience.
            drop(incoming);
            Ok::<(), Error>(())
        };
        let outgoing = futures_util::stream::unfold(outgoing, async |mut from| Some((from.recv().await?, from)));
        let storing = self.store(caller, workspace, Body::from_stream(outgoing));
        let (fed, stored) = tokio::join!(feeding, storing);
        let repacked = repacking.await.map_err(|_| Error::internal("repacking a tree panicked"))?;
        fed?;
        match (repacked, stored) {
            // It was cut off because of what stands in the zip.
            (Err(Fault::Zip(error)), _) => Err(error),
            (Err(Fault::Stopped), Ok(_)) => Err(Error::internal("a tree was stored without its end")),
            (_, stored) => stored,
        }
    }
}

/// Why a zip was not repacked.
#[derive(Debug)]
enum Fault {
    /// It is refused.
    Zip(Error),
    /// Nobody takes the tree any more: whoever stores it says why.
    Stopped,
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Zip(error)
    }
}

type Repacked<T = ()> = std::result::Result<T, Fault>;

/// What stands at a path so far.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Folder,
    File,
}

fn repack(mut input: impl Read, output: &mut Outgoing) -> Repacked {
    let encoder = zstd::Encoder::new(output, LEVEL).map_err(|_| Fault::Stopped)?;
    let mut tree = Tree { archive: tar::Builder::new(encoder), seen: HashMap::new(), names: 0, bytes: 0 };
    for entry in 1.. {
        let Some(file) = read_zipfile_from_stream(&mut input).map_err(|error| refused(entry, &error))? else { break };
        tree.add(entry, file)?;
    }
    io::copy(&mut input, &mut io::sink()).map_err(|_| broken(0))?;
    let stopped = |_| Fault::Stopped;
    tree.archive.into_inner().and_then(zstd::Encoder::finish).map(drop).map_err(stopped)
}

struct Tree<W: Write> {
    archive: tar::Builder<W>,
    seen: HashMap<String, Kind>,
    names: usize,
    bytes: u64,
}

impl<W: Write> Tree<W> {
    fn add<R: Read>(&mut self, entry: usize, mut file: ZipFile<'_, R>) -> Repacked {
        let no = |why: &str| Error::bad_request(format!("entry {entry} of the zip {why}"));
        let name = std::str::from_utf8(file.name_raw()).map_err(|_| no("has a path that is not UTF-8"))?.to_owned();
        let (path, folder) = match name.strip_suffix('/') {
            Some(path) => (path, true),
            None => (&*name, false),
        };
        relative_path(path).map_err(|why| no(&format!("has a path that {why}")))?;
        let bytes = file.size();
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > MAX_SNAPSHOT_BYTES {
            return Err(Error::TooLarge { limit: MAX_SNAPSHOT_BYTES }.into());
        }
        if folder && bytes > 0 {
            return Err(no("is a folder with content").into());
        }
        if left_out(path) {
            // Read all the same: what follows is found after its end, and its end must be where it says.
            return exactly(entry, &mut file, bytes, &mut io::sink());
        }
        for (at, _) in path.match_indices('/') {
            self.folder(entry, &path[..at])?;
        }
        if folder {
            return self.folder(entry, path);
        }
        self.remember(entry, path, Kind::File)?;
        let mut content = Content { file, left: bytes, start: Vec::new(), fault: None };
        // What may be executed is not told here. A script says so itself.
        content.start = vec![0; usize::try_from(bytes.min(2)).unwrap_or(2)];
        let mut start = std::mem::take(&mut content.start);
        io::Read::read_exact(&mut content.file, &mut start).map_err(|_| broken(entry))?;
        let mode = if start == b"#!" { 0o755 } else { 0o644 };
        content.start = start;
        let mut header = header(EntryType::Regular, mode, bytes);
        let appended = self.archive.append_data(&mut header, path, &mut content);
        if content.fault.is_some() || content.left > 0 {
            return Err(broken(entry));
        }
        appended.map_err(|_| Fault::Stopped)?;
        let mut more = [0];
        match content.file.read(&mut more) {
            Ok(0) => Ok(()),
            _ => Err(broken(entry)),
        }
    }

    fn folder(&mut self, entry: usize, path: &str) -> Repacked {
        if self.seen.get(path) == Some(&Kind::Folder) {
            return Ok(());
        }
        self.remember(entry, path, Kind::Folder)?;
        let mut header = header(EntryType::Directory, 0o755, 0);
        self.archive.append_data(&mut header, format!("{path}/"), io::empty()).map_err(|_| Fault::Stopped)
    }

    fn remember(&mut self, entry: usize, path: &str, kind: Kind) -> Repacked {
        self.names += path.len();
        if self.seen.len() >= MAX_SNAPSHOT_ENTRIES || self.names > MAX_NAMES {
            let why = format!("the zip holds more than {MAX_SNAPSHOT_ENTRIES} files and folders, or too long paths");
            return Err(Error::bad_request(why).into());
        }
        if self.seen.insert(path.to_owned(), kind).is_some() {
            return Err(Error::bad_request(format!("entry {entry} of the zip stands where another one does")).into());
        }
        Ok(())
    }
}

/// A file's bytes, as many as were announced and not one more, beginning with what was read already.
struct Content<'a, R: Read> {
    file: ZipFile<'a, R>,
    left: u64,
    start: Vec<u8>,
    fault: Option<io::ErrorKind>,
}

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let room = out.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let out = &mut out[..room];
        let read = if self.start.is_empty() {
            self.file.read(out).inspect_err(|error| self.fault = Some(error.kind()))?
        } else {
            let taken = self.start.len().min(room);
            out[..taken].copy_from_slice(&self.start[..taken]);
            self.start.drain(..taken);
            taken
        };
        self.left -= read as u64;
        Ok(read)
    }
}

fn exactly(entry: usize, file: &mut impl Read, bytes: u64, to: &mut impl Write) -> Repacked {
    let copied = io::copy(&mut file.take(bytes + 1), to).map_err(|_| broken(entry))?;
    if copied == bytes { Ok(()) } else { Err(broken(entry)) }
}

fn left_out(path: &str) -> bool {
    let mut parts = path.split('/');
    SNAPSHOT_ROOT_OUT.contains(&parts.clone().next().unwrap_or_default())
        || parts.any(|part| SNAPSHOT_ALWAYS_OUT.contains(&part))
}

fn header(kind: EntryType, mode: u32, bytes: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mtime(MTIME);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mode(mode);
    header.set_size(bytes);
    header
}

/// The library's own words may hold names of the zip.
fn refused(entry: usize, error: &zip::result::ZipError) -> Fault {
    use zip::result::ZipError;
    match error {
        ZipError::Io(_) | ZipError::InvalidArchive(_) => broken(entry),
        _ => Fault::Zip(Error::bad_request(format!(
            "entry {entry} of the zip is encrypted, compressed by another method than deflate, or hides its size; \
             make it as Python's zipfile does"
        ))),
    }
}

fn broken(entry: usize) -> Fault {
    Fault::Zip(Error::bad_request(match entry {
        0 => "the zip is damaged after its last entry".to_owned(),
        entry => format!("the zip is damaged, or ends too early, at entry {entry}"),
    }))
}

/// The zip as it comes in, for a thread that may wait.
struct Incoming {
    bytes: mpsc::Receiver<Bytes>,
    current: Bytes,
}

impl Read for Incoming {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.bytes.blocking_recv() {
                Some(bytes) => self.current = bytes,
                None => return Ok(0),
            }
        }
        let taken = self.current.len().min(out.len());
        out[..taken].copy_from_slice(&self.current.split_to(taken));
        Ok(taken)
    }
}

/// The packed tree on its way to the store.
struct Outgoing(mpsc::Sender<io::Result<Bytes>>);

impl Outgoing {
    fn cut_off(&self) {
        let _nobody_listens = self.0.blocking_send(Err(io::ErrorKind::InvalidData.into()));
    }
}

impl Write for Outgoing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
