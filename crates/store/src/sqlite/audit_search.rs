//! Searching the audit log: the index finds the numbers, the pages hold the records. One statement for each index that
//! can carry a search, forwards and backwards; the remaining conditions narrow what it finds.

use kluis_core::audit::AuditEntry;
use kluis_core::id::{PrincipalId, SecretId, WorkspaceId};
use rusqlite::Connection;
use rusqlite::types::Value;

use super::Sqlite;
use super::sql::{self, Fields};
use crate::audit::AuditFilter;
use crate::{Error, Listed};

/// Waits for the index, then searches it.
pub(crate) async fn query(sqlite: &Sqlite, filter: AuditFilter) -> Result<Listed<Found, u64>, Error> {
    sqlite.projector().catch_up().await?;
    let newest = filter.newest;
    let mut listed = sqlite.list(move |c| search(c, &filter)).await?;
    if newest {
        listed.items.reverse();
        listed.next = None;
    }
    Ok(listed)
}

/// A record under its number; `None` when the leaf can not be read, which the index has noticed already.
type Found = (u64, Option<AuditEntry>);

fn search(c: &Connection, filter: &AuditFilter) -> Result<sql::Page<Found, u64>, Error> {
    let run = filter.run.as_ref().map_or(Value::Null, |run| Value::Text(run.key().to_owned()));
    let params = (
        sql::maybe(filter.workspace.as_ref().map(WorkspaceId::as_bytes)),
        run,
        sql::maybe(filter.principal.as_ref().map(PrincipalId::as_bytes)),
        sql::maybe(filter.secret.as_ref().map(SecretId::as_bytes)),
        sql::int(filter.from),
        i64::from(filter.limit.max(1)) + 1,
    );
    let statement = match (filter.workspace.is_some(), filter.run.is_some(), filter.newest) {
        (true, true, false) => RUN,
        (true, true, true) => RUN_NEWEST,
        (true, false, false) => WORKSPACE,
        (true, false, true) => WORKSPACE_NEWEST,
        (false, _, false) => ANY,
        (false, _, true) => ANY_NEWEST,
    };
    sql::page(
        c,
        statement,
        params,
        filter.limit,
        |row| row.get::<_, i64>(0).map(|seq| seq as u64),
        |row| {
            let f = Fields::new(row, "audit_page");
            Ok((f.number()?, AuditEntry::from_leaf(&f.get::<Vec<u8>>()?).ok()))
        },
    )
}

const RUN: &str = "
     SELECT i.seq, substr(p.entries, i.start + 1, i.length)
     FROM search.audit_index i JOIN audit_page p ON p.first_seq = i.page
     WHERE i.workspace = ?1 AND i.run = ?2 AND i.seq >= ?5
       AND (?3 IS NULL OR i.principal = ?3) AND (?4 IS NULL OR i.secret = ?4)
     ORDER BY i.seq LIMIT ?6";

const RUN_NEWEST: &str = "
     SELECT i.seq, substr(p.entries, i.start + 1, i.length)
     FROM search.audit_index i JOIN audit_page p ON p.first_seq = i.page
     WHERE i.workspace = ?1 AND i.run = ?2 AND i.seq >= ?5
       AND (?3 IS NULL OR i.principal = ?3) AND (?4 IS NULL OR i.secret = ?4)
     ORDER BY i.seq DESC LIMIT ?6";

const WORKSPACE: &str = "
     SELECT i.seq, substr(p.entries, i.start + 1, i.length)
     FROM search.audit_index i JOIN audit_page p ON p.first_seq = i.page
     WHERE i.workspace = ?1 AND i.seq >= ?5 AND (?2 IS NULL OR i.run = ?2)
       AND (?3 IS NULL OR i.principal = ?3) AND (?4 IS NULL OR i.secret = ?4)
     ORDER BY i.seq LIMIT ?6";

const WORKSPACE_NEWEST: &str = "
     SELECT i.seq, substr(p.entries, i.start + 1, i.length)
     FROM search.audit_index i JOIN audit_page p ON p.first_seq = i.page
     WHERE i.workspace = ?1 AND i.seq >= ?5 AND (?2 IS NULL OR i.run = ?2)
       AND (?3 IS NULL OR i.principal = ?3) AND (?4 IS NULL OR i.secret = ?4)
     ORDER BY i.seq DESC LIMIT ?6";

const ANY: &str = "
     SELECT i.seq, substr(p.entries, i.start + 1, i.length)
     FROM search.audit_index i JOIN audit_page p ON p.first_seq = i.page
     WHERE i.seq >= ?5 AND (?1 IS NULL OR i.workspace = ?1) AND (?2 IS NULL OR i.run = ?2)
       AND (?3 IS NULL OR i.principal = ?3) AND (?4 IS NULL OR i.secret = ?4)
     ORDER BY i.seq LIMIT ?6";

const ANY_NEWEST: &str = "
     SELECT i.seq, substr(p.entries, i.start + 1, i.length)
     FROM search.audit_index i JOIN audit_page p ON p.first_seq = i.page
     WHERE i.seq >= ?5 AND (?1 IS NULL OR i.workspace = ?1) AND (?2 IS NULL OR i.run = ?2)
       AND (?3 IS NULL OR i.principal = ?3) AND (?4 IS NULL OR i.secret = ?4)
     ORDER BY i.seq DESC LIMIT ?6";
