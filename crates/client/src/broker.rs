//! A process of a run asks its launcher: a UNIX socket, length-prefixed JSON (`kluis_core::api::broker`). No runtime, no
//! threads, no network stack: this path is what `Run.get_context().get_secret()` costs.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use kluis_core::api::broker::{Answer, BrokerError, MAX_FRAME, Request};
use kluis_core::api::code;
use kluis_core::api::session::{RunContext, SecretsRead};
use kluis_core::name::SecretName;
use zeroize::Zeroizing;

/// The launcher itself gives up on a server that is away after this long.
const LAUNCHER_PATIENCE: Duration = Duration::from_secs(30);
/// How much longer than the launcher a process waits.
const MARGIN: Duration = Duration::from_secs(10);

/// Why the launcher did not answer as asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The launcher refused, or could not reach the server in time (code `unavailable`).
    #[error("{}", .0.detail)]
    Refused(BrokerError),
    /// The socket is not there or broke off.
    #[error("the run's launcher can not be reached ({0}); has the run ended?")]
    Gone(#[from] std::io::Error),
    /// The answer is not one of ours.
    #[error("the run's launcher gave an answer that this version does not understand")]
    Answer,
}

impl Error {
    /// The refusal's code, when it is a refusal.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused(error) => Some(&error.code),
            _ => None,
        }
    }
}

/// A connection to the launcher. It carries any number of requests, one after the other; another thread or a forked
/// process makes its own.
#[derive(Debug)]
pub struct Broker {
    stream: UnixStream,
    /// A request was broken off before its answer had been read: what comes next would answer the wrong question.
    out_of_step: bool,
}

impl Broker {
    /// Connects to the socket that `KLUIS_RUN_SOCKET` names.
    pub fn connect(socket: &Path) -> Result<Self, Error> {
        Ok(Self { stream: UnixStream::connect(socket)?, out_of_step: false })
    }

    /// Which run this is.
    pub fn context(&mut self) -> Result<RunContext, Error> {
        match self.call(&Request::Context {})? {
            Answer::Context(context) => Ok(*context),
            _ => Err(Error::Answer),
        }
    }

    /// Values. Missing names are listed; one refused name refuses all.
    pub fn secrets(
        &mut self,
        names: Vec<SecretName>,
        refresh: bool,
        rank: u32,
        timeout: Option<Duration>,
    ) -> Result<SecretsRead, Error> {
        let timeout_ms = timeout.map(|t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX));
        match self.call(&Request::GetSecrets { names, refresh, rank, timeout_ms })? {
            Answer::Secrets(read) => Ok(read),
            _ => Err(Error::Answer),
        }
    }

    /// Any request; a refusal is an error. After a request that broke off, such as one that took too long, the
    /// connection answers no more: connect anew.
    pub fn call(&mut self, request: &Request) -> Result<Answer, Error> {
        if self.out_of_step {
            return Err(Error::Gone(std::io::Error::other("an earlier request on this connection broke off")));
        }
        self.stream.set_read_timeout(patience(request))?;
        let mut frame = Zeroizing::new(vec![0; 4]);
        serde_json::to_writer(&mut *frame, request).map_err(|_| Error::Answer)?;
        let length = frame.len() - 4;
        if length > MAX_FRAME {
            return Err(Error::Refused(BrokerError {
                code: code::TOO_LARGE.to_owned(),
                detail: format!("the request has {length} bytes; the launcher takes {MAX_FRAME}"),
            }));
        }
        frame[..4].copy_from_slice(&(length as u32).to_be_bytes());
        self.out_of_step = true;
        // A launcher that refuses this process says so and hangs up, perhaps before it was asked anything.
        let sent = self.stream.write_all(&frame);
        let answer = match (sent, self.receive()) {
            (Ok(()), answer) => answer?,
            (Err(_), Ok(refusal @ Answer::Error(_))) => refusal,
            (Err(error), _) => return Err(error.into()),
        };
        self.out_of_step = false;
        match answer {
            Answer::Error(error) => Err(Error::Refused(error)),
            answer => Ok(answer),
        }
    }

    fn receive(&mut self) -> Result<Answer, Error> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        if length > MAX_FRAME {
            return Err(Error::Answer);
        }
        let mut frame = Zeroizing::new(vec![0; length]);
        self.stream.read_exact(&mut frame)?;
        serde_json::from_slice(&frame).map_err(|_| Error::Answer)
    }
}

