//! A run's log: complete, in order, through lost connections.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use data_encoding::BASE64;
use kluis_client::credentials::Credential;
use kluis_client::{Client, Error};
use kluis_core::api::runs::LogsQuery;
use kluis_core::name::{RunId, WorkspaceName};
use kluis_core::plaintext::Plaintext;

use crate::fake::{CUT, Fake, HTTP_1, HTTP_2, json};

fn line(seq: u64) -> String {
    let data = BASE64.encode(format!("line {seq}\n").as_bytes());
    format!(r#"{{"seq":{seq},"time":"2026-11-24T14:17:00Z","rank":0,"stream":"stdout","data":"{data}"}}"#) + "\n"
}

async fn read(fake_server: &kluis_client::trust::Server, follow: bool) -> (Vec<u64>, Option<Error>) {
    let credential = Credential::new(fake_server.clone(), Plaintext::from_text("t").unwrap(), None);
    let (workspace, run) = (WorkspaceName::parse("w").unwrap(), RunId::parse("r").unwrap());
    let query = LogsQuery { follow, ..LogsQuery::default() };
    let mut seen = Vec::new();
    let mut stream = match Client::signed_in(&credential).run_logs(&workspace, &run, query).await {
        Ok(stream) => stream,
        Err(error) => return (seen, Some(error)),
    };
    loop {
        match stream.next().await {
            Ok(Some(record)) => seen.push(record.seq),
            Ok(None) => return (seen, None),
            Err(error) => return (seen, Some(error)),
        }
    }
}

#[tokio::test]
async fn records_arrive_in_order_and_empty_lines_are_signs_of_life() {
    let body = format!("{}\n\n{}{}", line(0), line(1), line(2));
    let (_fake, server) = Fake::usual(move |_| json(200, &body)).await;
    let (seen, error) = read(&server, false).await;
    assert_eq!(seen, [0, 1, 2]);
    assert!(error.is_none(), "{error:?}");
}

#[tokio::test]
async fn a_followed_log_goes_on_where_it_broke_off() {
    for protocol in [HTTP_1, HTTP_2] {
        followed(protocol).await;
    }
}

async fn followed(protocol: &str) {
    // A server that dies in the middle of the second record, one that is not there yet, then the rest.
    let step = Arc::new(AtomicUsize::new(0));
    let addresses = Arc::new(Mutex::new(Vec::new()));
    let asked = addresses.clone();
    let (_fake, server) = Fake::over(protocol, move |request| {
        addresses.lock().unwrap().push(request.address);
        match step.fetch_add(1, Ordering::SeqCst) {
            0 => Some((200, CUT, (line(0) + &line(1)[..40]).into_bytes())),
            1 => None,
            _ => json(200, &(line(1) + &line(2))),
        }
    })
    .await;
    let (seen, error) = read(&server, true).await;
    assert_eq!(seen, [0, 1, 2]);
    assert!(error.is_none(), "{error:?}");
    let asked = asked.lock().unwrap();
    assert!(!asked[0].contains("from="), "{asked:?}");
    assert!(asked.len() >= 3 && asked[1..].iter().all(|a| a.contains("from=1")), "{asked:?}");
}

#[tokio::test]
async fn a_log_that_is_not_followed_says_when_it_was_cut() {
    let (_fake, server) = Fake::usual(|_| Some((200, CUT, line(0).into_bytes()))).await;
    let (seen, error) = read(&server, false).await;
    assert_eq!(seen, [0]);
    assert!(matches!(error, Some(Error::Unreachable { .. })), "{error:?}");
}

#[tokio::test]
async fn nonsense_is_an_error_without_content() {
    let (_fake, server) = Fake::usual(|_| json(200, "{\"seq\":\"hunter2\"}\n")).await;
    let (_, error) = read(&server, true).await;
    let error = error.unwrap();
    assert!(matches!(error, Error::Answer { .. }) && !format!("{error} {error:?}").contains("hunter2"), "{error:?}");
}
