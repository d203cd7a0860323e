//! SQL of what the code in a run has made in rows. Counted in the unit of work that makes it, so that it can not be
//! exceeded by asking for much at once.

use super::Unit;
use super::sql::{self, Fields};
use crate::Error;
use crate::runs::RunLimits;

/// What one command makes.
#[derive(Clone, Copy, Default)]
pub(super) struct Made {
    pub(super) metrics: u64,
    pub(super) children: u64,
    pub(super) changes: u64,
    pub(super) bytes: u64,
}

/// Counts it, or refuses: then the unit of work leaves no trace.
pub(super) fn count(unit: &Unit<'_>, run: i64, made: Made, limits: RunLimits) -> Result<(), Error> {
    let [metrics, children, changes, bytes] = sql::one(
        unit,
        "INSERT INTO run_usage (run, metrics, children, changes, bytes) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (run) DO UPDATE SET metrics = metrics + excluded.metrics, children = children + excluded.children,
                                         changes = changes + excluded.changes, bytes = bytes + excluded.bytes
         RETURNING run, metrics, children, changes, bytes",
        (run, sql::int(made.metrics), sql::int(made.children), sql::int(made.changes), sql::int(made.bytes)),
        |row| {
            let f = Fields::new(row, "run_usage");
            f.skip();
            Ok([f.number::<u64>()?, f.number()?, f.number()?, f.number()?])
        },
    )?
    .expect("the statement returns the row it wrote");
    let over = [
        (metrics, limits.metrics, "metrics"),
        (children, limits.children, "child runs"),
        (changes, limits.changes, "changes of tags and properties"),
        (bytes, limits.bytes, "bytes of metrics and tags"),
    ];
    match over.into_iter().find(|(now, most, _)| now > most) {
        None => Ok(()),
        Some((_, _, what)) => Err(Error::Limit(what)),
    }
}
