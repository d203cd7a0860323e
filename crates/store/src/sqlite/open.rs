//! Opening the data folder: refuse what can not be trusted, take the lock, bring the schema up to date. Nothing is
//! changed before the lock is held and the file is known to be ours.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::OpenError;

/// "kluis" in ASCII has five bytes; its first four, as SQLite's application id.
const APPLICATION_ID: i32 = 0x6b6c_7569;
/// 3.51.3 repaired a WAL reset that could lose a commit.
const MINIMUM_SQLITE: i32 = 3_051_003;
pub(super) const DATABASE: &str = "kluis.db";
pub(super) const INDEX: &str = "audit-index.db";
const LOCK: &str = "kluis.lock";

/// The migrations, in order; the schema's version is how many were applied. They only move forward, and one that was
/// released never changes.
const MIGRATIONS: &[&str] = &[include_str!("../../migrations/sqlite/0001_start.sql")];

/// Where the store lies and how it behaves.
#[derive(Clone)]
pub struct Options {
    /// The data folder; made (mode 0700) when it does not exist.
    pub folder: PathBuf,
    /// How many reads run at the same time, at least 1.
    pub readers: usize,
    /// The largest size of the database, in pages of 4096 bytes; `None`: what the disk holds. Beyond it,
    /// [`Error::Full`](crate::Error::Full).
    pub max_pages: Option<u32>,
    /// Called when a commit's flush failed and nobody can tell what is on the disk. It must end the process; the
    /// default aborts.
    pub on_fatal: Arc<dyn Fn() + Send + Sync>,
}

impl Options {
    /// The ordinary options for a folder.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), readers: 4, max_pages: None, on_fatal: Arc::new(|| std::process::abort()) }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("folder", &self.folder)
            .field("readers", &self.readers)
            .field("max_pages", &self.max_pages)
            .finish_non_exhaustive()
    }
}

/// The lock, and the one connection that writes.
pub(super) struct Opened {
    pub(super) lock: File,
    pub(super) connection: Connection,
    pub(super) database: PathBuf,
    pub(super) index: PathBuf,
}

pub(super) fn open(options: &Options) -> Result<Opened, OpenError> {
    if rusqlite::version_number() < MINIMUM_SQLITE {
        return Err(OpenError::Sqlite { found: rusqlite::version().to_owned() });
    }
    let folder = &options.folder;
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|e| refused(folder, e))?;
    refuse_network(folder)?;
    let lock = take_lock(folder)?;

    let database = folder.join(DATABASE);
    private_file(&database)?;
    let connection = connect(&database).map_err(|e| wrong(&database, &e))?;
    if connection.is_readonly("main").map_err(|e| wrong(&database, &e))? {
        return Err(OpenError::ReadOnly { path: database, source: io::ErrorKind::PermissionDenied.into() });
    }
    require_ours(&connection, &database)?;
    configure(&connection, options.max_pages).map_err(|e| wrong(&database, &e))?;
    migrate(&connection, &database, MIGRATIONS)?;
    sync_folder(folder)?;
    let index = folder.join(INDEX);
    private_file(&index)?;
    Ok(Opened { lock, connection, database, index })
}

fn refuse_network(folder: &Path) -> Result<(), OpenError> {
    let status = rustix::fs::statfs(folder).map_err(|e| refused(folder, e.into()))?;
    refuse_kind(folder, status.f_type as u64 & 0xffff_ffff)
}

fn refuse_kind(folder: &Path, magic: u64) -> Result<(), OpenError> {
    match kluis_core::file_system::network_kind(magic) {
        Some(kind) => Err(OpenError::NetworkFileSystem { path: folder.to_owned(), kind }),
        None => Ok(()),
    }
}

/// A lock that belongs to the open file description: it dies with the process, and a second opening within one
/// process is refused as well. Its file stays; only the lock on it means something.
fn take_lock(folder: &Path) -> Result<File, OpenError> {
    let path = folder.join(LOCK);
    let file = private_file(&path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(OpenError::Locked { path: folder.to_owned() }),
        Err(std::fs::TryLockError::Error(source)) => Err(OpenError::Io { path, source }),
    }
}

/// Opens or makes a file that only we may read. SQLite gives its side files the same mode.
pub(super) fn private_file(path: &Path) -> Result<File, OpenError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|e| refused(path, e))
}

/// The names of new files must survive a power cut too.
fn sync_folder(folder: &Path) -> Result<(), OpenError> {
    File::open(folder).and_then(|f| f.sync_all()).map_err(|e| refused(folder, e))
}

fn refused(path: &Path, source: io::Error) -> OpenError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => OpenError::ReadOnly { path, source },
        _ => OpenError::Io { path, source },
    }
}

pub(super) fn wrong(path: &Path, error: &rusqlite::Error) -> OpenError {
    OpenError::Database { path: path.to_owned(), reason: error.to_string() }
}

pub(super) fn connect(database: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(database, flags)?;
    harden(&connection)?;
    Ok(connection)
}

/// What every connection gets: no functions from the schema, no legacy quoting, no memory maps, checked cells.
pub(super) fn harden(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(256);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DDL, false)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "mmap_size", 0)?;
    connection.pragma_update(None, "temp_store", "memory")
}

