//! JSON bodies: read within bounds, looked over before they are parsed, and refused by position and reason, never with
//! what stood there. serde's own messages quote the input, so of them only the ones that cannot are passed on.

use std::borrow::Cow;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use http_body_util::BodyExt;
use kluis_core::api::{MAX_JSON_BODY, MAX_JSON_DEPTH, MAX_STRANGERS_BODY};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, SemaphorePermit};
use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// How many separators a body may have: parsing many tiny things costs far more memory than their text.
const MAX_JSON_ITEMS: usize = 262_144;
/// How long a body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(30);

/// Memory for what is arriving, in KiB, taken as bytes arrive: that of callers, and that of strangers, who can so take
/// none from callers.
static CALLERS: Semaphore = Semaphore::const_new(512 * 1024);
static STRANGERS: Semaphore = Semaphore::const_new(32 * 1024);

/// A JSON body, in or out. Coming in: `application/json`, at most [`MAX_JSON_BODY`] bytes and [`MAX_JSON_DEPTH`] deep.
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Error;

    async fn from_request(request: Request, _: &S) -> Result<Self> {
        content_type(request.headers())?;
        let body = read_body(request, MAX_JSON_BODY).await?;
        parse(&body).map(Self)
    }
}

/// The JSON body of somebody who is not signed in: at most [`MAX_STRANGERS_BODY`] bytes.
#[derive(Debug)]
pub struct StrangersJson<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for StrangersJson<T> {
    type Rejection = Error;

    async fn from_request(request: Request, _: &S) -> Result<Self> {
        content_type(request.headers())?;
        let body = read_strangers_body(request).await?;
        parse(&body).map(Self)
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(bytes) => ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], bytes).into_response(),
            Err(e) => Error::internal(format!("an answer is not JSON: {e}")).into_response(),
        }
    }
}

/// Refuses a body that does not say that it is JSON: a browser's form cannot.
pub fn content_type(headers: &HeaderMap) -> Result<()> {
    let given = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let kind = given.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/json") {
        Ok(())
    } else {
        Err(Error::bad_request("the body must be JSON, with `content-type: application/json`"))
    }
}

/// A caller's whole body of at most `limit` bytes, in one buffer that is wiped afterwards.
pub async fn read_body(request: Request, limit: usize) -> Result<Zeroizing<Vec<u8>>> {
    read(request, limit, &CALLERS).await
}

/// The same of somebody who is not signed in.
pub async fn read_strangers_body(request: Request) -> Result<Zeroizing<Vec<u8>>> {
    read(request, MAX_STRANGERS_BODY, &STRANGERS).await
}

async fn read(request: Request, limit: usize, memory: &Semaphore) -> Result<Zeroizing<Vec<u8>>> {
    let said = request.headers().get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if said.is_some_and(|n| n > limit as u64) {
        return Err(Error::TooLarge { limit: limit as u64 });
    }
    let capacity = said.map_or(0, |n| usize::try_from(n).unwrap_or(limit).min(64 * 1024));
    let read = collect(request.into_body(), capacity, limit, memory);
    tokio::time::timeout(BODY_TIME, read)
        .await
        .unwrap_or_else(|_| Err(Error::bad_request("the body did not arrive within 30 s")))
}

async fn collect(mut body: Body, capacity: usize, limit: usize, memory: &Semaphore) -> Result<Zeroizing<Vec<u8>>> {
    let mut out = Zeroizing::new(Vec::new());
    let mut taken: Option<SemaphorePermit<'_>> = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Error::bad_request("the body was cut off"))?;
        let Some(data): Option<Bytes> = frame.into_data().ok() else { continue };
        if out.len() + data.len() > limit {
            return Err(Error::TooLarge { limit: limit as u64 });
        }
        let room = data.len().max(capacity.saturating_sub(out.len()));
        grow(&mut out, room);
        let has = taken.as_ref().map_or(0, SemaphorePermit::num_permits);
        let more = u32::try_from(out.capacity().div_ceil(1024).saturating_sub(has)).unwrap_or(u32::MAX);
        if more > 0 {
            let busy = |_| Error::Unavailable("too many requests are arriving at once".into());
            let more = memory.try_acquire_many(more).map_err(busy)?;
            match &mut taken {
                None => taken = Some(more),
                Some(taken) => taken.merge(more),
            }
        }
        out.extend_from_slice(&data);
    }
    Ok(out)
}

