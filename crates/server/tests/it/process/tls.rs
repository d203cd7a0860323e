//! Over a real socket: TLS 1.3 only, a chain with the authority in it, and clients that trust nothing but their pin.

use std::sync::Arc;

use data_encoding::HEXLOWER;
use kluis_core::clock::{ManualClock, Timestamp};
use kluis_core::name::PrincipalName;
use kluis_server::config::TlsSource;
use kluis_server::{Running, Server, ServerOptions};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Certificates are checked against the real clock by the client.
fn options(folder: &TempDir) -> ServerOptions {
    let mut options = ServerOptions::new(folder.path().join("data"), PrincipalName::parse("owner").unwrap());
    options.listen = "127.0.0.1:0".into();
    options.settings.blobs.least_free_percent = 0;
    options
}

fn trusting(roots: impl IntoIterator<Item = CertificateDer<'static>>) -> TlsConnector {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(roots);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(store)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

fn authority_of(running: &Running) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(running.app().ca.as_ref().unwrap().pem.as_bytes()).unwrap()
}

async fn connect(
    running: &Running,
    connector: &TlsConnector,
    name: &'static str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let socket = TcpStream::connect(running.addr()).await?;
    connector.connect(ServerName::try_from(name).unwrap(), socket).await
}

#[tokio::test]
async fn a_client_that_pins_the_authority_is_served_under_every_own_name() {
    let folder = TempDir::new().unwrap();
    let mut options = options(&folder);
    options.hosts = vec!["vault.example.org".parse().unwrap()];
    let running = Server::start(options).await.unwrap();
    let connector = trusting([authority_of(&running)]);
    for name in ["localhost", "127.0.0.1", "::1", "vault.example.org"] {
        let mut stream = connect(&running, &connector, name).await.unwrap();
        let chain = stream.get_ref().1.peer_certificates().unwrap();
        let pinned =
            chain.iter().map(|c| HEXLOWER.encode(&Sha256::digest(c))).any(|h| Some(h.as_str()) == running.ca_sha256());
        assert!(pinned, "the authority's own certificate is in the chain");
        stream.write_all(b"GET /api/v1/health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("\"ok\""), "{answer}");
    }
    assert!(connect(&running, &connector, "elsewhere.example.org").await.is_err());
    running.shutdown().await;
}

#[tokio::test]
async fn an_authority_of_another_installation_is_nothing_here() {
    let (folder, elsewhere) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let running = Server::start(options(&folder)).await.unwrap();
    let other = Server::start(options(&elsewhere)).await.unwrap();
    let foreign = trusting([authority_of(&other)]);
    assert!(connect(&running, &foreign, "localhost").await.is_err());
    other.shutdown().await;
    running.shutdown().await;
}

#[tokio::test]
async fn who_speaks_nothing_newer_than_tls_1_2_is_turned_away() {
    let folder = TempDir::new().unwrap();
    let running = Server::start(options(&folder)).await.unwrap();
    // A ClientHello of TLS 1.2 (RFC 5246, 7.4.1.2) without `supported_versions`; one suite, the null compression.
    let mut hello = vec![3, 3];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x2f, 1, 0]);
    let mut record = vec![22, 3, 1, 0, hello.len() as u8 + 4, 1, 0, 0, hello.len() as u8];
    record.extend(hello);
    let mut socket = TcpStream::connect(running.addr()).await.unwrap();
    socket.write_all(&record).await.unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.ok();
    assert_eq!(answer.first(), Some(&21), "an alert, not a ServerHello: {answer:?}");
    running.shutdown().await;
}

#[tokio::test]
async fn a_new_name_makes_a_new_pin_and_a_start_without_it_keeps_it() {
    let folder = TempDir::new().unwrap();
    let first = Server::start(options(&folder)).await.unwrap();
    let pin = first.ca_sha256().unwrap().to_owned();
    first.shutdown().await;
    let mut more = options(&folder);
    more.hosts = vec!["10.9.8.7".parse().unwrap()];
    let second = Server::start(more).await.unwrap();
    let grown = second.ca_sha256().unwrap().to_owned();
    assert_ne!(pin, grown);
    connect(&second, &trusting([authority_of(&second)]), "10.9.8.7").await.unwrap();
    second.shutdown().await;
    let third = Server::start(options(&folder)).await.unwrap();
    assert_eq!(third.ca_sha256(), Some(grown.as_str()));
    third.shutdown().await;
}