/// What the writing connection gets. Checkpoints are the writer's own, so that their errors are seen.
fn configure(connection: &Connection, max_pages: Option<u32>) -> rusqlite::Result<()> {
    use_wal(connection)?;
    // Nobody else writes. Readers are waited for only by a checkpoint of an overlong log, and not for long.
    connection.busy_timeout(std::time::Duration::from_millis(50))?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "secure_delete", true)?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024)?;
    if let Some(pages) = max_pages {
        connection.pragma_update(None, "max_page_count", pages)?;
    }
    Ok(())
}

pub(super) fn use_wal(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update_and_check(None, "journal_mode", "wal", |row| match row.get::<_, String>(0)?.as_str() {
        "wal" => Ok(()),
        _ => Err(rusqlite::Error::InvalidQuery),
    })
}

/// An empty database may become ours; any other must carry our application id.
fn require_ours(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let read = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let ours = read("application_id").map_err(|e| foreign_or(path, &e))?;
    let empty = connection
        .query_row("SELECT NOT EXISTS (SELECT 1 FROM sqlite_schema)", [], |row| row.get::<_, bool>(0))
        .map_err(|e| foreign_or(path, &e))?;
    if ours == APPLICATION_ID || (ours == 0 && empty) {
        Ok(())
    } else {
        Err(OpenError::Foreign { path: path.to_owned() })
    }
}

fn foreign_or(path: &Path, error: &rusqlite::Error) -> OpenError {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::NotADatabase) => OpenError::Foreign { path: path.to_owned() },
        _ => wrong(path, error),
    }
}

/// Applies what is missing, each migration in a transaction of its own. The table `migration` keeps its shape for ever:
/// an older version reads from it which version to install.
fn migrate(connection: &Connection, path: &Path, migrations: &[&str]) -> Result<(), OpenError> {
    let wrong = |e: rusqlite::Error| wrong(path, &e);
    let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(wrong)?;
    let known = migrations.len() as u32;
    if found > known {
        let written_by = connection
            .query_row("SELECT written_by FROM migration ORDER BY version DESC LIMIT 1", [], |row| row.get(0))
            .unwrap_or_else(|_| "unknown".to_owned());
        return Err(OpenError::Newer { path: path.to_owned(), found, known, written_by });
    }
    for (version, migration) in (1..).zip(migrations).skip(found as usize) {
        let transaction = connection.unchecked_transaction().map_err(wrong)?;
        transaction
            .execute_batch(
                "CREATE TABLE IF NOT EXISTS migration (version INTEGER PRIMARY KEY, written_by TEXT NOT NULL) STRICT",
            )
            .map_err(wrong)?;
        transaction.execute_batch(migration).map_err(wrong)?;
        transaction
            .execute(
                "INSERT INTO migration (version, written_by) VALUES (?1, ?2)",
                (version, env!("CARGO_PKG_VERSION")),
            )
            .map_err(wrong)?;
        transaction.pragma_update(None, "user_version", version).map_err(wrong)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(wrong)?;
        transaction.commit().map_err(wrong)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_without_locks_are_refused_by_name() {
        let folder = Path::new("/data");
        for (magic, name) in
            [(0x6969, "NFS"), (0xff53_4d42, "SMB/CIFS"), (0x6573_5546, "FUSE"), (0x0bd0_0bd0, "Lustre")]
        {
            let error = refuse_kind(folder, magic).unwrap_err();
            assert!(matches!(error, OpenError::NetworkFileSystem { kind, .. } if kind == name), "{error}");
            assert!(error.to_string().contains(name), "{error}");
        }
        for local in [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x2fc1_2fc1, 0x794c_7630] {
            assert!(refuse_kind(folder, local).is_ok(), "{local:x}");
        }
    }

    #[test]
    fn a_file_system_that_can_not_be_written_is_told_from_one_that_fails() {
        let path = Path::new("/data");
        for kind in [io::ErrorKind::PermissionDenied, io::ErrorKind::ReadOnlyFilesystem] {
            assert!(matches!(refused(path, kind.into()), OpenError::ReadOnly { .. }));
        }
        assert!(matches!(refused(path, io::ErrorKind::NotADirectory.into()), OpenError::Io { .. }));
    }

    #[test]
    fn a_migration_that_fails_is_not_half_applied() {
        let path = Path::new("/data");
        let connection = Connection::open_in_memory().unwrap();
        let good = "CREATE TABLE a (x INTEGER) STRICT";
        let bad = "CREATE TABLE b (x INTEGER) STRICT; CREATE TABLE b (x INTEGER) STRICT";
        assert!(matches!(migrate(&connection, path, &[good, bad]), Err(OpenError::Database { .. })));
        let tables = |c: &Connection| -> Vec<String> {
            let mut statement = c.prepare("SELECT name FROM sqlite_schema ORDER BY name").unwrap();
            statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
        };
        assert_eq!(tables(&connection), ["a", "migration"]);
        migrate(&connection, path, &[good, "CREATE TABLE c (x INTEGER) STRICT"]).unwrap();
        assert_eq!(tables(&connection), ["a", "c", "migration"]);
        migrate(&connection, path, &[good, "CREATE TABLE c (x INTEGER) STRICT"]).unwrap();
    }
}
