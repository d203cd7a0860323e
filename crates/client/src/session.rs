//! A launcher's side of its session: every request is signed with the key that redeemed the ticket
//! (`kluis_core::api::session` has the rules). Each method is one request and is not repeated here: the launcher decides
//! how long to try, and every request is harmless to repeat.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use bytes::Bytes;
use data_encoding::HEXLOWER;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request};
use kluis_core::api::PREFIX;
use kluis_core::api::agents::AttemptId;
use kluis_core::api::runs::ChangeRun;
use kluis_core::api::session::{
    AppendLogs, AppendMetrics, Appended, ChildCreated, CreateChild, EndChild, EndRun, HEADER_SESSION, HEADER_SIGNATURE,
    HEADER_TIME, Heartbeat, HeartbeatAnswer, OutputQuery, ReadSecrets, RedeemTicket, SecretsRead, SessionOpened,
    signed_bytes,
};
use kluis_core::clock::{Clock, Timestamp};
use kluis_core::id::SessionId;
use kluis_core::name::RunId;
use kluis_core::plaintext::Plaintext;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::client::Download;
use crate::error::Error;
use crate::http::{TIMEOUT, Transport};
use crate::trust::Server;

/// A link that carries less than this many bytes in a second is no link.
const SLOWEST: usize = 16 * 1024;

/// The key that a session is bound to: made by the launcher, never written anywhere.
pub struct SessionKey(Ed25519KeyPair);

impl SessionKey {
    /// A fresh key.
    pub fn generate() -> Self {
        Self(Ed25519KeyPair::generate().expect("the operating system gives random bytes"))
    }

    /// The public half, 64 hex digits.
    pub fn public_hex(&self) -> String {
        HEXLOWER.encode(self.0.public_key().as_ref())
    }
}

impl std::fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SessionKey({})", self.public_hex())
    }
}

/// What a launcher starts with.
#[derive(Clone, Debug)]
pub struct Ticket {
    /// Which attempt of which run.
    pub attempt: AttemptId,
    /// The one-time credential, `kls_tkt_...`.
    pub ticket: Plaintext,
}

/// Signs and sends. Before a session exists it can only redeem.
#[derive(Clone)]
struct Signer {
    transport: Transport,
    key: Arc<SessionKey>,
    session: Option<SessionId>,
    clock: Arc<dyn Clock>,
    /// Server's time minus ours, in milliseconds.
    offset: Arc<AtomicI64>,
}

/// A ticket and the key that will redeem it. Redeeming again with the same pair is harmless; with another key it is theft.
pub struct Redeemer {
    signer: Signer,
    request: RedeemTicket,
}

impl Redeemer {
    /// `host` is the node's name and `version` the launcher's, both for people.
    pub fn new(
        server: &Server,
        ticket: Ticket,
        key: SessionKey,
        host: String,
        version: String,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let request = RedeemTicket {
            attempt: ticket.attempt,
            ticket: ticket.ticket,
            public_key: key.public_hex(),
            host,
            version,
        };
        let signer = Signer {
            transport: Transport::new(server.clone()),
            key: Arc::new(key),
            session: None,
            clock,
            offset: Arc::new(AtomicI64::new(0)),
        };
        Self { signer, request }
    }

    /// Redeems the ticket.
    pub async fn redeem(&self) -> Result<(Session, SessionOpened), Error> {
        let body = serde_json::to_vec(&self.request).expect("wire types are JSON");
        let request = Outgoing::post("redeem the run's ticket", &["session", "redeem"], Bytes::from(body));
        let opened: SessionOpened = self.signer.json(request).await?;
        let signer = Signer { session: Some(opened.session), ..self.signer.clone() };
        signer.set_time(opened.now);
        Ok((Session { signer }, opened))
    }
}

/// An open session.
#[derive(Clone)]
pub struct Session {
    signer: Signer,
}

impl Session {
    /// Its id.
    pub fn id(&self) -> SessionId {
        self.signer.session.expect("a session is made with its id")
    }

    /// The server's time, as far as we know it.
    pub fn now(&self) -> Timestamp {
        self.signer.now()
    }

    /// Values for the run. The masker must learn them before anybody else does.
    pub async fn secrets(&self, read: &ReadSecrets) -> Result<SecretsRead, Error> {
        self.post("read the run's secrets", &["session", "secrets"], read, TIMEOUT).await
    }

    /// A sign of life; waits on the server for at most `wait_seconds`.
    pub async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<HeartbeatAnswer, Error> {
        // The wait and a little more: a server that is gone is noticed before the next sign of life is due.
        let patience = Duration::from_secs(10 + u64::from(heartbeat.wait_seconds));
        let answer: HeartbeatAnswer =
            self.post("give a sign of life", &["session", "heartbeat"], heartbeat, patience).await?;
        self.signer.set_time(answer.now);
        Ok(answer)
    }

