//! In whose name a unit of work is done. The check runs inside the unit of work, on the rows as they are then, so a
//! committed revocation precedes every later command, whatever the caller has cached.

use kluis_core::access::Epoch;
use kluis_core::audit::AuditEntry;
use kluis_core::id::{PrincipalId, SessionId, TokenId, WorkspaceId};
use kluis_core::name::RunId;
use kluis_core::sealed::Mac;

/// In whose name. Everything but [`Authority::Server`] is compared with the rows before anything else happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authority {
    /// The server's own work: first start, sweeps, logins by code, records of refusals.
    Server,
    /// A signed-in principal. It must exist, be enabled and still have this epoch, and the token must not be revoked;
    /// otherwise [`Error::Stale`](crate::Error::Stale). Whether the token has expired is the caller's business.
    Principal {
        /// Who.
        principal: PrincipalId,
        /// With which token.
        token: Option<TokenId>,
        /// The epoch under which the caller was authorized.
        epoch: Epoch,
    },
    /// A run that reads with its submitter's rights. As [`Authority::Principal`] for the submitter; besides, the
    /// session must be alive, the attempt current and the run's status one that may read; otherwise
    /// [`Error::RunEnded`](crate::Error::RunEnded) or [`Error::Unresponsive`](crate::Error::Unresponsive).
    Run {
        /// The run's submitter.
        submitter: PrincipalId,
        /// The epoch under which the submitter was authorized.
        epoch: Epoch,
        /// The session.
        run: RunAuthority,
    },
    /// A launcher that reports on its run: heartbeats, logs, metrics, outputs, the end. Only the session counts; a
    /// canceled run's session may still report until it has ended or was drained.
    Session(RunAuthority),
}

/// A launcher's session and what it is bound to. All four must agree with the session's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunAuthority {
    /// The run's workspace.
    pub workspace: WorkspaceId,
    /// The run.
    pub run: RunId,
    /// The attempt, from 1.
    pub attempt: u32,
    /// The session.
    pub session: SessionId,
}

impl Authority {
    /// The server's own work.
    pub const fn server() -> Self {
        Self::Server
    }

    /// A signed-in principal.
    pub const fn principal(principal: PrincipalId, token: TokenId, epoch: Epoch) -> Self {
        Self::Principal { principal, token: Some(token), epoch }
    }
}

/// A command: in whose name, what it leaves in the audit log, what it changes.
///
/// The entries are appended in the same unit of work, in this order, or not at all.
#[derive(Clone, Debug)]
pub struct Write<T> {
    /// In whose name.
    pub authority: Authority,
    /// The records, MACed.
    pub audit: Vec<AuditEntry>,
    /// The change.
    pub change: T,
}

impl<T> Write<T> {
    /// A command with one audit record.
    pub fn new(authority: Authority, audit: AuditEntry, change: T) -> Self {
        Self { authority, audit: vec![audit], change }
    }
}

/// A row and the MAC it was stored with. The store compares nothing: whoever reads it verifies `mac` over the row's
/// `canonical()` before trusting it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authenticated<T> {
    /// The row.
    pub row: T,
    /// The MAC over its canonical bytes.
    pub mac: Mac,
}
