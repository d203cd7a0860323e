//! From a socket to the router: accept, shake hands, speak HTTP. Everything that a stranger can hold on to is bounded:
//! connections, the time for a handshake, for headers, for doing nothing, and the size of headers.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::Service;

use crate::caller::Peer;

/// How many connections are served at once; more wait to be accepted.
const MOST_CONNECTIONS: usize = 4096;
/// How long a TLS handshake may take.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// How long a connection may be idle, and how long headers may take to arrive.
const HEADER_TIME: Duration = Duration::from_mins(1);
/// How often an HTTP/2 connection is asked whether it is still there, and how long it has to answer.
const PING_TIME: Duration = Duration::from_secs(20);
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
        let (acceptor, http, router) = (acceptor.clone(), http.clone(), router.clone());
        let watcher = graceful.watcher();
        tokio::spawn(async move {
            let _place = place;
            let Some(stream) = handshake(&acceptor, stream).await else { return };
            let service = hyper::service::service_fn(move |mut request: http::Request<Incoming>| {
                request.extensions_mut().insert(Peer(peer.ip().to_canonical()));
                router.clone().call(request.map(Body::new))
            });
            let connection = http.serve_connection(TokioIo::new(stream), service).into_owned();
            if let Err(e) = watcher.watch(connection).await {
                tracing::debug!(error = %e, "a connection ended early");
            }
        });
    }
    drop(listener);
    let graceful = Arc::into_inner(graceful).expect("connections hold watchers, not the whole");
    if tokio::time::timeout(DRAIN_TIME, graceful.shutdown()).await.is_err() {
        tracing::warn!("connections were cut off at the stop");
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