    /// Log records.
    pub async fn logs(&self, append: &AppendLogs) -> Result<Appended, Error> {
        self.post("upload the log", &["session", "logs"], append, TIMEOUT).await
    }

    /// Metrics.
    pub async fn metrics(&self, append: &AppendMetrics) -> Result<Appended, Error> {
        self.post("upload metrics", &["session", "metrics"], append, TIMEOUT).await
    }

    /// Tags, properties, display name; of a child run, or of the run itself.
    pub async fn change(&self, run: Option<&RunId>, change: &ChangeRun) -> Result<(), Error> {
        let body = serde_json::to_vec(change).expect("wire types are JSON");
        let request = Outgoing {
            query: run.map(|run| query(&[("run", run.as_str())])),
            method: Method::PATCH,
            ..Outgoing::post("change the run", &["session", "run"], body.into())
        };
        self.signer.send(request).await.map(drop)
    }

    /// A piece of an output, at most `MAX_PIECE` bytes. `path` has `/` between its parts.
    pub async fn output(&self, path: &str, piece: &OutputQuery, data: Bytes) -> Result<(), Error> {
        let mut segments = vec!["session", "outputs"];
        segments.extend(path.split('/'));
        let (offset, last) = (piece.offset.to_string(), piece.last.to_string());
        let mut pairs = vec![("offset", offset.as_str()), ("last", last.as_str())];
        pairs.extend(piece.run.as_ref().map(|run| ("run", run.as_str())));
        let request = Outgoing {
            query: Some(query(&pairs)),
            method: Method::PUT,
            content_type: "application/octet-stream",
            ..Outgoing::post("upload an output", &segments, data)
        };
        self.signer.send(request).await.map(drop)
    }

    /// The packed tree to run in.
    pub async fn snapshot(&self) -> Result<Download, Error> {
        const ACTION: &str = "fetch the snapshot";
        let request = Outgoing {
            method: Method::GET,
            patience: None,
            ..Outgoing::post(ACTION, &["session", "snapshot"], Bytes::new())
        };
        let response = self.signer.send(request).await?;
        Ok(Download { transport: self.signer.transport.clone(), action: ACTION, response })
    }

    /// A new child run. Choose its id, so that a lost answer can be asked for again.
    pub async fn child_create(&self, create: &CreateChild) -> Result<ChildCreated, Error> {
        self.post("create a child run", &["session", "children"], create, TIMEOUT).await
    }

    /// A child run's end.
    pub async fn child_end(&self, run: &RunId, end: &EndChild) -> Result<(), Error> {
        let body = serde_json::to_vec(end).expect("wire types are JSON");
        let path = ["session", "children", run.as_str(), "end"];
        self.signer.send(Outgoing::post("end a child run", &path, body.into())).await.map(drop)
    }

    /// The run's end. With a success the session is dead.
    pub async fn end(&self, end: &EndRun) -> Result<(), Error> {
        let body = serde_json::to_vec(end).expect("wire types are JSON");
        self.signer.send(Outgoing::post("report the run's end", &["session", "end"], body.into())).await.map(drop)
    }

    async fn post<T: DeserializeOwned>(
        &self,
        action: &'static str,
        path: &[&str],
        body: &impl Serialize,
        patience: Duration,
    ) -> Result<T, Error> {
        let body = serde_json::to_vec(body).expect("wire types are JSON");
        self.signer.json(Outgoing { patience: Some(patience), ..Outgoing::post(action, path, body.into()) }).await
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({} at {})", self.id(), self.signer.transport.origin())
    }
}

/// A request before it is signed.
struct Outgoing {
    action: &'static str,
    method: Method,
    path: Vec<String>,
    query: Option<String>,
    content_type: &'static str,
    body: Bytes,
    patience: Option<Duration>,
}

impl Outgoing {
    fn post(action: &'static str, path: &[&str], body: Bytes) -> Self {
        let path = path.iter().map(|&part| part.to_owned()).collect();
        let (method, patience) = (Method::POST, Some(TIMEOUT));
        Self { action, method, path, query: None, content_type: "application/json", body, patience }
    }
}

fn query(pairs: &[(&str, &str)]) -> String {
    reqwest::Url::parse_with_params("https://x", pairs)
        .expect("the base is a URL")
        .query()
        .unwrap_or_default()
        .to_owned()
}

impl Signer {
    fn now(&self) -> Timestamp {
        let ours = self.clock.now().millis();
        Timestamp::from_millis(ours.saturating_add(self.offset.load(Ordering::Relaxed)))
    }

    fn set_time(&self, server: Timestamp) {
        self.offset.store(server.millis().saturating_sub(self.clock.now().millis()), Ordering::Relaxed);
    }

    async fn json<T: DeserializeOwned>(&self, outgoing: Outgoing) -> Result<T, Error> {
        let action = outgoing.action;
        let response = self.send(outgoing).await?;
        self.transport.read_json(action, response).await
    }

