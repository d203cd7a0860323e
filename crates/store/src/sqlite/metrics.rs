//! SQL of metrics.

use kluis_core::api::runs::{Metric, MetricKind};
use kluis_core::id::WorkspaceId;
use rusqlite::Connection;

use super::logs::own_run;
use super::sql::{self, Fields};
use super::{Unit, usage};
use crate::logs::{Arrived, MetricAppend};
use crate::{After, Error};

const fn kind_text(kind: MetricKind) -> &'static str {
    match kind {
        MetricKind::Scalar => "scalar",
        MetricKind::List => "list",
        MetricKind::Row => "row",
        MetricKind::Table => "table",
    }
}

fn kind(text: &str) -> Option<MetricKind> {
    [MetricKind::Scalar, MetricKind::List, MetricKind::Row, MetricKind::Table]
        .into_iter()
        .find(|kind| kind_text(*kind) == text)
}

pub(crate) fn metric_append(unit: &Unit<'_>, append: MetricAppend) -> Result<Arrived, Error> {
    let session = unit.reporter()?;
    let next = sql::one(
        unit,
        "SELECT coalesce(max(number) + 1, 0) FROM metric WHERE source = ?1 AND attempt = ?2 AND node = ?3",
        (session.run, session.attempt, session.node),
        |row| Fields::new(row, "metric").number::<u64>(),
    )?
    .unwrap_or(0);
    let end = append.first + append.metrics.len() as u64;
    if append.first > next || end <= next {
        unit.record_instead(Vec::new());
        return Ok(Arrived { next, stored: false });
    }
    let mut made = usage::Made::default();
    for (number, (child, metric)) in (append.first..).zip(append.metrics).filter(|(number, _)| *number >= next) {
        let run = own_run(unit, &session, child.as_ref())?;
        let value = sql::json(&metric.value);
        made.metrics += 1;
        made.bytes += (metric.name.len() + value.len()) as u64;
        sql::run(
            unit,
            "INSERT INTO metric (run, source, attempt, node, number, name, kind, value, step, time)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            (
                run,
                session.run,
                session.attempt,
                session.node,
                sql::int(number),
                metric.name,
                kind_text(metric.kind),
                value,
                metric.step,
                metric.time.millis(),
            ),
        )?;
    }
    usage::count(unit, session.run, made, append.limits)?;
    Ok(Arrived { next: end, stored: true })
}

pub(crate) fn metric_list(
    c: &Connection,
    workspace: WorkspaceId,
    run_key: &str,
    page: &After<u64>,
) -> Result<sql::Page<Metric, u64>, Error> {
    sql::page(
        c,
        "SELECT seq, name, value, kind, step, time FROM metric
         WHERE run = (SELECT seq FROM run WHERE workspace = ?1 AND id_key = ?2) AND seq > ?3
         ORDER BY seq LIMIT ?4",
        (workspace.as_bytes(), run_key, page.after.map_or(0, sql::int), sql::more(page)),
        page.limit,
        |row| row.get::<_, i64>(0).map(|seq| seq as u64),
        metric,
    )
}

pub(crate) fn metric_named(
    c: &Connection,
    workspace: WorkspaceId,
    run_key: &str,
    name: &str,
    page: &After<u64>,
) -> Result<sql::Page<Metric, u64>, Error> {
    sql::page(
        c,
        "SELECT seq, name, value, kind, step, time FROM metric
         WHERE run = (SELECT seq FROM run WHERE workspace = ?1 AND id_key = ?2) AND seq > ?3 AND name = ?4
         ORDER BY seq LIMIT ?5",
        (workspace.as_bytes(), run_key, page.after.map_or(0, sql::int), name, sql::more(page)),
        page.limit,
        |row| row.get::<_, i64>(0).map(|seq| seq as u64),
        metric,
    )
}

fn metric(row: &rusqlite::Row<'_>) -> Result<Metric, Error> {
    let f = Fields::new(row, "metric");
    f.skip();
    Ok(Metric { name: f.get()?, value: f.json()?, kind: f.word(kind)?, step: f.get()?, time: f.time()? })
}

pub(crate) fn metric_names(
    c: &Connection,
    workspace: WorkspaceId,
    run_key: &str,
    page: &After<u64>,
) -> Result<sql::Page<String, u64>, Error> {
    sql::page(
        c,
        "SELECT min(seq) AS first, name FROM metric
         WHERE run = (SELECT seq FROM run WHERE workspace = ?1 AND id_key = ?2)
         GROUP BY name HAVING first > ?3 ORDER BY first LIMIT ?4",
        (workspace.as_bytes(), run_key, page.after.map_or(0, sql::int), sql::more(page)),
        page.limit,
        |row| row.get::<_, i64>(0).map(|seq| seq as u64),
        |row| {
            let f = Fields::new(row, "metric");
            f.skip();
            f.get()
        },
    )
}
