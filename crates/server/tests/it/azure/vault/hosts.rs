//! Which host is a vault, over a real socket too: the server's certificate is good for every vault.

use std::sync::Arc;

use axum::body::Body;
use http::Request;
use http::header::{AUTHORIZATION, HOST};
use kluis_core::name::PrincipalName;
use kluis_server::{Server, ServerOptions};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{call_at, face_token, refused, set};
use crate::world::World;

#[tokio::test]
async fn every_workspace_has_a_vault_under_every_name() {
    let world = World::with(|options| options.hosts = vec!["kluis.example.org".parse().unwrap()]).await;
    world.workspace("Team-1").await;
    set(&world, "a", "default's").await;
    let body = Some(json!({ "value": "team's" }));
    let team = "https://team-1.vault.kluis.example.org:8443";
    let bundle = call_at(&world, team, "PUT", "/secrets/a", Some(&world.owner), body).await.ok();
    assert!(bundle["id"].as_str().unwrap().starts_with("https://team-1.vault.kluis.example.org:8443/secrets/a/"));
    for (vault, value) in [
        (team, "team's"),
        ("https://TEAM-1.vault.localhost:8443", "team's"),
        ("https://default.vault.kluis.example.org", "default's"),
        ("https://default.vault.localhost:1", "default's"),
    ] {
        let bundle = call_at(&world, vault, "GET", "/secrets/a/", Some(&world.owner), None).await.ok();
        assert_eq!(bundle["value"], value, "{vault}");
        assert!(bundle["id"].as_str().unwrap().starts_with(&format!("{vault}/secrets/a/")), "{bundle}");
        let answer = call_at(&world, vault, "GET", "/secrets", None, None).await;
        let said = answer.headers["www-authenticate"].to_str().unwrap();
        let resource = vault.split_once('.').unwrap().1;
        assert!(said.ends_with(&format!(", resource=\"https://{resource}\"")), "{said}");
    }
    let token = face_token(&world, &world.owner, "https://vault.kluis.example.org:8443").await;
    call_at(&world, team, "GET", "/secrets", Some(&token), None).await.ok();
}

#[tokio::test]
async fn a_vault_that_is_none_is_not_there() {
    let world = World::new().await;
    for name in ["nobody", "x--", "-", "a_b", &"a".repeat(70)] {
        let vault = format!("https://{name}.vault.localhost:8443");
        let answer = call_at(&world, &vault, "GET", "/secrets", Some(&world.owner), None).await;
        refused(&answer, 404, "VaultNotFound", None);
    }
}

#[tokio::test]
async fn everything_else_is_the_native_face() {
    let world = World::new().await;
    for host in ["localhost:8443", "vault.localhost", "a.b.vault.localhost", "default.vault.elsewhere.org", "[::1]:1"] {
        let request = Request::get("/api/v1/whoami").header(HOST, host);
        let request = request.header(AUTHORIZATION, format!("Bearer {}", world.owner)).body(Body::empty()).unwrap();
        assert_eq!(world.send(request).await.ok()["principal"]["name"], "owner", "{host}");
    }
    let request = Request::get("/api/v1/whoami").header(HOST, "default.vault.localhost:8443");
    let request = request.header(AUTHORIZATION, format!("Bearer {}", world.owner)).body(Body::empty()).unwrap();
    refused(&world.send(request).await, 400, "BadParameter", None);
}

#[tokio::test]
async fn a_clients_check_of_the_certificate_holds_for_every_vault() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = ServerOptions::new(folder.path().join("data"), PrincipalName::parse("owner").unwrap());
    options.listen = "127.0.0.1:0".into();
    options.hosts = vec!["kluis.example.org".parse().unwrap()];
    let running = Server::start(options).await.unwrap();
    let mut roots = RootCertStore::empty();
    let ca = running.app().ca.as_ref().unwrap().pem.clone();
    roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let connect = async |name: &'static str| {
        let socket = TcpStream::connect(running.addr()).await.unwrap();
        connector.connect(ServerName::try_from(name).unwrap(), socket).await
    };
    for name in ["default.vault.localhost", "whatever.vault.kluis.example.org"] {
        let mut stream = connect(name).await.unwrap();
        let ask = format!("PUT /secrets/a HTTP/1.1\r\nhost: {name}:8443\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(ask.as_bytes()).await.unwrap();
        let body = format!("PUT /secrets/a HTTP/1.1\r\nhost: {name}:8443\r\ncontent-length: 5\r\n\r\n12345");
        stream.write_all(body.as_bytes()).await.unwrap();
        let mut answers = String::new();
        stream.read_to_string(&mut answers).await.unwrap();
        assert_eq!(answers.matches("HTTP/1.1 401 Unauthorized").count(), 2, "{answers}");
        assert_eq!(answers.matches("connection: close").count(), 1, "the second was refused with its body: {answers}");
    }
    assert!(connect("a.b.vault.localhost").await.is_err());

    // More than any buffer on the way holds: the client is still sending when it is refused, and hears why.
    let mut stream = connect("default.vault.localhost").await.unwrap();
    let size = 900_000;
    let head = format!("PUT /secrets/a HTTP/1.1\r\nhost: default.vault.localhost\r\ncontent-length: {size}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![b'x'; size]).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 401 Unauthorized") && answer.contains("connection: close"), "{answer}");
    running.shutdown().await;
}
