//! Attempts: leases, tickets, sessions and their end. What may happen once happens by a conditional update, and what
//! needs an audit record is first looked up, then written with what was seen; when it has changed, [`Error::Moved`].

use kluis_core::access::Epoch;
use kluis_core::api::runs::Leak;
use kluis_core::audit::AuditEntry;
use kluis_core::clock::Timestamp;
use kluis_core::id::{PrincipalId, SessionId, TicketId, WorkspaceId};
use kluis_core::name::{ComputeName, PrincipalName, RunId, SecretName, WorkspaceName};
use kluis_core::run::{Blame, ExitStatus, RunEvent, RunStatus};
use kluis_core::sealed::LookupHash;

use crate::runs::RunRow;
use crate::sqlite::{attempts as sqlite, runs_end, sessions, tickets};
use crate::{After, Error, Listed, Store, Write};

/// Which run to lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseFilter {
    /// Of this queue.
    pub compute: ComputeName,
    /// Only this run.
    pub only: Option<(WorkspaceId, RunId)>,
    /// Only runs of this submitter.
    pub submitter: Option<PrincipalId>,
    /// Only runs behind this one, by [`RunRow::seq`]: what the caller has looked at and passed over.
    pub after: u64,
}

/// A run with the name of its workspace.
#[derive(Clone, Debug, PartialEq)]
pub struct Leased {
    /// The run.
    pub run: RunRow,
    /// Its workspace's name.
    pub workspace_name: WorkspaceName,
}

/// A ticket without the ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TicketRow {
    /// Its id.
    pub id: TicketId,
    /// Under what it is looked up.
    pub hash: LookupHash,
}

/// An agent takes a queued run for its next attempt.
#[derive(Clone, Debug)]
pub struct LeaseTake {
    /// The run's workspace.
    pub workspace: WorkspaceId,
    /// The run.
    pub run: RunId,
    /// The attempt that begins: the run's plus 1.
    pub attempt: u32,
    /// Who takes it.
    pub agent: PrincipalId,
    /// One for each node, node 0 first.
    pub tickets: Vec<TicketRow>,
    /// Now.
    pub now: Timestamp,
    /// Confirm before this.
    pub expires: Timestamp,
}

/// The engine runs the attempt's job.
#[derive(Clone, Debug)]
pub struct AttemptConfirm {
    /// The run's workspace.
    pub workspace: WorkspaceId,
    /// The run.
    pub run: RunId,
    /// The attempt; it must be the current one and belong to this compute target.
    pub attempt: u32,
    /// The compute target that the caller serves.
    pub compute: ComputeName,
    /// The engine's handle.
    pub handle: String,
    /// For people.
    pub engine_job: String,
    /// Now.
    pub now: Timestamp,
}

/// How an attempt fares: on the engine's word, or because nobody heard of it.
#[derive(Clone, Debug)]
pub struct AttemptReport {
    /// The run's workspace.
    pub workspace: WorkspaceId,
    /// The run.
    pub run: RunId,
    /// The attempt; it must be the current one and belong to this compute target.
    pub attempt: u32,
    /// The compute target that the caller serves.
    pub compute: ComputeName,
    /// The run's status when this was decided; [`Error::Moved`] when it is another.
    pub seen: RunStatus,
    /// `LeaseReturned`, `Retry`, `Lost` or `Failed`; `None` only closes the attempt of a run that has ended.
    pub event: Option<RunEvent>,
    /// Who is to blame, when the run ends by it.
    pub blame: Option<Blame>,
    /// Why, in words.
    pub reason: String,
    /// Now.
    pub now: Timestamp,
}

/// One try of a run on an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptRow {
    /// The run's workspace.
    pub workspace: WorkspaceId,
    /// Its name.
    pub workspace_name: WorkspaceName,
    /// The run.
    pub run: RunId,
    /// The attempt, from 1.
    pub attempt: u32,
    /// The run's compute target.
    pub compute: ComputeName,
    /// Who leased it.
    pub agent: PrincipalId,
    /// When.
    pub leased: Timestamp,
    /// Until when it must be confirmed.
    pub expires: Timestamp,
    /// When it was confirmed.
    pub confirmed: Option<Timestamp>,
    /// The engine's handle.
    pub handle: Option<String>,
    /// When the attempt ended, on the agent's or the launcher's word.
    pub ended: Option<Timestamp>,
    /// Where the run stands.
    pub status: RunStatus,
    /// The run's current attempt.
    pub current: u32,
    /// How many attempts the run may have.
    pub max_attempts: u32,
    /// How many were lost and tried again.
    pub retries: u32,
    /// Whether the run's end was asked for.
    pub cancel_requested: bool,
    /// The run's last sign of life.
    pub last_contact: Option<Timestamp>,
}

