//! A run's source tree: packed on the laptop, checked and unpacked beside the run.
//!
//! The packed form is a tar archive, sorted by path, with fixed times and owners, compressed with zstd: the same tree
//! packs to the same bytes. It holds folders, files and symbolic links, nothing else. What may stand in it is decided in
//! one place (`rules`), for packing and unpacking alike.

mod pack;
mod rules;
mod unpack;

use std::path::PathBuf;

use kluis_core::api::runs::MAX_SNAPSHOT_BYTES;

pub use pack::{Links, PackOptions, Packed, pack};
pub use unpack::{Contents, unpack, verify};

pub use kluis_core::api::runs::{
    MAX_SNAPSHOT_ENTRIES as MAX_ENTRIES, SNAPSHOT_ALWAYS_OUT as ALWAYS_OUT, SNAPSHOT_ROOT_OUT as ROOT_OUT,
};

/// The first of these that stands at the root says what else is left out, in the format of `.gitignore`.
pub const IGNORE_FILES: [&str; 3] = [".kluisignore", ".amlignore", ".gitignore"];

/// Marks a link that leads out of the tree and was kept on request.
const KEPT_LINK: &str = "KLUIS.link";

/// Why a tree can not be packed, or a packed tree not be used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// A file or folder can not be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A link that leads out of the tree.
    #[error(
        "{path} is a link that leads out of the tree ({reason}); ignore it, or keep it unread with --links=keep (in Python keep_links=True)"
    )]
    LinkOut {
        /// Which, inside the tree.
        path: String,
        /// How.
        reason: &'static str,
    },
    /// A file changed while it was packed.
    #[error("{path} changed while it was packed; pack when nothing writes to the tree, or ignore the file")]
    Changed {
        /// Which, inside the tree.
        path: String,
    },
    /// More than a snapshot may hold.
    #[error(
        "the tree has {bytes} bytes; a snapshot may have {MAX_SNAPSHOT_BYTES}. The largest: {}; ignore what the run does not need",
        list(largest)
    )]
    TooLarge {
        /// How much it is.
        bytes: u64,
        /// The ten largest files, largest first.
        largest: Vec<(String, u64)>,
    },
    /// More entries than a snapshot may hold.
    #[error("the tree has more than {MAX_ENTRIES} files and folders; ignore what the run does not need")]
    TooMany,
    /// A name that can not travel.
    #[error("{0:?} has a name that is not UTF-8 text; rename or ignore it")]
    NotText(PathBuf),
    /// An ignore file with a mistake.
    #[error("{path}: {reason}", path = path.display())]
    IgnoreFile {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A packed tree with an entry that must not be there.
    #[error("the snapshot is refused: its entry {entry:?} {reason}")]
    Refused {
        /// Which.
        entry: String,
        /// Why.
        reason: &'static str,
    },
    /// A packed tree that unpacks to more than it may.
    #[error("the snapshot is refused: it unpacks to more than {limit} bytes")]
    Bomb {
        /// What is allowed.
        limit: u64,
    },
    /// Not a packed tree.
    #[error("the snapshot is damaged: {0}")]
    Damaged(String),
}

fn list(largest: &[(String, u64)]) -> String {
    let items: Vec<String> = largest.iter().map(|(path, bytes)| format!("{path} ({bytes})")).collect();
    items.join(", ")
}
