//! The runs' folders on this machine, and a note beside each that says which job works in it. The note is written before
//! the server is told, so a restarted agent knows every job that can have become more than an inert ticket.
//!
//! ```text
//! STATE/runs/<name>/         the run's own folder, 0700: the launcher's
//! STATE/runs/<name>.json     attempt and handle
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
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        let tail: Vec<&str> = text.lines().rev().take(3).collect();
        let words: String = tail.into_iter().rev().collect::<Vec<_>>().join(" / ");
        words.chars().rev().take(600).collect::<Vec<_>>().into_iter().rev().collect()
    }

    /// Notes which job works here.
    pub fn record(&self, entry: &Entry) -> Result<(), JournalError> {
        let path = self.note();
        let json = serde_json::to_vec(entry).expect("an entry is plain data");
        let written = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| file.write_all(&json));
        written.map_err(|source| JournalError { path, source })
    }

    /// Removes everything of this attempt. What can not be removed is left, and said in the log.
    pub fn remove(&self) {
        for (path, gone) in [
            (self.folder(), std::fs::remove_dir_all(self.folder())),
            (self.log(), std::fs::remove_file(self.log())),
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

    /// Makes the folder of a new attempt: private and empty.
    pub fn make(&self, attempt: &AttemptId) -> Result<Place, JournalError> {
        // The workspace first: run ids are unique in it only. Names hold no `.` and no `/`.
        let name = format!("{}.{}.{}", attempt.workspace.key(), attempt.run.as_str(), attempt.attempt);
        // 255 bytes is what file systems allow; a run's id may be that long by itself.
        let name = if name.len() > 200 { format!("{}.{:x}", &name[..180], fold(name.as_bytes())) } else { name };
        let place = Place { base: self.base.clone(), name };
        place.remove();
        let path = place.folder();
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|source| JournalError { path, source })?;
        Ok(place)
    }

    /// What an earlier agent left: each place, with its job if it got that far.
    pub fn left(&self) -> Result<Vec<(Place, Option<Entry>)>, JournalError> {
        let fail = |source| JournalError { path: self.base.clone(), source };
        let mut names = std::collections::BTreeSet::new();
        for item in std::fs::read_dir(&self.base).map_err(fail)? {
            let name = item.map_err(fail)?.file_name().to_string_lossy().into_owned();
            let name = name.strip_suffix(".json").or(name.strip_suffix(".log")).unwrap_or(&name);
            names.insert(name.to_owned());
        }
        Ok(names
            .into_iter()
            .map(|name| {
                let place = Place { base: self.base.clone(), name };
                let entry = std::fs::read(place.note()).ok().and_then(|json| serde_json::from_slice(&json).ok());
                (place, entry)
            })
            .collect())
    }
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

    #[test]
    fn an_earlier_agents_jobs_are_found_again() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let journal = Journal::open(dir.path()).expect("opens");
        let place = journal.make(&attempt("a_1_b")).expect("made");
        let mode = std::fs::metadata(place.folder()).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let unfinished = journal.make(&attempt("other_1_b")).expect("made");
        let entry = Entry { attempt: attempt("a_1_b"), handle: "h".into() };
        place.record(&entry).expect("written");
        let left = Journal::open(dir.path()).expect("opens").left().expect("read");
        assert_eq!(left, [(place.clone(), Some(entry)), (unfinished.clone(), None)]);
        place.remove();
        unfinished.remove();
        assert!(journal.left().expect("read").is_empty());
    }

    #[test]
    fn the_longest_run_ids_get_folders_of_their_own() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let journal = Journal::open(dir.path()).expect("opens");
        let long = "r".repeat(254);
        let (a, b) = (journal.make(&attempt(&format!("{long}1"))), journal.make(&attempt(&format!("{long}2"))));
        assert_ne!(a.expect("made"), b.expect("made"));
    }
}
