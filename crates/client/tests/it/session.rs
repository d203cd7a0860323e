//! A launcher's session against a server that checks every signature.

use std::sync::{Arc, Mutex};

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use bytes::Bytes;
use data_encoding::HEXLOWER;
use kluis_client::Error;
use kluis_client::session::{Redeemer, SessionKey, Ticket};
use kluis_client::trust::Server;
use kluis_core::api::agents::AttemptId;
use kluis_core::api::session::{
    HEADER_SESSION, HEADER_SIGNATURE, HEADER_TIME, Heartbeat, OutputQuery, ReadSecrets, RedeemTicket, signed_bytes,
};
use kluis_core::clock::{Clock, ManualClock, SystemClock, Timestamp};
use kluis_core::name::{RunId, SecretName, WorkspaceName};
use kluis_core::plaintext::Plaintext;

use crate::fake::{Answer, Asked, Fake, HTTP_1, HTTP_2, json};

const SESSION: &str = "0123456789abcdef0123456789abcdef";

/// Checks time and signature as the server does; redeeming tells the key.
#[derive(Default)]
struct Checker {
    key: Mutex<Option<String>>,
    redeemed: Mutex<Vec<String>>,
}

impl Checker {
    fn check(&self, asked: &Asked) -> Result<(), Answer> {
        let header = |name: &str| asked.headers[name].to_str().unwrap().to_owned();
        let (session, time) = (header(HEADER_SESSION), header(HEADER_TIME).parse::<i64>().unwrap());
        if asked.address.ends_with("/session/redeem") {
            let redeem: RedeemTicket = serde_json::from_slice(&asked.body).unwrap();
            assert_eq!((session.as_str(), redeem.ticket.expose()), ("", "kls_tkt_t"));
            self.redeemed.lock().unwrap().push(redeem.public_key.clone());
            *self.key.lock().unwrap() = Some(redeem.public_key);
        } else {
            assert_eq!(session, SESSION);
        }
        if (time - SystemClock.now().millis()).abs() > 300_000 {
            return Err(json(401, r#"{"status":401,"code":"clock_skew","title":"clock"}"#));
        }
        let message = signed_bytes(asked.method.as_str(), &asked.address, &session, time, &asked.body);
        let key = HEXLOWER.decode(self.key.lock().unwrap().as_ref().unwrap().as_bytes()).unwrap();
        let signature = HEXLOWER.decode(header(HEADER_SIGNATURE).as_bytes()).unwrap();
        UnparsedPublicKey::new(&ED25519, key).verify(&message, &signature).expect("the signature is good");
        Ok(())
    }
}

fn opened() -> Answer {
    let now = SystemClock.now();
    let context = r#"{"workspace":"w","experiment":"e","run":"r","number":1,"attempt":1,"node":0,"nodes":1,
        "submitted_by":"00000000000000000000000000000001","submitter":"ann",
        "program":{"script":{"path":"train.py","arguments":[]}}}"#;
    json(
        200,
        &format!(r#"{{"session":"{SESSION}","context":{context},"now":"{now}","cache_without_contact_seconds":3600}}"#),
    )
}

fn redeemer(server: &Server, clock: Arc<dyn Clock>) -> Redeemer {
    let attempt =
        AttemptId { workspace: WorkspaceName::parse("w").unwrap(), run: RunId::parse("r").unwrap(), attempt: 1 };
    let ticket = Ticket { attempt, ticket: Plaintext::from_text("kls_tkt_t").unwrap() };
    Redeemer::new(server, ticket, SessionKey::generate(), "host".into(), "0.1.0".into(), clock)
}

#[tokio::test]
async fn every_request_is_signed_over_what_arrives() {
    for protocol in [HTTP_1, HTTP_2] {
        signed(protocol).await;
    }
}

async fn signed(protocol: &str) {
    let checker = Arc::new(Checker::default());
    let (_fake, server) = Fake::over(protocol, move |asked| {
        if let Err(refusal) = checker.check(&asked) {
            return refusal;
        }
        let now = SystemClock.now();
        match asked.address.strip_prefix("/api/v1/session/").unwrap() {
            "redeem" => opened(),
            "secrets" => json(200, r#"{"items":[],"missing":["Db"]}"#),
            "heartbeat" => {
                json(200, &format!(r#"{{"status":"running","reads_received":0,"notices":0,"now":"{now}"}}"#))
            }
            "outputs/outputs/a%20b.pkl?offset=0&last=true" | "end" => json(200, "{}"),
            "snapshot" => Some((200, "application/octet-stream", b"packed".to_vec())),
            other => panic!("{other}"),
        }
    })
    .await;
    let (session, opened) = redeemer(&server, Arc::new(SystemClock)).redeem().await.unwrap();
    assert_eq!((session.id().to_string().as_str(), opened.context.run.as_str()), (SESSION, "r"));
    let read = ReadSecrets { names: vec![SecretName::parse("Db").unwrap()], refresh: false };
    assert_eq!(session.secrets(&read).await.unwrap().missing, read.names);
    session.heartbeat(&Heartbeat::default()).await.unwrap();
    let piece = OutputQuery { offset: 0, last: true, run: None };
    session.output("outputs/a b.pkl", &piece, Bytes::from_static(b"model")).await.unwrap();
    let mut packed = Vec::new();
    assert_eq!(session.snapshot().await.unwrap().write_to(&mut packed).await.unwrap(), 6);
    assert_eq!(packed, b"packed");
}

#[tokio::test]
async fn a_nodes_wrong_clock_does_no_harm() {
    for (off, protocol) in [(-86_400, HTTP_1), (86_400, HTTP_1), (86_400, HTTP_2)] {
        let checker = Arc::new(Checker::default());
        let (fake, server) = Fake::over(protocol, move |asked| match checker.check(&asked) {
            Ok(()) if asked.address.ends_with("redeem") => opened(),
            Ok(()) => json(200, r#"{"items":[],"missing":[]}"#),
            Err(refusal) => refusal,
        })
        .await;
        let wrong = Timestamp::from_seconds(SystemClock.now().seconds() + off);
        let clock = Arc::new(ManualClock::at(wrong));
        let (session, _) = redeemer(&server, clock.clone()).redeem().await.unwrap();
        let read = ReadSecrets { names: Vec::new(), refresh: false };
        session.secrets(&read).await.unwrap();
        assert_eq!(fake.asked(), 3, "refused for its clock, redeemed, read");
        assert!(session.now().since(SystemClock.now()).as_secs() < 60);

        // It is put right while the session lives.
        clock.set(SystemClock.now());
        session.secrets(&read).await.unwrap();
        assert_eq!(fake.asked(), 5, "refused for its clock, read");
        session.secrets(&read).await.unwrap();
        assert_eq!(fake.asked(), 6, "its time is known now");
    }
}

#[tokio::test]
async fn a_clock_that_is_set_while_a_session_is_open_costs_one_more_request_and_no_session() {
    let checker = Arc::new(Checker::default());
    let (fake, server) = Fake::usual(move |asked| match checker.check(&asked) {
        Ok(()) if asked.address.ends_with("redeem") => opened(),
        Ok(()) => json(200, r#"{"items":[],"missing":[]}"#),
        Err(refusal) => refusal,
    })
    .await;
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let (session, _) = redeemer(&server, clock.clone()).redeem().await.unwrap();
    let read = ReadSecrets { names: Vec::new(), refresh: false };
    clock.advance(std::time::Duration::from_hours(2));
    session.secrets(&read).await.unwrap();
    assert_eq!(fake.asked(), 3, "redeemed, refused for the clock, read");
    session.secrets(&read).await.unwrap();
    assert_eq!(fake.asked(), 4, "the server's time is kept");
    // A refusal that is none of the clock's is not asked again.
    let (fake, server) = Fake::usual(|asked| {
        if asked.address.ends_with("redeem") {
            opened()
        } else {
            json(401, r#"{"status":401,"code":"unauthenticated","title":"dead"}"#)
        }
    })
    .await;
    let (session, _) = redeemer(&server, Arc::new(SystemClock)).redeem().await.unwrap();
    assert_eq!(session.secrets(&read).await.unwrap_err().code(), Some("unauthenticated"));
    assert_eq!(fake.asked(), 2);
}

#[tokio::test]
async fn redeeming_again_brings_the_same_key() {
    let checker = Arc::new(Checker::default());
    let keys = checker.clone();
    let (_fake, server) = Fake::usual(move |asked| {
        checker.check(&asked).unwrap();
        // The first reply is lost, the second refused, the third arrives.
        match checker.redeemed.lock().unwrap().len() {
            1 => None,
            2 => json(409, r#"{"status":409,"code":"ticket_not_confirmed","title":"Not yet"}"#),
            _ => opened(),
        }
    })
    .await;
    let redeemer = redeemer(&server, Arc::new(SystemClock));
    assert!(matches!(redeemer.redeem().await.map(drop), Err(Error::Unreachable { .. })));
    assert_eq!(redeemer.redeem().await.map(drop).unwrap_err().code(), Some("ticket_not_confirmed"));
    redeemer.redeem().await.unwrap();
    let keys = keys.redeemed.lock().unwrap();
    assert_eq!((keys.len(), keys[0] == keys[1] && keys[1] == keys[2]), (3, true));
}
