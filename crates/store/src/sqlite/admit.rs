//! The authority check: the first thing in every unit of work, on the rows as they are then.

use kluis_core::access::Epoch;
use kluis_core::id::{PrincipalId, SessionId, TokenId, WorkspaceId};
use kluis_core::name::RunId;
use kluis_core::run::RunStatus;
use rusqlite::Connection;

use super::sql::{self, Fields};
use crate::{Authority, Error, RunAuthority};

/// The session in whose name a unit of work is done.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) id: SessionId,
    pub(super) workspace: WorkspaceId,
    /// The run's row.
    pub(super) run: i64,
    pub(super) run_id: RunId,
    pub(super) attempt: u32,
    pub(super) node: u32,
    pub(super) status: RunStatus,
}

/// In whose name, once it was found to hold.
#[derive(Clone, Debug)]
pub(super) enum InName {
    /// The server's or a principal's.
    Own,
    /// A run's, reading with its submitter's rights.
    Reader(Session),
    /// A launcher's, reporting on its run and nothing else.
    Reporter(Session),
}

/// Compares the authority with the rows.
pub(super) fn admit(c: &Connection, authority: &Authority) -> Result<InName, Error> {
    match authority {
        Authority::Server => Ok(InName::Own),
        Authority::Principal { principal, token, epoch } => {
            require_principal(c, *principal, *epoch)?;
            if let Some(token) = token {
                require_token(c, *principal, *token, *epoch)?;
            }
            Ok(InName::Own)
        }
        Authority::Run { submitter, epoch, run } => {
            require_principal(c, *submitter, *epoch)?;
            let (session, submitted_by) = require_session(c, run)?;
            if submitted_by != *submitter {
                return Err(Error::NotFound);
            }
            match session.status {
                status if status.may_read() => Ok(InName::Reader(session)),
                RunStatus::Unresponsive => Err(Error::Unresponsive),
                status => Err(Error::RunEnded { status }),
            }
        }
        Authority::Session(run) => Ok(InName::Reporter(require_session(c, run)?.0)),
    }
}

fn require_principal(c: &Connection, principal: PrincipalId, epoch: Epoch) -> Result<(), Error> {
    let found = sql::one(c, "SELECT id, enabled, epoch FROM principal WHERE id = ?1", [principal.as_bytes()], |row| {
        let f = Fields::new(row, "principal");
        f.skip();
        Ok((f.flag()?, f.number()?))
    })?;
    match found {
        Some((true, current)) if current == epoch.0 => Ok(()),
        Some((_, current)) => Err(Error::Stale { current: Epoch(current) }),
        None => Err(Error::Stale { current: Epoch(0) }),
    }
}

/// Revoking a token moves the epoch, so this finds only what came to be without the store.
fn require_token(c: &Connection, principal: PrincipalId, token: TokenId, epoch: Epoch) -> Result<(), Error> {
    let found = sql::exists(
        c,
        "SELECT 1 FROM token WHERE id = ?1 AND principal = ?2",
        (token.as_bytes(), principal.as_bytes()),
    )?;
    if found { Ok(()) } else { Err(Error::Stale { current: epoch }) }
}

fn require_session(c: &Connection, run: &RunAuthority) -> Result<(Session, PrincipalId), Error> {
    let found = sql::one(
        c,
        "SELECT s.id, s.run, s.node, s.alive, r.attempt, r.status, r.submitted_by
         FROM session s JOIN run r ON r.seq = s.run
         WHERE s.id = ?1 AND s.attempt = ?2 AND r.workspace = ?3 AND r.id_key = ?4",
        (run.session.as_bytes(), run.attempt, run.workspace.as_bytes(), run.run.key()),
        |row| {
            let f = Fields::new(row, "session");
            f.skip();
            let (seq, node, alive, attempt) = (f.get()?, f.number()?, f.flag()?, f.number::<u32>()?);
            let status = f.word(RunStatus::parse)?;
            let submitted_by = f.id(PrincipalId::from_bytes)?;
            let session = Session {
                id: run.session,
                workspace: run.workspace,
                run: seq,
                run_id: run.run.clone(),
                attempt: run.attempt,
                node,
                status,
            };
            Ok((session, submitted_by, alive && attempt == run.attempt))
        },
    )?;
    match found {
        Some((session, submitted_by, true)) => Ok((session, submitted_by)),
        Some((session, _, false)) => Err(Error::RunEnded { status: session.status }),
        None => Err(Error::NotFound),
    }
}
