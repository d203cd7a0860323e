//! The runs' folders on this machine, and a note beside each that says which job works in it. The note is written before
//! the server is told, so a restarted agent knows every job that can have become more than an inert ticket.
//!
//! ```text
//! STATE/runs/<name>/         the run's own folder, 0700: the launcher's
//! STATE/runs/<name>.json     attempt, handle and devices; written whole or not at all
//! STATE/runs/<name>.log      what the launcher says
//! ```

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use kluis_core::api::agents::AttemptId;
use serde::{Deserialize, Serialize};

/// A job that was handed to the engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Which attempt.
    pub attempt: AttemptId,
    /// The engine's handle.
    pub handle: String,
    /// The devices of the slot that it works in.
    #[serde(default)]
    pub devices: Vec<String>,
}

/// What stands beside a run's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Left {
    /// No note: no job got as far as a ticket that works.
    Nothing,
    /// A job.
    Job(Entry),
    /// A note that can not be read. Something may well be running there.
    Unreadable,
}

/// The agent's state folder could not be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct JournalError {
    /// What could not be made, written or read.
    pub path: PathBuf,
    /// What the system said.
    pub source: std::io::Error,
}

/// The folder of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    base: PathBuf,
    name: String,
}

impl Place {
    /// The run's own folder.
    pub fn folder(&self) -> PathBuf {
        self.base.join(&self.name)
    }

    /// The launcher's log.
    pub fn log(&self) -> PathBuf {
        self.base.join(format!("{}.log", self.name))
    }

    fn note(&self) -> PathBuf {
        self.base.join(format!("{}.json", self.name))
    }

    /// The last words of the launcher, for a report; it holds no values and no tickets.
    pub fn last_words(&self) -> String {
        let text = std::fs::read(self.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let tail: Vec<&str> = text.lines().rev().take(3).collect();
        let words: String = tail.into_iter().rev().collect::<Vec<_>>().join(" / ");
        words.chars().rev().take(600).collect::<Vec<_>>().into_iter().rev().collect()
    }

    fn unfinished_note(&self) -> PathBuf {
        self.base.join(format!("{}.json.new", self.name))
    }

    /// Notes which job works here: on the disk when this returns, and never by halves.
    pub async fn record(&self, entry: &Entry) -> Result<(), JournalError> {
        let place = self.clone();
        let json = serde_json::to_vec(entry).expect("an entry is plain data");
        blocking(move || {
            let write = || {
                let mut options = std::fs::OpenOptions::new();
                let mut file =
                    options.write(true).create(true).truncate(true).mode(0o600).open(place.unfinished_note())?;
                file.write_all(&json)?;
                file.sync_all()?;
                std::fs::rename(place.unfinished_note(), place.note())?;
                std::fs::File::open(&place.base)?.sync_all()
            };
            write().map_err(|source| JournalError { path: place.note(), source })
        })
        .await
    }

    /// Removes everything of this attempt, which may take a while. What can not be removed is left, and said in the log.
    pub async fn remove(&self) {
        let place = self.clone();
        blocking(move || place.remove_now()).await;
    }

    fn remove_now(&self) {
        // The note last: while there is something left of the job, it is known.
        for (path, gone) in [
            (self.folder(), std::fs::remove_dir_all(self.folder())),
            (self.log(), std::fs::remove_file(self.log())),
            (self.unfinished_note(), std::fs::remove_file(self.unfinished_note())),
            (self.note(), std::fs::remove_file(self.note())),
        ] {
            if let Err(error) = gone
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(path = %path.display(), %error, "left behind");
            }
        }
    }
}

/// All attempts of one agent on this machine.
#[derive(Clone, Debug)]
pub struct Journal {
    base: PathBuf,
}

