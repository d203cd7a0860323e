//! One call over HTTPS: building, sending, repeating, and telling its failures apart. Only calls that are harmless to
//! repeat are repeated, on a failed connection and on 429 and 503, with a growing and jittered pause.

use std::time::Duration;

use http::header::{CONTENT_TYPE, DATE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Method, StatusCode};
use kluis_core::api::{PREFIX, Problem, code};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{ApiError, Error};
use crate::random::below;
use crate::trust::{Origin, Server};

/// An ordinary call takes no longer than this.
pub(crate) const TIMEOUT: Duration = Duration::from_mins(1);
/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest pause that a server's `Retry-After` is heeded for.
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// A pool of connections to one server.
#[derive(Clone, Debug)]
pub(crate) struct Transport {
    http: reqwest::Client,
    server: Server,
}

impl Transport {
    pub(crate) fn new(server: Server) -> Self {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(server.tls())
            .https_only(true)
            // A redirect would carry the credential to another place.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(Duration::from_secs(15))
            .http2_keep_alive_timeout(Duration::from_secs(20))
            .user_agent(concat!("kluis/", env!("CARGO_PKG_VERSION")))
            .build()
            .expect("the TLS configuration is rustls's");
        Self { http, server }
    }

    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    pub(crate) fn origin(&self) -> &Origin {
        &self.server.origin
    }

    /// A call of `action` on the path below [`PREFIX`] that these segments make; each is encoded.
    pub(crate) fn call(&self, action: &'static str, method: Method, path: &[&str]) -> Call<'_> {
        let mut url = self.server.origin.url();
        url.set_path(PREFIX);
        url.path_segments_mut().expect("https URLs have paths").extend(path);
        let repeat = match method {
            Method::GET | Method::PUT => Repeat::Harmless,
            // Done twice, the second would say that there is nothing to delete.
            Method::DELETE => Repeat::IfNotDone,
            _ => Repeat::Never,
        };
        let request = self.http.request(method, url);
        Call { transport: self, action, request, repeat, patience: Some(TIMEOUT) }
    }

    /// Sends a finished request once.
    pub(crate) async fn send_once(
        &self,
        action: &'static str,
        request: reqwest::Request,
    ) -> Result<reqwest::Response, Error> {
        let response = self.http.execute(request).await.map_err(|error| self.failure(action, &error))?;
        if response.status().is_success() { Ok(response) } else { Err(self.refusal(action, response).await) }
    }

    /// A network failure as an error of ours.
    pub(crate) fn failure(&self, action: &'static str, error: &reqwest::Error) -> Error {
        let origin = self.server.origin.clone();
        if let Some(tls) = find::<rustls::Error>(error) {
            return match tls {
                rustls::Error::InvalidCertificate(problem) => {
                    Error::Untrusted { action, origin, reason: distrust(problem) }
                }
                other => Error::Unreachable { action, origin, reason: other.to_string() },
            };
        }
        let reason = if error.is_timeout() {
            "no answer in time".to_owned()
        } else if let Some(io) = find::<std::io::Error>(error) {
            io.to_string()
        } else {
            innermost(error).to_string()
        };
        Error::Unreachable { action, origin, reason }
    }

    async fn refusal(&self, action: &'static str, response: reqwest::Response) -> Error {
        let status = response.status();
        let header = |name: HeaderName| response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let retry_after = header(RETRY_AFTER).and_then(|t| t.parse().ok()).map(Duration::from_secs);
        let server_seconds = header(DATE).as_deref().and_then(http_date);
        let is_problem = header(CONTENT_TYPE).is_some_and(|t| t.starts_with("application/problem+json"));
        let body = response.bytes().await.unwrap_or_default();
        let problem = is_problem.then(|| serde_json::from_slice::<Problem>(&body).ok()).flatten();
        let mut error = match problem {
            Some(problem) => ApiError::from_problem(problem),
            None if matches!(
                status,
                StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
            ) =>
            {
                ApiError::from_problem(Problem {
                    status: status.as_u16(),
                    code: code::UNAVAILABLE.to_owned(),
                    title: format!("{action}: something in front of {} says {status}", self.server.origin),
                    detail: None,
                    request_id: None,
                })
            }
            None => {
                let origin = self.server.origin.clone();
                return Error::Answer { action, origin, reason: format!("status {status} without a problem document") };
            }
        };
        error.status = status.as_u16();
        error.retry_after = retry_after;
        error.server_seconds = server_seconds;
        Error::Api(error)
    }

    /// Reads an answer as JSON. A mistake in it is told by position: its content may be a value.
    pub(crate) async fn read_json<T: DeserializeOwned>(
        &self,
        action: &'static str,
        response: reqwest::Response,
    ) -> Result<T, Error> {
        let body = response.bytes().await.map_err(|error| self.failure(action, &error))?;
        serde_json::from_slice(&body).map_err(|error| Error::Answer {
            action,
            origin: self.server.origin.clone(),
            reason: format!("bad JSON at line {} column {}", error.line(), error.column()),
        })
    }
}

/// A call in the making.
pub(crate) struct Call<'t> {
    transport: &'t Transport,
    action: &'static str,
    request: reqwest::RequestBuilder,
    repeat: Repeat,
    patience: Option<Duration>,
}

/// When a failed call may be made again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repeat {
    /// Not at all.
    Never,
    /// When it surely was not done: no connection, or turned away.
    IfNotDone,
    /// Also when the connection broke before the answer.
    Harmless,
}