/// Makes room, wiping the buffer that is left behind.
fn grow(out: &mut Zeroizing<Vec<u8>>, more: usize) {
    if out.capacity() - out.len() < more {
        let mut larger = Zeroizing::new(Vec::with_capacity((out.len() + more).max(2 * out.capacity())));
        larger.extend_from_slice(out);
        *out = larger;
    }
}

/// Parses a JSON object after a look at its shape.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    check_shape(body)?;
    // serde takes a list for an object whose fields come in order; we never said that we do.
    if body.trim_ascii_start().starts_with(b"[") {
        return Err(Error::bad_request("the JSON is a list where an object was expected"));
    }
    serde_json::from_slice(body).map_err(|e| of_serde(&e))
}

/// Parses a JSON list after a look at its shape.
pub fn parse_list<T: DeserializeOwned>(body: &[u8]) -> Result<Vec<T>> {
    check_shape(body)?;
    serde_json::from_slice(body).map_err(|e| of_serde(&e))
}

/// Counts nesting and separators outside texts. Says nothing about whether this is JSON.
fn check_shape(body: &[u8]) -> Result<()> {
    let (mut depth, mut items, mut in_text, mut escaped) = (0_usize, 0_usize, false, false);
    for (position, byte) in body.iter().enumerate() {
        if in_text {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_text = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_text = true,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' => items += 1,
            _ => {}
        }
        if depth > MAX_JSON_DEPTH {
            return Err(Error::bad_request(format!(
                "the JSON is nested deeper than {MAX_JSON_DEPTH} levels (byte {position})"
            )));
        }
        if items > MAX_JSON_ITEMS {
            return Err(Error::bad_request(format!("the JSON has more than {MAX_JSON_ITEMS} items (byte {position})")));
        }
    }
    Ok(())
}

fn of_serde(e: &serde_json::Error) -> Error {
    let place = format!("line {}, column {}", e.line(), e.column());
    if e.is_data() {
        let text = e.to_string();
        // serde_json appends its own position.
        let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
        return of_text(text, &place);
    }
    let what = if e.is_eof() { "the JSON ends too early" } else { "this is not JSON" };
    Error::bad_request(format!("{what} ({place})"))
}

/// Our own parse errors, and those of serde that name nothing but fields of ours; anything else becomes "something
/// else was expected".
pub(super) fn of_text(text: &str, place: &str) -> Error {
    let named = |text: &str| Cow::Owned(format!("{text} ({place})"));
    let starts = |with: &[&str]| with.iter().any(|w| text.starts_with(w));
    if starts(&[
        "a secret's name ",
        "a workspace's name ",
        "an experiment's name ",
        "a compute target's name ",
        "a principal's name ",
        "a run's id ",
    ]) {
        return Error::InvalidName(named(text));
    }
    if starts(&["the value has ", "the value is not UTF-8 text "]) {
        return Error::InvalidValue(named(text));
    }
    if starts(&["not an id: ", "not an RFC 3339 ", "not base64 at ", "not hex", "missing field `", "duplicate field `"])
    {
        return Error::BadRequest(named(text));
    }
    if starts(&["unknown field `"]) {
        return Error::BadRequest(named(&after_last(text, "expected ", "a field that does not belong here; known: ")));
    }
    if starts(&["unknown variant `"]) {
        return Error::BadRequest(named(&after_last(text, "expected ", "a text that does not belong here; known: ")));
    }
    Error::BadRequest(named("a value of another type was expected here"))
}

/// serde ends these messages with the names that it knows; what comes before may quote the input.
fn after_last(text: &str, mark: &str, ours: &str) -> String {
    let known = text.rsplit_once(mark).map_or("none", |(_, known)| known);
    format!("{ours}{}", known.trim_start_matches("one of "))
}

#[cfg(test)]
mod tests {
    use kluis_core::api::secrets::{GetSecrets, SetSecret};
    use kluis_core::api::workspaces::SetMember;

    use super::*;

    fn refused<T: DeserializeOwned + std::fmt::Debug>(body: &str) -> String {
        parse::<T>(body.as_bytes()).expect_err("this is refused").to_string()
    }

