//! Calls: what is sent, what becomes of answers, what is repeated.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kluis_client::credentials::Credential;
use kluis_client::trust::Server;
use kluis_client::{Client, Error};
use kluis_core::api::identity::CreateToken;
use kluis_core::api::secrets::SetSecret;
use kluis_core::api::{Page, PageQuery};
use kluis_core::name::{PrincipalName, RunId, SecretName, WorkspaceName};
use kluis_core::plaintext::Plaintext;
use kluis_core::secret::Attributes;

use crate::fake::{Asked, Fake, HTTP_1, HTTP_2, json};

const BUSY: &str = r#"{"status":503,"code":"unavailable","title":"Starting","detail":"the server is starting"}"#;
const NOBODY: &str = r#"{"items":[]}"#;

fn signed_in(server: &Server) -> Client {
    Client::signed_in(&Credential::new(server.clone(), Plaintext::from_text("kls_usr_hunter2").unwrap(), None))
}

fn workspace() -> WorkspaceName {
    WorkspaceName::parse("default").unwrap()
}

fn set() -> SetSecret {
    SetSecret {
        value: Plaintext::from_text("canary-value").unwrap(),
        attributes: Attributes::default(),
        if_revision: None,
    }
}

#[tokio::test]
async fn a_call_carries_token_path_query_and_body() {
    let (sender, mut asked) = tokio::sync::mpsc::unbounded_channel::<Asked>();
    let (_fake, server) = Fake::usual(move |request| {
        sender.send(request).unwrap();
        json(404, r#"{"status":404,"code":"not_found","title":"Not found"}"#)
    })
    .await;
    let client = signed_in(&server);
    let page = PageQuery { limit: Some(5), after: Some("a b&c".into()) };
    assert!(client.secrets(&workspace(), page).await.is_err());
    let request = asked.recv().await.unwrap();
    assert_eq!(request.address, "/api/v1/workspaces/default/secrets?limit=5&after=a+b%26c");
    assert_eq!(request.headers["authorization"], "Bearer kls_usr_hunter2");
    assert!(client.member_remove(&workspace(), "a/../b@x").await.is_err());
    assert_eq!(asked.recv().await.unwrap().address, "/api/v1/workspaces/default/members/a%2F..%2Fb@x");
    let name = SecretName::parse("Db").unwrap();
    assert!(client.secret_set(&workspace(), &name, &set()).await.is_err());
    let request = asked.recv().await.unwrap();
    assert_eq!((request.method.as_str(), &request.address[..]), ("PUT", "/api/v1/workspaces/default/secrets/Db"));
    assert_eq!(request.body, r#"{"value":"canary-value","attributes":{"enabled":true}}"#);
    let run = RunId::parse("r1").unwrap();
    assert!(client.run_output(&workspace(), &run, "outputs/a b/ä.pkl").await.is_err());
    let address = asked.recv().await.unwrap().address;
    assert_eq!(address, "/api/v1/workspaces/default/runs/r1/outputs/outputs/a%20b/%C3%A4.pkl");
    assert!(!format!("{client:?}").contains("hunter2"));
}

#[tokio::test]
async fn a_problem_becomes_a_typed_refusal() {
    let (_fake, server) = Fake::usual(|_| {
        json(409, r#"{"status":409,"code":"secret_deleted","title":"Deleted","detail":"recover it","request_id":"q7"}"#)
    })
    .await;
    let name = SecretName::parse("db").unwrap();
    let error = signed_in(&server).secret_get(&workspace(), &name, None).await.unwrap_err();
    assert_eq!(
        (error.code(), error.status(), error.to_string().as_str()),
        (Some("secret_deleted"), Some(409), "recover it")
    );
    assert!(matches!(error, Error::Api(e) if e.request_id.as_deref() == Some("q7") && e.server_seconds.is_some()));
}

#[tokio::test]
async fn an_answer_that_is_not_ours_is_told_without_its_content() {
    for answer in [r#"{"value":17,"name":"hunter2"}"#, "hunter2", r#"{"value":"hunter2","name":"a/b"}"#] {
        let (_fake, server) = Fake::usual(move |_| json(200, answer)).await;
        let name = SecretName::parse("db").unwrap();
        let error = signed_in(&server).secret_get(&workspace(), &name, None).await.unwrap_err();
        assert!(matches!(error, Error::Answer { .. }), "{error:?}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
    let (_fake, server) = Fake::usual(|_| Some((500, "text/html", b"<h1>hunter2</h1>".to_vec()))).await;
    let error = signed_in(&server).whoami().await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
}

/// Answers busy, or breaks off, so many times; then well.
async fn flaky(protocol: &str, failures: usize, break_off: bool) -> (Fake, Server) {
    let left = Arc::new(AtomicUsize::new(failures));
    Fake::over(protocol, move |_| match left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)) {
        Ok(_) if break_off => None,
        Ok(_) => json(503, BUSY),
        Err(_) => json(200, NOBODY),
    })
    .await
}

#[tokio::test]
async fn a_harmless_call_is_repeated_and_others_are_not() {
    for (protocol, break_off) in [(HTTP_1, false), (HTTP_1, true), (HTTP_2, false), (HTTP_2, true)] {
        let (fake, server) = flaky(protocol, 2, break_off).await;
        let page: Page<_> = signed_in(&server).secrets(&workspace(), PageQuery::default()).await.unwrap();
        assert!(page.items.is_empty());
        assert_eq!(fake.asked(), 3);

        let (fake, server) = flaky(protocol, 2, break_off).await;
        let create = CreateToken { label: "x".into(), life_seconds: None };
        assert!(signed_in(&server).token_create(&create).await.unwrap_err().is_transient());
        assert_eq!(fake.asked(), 1);

        // A PUT that makes a version each time is not harmless.
        let (fake, server) = flaky(protocol, 2, break_off).await;
        let name = SecretName::parse("db").unwrap();
        assert!(signed_in(&server).secret_set(&workspace(), &name, &set()).await.is_err());
        assert_eq!(fake.asked(), 1);
    }
    // Turned away, a deletion was not done; broken off, it may have been.
    for (protocol, break_off, asked) in [(HTTP_1, false, 3), (HTTP_1, true, 1), (HTTP_2, false, 3), (HTTP_2, true, 1)] {
        let (fake, server) = flaky(protocol, 2, break_off).await;
        let _ = signed_in(&server).token_revoke("current").await;
        assert_eq!(fake.asked(), asked, "{protocol} {break_off}");
    }
    let (fake, server) = flaky(HTTP_2, usize::MAX, false).await;
    assert_eq!(signed_in(&server).whoami().await.unwrap_err().code(), Some("unavailable"));
    assert_eq!(fake.asked(), 5, "it gives up");
}

#[tokio::test]
async fn nobody_there_is_unreachable_with_the_address() {
    let (fake, server) = Fake::usual(|_| json(200, NOBODY)).await;
    let mut nowhere = server.clone();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    nowhere.origin = format!("localhost:{free}").parse().unwrap();
    let error = signed_in(&nowhere).whoami().await.unwrap_err();
    assert!(error.to_string().contains(&format!("https://localhost:{free} could not be reached")), "{error}");
    assert_eq!(fake.asked(), 0);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (fake, server) = Fake::usual(|_| Some((307, "text/plain", Vec::new()))).await;
    let error = signed_in(&server).whoami().await.unwrap_err();
    assert!(matches!(error, Error::Answer { .. }), "{error:?}");
    assert_eq!(fake.asked(), 1);
}

#[tokio::test]
async fn all_pages_are_fetched_in_order() {
    let (_fake, server) = Fake::usual(|request| {
        let principal = |n: u8| {
            format!(
                r#"{{"id":"{n:032x}","name":"p{n}","kind":"user","enabled":true,"installation_owner":false,"revision":1}}"#
            )
        };
        match request.address.split_once("after=").map(|(_, after)| after) {
            None => json(200, &format!(r#"{{"items":[{},{}],"next":"2"}}"#, principal(1), principal(2))),
            Some("2") => json(200, &format!(r#"{{"items":[{}]}}"#, principal(3))),
            other => panic!("{other:?}"),
        }
    })
    .await;
    let client = signed_in(&server);
    let names: Vec<PrincipalName> =
        Client::all(|page| client.principals(page)).await.unwrap().into_iter().map(|p| p.name).collect();
    assert_eq!(names, ["p1", "p2", "p3"].map(|n| PrincipalName::parse(n).unwrap()));
}

#[tokio::test]
async fn a_snapshot_is_streamed_with_progress_and_sent_again_once() {
    let folder = tempfile::tempdir().unwrap();
    let packed = folder.path().join("packed");
    std::fs::write(&packed, vec![7; 1_000_000]).unwrap();
    let first = Arc::new(AtomicUsize::new(0));
    let (fake, server) = Fake::usual(move |request| {
        assert_eq!(request.headers["content-length"], "1000000");
        assert_eq!(request.body.len(), 1_000_000);
        if first.fetch_add(1, Ordering::SeqCst) == 0 {
            return None;
        }
        json(200, &format!(r#"{{"snapshot":"{:032x}","bytes":1000000}}"#, 5))
    })
    .await;
    let seen = Arc::new(AtomicUsize::new(0));
    let progress = seen.clone();
    let stored = signed_in(&server)
        .snapshot_upload(&workspace(), &packed, move |bytes| progress.store(bytes as usize, Ordering::SeqCst))
        .await
        .unwrap();
    assert_eq!((stored.bytes, seen.load(Ordering::SeqCst), fake.asked()), (1_000_000, 1_000_000, 2));
}