impl Call<'_> {
    pub(crate) fn query<T: Serialize>(mut self, query: &T) -> Self {
        self.request = self.request.query(query);
        self
    }

    pub(crate) fn body<T: Serialize>(mut self, body: &T) -> Self {
        let json = serde_json::to_vec(body).expect("wire types are JSON");
        self.request = self.request.header(CONTENT_TYPE, "application/json").body(json);
        self
    }

    pub(crate) fn header(mut self, name: HeaderName, value: impl Into<HeaderValue>) -> Self {
        self.request = self.request.header(name, value.into());
        self
    }

    pub(crate) fn stream(mut self, body: reqwest::Body) -> Self {
        self.request = self.request.body(body);
        self.repeat = Repeat::Never;
        self
    }

    pub(crate) fn bearer(mut self, token: &str) -> Self {
        // A token is ASCII; one that is not can only be refused, so the server does that.
        if let Ok(mut value) = HeaderValue::from_str(&format!("Bearer {token}")) {
            value.set_sensitive(true);
            self.request = self.request.header(http::header::AUTHORIZATION, value);
        }
        self
    }

    /// Declares that doing it twice is the same as once.
    pub(crate) fn repeatable(mut self) -> Self {
        self.repeat = Repeat::Harmless;
        self
    }

    /// Declares that it must not be done twice.
    pub(crate) fn once(mut self) -> Self {
        self.repeat = Repeat::Never;
        self
    }

    /// How long the whole call may take; `None` for streams.
    pub(crate) fn patience(mut self, patience: Option<Duration>) -> Self {
        self.patience = patience;
        self
    }

    pub(crate) async fn send(self) -> Result<reqwest::Response, Error> {
        let Self { transport, action, request, repeat, patience } = self;
        let request = match patience {
            Some(patience) => request.timeout(patience),
            None => request,
        };
        let request = request.build().map_err(|error| transport.failure(action, &error))?;
        let mut pauses = Pauses::default();
        loop {
            let copy = if repeat == Repeat::Never { None } else { request.try_clone() };
            let Some(copy) = copy else { return transport.send_once(action, request).await };
            let (error, again) = match transport.http.execute(copy).await {
                Ok(response) if response.status().is_success() => return Ok(response),
                Ok(response) => {
                    let turned_away = matches!(response.status().as_u16(), 429 | 503);
                    (transport.refusal(action, response).await, turned_away)
                }
                Err(error) => {
                    let broke = repeat == Repeat::Harmless && !error.is_timeout();
                    let again = error.is_connect() || broke;
                    (transport.failure(action, &error), again)
                }
            };
            // A certificate that is wrong now is wrong in a second too.
            let again = again && !matches!(error, Error::Untrusted { .. });
            match pauses.next(&error).filter(|_| again) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(error),
            }
        }
    }

    pub(crate) async fn json<T: DeserializeOwned>(self) -> Result<T, Error> {
        let (transport, action) = (self.transport, self.action);
        let response = self.send().await?;
        transport.read_json(action, response).await
    }

    /// For calls whose success is all there is to know.
    pub(crate) async fn done(self) -> Result<(), Error> {
        self.send().await.map(drop)
    }
}

/// 100, 200, 400, 800 ms, each shortened by up to half at random; then it is given up.
#[derive(Default)]
pub(crate) struct Pauses(u32);

impl Pauses {
    fn next(&mut self, error: &Error) -> Option<Duration> {
        let step = self.0;
        self.0 += 1;
        (step < 4).then(|| match error {
            Error::Api(ApiError { retry_after: Some(wanted), .. }) => (*wanted).min(MAX_PAUSE),
            _ => jittered(Duration::from_millis(100 << step)),
        })
    }
}

/// Between half of `pause` and all of it, by chance: who was turned away together does not come back together.
pub fn jittered(pause: Duration) -> Duration {
    let half = pause / 2;
    half + Duration::from_millis(below(half.as_millis() as u64 + 1))
}

fn distrust(problem: &rustls::CertificateError) -> String {
    use rustls::CertificateError as E;
    match problem {
        E::UnknownIssuer => {
            "its CA certificate is not the one whose SHA-256 was given; if the installation was set up \
                             anew, sign in again with a new invitation"
                .to_owned()
        }
        E::NotValidForName | E::NotValidForNameContext { .. } => {
            "its certificate is for other names; `kluis up --host NAME` adds one".to_owned()
        }
        E::Expired | E::ExpiredContext { .. } | E::NotValidYet | E::NotValidYetContext { .. } => {
            "its certificate is not valid at this time; check both clocks".to_owned()
        }
        other => format!("{other:?}"),
    }
}

/// The first error of this type down the chain of causes.
fn find<'e, E: std::error::Error + 'static>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            // An I/O error can be a wrapper: look inside before settling for it.
            let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
            return wrapped.and_then(|inner| find::<E>(inner)).or(Some(found));
        }
        if let Some(inner) = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref)
            && let Some(found) = find::<E>(inner)
        {
            return Some(found);
        }
        next = error.source();
    }
    None
}

fn innermost<'e>(error: &'e (dyn std::error::Error + 'static)) -> &'e (dyn std::error::Error + 'static) {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error
}

/// Seconds since the epoch of an HTTP date (`Tue, 24 Nov 2026 14:17:00 GMT`).
fn http_date(text: &str) -> Option<i64> {
    jiff::fmt::rfc2822::parse(text).ok().map(|zoned| zoned.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_http_date_is_read() {
        assert_eq!(http_date("Tue, 24 Nov 2026 14:17:00 GMT"), Some(1_795_529_820));
        assert_eq!(http_date("yesterday"), None);
    }

    #[test]
    fn a_pause_is_between_half_and_all_of_what_was_asked() {
        for _ in 0..200 {
            let pause = jittered(Duration::from_millis(100));
            assert!((50..=100).contains(&pause.as_millis()), "{pause:?}");
        }
    }
}
