//! What an address may look like, and path and query parts as typed names. A path is taken as it is or refused, never
//! cleaned up; it is decoded once, by the router.

use axum::extract::FromRequestParts;
use axum::extract::path::ErrorKind;
use axum::extract::rejection::PathRejection;
use http::Uri;
use http::request::Parts;
use serde::de::DeserializeOwned;

use super::json::of_text;
use crate::error::{Error, Result};

/// The parts of a path, parsed.
#[derive(Debug)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(path)) => Ok(Self(path)),
            Err(PathRejection::FailedToDeserializePathParams(e)) => Err(match e.kind() {
                ErrorKind::DeserializeError { message, .. } | ErrorKind::Message(message) => {
                    of_text(message, "in the path")
                }
                _ => Error::bad_request("a part of the path is not what belongs there"),
            }),
            Err(_) => Err(Error::bad_request("the path is not understood")),
        }
    }
}

/// The query, parsed. Unknown keys are refused by the types.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        axum::extract::Query::try_from_uri(&parts.uri).map(|axum::extract::Query(query)| Self(query)).map_err(|e| {
            let text = std::error::Error::source(&e).map(ToString::to_string).unwrap_or_default();
            // The path of the field may be ours or not; the reason follows it.
            of_text(text.rsplit_once(": ").map_or(text.as_str(), |(_, reason)| reason), "in the query")
        })
    }
}

/// Refuses an address with empty, `.` or `..` parts, with an encoded separator, or with bytes that no name has.
pub fn check(uri: &Uri) -> Result<()> {
    let path = uri.path();
    let plain = path.starts_with('/') && path[1..].split('/').all(part_is_plain);
    if plain {
        Ok(())
    } else {
        Err(Error::bad_request("the address has a part that is empty, `.`, `..` or badly encoded"))
    }
}

fn part_is_plain(part: &str) -> bool {
    let mut decoded = Vec::with_capacity(part.len());
    let mut bytes = part.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
        match (digit(bytes.next()), digit(bytes.next())) {
            (Some(high), Some(low)) => decoded.push((high * 16 + low) as u8),
            _ => return false,
        }
    }
    let forbidden = |b: &u8| matches!(b, b'/' | b'\\') || b.is_ascii_control();
    !matches!(&decoded[..], b"" | b"." | b"..")
        && !decoded.iter().any(forbidden)
        && !part.contains('\\')
        && std::str::from_utf8(&decoded).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_as_they_are_or_refused() {
        for path in ["/api/v1/workspaces/w/secrets/a", "/a%20b/%C3%A9.txt", "/secrets:set", "/a..b/...", "/a/b%2Bc"] {
            assert!(check(&path.parse().unwrap()).is_ok(), "{path}");
        }
        for path in [
            "/",
            "//a",
            "/a//b",
            "/a/",
            "/a/./b",
            "/a/../b",
            "/a/..",
            "/%2e%2e/b",
            "/a/%2E",
            "/a%2fb",
            "/a%2Fb",
            "/a%5cb",
            "/a%00b",
            "/a%0ab",
            "/a%",
            "/a%2",
            "/a%zz",
            "/a%ff",
        ] {
            assert!(check(&path.parse().unwrap()).is_err(), "{path}");
        }
    }
}