    /// Sends once. A refusal for a clock that is far off (ours was set, or the server's) is answered by taking the
    /// server's time from the refusal, signing anew and asking once more.
    async fn send(&self, outgoing: Outgoing) -> Result<reqwest::Response, Error> {
        let action = outgoing.action;
        let outcome = self.transport.send_once(action, self.sign(&outgoing)).await;
        match outcome {
            Err(Error::Api(error)) if error.status == 401 && self.learn(error.server_seconds) => {
                self.transport.send_once(action, self.sign(&outgoing)).await
            }
            outcome => outcome,
        }
    }

    /// Takes over the server's time when ours is more than a minute off; says whether it was.
    fn learn(&self, server_seconds: Option<i64>) -> bool {
        let Some(seconds) = server_seconds else { return false };
        let ours = self.now();
        let theirs = Timestamp::from_seconds(seconds);
        let off = theirs.since(ours).max(ours.since(theirs)) > Duration::from_mins(1);
        if off {
            self.set_time(theirs);
        }
        off
    }

    fn sign(&self, outgoing: &Outgoing) -> reqwest::Request {
        let Outgoing { action: _, method, path, query, content_type, body, patience } = outgoing;
        let length = body.len();
        let mut url = self.transport.origin().url();
        url.set_path(PREFIX);
        url.path_segments_mut().expect("https URLs have paths").extend(path);
        url.set_query(query.as_deref());
        let path_and_query = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        let session = self.session.map(|id| id.to_string()).unwrap_or_default();
        let time = self.now().millis();
        let signature = self.key.0.sign(&signed_bytes(method.as_str(), &path_and_query, &session, time, body));
        let text = |text: String| HeaderValue::try_from(text).expect("ids, numbers and hex are header values");
        let request = Request::builder()
            .method(method.clone())
            .uri(url.as_str())
            .header(CONTENT_TYPE, *content_type)
            .header(HEADER_SESSION, text(session))
            .header(HEADER_TIME, text(time.to_string()))
            .header(HEADER_SIGNATURE, text(HEXLOWER.encode(signature.as_ref())))
            .body(body.clone())
            .expect("a URL and header values make a request");
        let mut request = reqwest::Request::try_from(request).expect("a URL was made from a URL");
        // A slow link takes its time for a large body: with a fixed limit it would be sent for ever and never arrive.
        *request.timeout_mut() = patience.map(|patience| patience + Duration::from_secs((length / SLOWEST) as u64));
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::{CaPin, Origin};
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
    use kluis_core::clock::ManualClock;

    fn signer() -> Signer {
        let server = Server { origin: Origin::parse("localhost:1").unwrap(), ca_sha256: CaPin::of_certificate(b"ca") };
        Signer {
            transport: Transport::new(server),
            key: Arc::new(SessionKey::generate()),
            session: Some(SessionId::from_bytes([7; 16])),
            clock: Arc::new(ManualClock::at(Timestamp::from_seconds(1000))),
            offset: Arc::new(AtomicI64::new(0)),
        }
    }

    #[test]
    fn a_large_piece_has_the_time_that_a_slow_link_takes_for_it() {
        let timeout = |bytes: usize| {
            let request = Outgoing::post("test", &["session", "logs"], vec![0; bytes].into());
            signer().sign(&request).timeout().copied().unwrap()
        };
        assert_eq!(timeout(1000), TIMEOUT);
        assert_eq!(timeout(4 * 1024 * 1024), TIMEOUT + Duration::from_secs(256));
    }

    #[test]
    fn the_signature_covers_what_the_server_will_see() {
        let signer = signer();
        signer.set_time(Timestamp::from_seconds(5000));
        let request = signer.sign(&Outgoing {
            query: Some(query(&[("offset", "0"), ("last", "true")])),
            method: Method::PUT,
            ..Outgoing::post("test", &["session", "outputs", "outputs", "my model ä.pkl"], Bytes::from_static(b"data"))
        });
        let path = "/api/v1/session/outputs/outputs/my%20model%20%C3%A4.pkl?offset=0&last=true";
        assert_eq!(request.url().as_str(), format!("https://localhost:1{path}"));
        let header = |name: &str| request.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header(HEADER_TIME), "5000000");
        let session = SessionId::from_bytes([7; 16]).to_string();
        assert_eq!(header(HEADER_SESSION), session);
        let message = signed_bytes("PUT", path, &session, 5_000_000, b"data");
        let signature = HEXLOWER.decode(header(HEADER_SIGNATURE).as_bytes()).unwrap();
        let public = HEXLOWER.decode(signer.key.public_hex().as_bytes()).unwrap();
        assert!(UnparsedPublicKey::new(&ED25519, public).verify(&message, &signature).is_ok());
    }
}
