//! What SQLite says, in the store's words. No SQL, no value and no path crosses from here into an [`Error`].

use rusqlite::ErrorCode;
use rusqlite::ffi;

use crate::Error;

/// A unique key is taken. Commands replace it by words of their own; see [`taken`].
const TAKEN: &str = "a row with this key exists";
const RULE: &str = "the row breaks a rule of the schema";

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        let rusqlite::Error::SqliteFailure(failure, _) = &error else {
            return match error {
                rusqlite::Error::QueryReturnedNoRows => Self::NotFound,
                // A column of another type than the schema says, outside of `Fields`.
                rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::IntegralValueOutOfRange(..)
                | rusqlite::Error::InvalidColumnType(..) => {
                    Self::Inconsistent { table: "a table", row: "unknown".into() }
                }
                _ => Self::Unavailable("a statement does not fit the schema".into()),
            };
        };
        match failure.code {
            ErrorCode::DiskFull => Self::Full,
            ErrorCode::ConstraintViolation => match failure.extended_code {
                ffi::SQLITE_CONSTRAINT_FOREIGNKEY => Self::NotFound,
                ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_PRIMARYKEY | ffi::SQLITE_CONSTRAINT_ROWID => {
                    Self::Conflict(TAKEN)
                }
                _ => Self::Conflict(RULE),
            },
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => {
                Self::Inconsistent { table: "the database file", row: format!("code {}", failure.extended_code) }
            }
            ErrorCode::SystemIoFailure => {
                Self::Unavailable(format!("input or output failed ({})", failure.extended_code))
            }
            ErrorCode::ReadOnly => Self::Unavailable("the database is read-only".into()),
            ErrorCode::CannotOpen => Self::Unavailable("the database file can not be opened".into()),
            ErrorCode::OutOfMemory => Self::Unavailable("out of memory".into()),
            ErrorCode::OperationInterrupted => Self::Unavailable("the store is closing".into()),
            _ => Self::Unavailable(format!("SQLite answered {}", failure.extended_code)),
        }
    }
}

/// Puts a taken unique key into words.
pub(super) fn taken(what: &'static str) -> impl Fn(Error) -> Error {
    move |error| if error == Error::Conflict(TAKEN) { Error::Conflict(what) } else { error }
}

/// Whether the file behind the database failed, as opposed to being full.
pub(super) fn is_io(error: &rusqlite::Error) -> bool {
    matches!(error, rusqlite::Error::SqliteFailure(failure, _) if failure.code == ErrorCode::SystemIoFailure)
}