    #[test]
    fn a_refusal_gives_position_and_reason_and_never_the_input() {
        for (body, reason) in [
            (r#"{"value":"v","hunter2":1}"#, "known: `value`, `attributes`, `if_revision` (line 1, column 22)"),
            (r#"{"value":"v","hunter2, expected one of `x`":1}"#, "known: `value`, `attributes`, `if_revision`"),
            (r#"{"value":17}"#, "another type"),
            (r#"{"value":["hunter2"]}"#, "another type"),
            (r#"{"value":"hunter2","if_revision":"hunter2"}"#, "another type"),
            (r#"{"value":"hunter2"#, "ends too early (line 1, column 17)"),
            (r#"{"value":"hunter2"} hunter2"#, "not JSON"),
            (r#"{"value":"hunter2","value":"hunter2"}"#, "duplicate field `value`"),
            (r"{}", "missing field `value`"),
            (r"[]", "a list where an object was expected"),
            (r#" ["hunter2"]"#, "a list where an object was expected"),
            ("\"hunter2\"", "another type"),
            (r#"{"value":"v","attributes":{"expires":"hunter2"}}"#, "RFC 3339"),
            ("hunter2", "not JSON"),
            ("", "ends too early"),
        ] {
            let text = refused::<SetSecret>(body);
            assert!(text.contains(reason) && !text.contains("hunter2"), "{body}: {text}");
        }
    }

    #[test]
    fn a_bad_name_is_told_as_a_name() {
        let e = parse::<GetSecrets>(br#"{"names":["ok","hunter2/"]}"#).unwrap_err();
        assert_eq!(e.code(), kluis_core::api::code::INVALID_NAME);
        assert!(e.to_string().contains("position 7") && !e.to_string().contains("hunter2"), "{e}");
        assert!(refused::<SetMember>(r#"{"role":"hunter2"}"#).contains("`secrets-writer`"));
    }

    #[test]
    fn a_value_over_its_limit_is_told_as_a_value() {
        let body = serde_json::json!({ "value": "x".repeat(25_601) }).to_string();
        assert_eq!(parse::<SetSecret>(body.as_bytes()).unwrap_err().code(), kluis_core::api::code::INVALID_VALUE);
    }

    #[test]
    fn nesting_is_counted_before_parsing_and_not_inside_texts() {
        let deep = "[".repeat(MAX_JSON_DEPTH + 1);
        assert!(refused::<serde_json::Value>(&deep).contains("deeper than 16"));
        let bomb = format!("{}{}", r#"{"a":"#.repeat(100_000), "}".repeat(100_000));
        assert!(refused::<serde_json::Value>(&bomb).contains("byte 80"));
        let text = format!("\"{}\\\"{}\"", "[".repeat(50), "{".repeat(50));
        assert!(parse::<String>(text.as_bytes()).is_ok());
        let fits = format!("{}1{}", r#"{"a":"#.repeat(MAX_JSON_DEPTH), "}".repeat(MAX_JSON_DEPTH));
        assert!(parse::<serde_json::Value>(fits.as_bytes()).is_ok());
    }

    #[tokio::test]
    async fn memory_for_what_arrives_is_bounded_and_given_back() {
        let memory = Semaphore::new(4);
        let body = |bytes: usize| collect(Body::from(vec![b'x'; bytes]), bytes, 1 << 20, &memory);
        assert_eq!(body(4096).await.unwrap().len(), 4096);
        assert_eq!(body(4097).await.unwrap_err().code(), kluis_core::api::code::UNAVAILABLE);
        assert_eq!(memory.available_permits(), 4);
        let chunks = ["abc"; 1000].map(|chunk| Ok::<_, std::io::Error>(Bytes::from(chunk)));
        let body = Body::from_stream(futures_util::stream::iter(chunks));
        assert_eq!(collect(body, 0, 1 << 20, &memory).await.unwrap().len(), 3000);
        assert_eq!(memory.available_permits(), 4);
    }

    #[test]
    fn many_tiny_items_are_refused() {
        let body = format!("[{}0]", "0,".repeat(MAX_JSON_ITEMS + 1));
        assert!(refused::<Vec<u8>>(&body).contains("items"));
    }
}
