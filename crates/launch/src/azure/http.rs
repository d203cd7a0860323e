//! Small HTTP on loopback: who connects is admitted first, and heads, bodies, connections and waiting are bounded.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use zeroize::Zeroizing;

use super::peers;
use crate::broker::Desk;
use crate::membership::{Member, Stranger};

/// The most connections of one listener at once: a thousand ranks on one node, and some.
const MOST_CONNECTIONS: usize = 2048;
/// So many peers are looked for in the process table at once, each by a thread.
const MOST_ADMITTED_AT_ONCE: usize = 4;
/// The largest head of a request, in bytes, and the most headers.
const MAX_HEAD: usize = 32 * 1024;
const MOST_HEADERS: usize = 64;
/// How long a connection may say nothing between requests.
const IDLE: Duration = Duration::from_mins(5);
/// How long a body may take.
const BODY: Duration = Duration::from_mins(1);

/// An answer.
pub(super) type Reply = Response<Full<Bytes>>;

/// A listener's task; ends, with all its connections, when dropped.
#[derive(Debug)]
pub(crate) struct Listening(tokio::task::JoinHandle<()>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Listening {
    /// Gives each connection of a process of the run to `serve`.
    pub(super) fn start<F, Fut>(listener: Arc<TcpListener>, desk: Arc<Desk>, serve: F) -> Self
    where
        F: Fn(TcpStream, Member) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Self(tokio::spawn(accept(listener, desk, serve)))
    }
}

async fn accept<F, Fut>(listener: Arc<TcpListener>, desk: Arc<Desk>, serve: F)
where
    F: Fn(TcpStream, Member) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    let turns = Arc::new(Semaphore::new(MOST_ADMITTED_AT_ONCE));
    loop {
        while connections.try_join_next().is_some() {}
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection from the run could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        if connections.len() >= MOST_CONNECTIONS {
            connections.join_next().await;
        }
        let (desk, serve, turns) = (desk.clone(), serve.clone(), turns.clone());
        connections.spawn(async move {
            match admit(&stream, peer, &turns).await {
                Ok(member) => serve(stream, member).await,
                // A stranger has nothing to say and is told nothing.
                Err(stranger) => desk.refused(stranger),
            }
        });
    }
}

async fn admit(stream: &TcpStream, peer: SocketAddr, turns: &Semaphore) -> Result<Member, Stranger> {
    let (SocketAddr::V4(peer), Ok(SocketAddr::V4(local))) = (peer, stream.local_addr()) else {
        return Err(Stranger::Unknown);
    };
    // Answers are small and waited for.
    let _slower = stream.set_nodelay(true);
    let launcher = std::process::id().cast_signed();
    let _turn = turns.acquire().await;
    let asked = tokio::task::spawn_blocking(move || peers::admit(peer, local, launcher));
    asked.await.unwrap_or(Err(Stranger::Unknown))
}

/// Answers the requests of one connection until it ends.
pub(super) async fn serve<S, F, Fut>(stream: S, answer: F)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(Request<Incoming>) -> Fut + Send + 'static,
    Fut: Future<Output = Reply> + Send + 'static,
{
    let service = hyper::service::service_fn(move |request| {
        let reply = answer(request);
        async move { Ok::<_, Infallible>(reply.await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_buf_size(MAX_HEAD)
        .max_headers(MOST_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    // A client that hangs up has ended its own conversation.
    let _hung_up = served.await;
}

/// A request's body; `None` when it is larger than `most`, or does not come.
pub(super) async fn body(body: Incoming, most: usize) -> Option<Zeroizing<Vec<u8>>> {
    let collected = tokio::time::timeout(BODY, Limited::new(body, most).collect()).await.ok()?.ok()?;
    Some(Zeroizing::new(collected.to_bytes().to_vec()))
}

/// A JSON answer, wiped after it was sent: it may hold a value.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Reply {
    sized_json(status, body, 1024)
}

/// As [`json`], for an answer of about this size: a buffer that does not grow leaves no pieces of itself behind.
pub(super) fn sized_json(status: StatusCode, body: &impl Serialize, size: usize) -> Reply {
    let mut bytes = Zeroizing::new(Vec::with_capacity(size));
    serde_json::to_writer(&mut *bytes, body).expect("answers are JSON");
    let mut reply = Response::new(Full::new(Bytes::from_owner(bytes)));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

/// The bearer token of a request.
pub(super) fn bearer<B>(request: &Request<B>) -> Option<&str> {
    let value = request.headers().get(hyper::header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Percent-decoded; `None` when it is no UTF-8 then.
pub(super) fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let digit = |byte: Option<u8>| (byte? as char).to_digit(16);
        bytes.push(match byte {
            b'%' => (digit(rest.next())? * 16 + digit(rest.next())?) as u8,
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// The parts of a path, percent-decoded one by one.
pub(super) fn segments(path: &str) -> Option<Vec<String>> {
    path.strip_prefix('/')?.split('/').map(decoded).collect()
}

/// A query's parameter. Names are percent-decoded as well: one client encodes them.
pub(super) fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    query?.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(key)? == name).then(|| decoded(&value.replace('+', " ")))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_by_their_decoded_names() {
        let query = Some("api%2Dversion=2025-07-01&resource=https%3A%2F%2Fvault.localhost%3A8443&x");
        assert_eq!(parameter(query, "api-version").as_deref(), Some("2025-07-01"));
        assert_eq!(parameter(query, "resource").as_deref(), Some("https://vault.localhost:8443"));
        assert_eq!(parameter(query, "x").as_deref(), Some(""));
        assert_eq!(parameter(query, "y"), None);
        assert_eq!(
            parameter(Some("resource=https://vault.localhost:8443/"), "resource").unwrap(),
            "https://vault.localhost:8443/"
        );
    }

    #[test]
    fn a_path_is_decoded_in_its_parts() {
        assert_eq!(segments("/secrets/a%2Fb/").unwrap(), ["secrets", "a/b", ""]);
        for broken in ["secrets", "/a%", "/a%2", "/a%zz", "/%ff"] {
            assert_eq!(segments(broken), None, "{broken}");
        }
    }

    #[test]
    fn a_bearer_token_is_read_from_its_header_alone() {
        let request = |value: &str| Request::builder().header("authorization", value).body(()).unwrap();
        assert_eq!(bearer(&request("Bearer a.b.c")), Some("a.b.c"));
        assert_eq!(bearer(&request("bearer  a.b.c")), Some("a.b.c"));
        for other in ["Basic a.b.c", "Bearer", ""] {
            assert_eq!(bearer(&request(other)), None, "{other}");
        }
    }
}