impl Journal {
    /// Opens the journal below a state folder, making both when they are missing (0700).
    pub fn open(state: &Path) -> Result<Self, JournalError> {
        let base = state.join("runs");
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&base);
        made.map_err(|source| JournalError { path: base.clone(), source })?;
        Ok(Self { base })
    }

    /// Where an attempt works, or would.
    pub fn place(&self, attempt: &AttemptId) -> Place {
        // The workspace first: run ids are unique in it only. Names hold no `.` and no `/`.
        let name = format!("{}.{}.{}", attempt.workspace.key(), attempt.run.as_str(), attempt.attempt);
        // 255 bytes is what file systems allow; a run's id may be that long by itself.
        let name = if name.len() > 200 { format!("{}.{:x}", &name[..180], fold(name.as_bytes())) } else { name };
        Place { base: self.base.clone(), name }
    }

    /// Makes the folder of a new attempt: private and empty.
    pub async fn make(&self, attempt: &AttemptId) -> Result<Place, JournalError> {
        let place = self.place(attempt);
        blocking(move || {
            place.remove_now();
            let path = place.folder();
            let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
            made.map_err(|source| JournalError { path, source })?;
            Ok(place)
        })
        .await
    }

    /// What an earlier agent left: each place, with its job if it got that far.
    pub fn left(&self) -> Result<Vec<(Place, Left)>, JournalError> {
        let fail = |source| JournalError { path: self.base.clone(), source };
        let mut names = std::collections::BTreeSet::new();
        for item in std::fs::read_dir(&self.base).map_err(fail)? {
            let name = item.map_err(fail)?.file_name().to_string_lossy().into_owned();
            let ends = [".json", ".json.new", ".log"];
            let name = ends.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
            names.insert(name.to_owned());
        }
        Ok(names
            .into_iter()
            .map(|name| {
                let place = Place { base: self.base.clone(), name };
                let left = match std::fs::read(place.note()) {
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => Left::Nothing,
                    Err(_) => Left::Unreadable,
                    Ok(json) => serde_json::from_slice(&json).map_or(Left::Unreadable, Left::Job),
                };
                (place, left)
            })
            .collect())
    }
}

/// Does something slow off the threads that others wait for: under `kluis up` they are the server's.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("work on files does not panic")
}

/// FNV-1a: a short name for a long one.
fn fold(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn attempt(run: &str) -> AttemptId {
        let parse = "a name is a name";
        AttemptId { workspace: "default".parse().expect(parse), run: run.parse().expect(parse), attempt: 1 }
    }

    #[tokio::test]
    async fn an_earlier_agents_jobs_are_found_again() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let journal = Journal::open(dir.path()).expect("opens");
        let place = journal.make(&attempt("a_1_b")).await.expect("made");
        let mode = std::fs::metadata(place.folder()).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let unfinished = journal.make(&attempt("other_1_b")).await.expect("made");
        let entry = Entry { attempt: attempt("a_1_b"), handle: "h".into(), devices: vec!["0".into()] };
        place.record(&entry).await.expect("written");
        let left = Journal::open(dir.path()).expect("opens").left().expect("read");
        assert_eq!(left, [(place.clone(), Left::Job(entry)), (unfinished.clone(), Left::Nothing)]);
        // A note that is no note does not mean that there is no job; half of a new one means nothing yet.
        std::fs::write(place.note(), "{\"attempt\"").expect("written");
        std::fs::write(unfinished.unfinished_note(), "{").expect("written");
        let left = journal.left().expect("read");
        assert_eq!(left, [(place.clone(), Left::Unreadable), (unfinished.clone(), Left::Nothing)]);
        place.remove().await;
        unfinished.remove().await;
        assert!(journal.left().expect("read").is_empty());
    }

    #[tokio::test]
    async fn the_longest_run_ids_get_folders_of_their_own() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let journal = Journal::open(dir.path()).expect("opens");
        let long = "r".repeat(254);
        let a = journal.make(&attempt(&format!("{long}1"))).await.expect("made");
        let b = journal.make(&attempt(&format!("{long}2"))).await.expect("made");
        assert_ne!(a, b);
    }
}
