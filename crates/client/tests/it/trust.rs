//! Who is trusted: the pinned authority's certificates, for the right name, at the right time, and nobody else.

use kluis_client::{Client, Error};
use rcgen::{CertificateParams, GeneralSubtree, NameConstraints};

use crate::fake::{Authority, Fake, HTTP_1, Identity, json};

async fn reach(identity: Identity, authority: &Authority) -> (Result<(), Error>, usize) {
    let fake = Fake::start(identity, |_| json(200, "{}")).await;
    let result = Client::anonymous(&fake.server(authority.pin())).health().await;
    (result, fake.asked())
}

async fn refused(identity: Identity, authority: &Authority, reason: &str) {
    let (result, asked) = reach(identity, authority).await;
    match result {
        Err(Error::Untrusted { reason: said, .. }) => assert!(said.contains(reason), "{said}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(asked, 0, "nothing may be sent to a server that is not trusted");
}

#[tokio::test]
async fn the_pinned_authority_is_trusted() {
    let authority = Authority::new();
    let (result, asked) = reach(authority.issue(&["localhost"], |_| {}), &authority).await;
    assert!(result.is_ok() && asked == 1, "{result:?}");
}

#[tokio::test]
async fn another_authority_of_the_same_name_is_not() {
    let (ours, other) = (Authority::new(), Authority::new());
    refused(other.issue(&["localhost"], |_| {}), &ours, "not the one whose SHA-256").await;
}

#[tokio::test]
async fn showing_the_pinned_certificate_beside_a_foreign_one_does_not_help() {
    let (ours, other) = (Authority::new(), Authority::new());
    let mut identity = other.issue(&["localhost"], |_| {});
    identity.chain.push(ours.der());
    let (result, asked) = reach(identity, &ours).await;
    assert!(matches!(result, Err(Error::Untrusted { .. })), "{result:?}");
    assert_eq!(asked, 0);
}

#[tokio::test]
async fn the_name_must_be_right() {
    let authority = Authority::new();
    refused(authority.issue(&["other.example.org"], |_| {}), &authority, "for other names").await;
}

#[tokio::test]
async fn the_dates_must_be_right() {
    let authority = Authority::new();
    let expired = |params: &mut CertificateParams| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    };
    refused(authority.issue(&["localhost"], expired), &authority, "not valid at this time").await;
}

#[tokio::test]
async fn an_authority_does_not_step_outside_its_constraints() {
    let authority = Authority::with(|params| {
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName("kluis.example.org".into())],
            excluded_subtrees: Vec::new(),
        });
    });
    let (result, asked) = reach(authority.issue(&["localhost"], |_| {}), &authority).await;
    assert!(matches!(result, Err(Error::Untrusted { .. })), "{result:?}");
    assert_eq!(asked, 0);
}

#[tokio::test]
async fn only_tls_13_is_spoken() {
    let authority = Authority::new();
    let identity = authority.issue(&["localhost"], |_| {});
    let fake = Fake::start_with(identity, &[&rustls::version::TLS12], HTTP_1, |_| json(200, "{}")).await;
    let result = Client::anonymous(&fake.server(authority.pin())).health().await;
    assert!(matches!(result, Err(Error::Unreachable { .. })), "{result:?}");
    assert_eq!(fake.asked(), 0);
}
