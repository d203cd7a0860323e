//! Sessions: what a launcher asks and says for its run. Whether a session is alive is decided by the store in each
//! command, not by what was read when the request came.
//!
//! | | |
//! |---|---|
//! | `redeem` | a ticket becomes a session |
//! | `heartbeat` | signs of life, reads, notices |
//! | `uploads` | logs, metrics, outputs |
//! | `children` | child runs, and what a run says of itself |
//! | `end` | the run's end |

use kluis_core::api::session::{ReadRecord, ReadSecrets, SecretsRead};
use kluis_core::audit::{AuditAction, AuditRecord};
use kluis_core::clock::Timestamp;
use kluis_core::id::{PrincipalId, SessionId, WorkspaceId};
use kluis_core::name::{RunId, SecretName};
use kluis_core::run::RunStatus;
use kluis_core::sealed::{Canonical, Mac};
use kluis_core::secret::MAX_BATCH;
use kluis_store::Error as StoreError;
use kluis_store::attempts::SessionRow;
use kluis_store::runs::RunRow;

use super::secrets::RunReader;
use crate::app::App;
use crate::blobs::BlobStream;
use crate::error::{Error, Result};
use crate::signed::SessionCaller;

mod children;
mod end;
mod heartbeat;
mod redeem;
mod uploads;

/// The longest reason or phase, in bytes.
const MAX_TEXT: usize = 1000;
/// So many reads of an attempt's node are recorded one by one; of what comes later, those of one value share a record
/// with their count. The code in a run reads as often as it likes, and the log keeps everything for ever.
const READS_ONE_BY_ONE: u64 = 100_000;
/// How often a command is made anew when the run moves meanwhile.
const TRIES: usize = 5;

/// Sessions.
#[derive(Clone, Copy, Debug)]
pub struct Sessions<'a> {
    app: &'a App,
}

impl App {
    /// Sessions.
    pub fn sessions(&self) -> Sessions<'_> {
        Sessions { app: self }
    }

    /// The id of a session: a keyed hash of everything that the session grants (docs/format.md). Whoever can only write to
    /// the database can not make a session, nor give one another key, submitter or list of secrets.
    pub(crate) fn session_id(&self, granted: &Granted<'_>) -> SessionId {
        let canonical = Canonical::new("kluis/session/1")
            .bytes(granted.workspace.as_bytes())
            .text(granted.run.as_str())
            .number(granted.attempt.into())
            .number(granted.node.into())
            .bytes(granted.public_key)
            .bytes(granted.submitter.as_bytes());
        let canonical = match granted.secrets {
            None => canonical.text("whatever its submitter may read"),
            Some(names) => names.iter().fold(canonical.text("declared"), |c, name| c.text(name.as_str())),
        };
        let Mac(mac) = self.vault.mac(&canonical.finish());
        let (id, _) = mac.split_first_chunk().expect("32 bytes hold 16");
        SessionId::from_bytes(*id)
    }

    /// Whether a session's row says what was granted when its ticket was redeemed.
    pub(crate) fn session_ok(&self, row: &SessionRow) -> bool {
        let granted = Granted {
            workspace: row.workspace,
            run: &row.run,
            attempt: row.attempt,
            node: row.node,
            public_key: &row.public_key,
            submitter: row.submitted_by,
            secrets: row.secrets.as_deref(),
        };
        self.session_id(&granted) == row.id
    }
}

/// What a session grants, and to which key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Granted<'a> {
    workspace: WorkspaceId,
    run: &'a RunId,
    attempt: u32,
    node: u32,
    public_key: &'a [u8; 32],
    submitter: PrincipalId,
    secrets: Option<&'a [SecretName]>,
}

