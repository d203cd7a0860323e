//! A server that answers as a test tells it: TLS with certificates made on the spot, HTTP/1.1 or 2, one closure.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::{HeaderMap, Method, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use kluis_client::trust::{CaPin, Origin, Server};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A certificate authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        change(&mut params);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn der(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    pub(crate) fn pin(&self) -> CaPin {
        CaPin::of_certificate(self.0.der())
    }

    /// A server's certificate for these names.
    pub(crate) fn issue(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Identity { chain: vec![certificate.der().clone(), self.der()], key: key.serialize_der() }
    }
}

/// A certificate chain and its key.
pub(crate) struct Identity {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) address: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

pub(crate) const HTTP_1: &str = "http/1.1";
pub(crate) const HTTP_2: &str = "h2";

/// As a content type: the connection breaks off after the body.
pub(crate) const CUT: &str = "application/x-cut";

/// What a test answers: status, content type, body. `None` breaks the connection off at once.
pub(crate) type Answer = Option<(u16, &'static str, Vec<u8>)>;

#[expect(clippy::unnecessary_wraps, reason = "it makes an Answer, and the others are not always Some")]
pub(crate) fn json(status: u16, body: &str) -> Answer {
    let kind = if status < 400 { "application/json" } else { "application/problem+json" };
    Some((status, kind, body.as_bytes().to_vec()))
}

pub(crate) struct Fake {
    pub(crate) port: u16,
    asked: Arc<AtomicUsize>,
}

impl Fake {
    /// Serves with this identity until the test's runtime ends.
    pub(crate) async fn start(identity: Identity, answer: impl Fn(Asked) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_with(identity, &[&rustls::version::TLS13], HTTP_1, answer).await
    }

    pub(crate) async fn start_with(
        identity: Identity,
        versions: &[&'static rustls::SupportedProtocolVersion],
        protocol: &str,
        answer: impl Fn(Asked) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(identity.chain, PrivateKeyDer::Pkcs8(identity.key.into()))
            .unwrap();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(AtomicUsize::new(0));
        let (answer, count) = (Arc::new(answer), asked.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, answer, count) = (acceptor.clone(), answer.clone(), count.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                        let (answer, count) = (answer.clone(), count.clone());
                        async move {
                            count.fetch_add(1, Ordering::SeqCst);
                            let (parts, body) = request.into_parts();
                            let asked = Asked {
                                method: parts.method,
                                address: parts.uri.path_and_query().unwrap().to_string(),
                                headers: parts.headers,
                                body: body.collect().await.unwrap().to_bytes(),
                            };
                            match answer(asked) {
                                Some((status, kind, body)) => Ok(Response::builder()
                                    .status(status)
                                    .header("content-type", kind)
                                    .header("location", "https://elsewhere.example.org/")
                                    .body(StreamBody::new(Box::pin(body_of(body, kind == CUT))))
                                    .unwrap()),
                                None => Err(std::io::Error::other("broken off by the test")),
                            }
                        }
                    });
                    let _ =
                        auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { port, asked }
    }

    /// The usual: a fresh authority and a certificate for `localhost`.
    pub(crate) async fn usual(answer: impl Fn(Asked) -> Answer + Send + Sync + 'static) -> (Self, Server) {
        Self::over(HTTP_1, answer).await
    }

    /// The usual over one of the protocols.
    pub(crate) async fn over(
        protocol: &str,
        answer: impl Fn(Asked) -> Answer + Send + Sync + 'static,
    ) -> (Self, Server) {
        let authority = Authority::new();
        let identity = authority.issue(&["localhost"], |_| {});
        let fake = Self::start_with(identity, &[&rustls::version::TLS13], protocol, answer).await;
        let server = fake.server(authority.pin());
        (fake, server)
    }

    pub(crate) fn server(&self, ca_sha256: CaPin) -> Server {
        Server { origin: Origin::parse(&format!("localhost:{}", self.port)).unwrap(), ca_sha256 }
    }

    /// How many requests have arrived.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// The body, and when it is cut, an error once the body has left.
fn body_of(body: Vec<u8>, cut: bool) -> impl Stream<Item = std::io::Result<Frame<Bytes>>> {
    let end = stream::iter(cut.then_some(())).then(|()| async {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        Err(std::io::Error::other("cut"))
    });
    stream::iter([Ok(Frame::data(Bytes::from(body)))]).chain(end)
}