/// A ticket and what is known of its attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TicketFound {
    /// Its id.
    pub id: TicketId,
    /// The run's workspace.
    pub workspace: WorkspaceId,
    /// The run.
    pub run: RunId,
    /// The attempt.
    pub attempt: u32,
    /// The node.
    pub node: u32,
    /// Where the run stands.
    pub status: RunStatus,
    /// Who submitted the run.
    pub submitted_by: PrincipalId,
    /// When the attempt was confirmed.
    pub confirmed: Option<Timestamp>,
    /// The session it was redeemed for, if it was.
    pub session: Option<SessionId>,
}

/// A launcher redeems its ticket.
#[derive(Clone, Debug)]
pub struct TicketRedeem {
    /// The ticket's lookup hash.
    pub hash: LookupHash,
    /// The run's workspace, as the launcher names it.
    pub workspace: WorkspaceId,
    /// The run, as the launcher names it.
    pub run: RunId,
    /// The attempt, as the launcher names it.
    pub attempt: u32,
    /// The launcher's Ed25519 public key.
    pub public_key: [u8; 32],
    /// The node's host name.
    pub host: String,
    /// The id of the session, should it be opened.
    pub session: SessionId,
    /// Now.
    pub now: Timestamp,
    /// How long after its confirmation the ticket works.
    pub window: std::time::Duration,
    /// The alarm, should it be theft. Recorded then, in place of the command's own records.
    pub theft: Vec<AuditEntry>,
}

/// What came of presenting a ticket. Everything here is committed; only `Opened` records the command's own entries.
#[derive(Clone, Debug, PartialEq)]
pub enum Redeemed {
    /// A new session.
    Opened(Box<SessionOpen>),
    /// The same ticket and key again: the session that exists. Nothing was recorded.
    Again(Box<SessionOpen>),
    /// The ticket was redeemed with another key before: the session is dead, the run compromised, the alarm recorded.
    Theft,
    /// Its agent has not confirmed the attempt.
    NotConfirmed,
    /// It was not redeemed in time after the confirmation.
    Expired,
    /// The run's submitter may not submit runs in the workspace any more.
    NotAllowed,
    /// There is no such ticket for this attempt, another lease voided it, or its session is over.
    Refused {
        /// Where the run stands, if there is such a ticket.
        status: Option<RunStatus>,
    },
}

/// An open session and its run.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionOpen {
    /// The session.
    pub session: SessionId,
    /// The node.
    pub node: u32,
    /// How many nodes the attempt has.
    pub nodes: u32,
    /// The run.
    pub run: RunRow,
    /// Its workspace's name.
    pub workspace_name: WorkspaceName,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRow {
    /// Its id.
    pub id: SessionId,
    /// The run's workspace.
    pub workspace: WorkspaceId,
    /// Its name.
    pub workspace_name: WorkspaceName,
    /// The run.
    pub run: RunId,
    /// The attempt.
    pub attempt: u32,
    /// The node.
    pub node: u32,
    /// How many nodes the attempt has.
    pub nodes: u32,
    /// The launcher's Ed25519 public key.
    pub public_key: [u8; 32],
    /// Whether it may still report.
    pub alive: bool,
    /// Where the run stands.
    pub status: RunStatus,
    /// Whether the run's end was asked for.
    pub cancel_requested: bool,
    /// Who submitted the run.
    pub submitted_by: PrincipalId,
    /// By name.
    pub submitter: PrincipalName,
    /// The submitter's epoch now.
    pub epoch: Epoch,
    /// The declared secrets, if any were declared.
    pub secrets: Option<Vec<SecretName>>,
    /// The sequence number of the last read record received.
    pub reads_received: u64,
    /// The run's notices.
    pub notices: u64,
    /// Why the run ended, if it did.
    pub reason: Option<String>,
}