/// How long an answer may take. Uploads and flushes last as long as they last: while the launcher lives, it answers.
fn patience(request: &Request) -> Option<Duration> {
    match request {
        Request::GetSecrets { timeout_ms, .. } => {
            Some(timeout_ms.map_or(LAUNCHER_PATIENCE, Duration::from_millis).saturating_add(MARGIN))
        }
        Request::WaitRotation { timeout_ms, .. } => Some(Duration::from_millis(*timeout_ms).saturating_add(MARGIN)),
        Request::Context {} => Some(MARGIN),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    /// A launcher that gives these answers, one per request.
    fn launcher(
        answers: Vec<Vec<u8>>,
    ) -> (tempfile::TempDir, std::path::PathBuf, std::thread::JoinHandle<Vec<String>>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = Vec::new();
            for answer in answers {
                let mut length = [0; 4];
                stream.read_exact(&mut length).unwrap();
                let mut body = vec![0; u32::from_be_bytes(length) as usize];
                stream.read_exact(&mut body).unwrap();
                asked.push(String::from_utf8(body).unwrap());
                // In two pieces, as a socket may deliver it.
                let (a, b) = answer.split_at(answer.len() / 2);
                stream.write_all(a).unwrap();
                stream.write_all(b).unwrap();
            }
            asked
        });
        (folder, path, thread)
    }

    fn frame(json: &str) -> Vec<u8> {
        [&(json.len() as u32).to_be_bytes()[..], json.as_bytes()].concat()
    }

    #[test]
    fn several_requests_go_over_one_connection() {
        let value = r#"{"answer":"secrets","items":[{"name":"Db","version":"000102030405060708090a0b0c0d0e0f",
            "value":"hunter2"}],"missing":["no"]}"#;
        let refused = r#"{"answer":"error","code":"secret_undeclared","detail":"not declared"}"#;
        let (_folder, path, thread) = launcher(vec![frame(value), frame(refused)]);
        let mut broker = Broker::connect(&path).unwrap();
        let names = vec![SecretName::parse("Db").unwrap(), SecretName::parse("no").unwrap()];
        let read = broker.secrets(names.clone(), false, 3, None).unwrap();
        assert_eq!(read.items[0].value.expose(), "hunter2");
        assert_eq!(read.missing, [SecretName::parse("no").unwrap()]);
        let error = broker.secrets(names, false, 3, None).unwrap_err();
        assert_eq!(error.code(), Some("secret_undeclared"));
        drop(broker);
        let asked = thread.join().unwrap();
        assert_eq!(asked[0], r#"{"op":"get_secrets","names":["Db","no"],"refresh":false,"rank":3}"#);
    }

    #[test]
    fn a_refusal_that_comes_before_the_request_is_heard() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let mut broker = Broker::connect(&path).unwrap();
        let (mut launcher, _) = listener.accept().unwrap();
        launcher.write_all(&frame(r#"{"answer":"error","code":"forbidden","detail":"a stranger"}"#)).unwrap();
        drop(launcher);
        assert_eq!(broker.call(&Request::Flush {}).unwrap_err().code(), Some("forbidden"));
        assert!(matches!(broker.call(&Request::Flush {}), Err(Error::Gone(_))));
    }

    #[test]
    fn a_late_answer_is_not_taken_for_the_next_requests() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let mut broker = Broker::connect(&path).unwrap();
        let (mut launcher, _) = listener.accept().unwrap();
        broker.stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        // As a read that took too long leaves it: asked, and not answered.
        broker.out_of_step = true;
        assert!(broker.receive().is_err());
        launcher.write_all(&frame(r#"{"answer":"done"}"#)).unwrap();
        assert!(matches!(broker.call(&Request::Flush {}), Err(Error::Gone(_))));
    }

    #[test]
    fn a_launcher_that_is_gone_or_talks_nonsense_is_an_error_without_content() {
        assert!(matches!(Broker::connect(Path::new("/nonexistent/s")), Err(Error::Gone(_))));
        let (_folder, path, thread) = launcher(vec![frame(r#"{"answer":"hunter2"}"#)]);
        let error = Broker::connect(&path).unwrap().context().unwrap_err();
        assert!(matches!(error, Error::Answer) && !format!("{error} {error:?}").contains("hunter2"));
        thread.join().unwrap();
        let (_folder, path, thread) = launcher(vec![u32::MAX.to_be_bytes().to_vec()]);
        assert!(matches!(Broker::connect(&path).unwrap().context(), Err(Error::Answer)));
        thread.join().unwrap();
    }
}
