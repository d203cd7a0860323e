//! The Azure faces: what clients made for Azure speak, over the same services as everything else. No rules and no SQL.
//!
//! | | |
//! |---|---|
//! | `authority` | where they get their tokens |
//! | `vault` | the secrets of Key Vault, on a host of its own for each workspace |

use http::header::HOST;
use http::request::Parts;
use http::uri::Authority;

use crate::error::{Error, Result};

pub(crate) mod authority;
pub(crate) mod vault;

/// The host, with the port if it is not the usual one, that the client asked for: links, issuers and audiences are built
/// from it, because only the client knows by which of our names, and through what, it came here.
pub(crate) fn host(parts: &Parts) -> Result<String> {
    let named = match parts.uri.authority() {
        Some(authority) => Some(authority.clone()),
        None => parts.headers.get(HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok()),
    };
    let host = named.filter(|a| !a.as_str().contains('@') && !a.host().is_empty());
    let host = host.ok_or_else(|| Error::bad_request("the request names no host"))?;
    Ok(host.as_str().to_ascii_lowercase())
}
