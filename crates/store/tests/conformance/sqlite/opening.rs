//! Opening the data folder, and refusing to.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use kluis_store::{OpenError, Options, Store};
use rusqlite::Connection;

use super::{Home, open};

fn data(home: &Home) -> PathBuf {
    home.folder.path().join("data")
}

/// The database of a closed store, opened by somebody else.
pub(super) fn database(folder: &Path) -> Connection {
    Connection::open(folder.join("kluis.db")).unwrap()
}

fn refusal(folder: &Path) -> OpenError {
    Store::open(Options::new(folder)).expect_err("it is refused")
}

#[test]
fn a_second_server_on_the_same_folder_is_refused() {
    let home = open();
    let error = refusal(&data(&home));
    assert!(matches!(&error, OpenError::Locked { path } if *path == data(&home)), "{error}");
    home.store.close();
    Store::open(Options::new(data(&home))).expect("the lock went with the first");
}

#[test]
fn dropping_the_store_closes_it() {
    let Home { store, folder } = open();
    drop(store);
    Store::open(Options::new(folder.path().join("data"))).expect("nothing holds it");
}

#[test]
fn a_newer_schema_is_refused_with_the_version_that_wrote_it() {
    let home = open();
    home.store.close();
    let database = database(&data(&home));
    database.pragma_update(None, "user_version", 99).unwrap();
    database.execute("INSERT INTO migration (version, written_by) VALUES (99, '7.8.9')", []).unwrap();
    drop(database);
    let error = refusal(&data(&home));
    assert!(matches!(&error, OpenError::Newer { found: 99, written_by, .. } if written_by == "7.8.9"));
    assert!(error.to_string().contains("install 7.8.9 or newer"), "{error}");
}

#[test]
fn a_database_of_something_else_is_left_alone() {
    let home = open();
    home.store.close();
    let database = database(&data(&home));
    database.pragma_update(None, "application_id", 1).unwrap();
    drop(database);
    assert!(matches!(refusal(&data(&home)), OpenError::Foreign { .. }));

    let folder = tempfile::tempdir().unwrap();
    let theirs = Connection::open(folder.path().join("kluis.db")).unwrap();
    theirs.execute_batch("CREATE TABLE theirs (a); INSERT INTO theirs VALUES (1);").unwrap();
    assert!(matches!(refusal(folder.path()), OpenError::Foreign { .. }));
    let tables: i64 = theirs.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).unwrap();
    assert_eq!(tables, 1);

    let text = tempfile::tempdir().unwrap();
    std::fs::write(text.path().join("kluis.db"), "not a database at all, but long enough to look at".repeat(99))
        .unwrap();
    assert!(matches!(refusal(text.path()), OpenError::Foreign { .. }));
}

#[test]
fn nobody_else_may_read_the_files() {
    let home = open();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data(&home)), 0o700);
    let mut files = 0;
    for file in std::fs::read_dir(data(&home)).unwrap() {
        let path = file.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        files += 1;
    }
    assert!(files >= 5, "database, index, their write-ahead logs, lock: {files}");
}

#[test]
fn a_folder_that_can_not_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = refusal(&file.join("data"));
    assert!(matches!(&error, OpenError::Io { path, .. } if *path == file.join("data")), "{error}");
}

/// Root writes everywhere, except where nothing can be written.
#[test]
fn a_folder_that_can_not_be_written_is_refused_as_such() {
    let error = refusal(Path::new("/proc/self/kluis"));
    assert!(matches!(error, OpenError::ReadOnly { .. } | OpenError::Io { .. }), "{error}");
    if rustix::process::geteuid().is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o500)).unwrap();
    assert!(matches!(refusal(folder.path()), OpenError::ReadOnly { .. }));
}

#[test]
fn the_database_is_durable_and_distrustful() {
    let home = open();
    let text = |name: &str| -> String {
        let reader = Connection::open(data(&home).join("kluis.db")).unwrap();
        reader.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, rusqlite::types::Value>(0)).map_or_else(
            |e| e.to_string(),
            |value| match value {
                rusqlite::types::Value::Text(text) => text,
                rusqlite::types::Value::Integer(number) => number.to_string(),
                other => format!("{other:?}"),
            },
        )
    };
    assert_eq!(text("journal_mode"), "wal");
    assert_eq!(text("application_id"), 0x6b6c_7569.to_string());
    assert_eq!(text("user_version"), "1");
    let strict: i64 = Connection::open(data(&home).join("kluis.db"))
        .unwrap()
        .query_row(
            "SELECT count(*) FROM pragma_table_list WHERE schema = 'main' AND strict = 0 AND name NOT LIKE 'sqlite_%'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(strict, 0, "every table is STRICT");
}
