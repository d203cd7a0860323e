//! The few ways in which a statement is sent and a row is read. Every statement is prepared once per connection.
//!
//! [`Fields`] reads a row's columns in the order in which the statement lists them, and names table and row when the
//! database lies.

use std::cell::Cell;

use kluis_core::clock::Timestamp;
use kluis_core::sealed::{LookupHash, Mac};
use rusqlite::types::{FromSql, Value, ValueRef};
use rusqlite::{Connection, Params, Row};

use crate::{After, Error, Listed};

/// Sends a statement that changes rows; how many it changed.
pub(super) fn run(c: &Connection, sql: &str, params: impl Params) -> Result<usize, Error> {
    Ok(c.prepare_cached(sql)?.execute(params)?)
}

/// The first row, if there is one.
pub(super) fn one<T>(
    c: &Connection,
    sql: &str,
    params: impl Params,
    read: impl FnOnce(&Row<'_>) -> Result<T, Error>,
) -> Result<Option<T>, Error> {
    let mut statement = c.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    rows.next()?.map(read).transpose()
}

/// All rows; one that can not be read fails them all. For what must be complete, such as grants.
pub(super) fn all<T>(
    c: &Connection,
    sql: &str,
    params: impl Params,
    mut read: impl FnMut(&Row<'_>) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    let mut statement = c.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let mut out = Vec::new();
    while let Some(row) = rows.next()? {
        out.push(read(row)?);
    }
    Ok(out)
}

/// Whether the statement finds a row.
pub(super) fn exists(c: &Connection, sql: &str, params: impl Params) -> Result<bool, Error> {
    Ok(c.prepare_cached(sql)?.exists(params)?)
}

/// A page and the rows that were left out of it because they can not be read.
pub(super) type Page<T, K> = (Listed<T, K>, Vec<Error>);

/// One page: the statement is asked for one row more than the page holds (its `LIMIT` is [`more`]), and `key` says where
/// the next page starts. The key is read before the row, so a row that can not be read does not hide what follows.
pub(super) fn page<T, K>(
    c: &Connection,
    sql: &str,
    params: impl Params,
    limit: u32,
    key: impl Fn(&Row<'_>) -> rusqlite::Result<K>,
    mut read: impl FnMut(&Row<'_>) -> Result<T, Error>,
) -> Result<Page<T, K>, Error> {
    let mut statement = c.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let (mut items, mut skipped, mut last, mut seen) = (Vec::new(), Vec::new(), None, 0);
    while let Some(row) = rows.next()? {
        if seen == limit.max(1) {
            return Ok((Listed { items, next: last }, skipped));
        }
        seen += 1;
        last = Some(key(row)?);
        match read(row) {
            Ok(item) => items.push(item),
            Err(error @ Error::Inconsistent { .. }) => skipped.push(error),
            Err(error) => return Err(error),
        }
    }
    Ok((Listed { items, next: None }, skipped))
}

/// How many rows a page's statement asks for.
pub(super) fn more<K>(page: &After<K>) -> i64 {
    i64::from(page.limit.max(1)) + 1
}

/// A count or a number as SQLite keeps it.
pub(super) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// JSON of our own types, which always serialize.
pub(crate) fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("wire types have text keys and no failing serializer")
}

/// A row's columns, read one after the other. The table's key must be the first of its columns that is read.
pub(super) struct Fields<'r> {
    row: &'r Row<'r>,
    table: &'static str,
    start: usize,
    next: Cell<usize>,
}

impl<'r> Fields<'r> {
    /// Starts at the first column.
    pub(super) fn new(row: &'r Row<'r>, table: &'static str) -> Self {
        Self::at(row, table, 0)
    }

    /// Starts at a later column, for a join.
    pub(super) fn at(row: &'r Row<'r>, table: &'static str, start: usize) -> Self {
        Self { row, table, start, next: Cell::new(start) }
    }

    /// The database lies here.
    pub(super) fn wrong(&self) -> Error {
        let row = match self.row.get_ref(self.start) {
            Ok(ValueRef::Blob(bytes)) => bytes.iter().take(16).fold(String::new(), |mut text, byte| {
                use std::fmt::Write as _;
                write!(text, "{byte:02x}").expect("a String takes everything");
                text
            }),
            Ok(ValueRef::Integer(number)) => number.to_string(),
            Ok(ValueRef::Text(text)) if text.len() <= 255 => String::from_utf8_lossy(text).into_owned(),
            _ => "unknown".into(),
        };
        Error::Inconsistent { table: self.table, row }
    }

    /// The next column, of a type that SQLite knows.
    pub(super) fn get<T: FromSql>(&self) -> Result<T, Error> {
        let column = self.next.replace(self.next.get() + 1);
        self.row.get(column).map_err(|_| self.wrong())
    }

    /// The next column, not looked at.
    pub(super) fn skip(&self) {
        self.next.set(self.next.get() + 1);
    }

    /// An id.
    pub(super) fn id<T>(&self, make: fn([u8; 16]) -> T) -> Result<T, Error> {
        self.get().map(make)
    }

    /// An id that may be absent.
    pub(super) fn optional_id<T>(&self, make: fn([u8; 16]) -> T) -> Result<Option<T>, Error> {
        Ok(self.get::<Option<[u8; 16]>>()?.map(make))
    }

    /// A time.
    pub(super) fn time(&self) -> Result<Timestamp, Error> {
        self.get().map(Timestamp::from_millis)
    }

    /// A time that may be absent.
    pub(super) fn optional_time(&self) -> Result<Option<Timestamp>, Error> {
        Ok(self.get::<Option<i64>>()?.map(Timestamp::from_millis))
    }

    /// A number that is not negative and fits.
    pub(super) fn number<T: TryFrom<i64>>(&self) -> Result<T, Error> {
        T::try_from(self.get::<i64>()?).map_err(|_| self.wrong())
    }

    /// 0 or 1.
    pub(super) fn flag(&self) -> Result<bool, Error> {
        match self.get::<i64>()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.wrong()),
        }
    }

    /// A text that means something.
    pub(super) fn parse<T, E>(&self, parse: impl FnOnce(&str) -> Result<T, E>) -> Result<T, Error> {
        parse(&self.get::<String>()?).map_err(|_| self.wrong())
    }

    /// A text that means something and may be absent.
    pub(super) fn parse_optional<T, E>(&self, parse: impl FnOnce(&str) -> Result<T, E>) -> Result<Option<T>, Error> {
        self.get::<Option<String>>()?.map(|text| parse(&text)).transpose().map_err(|_| self.wrong())
    }

    /// One of a few words.
    pub(super) fn word<T>(&self, find: impl FnOnce(&str) -> Option<T>) -> Result<T, Error> {
        find(&self.get::<String>()?).ok_or_else(|| self.wrong())
    }

    /// JSON of one of our own types.
    pub(super) fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_str(&self.get::<String>()?).map_err(|_| self.wrong())
    }

    /// The same, which may be absent.
    pub(super) fn optional_json<T: serde::de::DeserializeOwned>(&self) -> Result<Option<T>, Error> {
        let text = self.get::<Option<String>>()?;
        text.map(|text| serde_json::from_str(&text)).transpose().map_err(|_| self.wrong())
    }

    /// A MAC.
    pub(super) fn mac(&self) -> Result<Mac, Error> {
        self.get().map(Mac)
    }

    /// A MAC that may be absent.
    pub(super) fn optional_mac(&self) -> Result<Option<Mac>, Error> {
        Ok(self.get::<Option<[u8; 32]>>()?.map(Mac))
    }

    /// A lookup hash.
    pub(super) fn hash(&self) -> Result<LookupHash, Error> {
        self.get().map(LookupHash)
    }
}

/// `NULL` or an id, as a parameter.
pub(super) fn maybe(id: Option<&[u8; 16]>) -> Value {
    id.map_or(Value::Null, |id| Value::Blob(id.to_vec()))
}
