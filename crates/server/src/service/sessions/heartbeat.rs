//! Signs of life. Contact is noted and committed at once; then the answer waits until there is something to say: that the
//! process should end, that a secret was rotated, that a value must be forgotten.

use std::time::Duration;

use kluis_core::access::{Action, Resource};
use kluis_core::api::session::{Heartbeat, HeartbeatAnswer};
use kluis_core::audit::{AuditAction, AuditRecord};
use kluis_core::name::SecretName;
use kluis_core::run::RunStatus;
use kluis_store::attempts::{HeartbeatState, SessionHeartbeat, SessionRow};
use kluis_store::secrets::{Pin, PinState};
use kluis_store::{Error as StoreError, Hint, Write};
use tokio::time::Instant;

use super::{Sessions, TRIES, alive, record, refusal, text};
use crate::error::{Error, Result};
use crate::service::wait::Hints;
use crate::signed::SessionCaller;

/// The longest wait for a notice, in seconds.
const MAX_WAIT: u32 = 20;
/// How often a waiting heartbeat looks by itself.
const LOOK: Duration = Duration::from_secs(5);
/// The most read records of one heartbeat.
const MAX_READS: usize = 10_000;

impl Sessions<'_> {
    /// Notes contact and reads, then answers when there is something to say or the wait is over.
    pub async fn heartbeat(&self, session: &SessionCaller, heartbeat: Heartbeat) -> Result<HeartbeatAnswer> {
        alive(&session.row)?;
        text("phase", heartbeat.phase.as_deref())?;
        if heartbeat.reads.len() > MAX_READS {
            return Err(Error::bad_request(format!("`reads` has more than {MAX_READS} entries")));
        }
        // Before the first look: what is committed after it ends the wait.
        let mut hints = Hints::new(self.app);
        let mut state = self.note(session, &heartbeat).await?;
        let deadline = Instant::now() + Duration::from_secs(u64::from(heartbeat.wait_seconds.min(MAX_WAIT)));
        while state.notices <= heartbeat.notices_seen && stop(&state).is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || hints.next(left.min(LOOK), |hint| concerns(&session.row, hint)).await.is_err() {
                break;
            }
            let Some(row) = self.app.store.session_get(session.row.id).await? else { break };
            state = HeartbeatState {
                status: row.status,
                cancel_requested: row.cancel_requested,
                reason: row.reason,
                reads_received: row.reads_received,
                notices: row.notices,
            };
        }
        self.answer(session, state).await
    }

    /// Commits contact and reads.
    async fn note(&self, session: &SessionCaller, heartbeat: &Heartbeat) -> Result<HeartbeatState> {
        let mut row = session.row.clone();
        for _ in 0..TRIES {
            let now = self.app.now();
            let (mut records, last) = self.reads(session, row.reads_received, &heartbeat.reads).await?;
            if row.status == RunStatus::Unresponsive {
                let contact = record(session, now, AuditAction::RunContact);
                records.push(AuditRecord { name: Some(RunStatus::Running.as_str().to_owned()), ..contact });
            }
            let change = SessionHeartbeat {
                seen: row.status,
                reads: (row.reads_received, last),
                phase: heartbeat.phase.clone(),
                now,
            };
            let write = Write { authority: session.authority(), audit: self.app.entries(records), change };
            match self.app.store.session_heartbeat(write).await {
                Ok(state) => return Ok(state),
                // The run moved, or another heartbeat of this session came first.
                Err(StoreError::Moved(_)) => row = self.again(&row).await?,
                Err(e) => return Err(refusal(e)),
            }
        }
        Err(Error::conflict("the session keeps changing; send the heartbeat again"))
    }

    async fn answer(&self, session: &SessionCaller, state: HeartbeatState) -> Result<HeartbeatAnswer> {
        let row = &session.row;
        let pins = self.app.store.run_secrets(row.workspace, &row.run).await?;
        let pins: Vec<Pin> = pins.into_iter().filter(|pin| pin.attempt == row.attempt).collect();
        let readable = !pins.is_empty() && self.submitter_reads(row).await?;
        let names = |which: &dyn Fn(&Pin) -> bool| -> Vec<SecretName> {
            pins.iter().filter(|pin| which(pin)).map(|pin| pin.name.clone()).collect()
        };
        Ok(HeartbeatAnswer {
            status: state.status,
            stop: stop(&state),
            reads_received: state.reads_received,
            notices: state.notices,
            rotated: names(&|pin| readable && pin.now == PinState::Rotated),
            revoked: names(&|pin| !readable || pin.now == PinState::Revoked),
            now: self.app.now(),
        })
    }

    /// Whether the run's submitter may still read in the workspace.
    async fn submitter_reads(&self, row: &SessionRow) -> Result<bool> {
        match self.app.known(row.submitted_by).await {
            Ok(known) => {
                Ok(known.principal.enabled && known.may(Action::SecretRead, Resource::Workspace(row.workspace)))
            }
            Err(Error::NotFound(_) | Error::Inconsistent { .. }) => Ok(false),
            Err(e) => Err(e),
        }
    }
}

/// Why the process should end, if it should.
fn stop(state: &HeartbeatState) -> Option<String> {
    let over = state.cancel_requested || state.status.is_terminal();
    over.then(|| state.reason.clone().unwrap_or_else(|| format!("the run is {}", state.status)))
}

fn concerns(row: &SessionRow, hint: &Hint) -> bool {
    match hint {
        Hint::RunChanged { workspace, run } => *workspace == row.workspace && *run == row.run,
        Hint::SecretChanged { workspace, .. } => *workspace == row.workspace,
        Hint::PrincipalChanged { principal } => *principal == row.submitted_by,
        Hint::RunQueued { .. } | Hint::LogAppended { .. } => false,
    }
}