#[tokio::test]
async fn a_certificate_that_is_due_is_renewed_at_the_start_under_the_same_pin() {
    let folder = TempDir::new().unwrap();
    let clock = Arc::new(ManualClock::at(Timestamp::from_seconds(1_795_530_000)));
    let with_clock = || {
        let mut options = options(&folder);
        options.clock = clock.clone();
        options
    };
    let leaf = async |running: &Running| {
        // Signatures and names are not the point here: see what is shown.
        let connector = trusting([authority_of(running)]);
        let stream = connect(running, &connector, "localhost").await;
        stream.ok().map(|s| s.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned())
    };
    let first = Server::start(with_clock()).await.unwrap();
    let (pin, shown) = (first.ca_sha256().map(str::to_owned), leaf(&first).await);
    first.shutdown().await;
    clock.advance(std::time::Duration::from_hours(50 * 24));
    let same = Server::start(with_clock()).await.unwrap();
    assert_eq!(leaf(&same).await, shown, "not due yet");
    same.shutdown().await;
    clock.advance(std::time::Duration::from_hours(11 * 24));
    let renewed = Server::start(with_clock()).await.unwrap();
    assert_eq!(renewed.ca_sha256().map(str::to_owned), pin);
    assert_ne!(leaf(&renewed).await, shown);
    renewed.shutdown().await;
}

/// A certificate authority of a site.
fn site_authority() -> (rcgen::Issuer<'static, rcgen::KeyPair>, rcgen::Certificate) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = params.self_signed(&key).unwrap();
    (rcgen::Issuer::new(params, key), ca)
}

#[tokio::test]
async fn a_site_may_bring_its_own_certificate_and_clients_pin_the_last_of_its_chain() {
    let folder = TempDir::new().unwrap();
    let (authority, ca) = site_authority();
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["kluis.site.example".to_owned(), "127.0.0.1".to_owned()];
    let alone = rcgen::CertificateParams::new(names).unwrap().signed_by(&key, &authority).unwrap().pem();
    let (chain, private) = (folder.path().join("chain.pem"), folder.path().join("key.pem"));
    std::fs::write(&chain, alone.clone() + &ca.pem()).unwrap();
    std::fs::write(&private, key.serialize_pem()).unwrap();
    let mut options = options(&folder);
    options.tls = TlsSource::Files { certificate: chain.clone(), key: private.clone() };
    let running = Server::start(options.clone()).await.unwrap();
    assert_eq!(running.ca_sha256(), Some(HEXLOWER.encode(&Sha256::digest(ca.der())).as_str()));
    assert_eq!(authority_of(&running), *ca.der());
    for (host, certified) in [("kluis.site.example", true), ("127.0.0.1", true), ("localhost", false)] {
        assert_eq!(options.tls.is_for(&host.parse().unwrap()).unwrap(), certified, "{host}");
    }
    connect(&running, &trusting([ca.der().clone()]), "kluis.site.example").await.unwrap();
    running.shutdown().await;

    for (path, text, said) in [(&chain, &*alone, "append"), (&chain, "", ".pem"), (&private, "not a key", ".pem")] {
        let before = std::fs::read(path).unwrap();
        std::fs::write(path, text).unwrap();
        let error = Server::start(options.clone()).await.expect_err("this is no certificate").to_string();
        assert!(error.contains(".pem") && error.contains(said), "{error}");
        std::fs::write(path, before).unwrap();
    }
}

#[tokio::test]
#[expect(clippy::await_holding_invalid_type, reason = "the owner's side of it")]
async fn only_the_installation_that_issued_a_token_knows_it() {
    let (folder, elsewhere) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut running = Server::start(options(&folder)).await.unwrap();
    let other = Server::start(options(&elsewhere)).await.unwrap();
    let token = running.first_start().unwrap().token;
    assert!(running.knows(&token).await);
    assert!(!other.knows(&token).await);
    other.shutdown().await;
    running.shutdown().await;
}

#[tokio::test]
async fn a_connection_that_says_nothing_does_not_keep_others_out_and_ends_at_the_stop() {
    let folder = TempDir::new().unwrap();
    let running = Server::start(options(&folder)).await.unwrap();
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(running.addr()).await.unwrap());
    }
    let connector = trusting([authority_of(&running)]);
    let idle = connect(&running, &connector, "localhost").await.unwrap();
    tokio::time::timeout(std::time::Duration::from_secs(15), running.shutdown()).await.expect("the stop is in time");
    drop((silent, idle));
}