impl Sessions<'_> {
    /// Values for the run: what its submitter may read at this moment, narrowed to what it declared. Recorded and
    /// committed before this returns.
    pub async fn read(&self, session: &SessionCaller, read: ReadSecrets) -> Result<SecretsRead> {
        let row = &session.row;
        alive(row)?;
        if read.names.is_empty() || read.names.len() > MAX_BATCH {
            return Err(Error::bad_request(format!("`names` has 1 to {MAX_BATCH} entries")));
        }
        let workspace = self.app.workspace_of(row.workspace).await?.ok_or(Error::NotFound("workspace"))?;
        let reader = RunReader {
            workspace: &workspace,
            run: session.run_authority(),
            node: row.node,
            submitter: row.submitted_by,
            declared: row.secrets.as_deref(),
            source: session.source,
        };
        let values = self.app.secrets().read_for_run(&reader, &read.names, read.refresh).await;
        values.map_err(over)
    }

    /// The tree that the run was submitted with.
    pub async fn snapshot(&self, session: &SessionCaller) -> Result<BlobStream> {
        alive(&session.row)?;
        if session.row.status.is_terminal() {
            return Err(ended(session.row.status));
        }
        let run = self.run_of(&session.row).await?;
        let snapshot = self.app.submitted(&run)?.snapshot.ok_or(Error::NotFound("snapshot"))?;
        Ok(self.app.blobs.open(session.row.workspace, snapshot).await?)
    }

    async fn run_of(&self, row: &SessionRow) -> Result<RunRow> {
        self.app.store.run_get(row.workspace, &row.run).await?.ok_or(Error::NotFound("run"))
    }

    /// The session as it is now; [`Error::RunEnded`] when it is over.
    async fn again(&self, row: &SessionRow) -> Result<SessionRow> {
        let now = self.app.store.session_get(row.id).await?.ok_or(Error::RunEnded(row.status))?;
        alive(&now)?;
        Ok(now)
    }

    /// Records of reads that were not received before, with a gap's record where numbers are missing, and the number of
    /// the last one. What was received before, or comes twice, is passed over.
    async fn reads(
        &self,
        session: &SessionCaller,
        received: u64,
        reads: &[ReadRecord],
    ) -> Result<(Vec<AuditRecord>, u64)> {
        let mut fresh: Vec<&ReadRecord> = reads.iter().filter(|r| r.sequence > received).collect();
        if fresh.is_empty() {
            return Ok((Vec::new(), received));
        }
        if fresh.iter().any(|r| r.sequence > i64::MAX as u64) {
            return Err(Error::bad_request("`reads` has too high a number"));
        }
        fresh.sort_unstable_by_key(|r| r.sequence);
        fresh.dedup_by_key(|r| r.sequence);
        let pins = self.app.store.run_secrets(session.row.workspace, &session.row.run).await?;
        let (mut records, mut last) = (Vec::with_capacity(fresh.len()), received);
        for read in fresh {
            let missing = read.sequence - last - 1;
            if missing > 0 {
                let gap = record(session, self.app.now(), AuditAction::SecretReadGap);
                records.push(AuditRecord { count: Some(missing), sequence: Some(last + 1), ..gap });
            }
            last = read.sequence;
            let same = |r: &&mut AuditRecord| {
                r.action == AuditAction::SecretRead
                    && r.version == Some(read.version)
                    && r.name.as_deref() == Some(read.name.as_str())
            };
            let together = last > READS_ONE_BY_ONE;
            if let Some(with) = records.iter_mut().find(same).filter(|_| together) {
                with.count = Some(with.count.unwrap_or(1) + 1);
                continue;
            }
            records.push(AuditRecord {
                secret: pins.iter().rev().find(|pin| pin.name == read.name).map(|pin| pin.secret),
                version: Some(read.version),
                rank: Some(read.rank),
                pid: Some(read.pid),
                sequence: Some(read.sequence),
                name: Some(read.name.to_string()),
                // The launcher's idea of the server's time; never later than now.
                ..record(session, read.time.min(self.app.now()), AuditAction::SecretRead)
            });
        }
        Ok((records, last))
    }
}

/// A record about the session's run.
fn record(session: &SessionCaller, now: Timestamp, action: AuditAction) -> AuditRecord {
    let row = &session.row;
    AuditRecord {
        principal: Some(row.submitted_by),
        workspace: Some(row.workspace),
        run: Some(row.run.clone()),
        attempt: Some(row.attempt),
        node: Some(row.node),
        session: Some(row.id),
        source: Some(session.source.to_string()),
        ..AuditRecord::new(now, action)
    }
}

