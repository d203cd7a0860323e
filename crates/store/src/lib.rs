//! Rows: every unit of work Kluis commits, with its authority check and its audit record.
//!
//! The store has no transaction to hold. Each method of [`Store`] is one whole unit of work: authority, preconditions,
//! change, audit record; it answers when the work is durable, or has left no trace. Values arrive sealed and leave
//! sealed: nothing this crate links can open one.
//!
//! A command is wrapped in a [`Write`]. Its audit entries are made, and MACed, before the unit of work begins, so a
//! caller first reads (`lease_next`, `ticket_find`, `session_get`, ...) and then writes what it decided; when the rows
//! have moved in between, the command changes nothing and answers [`Error::Revision`] or [`Error::Moved`].
//!
//! | noun | module |
//! |---|---|
//! | the installation and its sealed keys | [`installation`] |
//! | principals, grants, tokens, invitations | [`identity`] |
//! | logins that wait for somebody's approval | [`devices`] |
//! | workspaces, their keys, compute targets | [`workspaces`] |
//! | secrets, versions, deliveries, pins | [`secrets`] |
//! | experiments and runs | [`runs`] |
//! | leases, tickets, sessions | [`attempts`] |
//! | log chunks, metrics, outputs, snapshots | [`logs`] |
//! | the audit log | [`audit`] |
//!
//! To add a command: its type and method in `<noun>.rs`, a case in `tests/conformance/<noun>.rs`, its SQL in
//! `sqlite/<noun>.rs`.

mod authority;
mod error;
mod hint;
mod page;
mod sqlite;

pub mod attempts;
pub mod audit;
pub mod devices;
pub mod identity;
pub mod installation;
pub mod logs;
pub mod runs;
pub mod secrets;
pub mod workspaces;

pub use authority::{Authenticated, Authority, RunAuthority, Write};
pub use error::{Error, OpenError};
pub use hint::Hint;
pub use page::{After, Listed};
pub use sqlite::{Finding, Health, Integrity, Options, Sqlite};

/// Where the rows are. One variant now; a second backend has the same nouns and passes the same conformance suite.
#[derive(Clone, Debug)]
pub enum Store {
    /// One file, one process.
    Sqlite(Sqlite),
}

impl Store {
    /// Opens the embedded store, creating it when the folder is empty. Blocks; call it before serving.
    pub fn open(options: Options) -> Result<Self, OpenError> {
        Sqlite::open(options).map(Self::Sqlite)
    }

    /// What is known about the store's own condition. Cheap: reads memory only.
    pub fn health(&self) -> Health {
        match self {
            Self::Sqlite(sqlite) => sqlite.health(),
        }
    }

    /// Something that only the caller can tell is not what was written: a MAC that does not fit. It stands in `health()`.
    pub fn note_damage(&self, table: &'static str, row: String) {
        match self {
            Self::Sqlite(sqlite) => sqlite.note_damage(table, row),
        }
    }

    /// Hints about what was committed, for waking whoever waits. A slow reader loses hints, so what it waits for must
    /// also be looked up now and then.
    pub fn subscribe(&self) -> tokio::sync::broadcast::Receiver<Hint> {
        match self {
            Self::Sqlite(sqlite) => sqlite.subscribe(),
        }
    }

    /// Finishes what is queued and closes the files. Later calls answer [`Error::Unavailable`]. Blocks.
    pub fn close(&self) {
        match self {
            Self::Sqlite(sqlite) => sqlite.close(),
        }
    }
}
