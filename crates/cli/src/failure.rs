//! How a command fails: an exit code that scripts can rely on, a stable code for `--json`, and words for people.

use kluis_client::config::ConfigError;
use kluis_core::api::code;

/// Refused or failed.
pub(crate) const REFUSED: u8 = 1;
/// The arguments are wrong, or a question could not be asked because there is no terminal.
pub(crate) const USAGE: u8 = 2;
/// What was named does not exist.
pub(crate) const NOT_FOUND: u8 = 3;
/// Not signed in, or not allowed.
pub(crate) const NOT_ALLOWED: u8 = 4;
/// The server could not be reached, has no room or no time, or is not the one that was meant.
pub(crate) const UNREACHABLE: u8 = 5;
/// Something that exists stands in the way.
pub(crate) const CONFLICT: u8 = 6;
/// Ctrl-C left a run behind that goes on.
pub(crate) const DETACHED: u8 = 130;
/// The run was canceled.
pub(crate) const CANCELED: u8 = 120;
/// The run is lost.
pub(crate) const LOST: u8 = 121;
/// The engine or Kluis failed, not the script.
pub(crate) const NOT_THE_SCRIPT: u8 = 122;

/// A command that did not succeed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: u8,
    pub(crate) code: String,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(exit: u8, code: &str, message: impl Into<String>) -> Self {
        Self { exit, code: code.to_owned(), message: message.into() }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(USAGE, "usage", message)
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(REFUSED, "failed", message)
    }
}

pub(crate) type Outcome<T> = Result<T, Failure>;

impl From<kluis_client::Error> for Failure {
    fn from(error: kluis_client::Error) -> Self {
        use kluis_client::Error as E;
        let (exit, code) = match &error {
            E::Api(api) => {
                let exit = match api.status {
                    401 | 403 => NOT_ALLOWED,
                    404 => NOT_FOUND,
                    409 => CONFLICT,
                    429 | 503 | 507 => UNREACHABLE,
                    _ => REFUSED,
                };
                (exit, api.code.clone())
            }
            E::Unreachable { .. } => (UNREACHABLE, "unreachable".to_owned()),
            E::Untrusted { .. } => (UNREACHABLE, "untrusted".to_owned()),
            E::Answer { .. } => (UNREACHABLE, "answer".to_owned()),
            E::Config(_) => (config_exit(&error), "configuration".to_owned()),
            E::Io { .. } => (REFUSED, "io".to_owned()),
        };
        Self { exit, code, message: error.to_string() }
    }
}

fn config_exit(error: &kluis_client::Error) -> u8 {
    match error {
        kluis_client::Error::Config(
            ConfigError::UnknownServer(_) | ConfigError::OtherPin { .. } | ConfigError::NotSignedIn { .. },
        ) => NOT_ALLOWED,
        kluis_client::Error::Config(ConfigError::Invalid { .. } | ConfigError::NoProject(_)) => USAGE,
        _ => REFUSED,
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        kluis_client::Error::from(error).into()
    }
}

impl From<kluis_client::credentials::CredentialsError> for Failure {
    fn from(error: kluis_client::credentials::CredentialsError) -> Self {
        Self::new(NOT_ALLOWED, "credentials", error.to_string())
    }
}

impl From<kluis_client::broker::Error> for Failure {
    fn from(error: kluis_client::broker::Error) -> Self {
        let exit = match error.code() {
            Some(code::NOT_FOUND | code::SECRET_NOT_FOUND) => NOT_FOUND,
            Some(code::UNAVAILABLE | code::THROTTLED | code::RUN_UNRESPONSIVE | code::STORAGE_FULL) | None => {
                UNREACHABLE
            }
            Some(code::CONFLICT | code::SECRET_DELETED | code::REVISION_CONFLICT | code::INCONSISTENT) => CONFLICT,
            Some(
                code::UNAUTHENTICATED
                | code::FORBIDDEN
                | code::SECRET_DISABLED
                | code::SECRET_UNDECLARED
                | code::RUN_ENDED
                | code::COMPROMISED,
            ) => NOT_ALLOWED,
            Some(_) => REFUSED,
        };
        let code = error.code().unwrap_or("broker").to_owned();
        Self { exit, code, message: error.to_string() }
    }
}

impl From<kluis_client::snapshot::SnapshotError> for Failure {
    fn from(error: kluis_client::snapshot::SnapshotError) -> Self {
        Self::new(REFUSED, "snapshot", error.to_string())
    }
}

impl From<kluis_core::name::InvalidName> for Failure {
    fn from(error: kluis_core::name::InvalidName) -> Self {
        Self::new(USAGE, code::INVALID_NAME, error.to_string())
    }
}

impl From<kluis_core::plaintext::InvalidValue> for Failure {
    fn from(error: kluis_core::plaintext::InvalidValue) -> Self {
        Self::new(REFUSED, code::INVALID_VALUE, error.to_string())
    }
}

impl From<kluis_server::StartError> for Failure {
    fn from(error: kluis_server::StartError) -> Self {
        Self::new(REFUSED, "start", error.to_string())
    }
}

impl From<kluis_runner::AgentError> for Failure {
    fn from(error: kluis_runner::AgentError) -> Self {
        match error {
            kluis_runner::AgentError::Server(error) => error.into(),
            other => Self::new(REFUSED, "agent", other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusals_exit_code_says_what_would_help() {
        for (status, exit) in [(400, 1), (401, 4), (403, 4), (404, 3), (409, 6), (429, 5), (500, 1), (503, 5), (507, 5)]
        {
            let error = kluis_client::ApiError {
                status,
                code: "some_code".to_owned(),
                detail: "some detail".to_owned(),
                request_id: None,
                retry_after: None,
                server_seconds: None,
            };
            assert_eq!(Failure::from(kluis_client::Error::Api(error)).exit, exit, "{status}");
        }
    }

    #[test]
    fn a_launchers_refusal_is_not_always_a_question_of_rights() {
        for (code, exit) in [
            (code::SECRET_NOT_FOUND, NOT_FOUND),
            (code::SECRET_UNDECLARED, NOT_ALLOWED),
            (code::UNAVAILABLE, UNREACHABLE),
            (code::RUN_UNRESPONSIVE, UNREACHABLE),
            (code::SECRET_DELETED, CONFLICT),
            (code::BAD_REQUEST, REFUSED),
            ("new_in_a_later_version", REFUSED),
        ] {
            let refused = serde_json::json!({ "code": code, "detail": "some detail" });
            let refused = serde_json::from_value(refused).expect("a refusal");
            assert_eq!(Failure::from(kluis_client::broker::Error::Refused(refused)).exit, exit, "{code}");
        }
    }
}