/// Refuses for a session that is over. What a command of the store says comes later and counts more.
fn alive(row: &SessionRow) -> Result<()> {
    if row.alive { Ok(()) } else { Err(ended(row.status)) }
}

/// Why a session is over.
fn ended(status: RunStatus) -> Error {
    if status == RunStatus::Compromised { Error::Compromised } else { Error::RunEnded(status) }
}

/// The store's refusals as a launcher should hear them.
fn refusal(error: StoreError) -> Error {
    over(error.into())
}

fn over(error: Error) -> Error {
    match error {
        Error::RunEnded(status) => ended(status),
        error => error,
    }
}

/// A text of the launcher's that people will read: bounded, in one line.
fn text(field: &'static str, text: Option<&str>) -> Result<()> {
    match text {
        Some(text) if text.len() > MAX_TEXT => Err(Error::bad_request(format!("`{field}` is longer than 1000 bytes"))),
        Some(text) if text.contains('\0') => Err(Error::bad_request(format!("`{field}` holds a NUL character"))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use kluis_core::access::Epoch;
    use kluis_core::name::{PrincipalName, WorkspaceName};

    use super::*;
    use crate::{Server, ServerOptions};

    type Change = fn(&mut SessionRow);

    /// What somebody who can only write to the database would try.
    #[tokio::test]
    async fn a_session_that_the_server_did_not_grant_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let options = ServerOptions::new(folder.path().join("data"), PrincipalName::parse("owner").unwrap());
        let (app, _) = Server::open(&options).await.unwrap();
        let name = |text: &str| SecretName::parse(text).unwrap();
        let mut row = SessionRow {
            id: SessionId::from_bytes([0; 16]),
            workspace: WorkspaceId::from_bytes([1; 16]),
            workspace_name: WorkspaceName::parse("team").unwrap(),
            run: RunId::parse("churn_1_aa").unwrap(),
            attempt: 1,
            node: 0,
            nodes: 1,
            public_key: [2; 32],
            alive: true,
            status: RunStatus::Running,
            cancel_requested: false,
            submitted_by: PrincipalId::from_bytes([3; 16]),
            submitter: PrincipalName::parse("ada").unwrap(),
            epoch: Epoch(1),
            secrets: Some(vec![name("a"), name("b")]),
            reads_received: 0,
            notices: 0,
            reason: None,
        };
        assert!(!app.session_ok(&row), "an id that was made up");
        let granted = Granted {
            workspace: row.workspace,
            run: &row.run,
            attempt: row.attempt,
            node: row.node,
            public_key: &row.public_key,
            submitter: row.submitted_by,
            secrets: row.secrets.as_deref(),
        };
        row.id = app.session_id(&granted);
        assert!(app.session_ok(&row));
        // By docs/format.md.
        let c = |fields: &[&[u8]]| fields.iter().flat_map(|f| [&(f.len() as u32).to_be_bytes(), *f].concat()).collect();
        let (attempt, node) = (1_u64.to_be_bytes(), 0_u64.to_be_bytes());
        let start: [&[u8]; 7] = [b"kluis/session/1", &[1; 16], b"churn_1_aa", &attempt, &node, &[2; 32], &[3; 16]];
        let by_the_page: Vec<u8> = c(&[&start[..], &[&b"declared"[..], b"a", b"b"]].concat());
        assert_eq!(row.id.as_bytes()[..], app.vault.mac(&by_the_page).0[..16]);
        let changes: [Change; 8] = [
            |r| r.public_key = [9; 32],
            |r| r.submitted_by = PrincipalId::from_bytes([9; 16]),
            |r| r.secrets = None,
            |r| r.secrets.as_mut().unwrap().push(SecretName::parse("c").unwrap()),
            |r| r.secrets = Some(vec![SecretName::parse("ab").unwrap()]),
            |r| r.run = RunId::parse("other").unwrap(),
            |r| r.attempt = 2,
            |r| r.workspace = WorkspaceId::from_bytes([9; 16]),
        ];
        for (i, change) in changes.into_iter().enumerate() {
            let mut other = row.clone();
            change(&mut other);
            assert!(!app.session_ok(&other), "change {i}");
        }
        app.store.close();
    }
}
