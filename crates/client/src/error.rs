//! What can go wrong between a client and its server, apart by what a caller would do differently. No variant holds a
//! request's content, and an answer's text only where the server made it for people.

use kluis_core::api::Problem;

use crate::trust::Origin;

/// A call that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server answered with an error.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// No answer: no connection, a connection that broke, or none in time.
    #[error("{action}: {origin} could not be reached ({reason}); check the address and that the server runs")]
    Unreachable {
        /// What was tried, such as `list runs`.
        action: &'static str,
        /// Where.
        origin: Origin,
        /// Why, as the network says it.
        reason: String,
    },
    /// The other end is not the server that was meant.
    #[error("{action}: {origin} is not trusted ({reason}); nothing was sent")]
    Untrusted {
        /// What was tried.
        action: &'static str,
        /// Where.
        origin: Origin,
        /// What is wrong with its certificate, and what to do.
        reason: String,
    },
    /// An answer that is not one of ours.
    #[error(
        "{action}: {origin} gave an answer that this version does not understand ({reason}); is it a Kluis server?"
    )]
    Answer {
        /// What was tried.
        action: &'static str,
        /// Where.
        origin: Origin,
        /// What was wrong, by position, never by content.
        reason: String,
    },
    /// What is configured leads to no server or to no login.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    /// This machine could not do its part.
    #[error("{action}: {source}")]
    Io {
        /// What was tried, on which file.
        action: String,
        /// Why not.
        source: std::io::Error,
    },
}

/// The server's refusal: Problem JSON (RFC 9457), parsed. Decide by `code` (see `kluis_core::api::code`).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct ApiError {
    /// The HTTP status.
    pub status: u16,
    /// A stable text made for programs.
    pub code: String,
    /// What happened and what to do, for people.
    pub detail: String,
    /// Finds the request in the server's log.
    pub request_id: Option<String>,
    /// When to try again, if the server said so.
    pub retry_after: Option<std::time::Duration>,
    /// The server's time in seconds since the epoch, from its `Date` header.
    pub server_seconds: Option<i64>,
}

impl ApiError {
    pub(crate) fn from_problem(problem: Problem) -> Self {
        let Problem { status, code, title, detail, request_id } = problem;
        Self { status, code, detail: detail.unwrap_or(title), request_id, retry_after: None, server_seconds: None }
    }
}

impl Error {
    /// The refusal's code, when it is a refusal.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Api(error) => Some(&error.code),
            _ => None,
        }
    }

    /// The refusal's HTTP status, when it is a refusal.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Api(error) => Some(error.status),
            _ => None,
        }
    }

    /// Whether the same call may succeed later without any change: no connection, or a server that is busy or starting.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Api(error) => matches!(error.status, 429 | 500 | 502 | 503 | 504),
            _ => false,
        }
    }
}