/// A sign of life.
#[derive(Clone, Debug)]
pub struct SessionHeartbeat {
    /// The run's status when the records were made; [`Error::Moved`] when it is another.
    pub seen: RunStatus,
    /// The last read record known when the records were made, and the last one that comes with them. The command's
    /// records are those reads, with a `SecretReadGap` where numbers are missing. [`Error::Moved`] when another
    /// heartbeat came first.
    pub reads: (u64, u64),
    /// What the launcher is doing.
    pub phase: Option<String>,
    /// Now.
    pub now: Timestamp,
}

/// What a heartbeat is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeartbeatState {
    /// Where the run stands.
    pub status: RunStatus,
    /// Whether its end was asked for.
    pub cancel_requested: bool,
    /// Why it ended, if it did.
    pub reason: Option<String>,
    /// The last read record received.
    pub reads_received: u64,
    /// The run's notices.
    pub notices: u64,
}

/// The run's end, told by its launcher: the run's last status and the session's death in one unit of work.
#[derive(Clone, Debug)]
pub struct SessionEnd {
    /// The run's status when the records were made; [`Error::Moved`] when it is another.
    pub seen: RunStatus,
    /// As in [`SessionHeartbeat::reads`].
    pub reads: (u64, u64),
    /// `Succeeded`, `Failed` or `Lost`. A run that was canceled stays canceled, whatever this says.
    pub event: RunEvent,
    /// How the user's process ended.
    pub exit: Option<ExitStatus>,
    /// Who is to blame.
    pub blame: Option<Blame>,
    /// Why, in words.
    pub reason: Option<String>,
    /// What the masker caught.
    pub leaks: Vec<Leak>,
    /// Now.
    pub now: Timestamp,
}

/// A run that has fallen silent.
#[derive(Clone, Debug)]
pub struct RunSilent {
    /// Its workspace.
    pub workspace: WorkspaceId,
    /// The run, which must be running.
    pub run: RunId,
    /// Its last sign of life, as seen; [`Error::Moved`] when there was another since.
    pub last_contact: Timestamp,
}

/// The server listens, perhaps again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listening {
    /// Now.
    pub until: Timestamp,
    /// How far the clock has moved, in milliseconds, while nobody could be heard: an outage, a machine that slept, a clock
    /// that was set (negative when it was set back). Every silence starts later by this.
    pub deaf_millis: i64,
}

/// A session's end without its launcher's word: a canceled run whose launcher stays away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionsDrain {
    /// Sessions of runs that ended before this are over.
    pub ended_before: Timestamp,
}

impl Store {
    /// The oldest queued run that fits, of a submitter who may (still) submit runs in its workspace.
    pub async fn lease_next(&self, filter: LeaseFilter) -> Result<Option<Leased>, Error> {
        match self {
            Self::Sqlite(s) => {
                let found = s.list(move |c| sqlite::lease_next(c, &filter)).await?;
                Ok(found.items.into_iter().next())
            }
        }
    }

    /// Takes a queued run for an attempt. Tickets and sessions of earlier attempts are void. [`Error::Moved`] when
    /// another agent was faster, or the submitter may not submit runs any more.
    pub async fn lease_take(&self, write: Write<LeaseTake>) -> Result<Leased, Error> {
        match self {
            Self::Sqlite(s) => s.write(write, sqlite::lease_take).await,
        }
    }

    /// Notes that the engine runs the job; from now on the tickets work. The same handle again is harmless (and
    /// records nothing); another one is [`Error::Conflict`]. [`Error::NotFound`] when the attempt is not the current one
    /// of a run of this compute target, [`Error::Run`] when the run does not wait for it any more.
    pub async fn attempt_confirm(&self, write: Write<AttemptConfirm>) -> Result<(), Error> {
        match self {
            Self::Sqlite(s) => s.write(write, sqlite::attempt_confirm).await,
        }
    }

    /// Notes how an attempt fares. Errors as `attempt_confirm`; [`Error::Conflict`] on a retry beyond the run's limit.
    pub async fn attempt_report(&self, write: Write<AttemptReport>) -> Result<RunRow, Error> {
        match self {
            Self::Sqlite(s) => s.write(write, runs_end::attempt_report).await,
        }
    }

