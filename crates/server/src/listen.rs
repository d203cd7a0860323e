//! From a socket to the router: accept, shake hands, speak HTTP. Everything that a stranger can hold on to is bounded:
//! connections, in all and by source, the time for a handshake, for headers, for doing nothing, and the size of headers.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::Service;

use crate::caller::Peer;
use crate::throttle::network;

/// How many connections are served at once; more wait to be accepted.
const MOST_CONNECTIONS: usize = 4096;
/// When fewer places than this are left, whoever holds [`SHARE`] of them gets no more: one host alone, or one that stands
/// for many, may have most of them, and can not have all.
const CROWDED: usize = MOST_CONNECTIONS / 4;
/// What one source may hold when it is crowded.
const SHARE: usize = MOST_CONNECTIONS / 16;
/// How long a TLS handshake may take.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// How long a connection may be idle, and how long headers may take to arrive.
const HEADER_TIME: Duration = Duration::from_mins(1);
/// How often an HTTP/2 connection is asked whether it is still there, and how long it has to answer.
const PING_TIME: Duration = Duration::from_secs(20);
/// How long a connection without a request is kept, pings or not.
const IDLE_TIME: Duration = Duration::from_mins(5);
/// Requests at once on one HTTP/2 connection.
const MOST_STREAMS: u32 = 128;
/// Bytes of headers.
const MOST_HEADERS: usize = 32 * 1024;
/// How long connections have to finish after a stop was asked for.
const DRAIN_TIME: Duration = Duration::from_secs(10);

/// Why nothing listens.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The text is not an address.
    #[error("the address to listen on is not HOST:PORT, such as 127.0.0.1:8443 ({0})")]
    Address(io::Error),
    /// Somebody else listens there.
    #[error("{0} is in use by another program; stop it, or choose another port with --listen")]
    InUse(SocketAddr),
    /// The system refuses.
    #[error("can not listen on {0}: {1}")]
    Refused(SocketAddr, io::Error),
}

/// Binds the first address that `HOST:PORT` stands for; port 0 picks a free one.
pub(crate) async fn bind(listen: &str) -> Result<(TcpListener, SocketAddr), ListenError> {
    let found = tokio::net::lookup_host(listen).await.map_err(ListenError::Address)?.next();
    let address = found.ok_or_else(|| ListenError::Address(io::ErrorKind::NotFound.into()))?;
    let refused = |e: io::Error| match e.kind() {
        io::ErrorKind::AddrInUse => ListenError::InUse(address),
        _ => ListenError::Refused(address, e),
    };
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    Ok((listener, address))
}

