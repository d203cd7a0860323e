//! What can go wrong, once: one enum with a status, a stable code and a text for people. A face renders it; see
//! [`crate::api::problem`] for the native one. docs/api-design.md lists codes and statuses; change both together.
//!
//! Clients repeat what comes back as 429 or 5xx, so nothing that is decided for good uses those. A text never repeats what
//! the request said: it names what the store holds, a position or a number.

use std::borrow::Cow;
use std::time::Duration;

use http::StatusCode;
use kluis_core::api::code;
use kluis_core::clock::Timestamp;
use kluis_core::id::InvalidId;
use kluis_core::name::{InvalidName, SecretName};
use kluis_core::plaintext::InvalidValue;
use kluis_core::run::{RunStatus, TransitionError};
use kluis_core::secret::{InvalidAttributes, SecretTransitionError};
use kluis_vault::token::InvalidToken;

use crate::blobs::BlobError;

/// The result of everything between a face and the store.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a request was not done. Variants for what a caller does differently.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The request is not understood. Says where and why, in our own words.
    #[error("{0}")]
    BadRequest(Cow<'static, str>),
    /// A name that can not be one.
    #[error("{0}")]
    InvalidName(Cow<'static, str>),
    /// A value, or what is said of it, over its limits.
    #[error("{0}")]
    InvalidValue(Cow<'static, str>),
    /// The body is larger than the route takes.
    #[error("the request's body is larger than {limit} bytes")]
    TooLarge {
        /// How much is taken.
        limit: u64,
    },
    /// Nobody we know.
    #[error("{0}")]
    Unauthenticated(Unauthenticated),
    /// Known, and not allowed.
    #[error("not allowed: {0}")]
    Forbidden(&'static str),
    /// The version is disabled, or outside its validity where the workspace enforces it.
    #[error("this version of the secret is {0}")]
    SecretDisabled(&'static str),
    /// A run asked for a secret that it did not declare.
    #[error("entry {entry}: the run did not declare this secret; add it to the run's `secrets` and submit it again")]
    SecretUndeclared {
        /// Which of the names asked for, from 0.
        entry: usize,
    },
    /// There is no such thing, or the caller may not know of it.
    #[error("no such {0}, or it is not yours to see")]
    NotFound(&'static str),
    /// There is no such secret in a vault that the caller may list.
    #[error("no such secret in this workspace")]
    SecretNotFound,
    /// What is deleted was asked for, and this is not.
    #[error("the secret is not deleted")]
    NotDeleted,
    /// A restore of a secret whose name is taken.
    #[error("a secret `{0}` is there, or deleted and not purged; nothing was restored")]
    SecretExists(SecretName),
    /// A backup that this workspace of this installation did not make, or that was changed since.
    #[error("this is no backup that was made here in this workspace, or it is damaged")]
    BackupRefused,
    /// A submission declares secrets that its submitter can not read now. All of them, so that one look is enough.
    #[error("the run declares secrets that can not be read: {}; set or enable them, or declare others", unreadable_text(.0))]
    SecretsUnreadable(Vec<(SecretName, Self)>),
    /// The path exists for other methods.
    #[error("this address does not know the method")]
    MethodNotAllowed,
    /// The state does not allow it.
    #[error("{0}")]
    Conflict(Cow<'static, str>),
    /// The secret is deleted and its name taken until it is purged.
    #[error("{}the secret is deleted; recover it, purge it, or wait until {purge_at}", entry_text(*entry))]
    SecretDeleted {
        /// When it will be purged.
        purge_at: Timestamp,
        /// Which of a batch, from 0.
        entry: Option<usize>,
    },
    /// It changed since the caller looked.
    #[error("{}it was changed in the meantime: its revision is {current} now; look again", entry_text(*entry))]
    RevisionConflict {
        /// The revision now; 0: it does not exist.
        current: u64,
        /// Which of a batch, from 0.
        entry: Option<usize>,
    },
    /// The ticket's agent has not said that the engine runs the job.
    #[error("the ticket is not confirmed by its agent yet; try again shortly")]
    TicketNotConfirmed,
    /// The ticket is unknown, void or too old.
    #[error("the ticket is refused: {0}")]
    TicketRefused(&'static str),
    /// The ticket was presented with a second key.
    #[error("the ticket was used with two keys: the run is compromised and its session is dead")]
    Compromised,
    /// The run has ended.
    #[error("the run has ended: {0}")]
    RunEnded(RunStatus),
    /// The run was silent; contact comes first.
    #[error("the run is unresponsive; its launcher must report first")]
    RunUnresponsive,
    /// The code in a run has made as much as a run may. Asking again changes nothing.
    #[error("the run has made as much as a run may: {0}; this is not stored")]
    RunLimit(&'static str),
    /// A workspace's share of the disk is used up. Only people can change that.
    #[error("the workspace's snapshots, logs and outputs have reached its quota of {0} bytes; nothing more is stored")]
    Quota(u64),
    /// Too much from here.
    #[error("too many attempts; wait {} s", after.as_secs().max(1))]
    Throttled {
        /// Try again then.
        after: Duration,
    },
    /// No space. Reads of what is there go on.
    #[error("the server has no space left for this: {0}")]
    StorageFull(Cow<'static, str>),
    /// A stored row is not what was written. It is left alone, everything else works.
    #[error("a stored row is damaged and not used ({table} {row}); everything else works; restore it from a backup")]
    Inconsistent {
        /// Which table.
        table: &'static str,
        /// Which row: an id or a number, never content.
        row: String,
    },
    /// A mistake of ours. The text goes to the log, never to the client.
    #[error("an error of the server's own; its log has it under the request's id")]
    Internal(Cow<'static, str>),
    /// Not now.
    #[error("not available at the moment: {0}")]
    Unavailable(Cow<'static, str>),
    /// The other side is too old or too new.
    #[error("{0}")]
    VersionSkew(Cow<'static, str>),
}

/// Why a caller is nobody we know. Whoever holds a token may hear what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unauthenticated {
    /// No credential at all.
    #[error("sign in first: this needs an `authorization: Bearer` header")]
    Missing,
    /// Not a token's form.
    #[error("{0}")]
    Form(InvalidToken),
    /// A token of a kind that does not sign in here, such as an invitation.
    #[error("this kind of token does not sign in here")]
    Kind,
    /// Well-formed and unknown.
    #[error("this token is not known here: it was revoked, or another installation made it; sign in again")]
    Unknown,
    /// Too old.
    #[error("this token has expired; sign in again")]
    Expired,
    /// A face's token that is good for another resource of this installation.
    #[error("this token was issued for another resource of this server")]
    Audience,
    /// The principal is disabled.
    #[error("this principal is disabled; ask an owner of the installation")]
    Disabled,
    /// A client id or secret, or a code, that does not fit. One text for all reasons.
    #[error("the credentials are not accepted")]
    Credentials,
    /// A session's request without the three headers, or with unreadable ones.
    #[error("this needs the headers of a signed request")]
    Unsigned,
    /// The session is unknown or dead.
    #[error("the session is not alive")]
    Session,
    /// The signature does not fit.
    #[error("the request's signature does not fit")]
    Signature,
    /// The request's time is too far off.
    #[error("the request's time is more than five minutes off the server's ({now})")]
    Skew {
        /// The server's time.
        now: Timestamp,
    },
}

fn unreadable_text(names: &[(SecretName, Error)]) -> String {
    let why = |error: &Error| match error {
        Error::SecretDisabled(how) => *how,
        Error::SecretDeleted { .. } => "deleted",
        Error::Inconsistent { .. } => "damaged",
        _ => "not there",
    };
    let names: Vec<_> = names.iter().map(|(name, error)| format!("`{name}` is {}", why(error))).collect();
    names.join(", ")
}

fn entry_text(entry: Option<usize>) -> String {
    entry.map(|n| format!("entry {n}: ")).unwrap_or_default()
}

impl Error {
    /// An error of our own, with what the log should say.
    pub fn internal(what: impl Into<Cow<'static, str>>) -> Self {
        Self::Internal(what.into())
    }

    /// A request that is not understood.
    pub fn bad_request(why: impl Into<Cow<'static, str>>) -> Self {
        Self::BadRequest(why.into())
    }

    /// A state that does not allow it.
    pub fn conflict(why: impl Into<Cow<'static, str>>) -> Self {
        Self::Conflict(why.into())
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_)
            | Self::InvalidName(_)
            | Self::InvalidValue(_)
            | Self::BackupRefused
            | Self::VersionSkew(_) => StatusCode::BAD_REQUEST,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unauthenticated(_) => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_)
            | Self::SecretDisabled(_)
            | Self::SecretUndeclared { .. }
            | Self::TicketRefused(_)
            | Self::Compromised => StatusCode::FORBIDDEN,
            Self::SecretsUnreadable(names) if names.iter().all(|(_, e)| matches!(e, Self::SecretDisabled(_))) => {
                StatusCode::FORBIDDEN
            }
            Self::NotFound(_) | Self::SecretNotFound | Self::SecretsUnreadable(_) => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict(_)
            | Self::NotDeleted
            | Self::SecretExists(_)
            | Self::SecretDeleted { .. }
            | Self::RevisionConflict { .. }
            | Self::TicketNotConfirmed
            | Self::RunEnded(_)
            | Self::RunUnresponsive
            | Self::RunLimit(_)
            | Self::Quota(_)
            | Self::Inconsistent { .. } => StatusCode::CONFLICT,
            Self::Throttled { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::StorageFull(_) => StatusCode::INSUFFICIENT_STORAGE,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The stable code, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadRequest(_) | Self::BackupRefused => code::BAD_REQUEST,
            Self::InvalidName(_) => code::INVALID_NAME,
            Self::InvalidValue(_) => code::INVALID_VALUE,
            Self::TooLarge { .. } => code::TOO_LARGE,
            Self::Unauthenticated(Unauthenticated::Skew { .. }) => code::CLOCK_SKEW,
            Self::Unauthenticated(_) => code::UNAUTHENTICATED,
            Self::Forbidden(_) => code::FORBIDDEN,
            Self::SecretDisabled(_) => code::SECRET_DISABLED,
            Self::SecretUndeclared { .. } => code::SECRET_UNDECLARED,
            Self::NotFound(_) => code::NOT_FOUND,
            Self::SecretsUnreadable(names) if names.iter().all(|(_, e)| matches!(e, Self::SecretDisabled(_))) => {
                code::SECRET_DISABLED
            }
            Self::SecretNotFound | Self::SecretsUnreadable(_) => code::SECRET_NOT_FOUND,
            Self::MethodNotAllowed => code::METHOD_NOT_ALLOWED,
            Self::Conflict(_) | Self::NotDeleted | Self::SecretExists(_) => code::CONFLICT,
            Self::SecretDeleted { .. } => code::SECRET_DELETED,
            Self::RevisionConflict { .. } => code::REVISION_CONFLICT,
            Self::TicketNotConfirmed => code::TICKET_NOT_CONFIRMED,
            Self::TicketRefused(_) => code::TICKET_REFUSED,
            Self::Compromised => code::COMPROMISED,
            Self::RunEnded(RunStatus::Canceled) => code::RUN_CANCELED,
            Self::RunEnded(_) => code::RUN_ENDED,
            Self::RunUnresponsive => code::RUN_UNRESPONSIVE,
            Self::RunLimit(_) => code::RUN_LIMIT,
            Self::Quota(_) => code::QUOTA_EXCEEDED,
            Self::Throttled { .. } => code::THROTTLED,
            Self::StorageFull(_) => code::STORAGE_FULL,
            Self::Inconsistent { .. } => code::INCONSISTENT,
            Self::Internal(_) => code::INTERNAL,
            Self::Unavailable(_) => code::UNAVAILABLE,
            Self::VersionSkew(_) => code::VERSION_SKEW,
        }
    }

    /// When to try again, for the two that pass by themselves.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Throttled { after } => Some(*after),
            Self::Unavailable(_) => Some(Duration::from_secs(1)),
            _ => None,
        }
    }
}

impl From<Unauthenticated> for Error {
    fn from(e: Unauthenticated) -> Self {
        Self::Unauthenticated(e)
    }
}

impl From<InvalidName> for Error {
    fn from(e: InvalidName) -> Self {
        Self::InvalidName(e.to_string().into())
    }
}

impl From<InvalidId> for Error {
    fn from(e: InvalidId) -> Self {
        Self::bad_request(e.to_string())
    }
}

impl From<InvalidValue> for Error {
    fn from(e: InvalidValue) -> Self {
        Self::InvalidValue(e.to_string().into())
    }
}

impl From<InvalidAttributes> for Error {
    fn from(e: InvalidAttributes) -> Self {
        Self::InvalidValue(e.to_string().into())
    }
}

impl From<SecretTransitionError> for Error {
    fn from(e: SecretTransitionError) -> Self {
        match e {
            SecretTransitionError::Deleted { purge_at } => Self::SecretDeleted { purge_at, entry: None },
            SecretTransitionError::NotDeleted => Self::NotDeleted,
        }
    }
}

impl From<TransitionError> for Error {
    fn from(e: TransitionError) -> Self {
        if e.from.is_terminal() { Self::RunEnded(e.from) } else { Self::conflict(e.to_string()) }
    }
}

/// The vault refuses what is damaged, or misses a key; neither is the caller's doing.
impl From<kluis_vault::Error> for Error {
    fn from(e: kluis_vault::Error) -> Self {
        use kluis_vault::Error as V;
        match e {
            V::Damaged { what } | V::UnknownFormat { what, .. } => {
                Self::Inconsistent { table: what, row: "sealed bytes".into() }
            }
            V::KeyWorn { .. } => Self::conflict("the workspace's key is worn out; rotate it"),
            // A workspace key whose row is damaged was left out at the start.
            V::UnknownKey { .. } | V::NoCurrentKey { .. } => {
                Self::Inconsistent { table: "workspace_key", row: "the workspace's".into() }
            }
            V::WrongRootKey { .. } | V::Segment { .. } => Self::internal(e.to_string()),
        }
    }
}

impl From<BlobError> for Error {
    fn from(e: BlobError) -> Self {
        match e {
            BlobError::DiskFull(_) => Self::StorageFull(e.to_string().into()),
            BlobError::Quota(bytes) => Self::Quota(bytes),
            BlobError::NotFound => Self::NotFound("file"),
            BlobError::Damaged(_) => Self::Inconsistent { table: "blob", row: e.to_string() },
            BlobError::Seal(cause) => cause.into(),
            BlobError::Objects(_) | BlobError::Folder(_) => Self::internal(e.to_string()),
        }
    }
}

/// What a command of the store could not do. A service maps what it can say better (which thing was not found, what a
/// moved row means) before this does.
impl From<kluis_store::Error> for Error {
    fn from(e: kluis_store::Error) -> Self {
        use kluis_store::Error as S;
        match e {
            S::Stale { .. } => {
                Self::conflict("your rights changed while this was done; nothing was changed, try again")
            }
            S::Revision { current } => Self::RevisionConflict { current, entry: None },
            S::Moved(what) => Self::conflict(format!("{what} changed while this was done; try again")),
            S::Conflict(what) => Self::conflict(what),
            S::Limit(what) => Self::RunLimit(what),
            // The oldest of them end within a quarter of an hour.
            S::Crowded(_) => Self::Throttled { after: Duration::from_mins(1) },
            S::NotFound => Self::NotFound("thing"),
            S::Disabled => Self::SecretDisabled("disabled"),
            S::RunEnded { status } => Self::RunEnded(status),
            S::Unresponsive => Self::RunUnresponsive,
            S::Run(e) => e.into(),
            S::Secret(e) => e.into(),
            S::Entry { index, error } => Self::from(*error).in_entry(index),
            S::Inconsistent { table, row } => Self::Inconsistent { table, row },
            S::Full => Self::StorageFull("the disk is full".into()),
            S::Unavailable(why) => Self::Unavailable(why.into()),
            S::Pinned { .. } => Self::internal("a pin was not heeded"),
            S::Unknown => Self::Unavailable("the server stopped before it could tell whether this was done".into()),
        }
    }
}

impl Error {
    /// The same refusal, of one entry of a batch.
    #[must_use]
    pub fn in_entry(self, index: usize) -> Self {
        match self {
            Self::SecretDeleted { purge_at, .. } => Self::SecretDeleted { purge_at, entry: Some(index) },
            Self::RevisionConflict { current, .. } => Self::RevisionConflict { current, entry: Some(index) },
            Self::InvalidValue(text) => Self::InvalidValue(format!("entry {index}: {text}").into()),
            Self::Conflict(text) => Self::Conflict(format!("entry {index}: {text}").into()),
            other => other,
        }
    }

    /// A refusal of the only entry needs no number.
    #[must_use]
    pub fn without_entry(self) -> Self {
        match self {
            Self::SecretDeleted { purge_at, .. } => Self::SecretDeleted { purge_at, entry: None },
            Self::RevisionConflict { current, .. } => Self::RevisionConflict { current, entry: None },
            other => other,
        }
    }

    /// Names what was not found.
    #[must_use]
    pub fn missing(self, what: &'static str) -> Self {
        match self {
            Self::NotFound(_) => Self::NotFound(what),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use kluis_core::id::WorkspaceId;

    use super::*;

    /// Clients repeat 429 and most of 5xx by themselves.
    #[test]
    fn what_is_decided_for_good_is_never_answered_as_try_again() {
        let decided = [
            Error::bad_request("x"),
            Error::Unauthenticated(Unauthenticated::Expired),
            Error::Forbidden("x"),
            Error::SecretDisabled("disabled"),
            Error::SecretUndeclared { entry: 0 },
            Error::NotFound("workspace"),
            Error::SecretNotFound,
            Error::MethodNotAllowed,
            Error::conflict("x"),
            Error::NotDeleted,
            Error::SecretExists(SecretName::parse("a").unwrap()),
            Error::BackupRefused,
            Error::TicketNotConfirmed,
            Error::TicketRefused("x"),
            Error::Compromised,
            Error::RunEnded(RunStatus::Failed),
            Error::RunUnresponsive,
            Error::RunLimit("metrics"),
            Error::Quota(1),
            kluis_vault::Error::NoCurrentKey { workspace: WorkspaceId::from_bytes([1; 16]) }.into(),
            Error::Inconsistent { table: "secret", row: "1".into() },
            Error::TooLarge { limit: 1 },
            Error::VersionSkew("x".into()),
        ];
        for error in decided {
            let status = error.status();
            assert!(status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS, "{error}: {status}");
            assert_eq!(error.retry_after(), None, "{error}");
        }
    }

    #[test]
    fn a_refused_batch_says_which_entry() {
        let deleted = SecretTransitionError::Deleted { purge_at: Timestamp::from_seconds(0) };
        let error = kluis_store::Error::Entry { index: 3, error: Box::new(deleted.into()) };
        let error = Error::from(error);
        assert_eq!(error.code(), code::SECRET_DELETED);
        assert!(error.to_string().starts_with("entry 3: the secret is deleted"), "{error}");
    }

    #[test]
    fn a_clients_text_holds_nothing_of_the_log() {
        assert!(!Error::internal("row 17").to_string().contains("17"));
    }
}