    /// One attempt.
    pub async fn attempt_get(
        &self,
        workspace: WorkspaceId,
        run: &RunId,
        attempt: u32,
    ) -> Result<Option<AttemptRow>, Error> {
        let key = run.key().to_owned();
        match self {
            Self::Sqlite(s) => s.read(move |c| sqlite::attempt_get(c, workspace, &key, attempt)).await,
        }
    }

    /// Attempts of a compute target that have not ended, oldest run first; canceled runs' too, until the agent says
    /// that they are gone. With `submitter`, only that principal's runs.
    pub async fn attempts_active(
        &self,
        compute: &ComputeName,
        submitter: Option<PrincipalId>,
        page: After<u64>,
    ) -> Result<Listed<AttemptRow, u64>, Error> {
        let key = compute.key().to_owned();
        match self {
            Self::Sqlite(s) => s.list(move |c| sqlite::attempts_active(c, &key, submitter, &page)).await,
        }
    }

    /// Current attempts of starting runs that were not confirmed in time, or that nobody redeemed though confirmed
    /// before `confirmed_before`.
    pub async fn attempts_overdue(
        &self,
        now: Timestamp,
        confirmed_before: Timestamp,
        limit: u32,
    ) -> Result<Vec<AttemptRow>, Error> {
        match self {
            Self::Sqlite(s) => {
                Ok(s.list(move |c| sqlite::attempts_overdue(c, now, confirmed_before, limit)).await?.items)
            }
        }
    }

    /// A ticket and its attempt.
    pub async fn ticket_find(&self, hash: LookupHash) -> Result<Option<TicketFound>, Error> {
        match self {
            Self::Sqlite(s) => s.read(move |c| tickets::ticket_find(c, hash)).await,
        }
    }

    /// Presents a ticket. Theft is an outcome, not an error: its consequences are committed.
    pub async fn ticket_redeem(&self, write: Write<TicketRedeem>) -> Result<Redeemed, Error> {
        match self {
            Self::Sqlite(s) => s.write(write, tickets::ticket_redeem).await,
        }
    }

    /// A session, alive or dead.
    pub async fn session_get(&self, id: SessionId) -> Result<Option<SessionRow>, Error> {
        match self {
            Self::Sqlite(s) => s.read(move |c| sessions::session_get(c, id)).await,
        }
    }

    /// Notes a sign of life and the reads that come with it. A silent run is running again; the session of a canceled
    /// run is told so.
    pub async fn session_heartbeat(&self, write: Write<SessionHeartbeat>) -> Result<HeartbeatState, Error> {
        match self {
            Self::Sqlite(s) => s.write(write, sessions::session_heartbeat).await,
        }
    }

    /// Ends the run and the session.
    pub async fn session_end(&self, write: Write<SessionEnd>) -> Result<RunRow, Error> {
        match self {
            Self::Sqlite(s) => s.write(write, runs_end::session_end).await,
        }
    }

    /// Runs in this status (running or unresponsive) that have been silent since before `before`, longest silence first,
    /// with their workspace's name. Time in which the server did not listen is no silence: see [`Store::listening_note`].
    pub async fn runs_silent(&self, status: RunStatus, before: Timestamp, limit: u32) -> Result<Vec<Leased>, Error> {
        match self {
            Self::Sqlite(s) => Ok(s.list(move |c| sessions::runs_silent(c, status, before, limit)).await?.items),
        }
    }

    /// Notes a run's silence: it is unresponsive. [`Error::Moved`] when it has spoken.
    pub async fn run_silent(&self, write: Write<RunSilent>) -> Result<RunRow, Error> {
        match self {
            Self::Sqlite(s) => s.write(write, sessions::run_silent).await,
        }
    }

    /// Until when the server is known to have listened; `None` before it first did.
    pub async fn listening_until(&self) -> Result<Option<Timestamp>, Error> {
        match self {
            Self::Sqlite(s) => s.read(sessions::listening_until).await,
        }
    }

    /// Notes that the server listens. What it could not hear until then is added to nobody's silence.
    pub async fn listening_note(&self, write: Write<Listening>) -> Result<(), Error> {
        match self {
            Self::Sqlite(s) => s.write(write, sessions::listening_note).await,
        }
    }

    /// Closes sessions that outlive their run; how many.
    pub async fn sessions_drain(&self, write: Write<SessionsDrain>) -> Result<u64, Error> {
        match self {
            Self::Sqlite(s) => s.write(write, sessions::drain).await,
        }
    }
}