/// Accepts until the token is cancelled, then lets what is under way finish.
pub(crate) async fn serve(listener: TcpListener, tls: Arc<ServerConfig>, router: Router, stop: CancellationToken) {
    let acceptor = TlsAcceptor::from(tls);
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let sources = Arc::new(Sources::default());
    let graceful = Arc::new(GracefulShutdown::new());
    let http = Arc::new(builder());
    loop {
        let place = tokio::select! {
            () = stop.cancelled() => break,
            place = places.clone().acquire_owned() => place.expect("the semaphore is never closed"),
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(e) => {
                // Out of file descriptors, or a connection that was gone before it was accepted.
                tracing::warn!(error = %e, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Some(held) = sources.enter(peer.ip(), places.available_permits()) else {
            tracing::debug!("a connection was refused: its source holds its share of them");
            continue;
        };
        let (acceptor, http, router) = (acceptor.clone(), http.clone(), router.clone());
        let watcher = graceful.watcher();
        tokio::spawn(async move {
            let _places = (place, held);
            let Some(stream) = handshake(&acceptor, stream).await else { return };
            let under_way = watch::Sender::new(0);
            let idle = idle(under_way.subscribe());
            let service = hyper::service::service_fn(move |mut request: http::Request<Incoming>| {
                request.extensions_mut().insert(Peer(peer.ip().to_canonical()));
                let (counted, answer) = (Counted::new(under_way.clone()), router.clone().call(request.map(Body::new)));
                async move { Ok::<_, Infallible>(answer.await?.map(|body| CountedBody { body, _counted: counted })) }
            });
            let connection = http.serve_connection(TokioIo::new(stream), service).into_owned();
            tokio::select! {
                ended = watcher.watch(connection) => if let Err(e) = ended {
                    tracing::debug!(error = %e, "a connection ended early");
                },
                () = idle => tracing::debug!("a connection was idle for too long"),
            }
        });
    }
    drop(listener);
    let graceful = Arc::into_inner(graceful).expect("connections hold watchers, not the whole");
    if tokio::time::timeout(DRAIN_TIME, graceful.shutdown()).await.is_err() {
        tracing::warn!("connections were cut off at the stop");
    }
}

/// How many connections each source holds.
#[derive(Default)]
struct Sources(Mutex<HashMap<IpAddr, usize>>);

impl Sources {
    /// One more, unless it is crowded and the source holds its share. Counted until it is dropped.
    fn enter(self: &Arc<Self>, source: IpAddr, left: usize) -> Option<Held> {
        let source = network(source);
        let mut sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let holds = sources.get(&source).copied().unwrap_or(0);
        if left < CROWDED && holds >= SHARE {
            return None;
        }
        sources.insert(source, holds + 1);
        Some(Held { sources: self.clone(), source })
    }
}

struct Held {
    sources: Arc<Sources>,
    source: IpAddr,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut sources = self.sources.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(holds) = sources.get_mut(&self.source) {
            *holds -= 1;
            if *holds == 0 {
                sources.remove(&self.source);
            }
        }
    }
}

/// Ends when no request was under way for so long.
async fn idle(mut under_way: watch::Receiver<usize>) {
    loop {
        let busy = *under_way.borrow_and_update() > 0;
        match tokio::time::timeout(IDLE_TIME, under_way.changed()).await {
            Err(_) if !busy => return,
            Ok(Err(_)) => return,
            _ => {}
        }
    }
}

/// A request, counted until the last byte of its answer was given away.
struct Counted(watch::Sender<usize>);

impl Counted {
    fn new(under_way: watch::Sender<usize>) -> Self {
        under_way.send_modify(|n| *n += 1);
        Self(under_way)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|n| *n -= 1);
    }
}

struct CountedBody {
    body: Body,
    _counted: Counted,
}

impl hyper::body::Body for CountedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

async fn handshake(acceptor: &TlsAcceptor, stream: TcpStream) -> Option<tokio_rustls::server::TlsStream<TcpStream>> {
    stream.set_nodelay(true).ok();
    match tokio::time::timeout(HANDSHAKE_TIME, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(e)) => {
            tracing::debug!(error = %e, "a handshake failed");
            None
        }
        Err(_) => None,
    }
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(MOST_HEADERS)
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_TIME)
        .keep_alive_timeout(PING_TIME)
        .max_concurrent_streams(MOST_STREAMS)
        .max_header_list_size(MOST_HEADERS as u32);
    builder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_it_is_crowded_nobody_gets_more_than_a_share() {
        let sources = Arc::new(Sources::default());
        let (a, b): (IpAddr, IpAddr) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        let mut held: Vec<Held> = (0..3 * SHARE).map(|_| sources.enter(a, CROWDED).expect("there is room")).collect();
        assert!(sources.enter(a, CROWDED - 1).is_none());
        assert!(sources.enter(b, CROWDED - 1).is_some(), "others still come in");
        held.truncate(SHARE - 1);
        assert!(sources.enter(a, 1).is_some());
        drop(held);
        assert!(sources.0.lock().unwrap().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_only_while_nothing_is_under_way() {
        let under_way = watch::Sender::new(0);
        let waiting = tokio::spawn(idle(under_way.subscribe()));
        let long = Counted::new(under_way.clone());
        tokio::time::sleep(10 * IDLE_TIME).await;
        assert!(!waiting.is_finished(), "an answer that takes its time");
        drop(long);
        for _ in 0..5 {
            tokio::time::sleep(IDLE_TIME / 2).await;
            drop(Counted::new(under_way.clone()));
        }
        assert!(!waiting.is_finished(), "short requests count too");
        tokio::time::sleep(IDLE_TIME + Duration::from_secs(1)).await;
        assert!(waiting.is_finished());
    }
}
