//! A run's life, as a table of transitions. What is not in the table can not happen.

use serde::{Deserialize, Serialize};

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Waits for an agent.
    Queued,
    /// Leased: its agent hands it to the engine; no ticket redeemed yet.
    Starting,
    /// Its launcher holds a session.
    Running,
    /// Running, but without a sign of life for 90 s: no new reads until contact returns.
    Unresponsive,
    /// Ended with exit code 0.
    Completed,
    /// Ended otherwise, or could not be started.
    Failed,
    /// Ended by request.
    Canceled,
    /// Gone, on the engine's word or after a day of silence.
    Lost,
    /// Its ticket was used by two parties.
    Compromised,
}

/// What happens to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunEvent {
    /// An agent took it for a new attempt.
    Leased,
    /// The lease ran out or was given back before anything started.
    LeaseReturned,
    /// A launcher redeemed its ticket.
    Redeemed,
    /// A sign of life after silence.
    Contact,
    /// 90 s without a sign of life.
    Silent,
    /// The process ended with code 0.
    Succeeded,
    /// The process ended otherwise, or the engine refused it.
    Failed,
    /// Somebody who may asked for its end.
    Cancel,
    /// The engine says it is gone, or a day of silence passed; no attempts are left.
    Lost,
    /// As `Lost`, but another attempt is allowed.
    Retry,
    /// A ticket was presented with a second key.
    Theft,
}

/// The event does not fit the run's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a run that is {from:?} can not take {event:?}")]
pub struct TransitionError {
    /// The run's status.
    pub from: RunStatus,
    /// What was tried.
    pub event: RunEvent,
}

impl RunStatus {
    /// All statuses, in the order of a run's life.
    pub const ALL: [Self; 9] = [
        Self::Queued,
        Self::Starting,
        Self::Running,
        Self::Unresponsive,
        Self::Completed,
        Self::Failed,
        Self::Canceled,
        Self::Lost,
        Self::Compromised,
    ];

    /// As written on the wire and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Unresponsive => "unresponsive",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::Lost => "lost",
            Self::Compromised => "compromised",
        }
    }

    /// From its text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == text)
    }

    /// Whether nothing more can happen.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Canceled | Self::Lost | Self::Compromised)
    }

    /// Whether the run may be given a secret now. `Unresponsive` may not: contact comes first.
    pub const fn may_read(self) -> bool {
        matches!(self, Self::Running)
    }

    /// The status after an event. Theft is always heard: while the run lives, while it waits for its next attempt (a
    /// ticket of an earlier one was stolen then), and after its end too.
    pub fn advance(self, event: RunEvent) -> Result<Self, TransitionError> {
        use RunEvent as E;
        let next = match (self, event) {
            (Self::Queued, E::Leased) => Self::Starting,
            (Self::Starting, E::LeaseReturned | E::Retry) => Self::Queued,
            (Self::Running | Self::Unresponsive, E::Retry) => Self::Queued,
            (Self::Starting, E::Redeemed) | (Self::Unresponsive | Self::Running, E::Contact) => Self::Running,
            (Self::Running, E::Redeemed) => Self::Running,
            (Self::Running, E::Silent) => Self::Unresponsive,
            (Self::Running | Self::Unresponsive, E::Succeeded) => Self::Completed,
            (Self::Starting | Self::Running | Self::Unresponsive, E::Failed) => Self::Failed,
            (Self::Starting | Self::Running | Self::Unresponsive, E::Lost) => Self::Lost,
            (from, E::Cancel) if !from.is_terminal() => Self::Canceled,
            (_, E::Theft) => Self::Compromised,
            (from, event) => return Err(TransitionError { from, event }),
        };
        Ok(next)
    }
}

impl std::fmt::Display for RunStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who is to blame for an end that nobody wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Blame {
    /// The user's code: exit code, signal, a script that does not exist.
    Script,
    /// The engine: preempted, out of memory, node gone.
    Engine,
    /// Kluis: the launcher or the agent failed.
    Kluis,
    /// Nobody: it was asked for.
    User,
}

/// How the user's process ended: a code or a signal, never both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ExitStatus {
    /// It exited, with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

impl ExitStatus {
    /// Whether this is success.
    pub const fn is_success(self) -> bool {
        matches!(self, Self::Code(0))
    }

    /// As a shell would say it: the code, or 128 + the signal.
    pub const fn shell_code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ended_run_stays_ended_but_theft_is_still_heard() {
        for status in RunStatus::ALL.into_iter().filter(|s| s.is_terminal()) {
            for event in [
                RunEvent::Leased,
                RunEvent::LeaseReturned,
                RunEvent::Redeemed,
                RunEvent::Contact,
                RunEvent::Silent,
                RunEvent::Succeeded,
                RunEvent::Failed,
                RunEvent::Cancel,
                RunEvent::Lost,
                RunEvent::Retry,
            ] {
                assert!(status.advance(event).is_err(), "{status} {event:?}");
            }
            assert_eq!(status.advance(RunEvent::Theft), Ok(RunStatus::Compromised));
            assert!(!status.may_read());
        }
    }

    #[test]
    fn the_ordinary_life() {
        let mut status = RunStatus::Queued;
        for (event, next) in [
            (RunEvent::Leased, RunStatus::Starting),
            (RunEvent::Redeemed, RunStatus::Running),
            (RunEvent::Silent, RunStatus::Unresponsive),
            (RunEvent::Contact, RunStatus::Running),
            (RunEvent::Succeeded, RunStatus::Completed),
        ] {
            status = status.advance(event).unwrap();
            assert_eq!(status, next);
        }
    }

    #[test]
    fn theft_compromises_a_run_wherever_it_stands() {
        for status in RunStatus::ALL {
            assert_eq!(status.advance(RunEvent::Theft), Ok(RunStatus::Compromised), "{status}");
        }
    }

    #[test]
    fn nothing_starts_from_the_queue_without_a_lease() {
        for event in [RunEvent::Redeemed, RunEvent::Contact, RunEvent::Succeeded, RunEvent::Failed, RunEvent::Lost] {
            assert!(RunStatus::Queued.advance(event).is_err(), "{event:?}");
        }
    }

    #[test]
    fn only_a_running_run_reads() {
        let readers: Vec<_> = RunStatus::ALL.into_iter().filter(|s| s.may_read()).collect();
        assert_eq!(readers, [RunStatus::Running]);
    }
}
