//! A failed call on its way to becoming one of the package's exceptions. `kluis.exceptions` decides the class by the
//! code, and is loaded only when something is raised: a script that reads its secret never pays for it.

use kluis_client::broker;
use kluis_core::api::code;
use kluis_core::name::InvalidName;
use kluis_core::plaintext::InvalidValue;
use pyo3::prelude::*;

/// Something for the caller to put right on this machine; not one of the server's codes.
pub(crate) const USER_ERROR: &str = "user_error";
/// The other end is not the server that was meant.
pub(crate) const UNTRUSTED: &str = "untrusted";
/// The other end is no server of ours.
const UNEXPECTED_ANSWER: &str = "unexpected_answer";

/// What an exception will say. Never a value.
#[derive(Debug)]
pub(crate) struct Failure {
    code: String,
    message: String,
    status: Option<u16>,
    request_id: Option<String>,
}

impl Failure {
    pub(crate) fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), status: None, request_id: None }
    }

    /// A failure of this machine.
    pub(crate) fn here(message: impl Into<String>) -> Self {
        Self::new(USER_ERROR, message)
    }
}

impl From<kluis_client::Error> for Failure {
    fn from(error: kluis_client::Error) -> Self {
        use kluis_client::Error as E;
        let message = error.to_string();
        match error {
            E::Api(api) => Self { code: api.code, message, status: Some(api.status), request_id: api.request_id },
            E::Unreachable { .. } => Self::new(code::UNAVAILABLE, message),
            E::Untrusted { .. } => Self::new(UNTRUSTED, message),
            E::Answer { .. } => Self::new(UNEXPECTED_ANSWER, message),
            E::Config(config) => config.into(),
            E::Io { .. } => Self::here(message),
        }
    }
}

impl From<broker::Error> for Failure {
    fn from(error: broker::Error) -> Self {
        let code = match &error {
            broker::Error::Refused(refused) => refused.code.as_str(),
            broker::Error::Gone(_) => code::UNAVAILABLE,
            broker::Error::Answer => UNEXPECTED_ANSWER,
        };
        Self::new(code, error.to_string())
    }
}

impl From<InvalidName> for Failure {
    fn from(error: InvalidName) -> Self {
        Self::new(code::INVALID_NAME, error.to_string())
    }
}

impl From<InvalidValue> for Failure {
    fn from(error: InvalidValue) -> Self {
        Self::new(code::INVALID_VALUE, error.to_string())
    }
}

impl From<Failure> for PyErr {
    fn from(failure: Failure) -> Self {
        let Failure { code, message, status, request_id } = failure;
        Python::attach(|py| {
            let made = py
                .import("kluis.exceptions")
                .and_then(|module| module.call_method1("_from_problem", (code, message, status, request_id)));
            match made {
                Ok(exception) => Self::from_value(exception),
                Err(error) => error,
            }
        })
    }
}
