//! Wire types: what crosses a socket as JSON. Faces parse and render these; they hold no rules.
//!
//! | module | spoken by |
//! |---|---|
//! | [`identity`] | login, tokens, principals, invitations |
//! | [`workspaces`] | workspaces, members, compute targets |
//! | [`secrets`] | secrets and versions |
//! | [`runs`] | experiments, runs, logs, metrics, outputs |
//! | [`agents`] | an agent and the server |
//! | [`session`] | a launcher and the server, signed with the session's key |
//! | [`broker`] | a process of a run and its launcher, over a UNIX socket |
//! | [`audit`] | the audit log |
//! | `keyvault` (feature `plaintext`) | Azure's Key Vault clients |
//! | [`azureml`] | `azureml-core`, a laptop's with the server and a run's with its launcher |
//!
//! Field names are `snake_case`; times are RFC 3339; ids are 32 hex digits. Requests refuse unknown fields, answers
//! may gain fields: clients ignore what they do not know.

use serde::{Deserialize, Serialize};

pub mod agents;
pub mod audit;
pub mod azureml;
#[cfg(feature = "plaintext")]
pub mod broker;
pub mod identity;
#[cfg(feature = "plaintext")]
pub mod keyvault;
pub mod runs;
pub mod secrets;
pub mod session;
pub mod workspaces;

/// Every native route starts here.
pub const PREFIX: &str = "/api/v1";
/// The largest JSON body the native API reads, in bytes: a batch of many large values.
pub const MAX_JSON_BODY: usize = 4 * 1024 * 1024;
/// The largest body of somebody who is not signed in yet: logins and redemptions.
pub const MAX_STRANGERS_BODY: usize = 16 * 1024;
/// The deepest nesting of arrays and objects in a JSON body.
pub const MAX_JSON_DEPTH: usize = 16;
/// The largest page, and the default one.
pub const MAX_PAGE: u32 = 200;

/// An error, as RFC 9457 Problem JSON (`application/problem+json`).
///
/// `code` is stable and made for programs; `detail` says what was tried, on what, and what to do next. The
/// request's own content is never repeated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// One of [`code`]'s texts.
    pub code: String,
    /// A short name of the kind of problem.
    pub title: String,
    /// What happened here, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The request's id, found in the server's log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// The stable codes of [`Problem`]. A client decides by these, never by a title.
#[expect(missing_docs, reason = "the texts say it; docs/api-design.md lists status and meaning")]
pub mod code {
    pub const BAD_REQUEST: &str = "bad_request";
    pub const INVALID_NAME: &str = "invalid_name";
    pub const INVALID_VALUE: &str = "invalid_value";
    pub const TOO_LARGE: &str = "too_large";
    pub const UNAUTHENTICATED: &str = "unauthenticated";
    pub const CLOCK_SKEW: &str = "clock_skew";
    pub const FORBIDDEN: &str = "forbidden";
    pub const SECRET_DISABLED: &str = "secret_disabled";
    pub const SECRET_UNDECLARED: &str = "secret_undeclared";
    pub const NOT_FOUND: &str = "not_found";
    pub const SECRET_NOT_FOUND: &str = "secret_not_found";
    pub const METHOD_NOT_ALLOWED: &str = "method_not_allowed";
    pub const CONFLICT: &str = "conflict";
    pub const SECRET_DELETED: &str = "secret_deleted";
    pub const REVISION_CONFLICT: &str = "revision_conflict";
    pub const TICKET_NOT_CONFIRMED: &str = "ticket_not_confirmed";
    pub const TICKET_REFUSED: &str = "ticket_refused";
    pub const COMPROMISED: &str = "compromised";
    pub const RUN_ENDED: &str = "run_ended";
    pub const RUN_CANCELED: &str = "run_canceled";
    pub const RUN_UNRESPONSIVE: &str = "run_unresponsive";
    pub const RUN_LIMIT: &str = "run_limit";
    pub const QUOTA_EXCEEDED: &str = "quota_exceeded";
    pub const THROTTLED: &str = "throttled";
    pub const STORAGE_FULL: &str = "storage_full";
    pub const INCONSISTENT: &str = "inconsistent";
    pub const INTERNAL: &str = "internal";
    pub const UNAVAILABLE: &str = "unavailable";
    pub const VERSION_SKEW: &str = "version_skew";
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Page<T> {
    /// The items, in the list's order.
    pub items: Vec<T>,
    /// Give this as `after` for the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// How a list is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "openapi", into_params(parameter_in = Query))]
#[serde(deny_unknown_fields)]
pub struct PageQuery {
    /// At most this many items, 1 to 200; 200 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// A previous page's `next`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// A JSON answer without content beyond its success.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Done {}

/// A field that says `null`, which is not the same as one that is absent.
#[expect(clippy::option_option, reason = "absent, null and a value are three things")]
pub(crate) fn or_null<'de, T: Deserialize<'de>, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

#[cfg(feature = "openapi")]
pub(crate) fn text_schema(pattern: &str) -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
    use utoipa::openapi::schema::{ObjectBuilder, Type};
    ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern)).into()
}

/// Bytes that travel in JSON as standard base64.
pub mod base64_bytes {
    use data_encoding::BASE64;

    /// Writes base64.
    pub fn serialize<S: serde::Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(bytes))
    }

    /// Reads base64.
    pub fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)?;
        BASE64
            .decode(text.as_bytes())
            .map_err(|e| serde::de::Error::custom(format_args!("not base64 at {}", e.position)))
    }
}
