//! Which face a request is for, decided in one place in front of them all: by the host that it asks for. A vault is a
//! host of its own, `WORKSPACE.vault.NAME` for every DNS name of this installation; everything else is the native face.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use bytes::Bytes;
use http::header::{CONNECTION, EXPECT, HOST};
use http::uri::Authority;
use http::{HeaderValue, Version};
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use kluis_core::api::keyvault::{VAULT_LABEL, VaultUrl};
use tokio::sync::oneshot;

use crate::app::App;
use crate::config::HostName;
use crate::{api, azure};

/// How much of a refused body is taken off the wire before the connection closes, and for how long.
const MOST_DISCARDED: usize = 1024 * 1024;
const LINGER_TIME: Duration = Duration::from_secs(5);

/// Every face, ready to serve.
pub fn router(app: App) -> Router {
    api::router(app.clone()).layer(from_fn_with_state(app, front))
}

async fn front(State(app): State<App>, request: Request, next: Next) -> Response {
    let (version, waits) = (request.version(), request.headers().contains_key(EXPECT));
    let (request, read, rest) = watched(request);
    let mut response = match vault(&app.hosts, &request) {
        Some(vault) => azure::vault::answer(&app, vault, request).await,
        None => next.run(request).await,
    };
    // A body that was refused is not read to its end, so nothing can follow it on this connection; HTTP/2 has streams.
    if version <= Version::HTTP_11 && !read.load(Ordering::Acquire) {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        // Who expects a word before the body has not sent it.
        if !waits {
            tokio::spawn(tokio::time::timeout(LINGER_TIME, discard(rest)));
        }
    }
    response
}

/// Takes a refused body off the wire, unseen: a client that is still sending when its connection closes never reads why
/// (RFC 9112, 9.6).
async fn discard(rest: oneshot::Receiver<Body>) {
    let Ok(mut body) = rest.await else { return };
    let mut left = MOST_DISCARDED;
    while let Some(Ok(frame)) = body.frame().await {
        left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
        if left == 0 {
            return;
        }
    }
}

/// The vault that a request asks for, if it asks for one.
fn vault(hosts: &[HostName], request: &Request) -> Option<VaultUrl> {
    let asked = if let Some(authority) = request.uri().authority() {
        authority.clone()
    } else {
        let mut all = request.headers().get_all(HOST).iter();
        let host = all.next().filter(|_| all.next().is_none())?;
        Authority::try_from(host.as_bytes()).ok()?
    };
    let is_plain = asked.port_u16().is_some() || asked.as_str() == asked.host();
    (is_plain && is_vault(hosts, asked.host())).then(|| VaultUrl::from_host(asked.as_str())).flatten()
}

/// Whether this is a vault's host, and not itself a name of the installation.
fn is_vault(hosts: &[HostName], host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let is_ours = |name: &str| hosts.iter().any(|own| matches!(own, HostName::Dns(own) if own == name));
    let installation = host.split_once('.').and_then(|(_, rest)| rest.strip_prefix(VAULT_LABEL)?.strip_prefix('.'));
    installation.is_some_and(is_ours) && !is_ours(&host)
}

/// The same request, whether its body was read to its end, and what is left of it when nobody reads it any more.
fn watched(request: Request) -> (Request, Arc<AtomicBool>, oneshot::Receiver<Body>) {
    let read = Arc::new(AtomicBool::new(hyper::body::Body::is_end_stream(request.body())));
    let (sender, rest) = oneshot::channel();
    let watch = |body| Body::new(Watched { body, read: read.clone(), rest: Some(sender) });
    (request.map(watch), read, rest)
}

struct Watched {
    body: Body,
    read: Arc<AtomicBool>,
    rest: Option<oneshot::Sender<Body>>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(rest) = self.rest.take().filter(|_| !self.read.load(Ordering::Acquire)) {
            // Nobody waits for it when the request itself has ended.
            rest.send(std::mem::take(&mut self.body)).ok();
        }
    }
}

impl hyper::body::Body for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if matches!(polled, Poll::Ready(None)) || self.body.is_end_stream() {
            self.read.store(true, Ordering::Release);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vault_is_one_label_before_the_vaults_of_a_name_of_ours() {
        let hosts: Vec<HostName> =
            ["localhost", "example.org", "vault.example.org", "10.0.0.5"].iter().map(|h| h.parse().unwrap()).collect();
        for host in
            ["default.vault.localhost", "Team.VAULT.Example.org", "-.vault.localhost", "a.vault.vault.example.org"]
        {
            assert!(is_vault(&hosts, host), "{host}");
        }
        for host in [
            "localhost",
            "vault.localhost",
            "default.localhost",
            "a.b.vault.localhost",
            "default.vault.localhost.",
            "default.vault.elsewhere.org",
            "default.vault.10.0.0.5",
            "vault.example.org",
            "x.vault.vault.localhost",
            "",
        ] {
            assert!(!is_vault(&hosts, host), "{host}");
        }
    }

    #[test]
    fn the_address_of_the_request_is_asked_before_its_header() {
        let hosts = ["localhost".parse().unwrap()];
        let asked = |uri: &str, headers: &[&str]| {
            let mut request = Request::get(uri);
            for host in headers {
                request = request.header(HOST, *host);
            }
            vault(&hosts, &request.body(Body::empty()).unwrap()).map(|v| v.to_string())
        };
        let a = Some("https://A.vault.localhost:8443".to_owned());
        assert_eq!(asked("/secrets", &["A.vault.localhost:8443"]), a);
        assert_eq!(asked("https://A.vault.localhost:8443/secrets", &["localhost"]), a, "HTTP/2");
        assert_eq!(asked("https://localhost/secrets", &["a.vault.localhost"]), None);
        assert_eq!(asked("/secrets", &["a.vault.localhost", "b.vault.localhost"]), None, "which one?");
        for host in
            ["", "a.vault.localhost/x", "u@a.vault.localhost", "a.vault.localhost:x", "a.vault.localhost:", "localhost"]
        {
            assert_eq!(asked("/secrets", &[host]), None, "{host}");
        }
    }
}
