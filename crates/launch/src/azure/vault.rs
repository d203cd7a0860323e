//! The vault of the run's workspace, as Key Vault clients speak to it, for one operation: get a secret. The value comes by the
//! same way as `Run.get_secret`'s (declared list, pinned version, masker first, each delivery noted); everything that
//! would change or list something is refused, for a run may not. Whoever shows no token of this run is challenged before
//! anything else is looked at.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{HOST, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Method, Request, StatusCode};
use kluis_core::api::broker::BrokerError;
use kluis_core::api::code;
use kluis_core::api::keyvault::{ErrorBody, Refusal, is_api_version};
use kluis_core::api::session::ReadValue;
use kluis_core::id::VersionId;
use kluis_core::name::SecretName;
use kluis_core::plaintext::Plaintext;
use serde::Serialize;
use tokio_rustls::TlsAcceptor;

use super::files::{self, Files};
use super::http::{self, Reply};
use super::names::Names;
use super::peers;
use super::tokens::Tokens;
use crate::broker::Desk;
use crate::deliveries::Asker;
use crate::membership::Member;
use crate::secrets::PATIENCE;

/// How long a handshake may take.
const HANDSHAKE: std::time::Duration = std::time::Duration::from_secs(20);

/// A secret with its value, and of the rest what a launcher knows of it: dates, tags and the like are not told to runs.
#[derive(Serialize)]
struct Bundle<'v> {
    value: &'v Plaintext,
    id: String,
    attributes: Attributes,
}

#[derive(Serialize)]
struct Attributes {
    enabled: bool,
}

fn refusal(refusal: &Refusal<'_>) -> Reply {
    let status = StatusCode::from_u16(refusal.status()).expect("refusals have statuses");
    http::json(status, &refusal.body())
}

fn other(status: StatusCode, code: &'static str, inner: Option<&'static str>, message: impl Into<String>) -> Reply {
    http::json(status, &ErrorBody::new(code, message.into(), inner))
}

/// The vault.
pub(super) struct Vault {
    pub(super) names: Names,
    pub(super) tokens: Arc<Tokens>,
    pub(super) desk: Arc<Desk>,
    pub(super) tls: TlsAcceptor,
    /// Answers at another host of the same listener.
    pub(super) files: Arc<Files>,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Vault({})", self.names.host)
    }
}

impl Vault {
    /// Speaks with one process of the run: TLS, then requests.
    pub(super) async fn serve(self: Arc<Self>, stream: tokio::net::TcpStream, member: Member) {
        // Who does not trust us, or speaks something else, has hung up.
        let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, self.tls.accept(stream)).await else { return };
        http::serve(stream, move |request| {
            let vault = self.clone();
            async move {
                match request.headers().get(HOST).and_then(|host| host.to_str().ok()) {
                    Some(host) if host.starts_with(files::PREFIX) => vault.files.answer(request).await,
                    _ => vault.answer(&request, member).await,
                }
            }
        })
        .await;
    }

    async fn answer(&self, request: &Request<Incoming>, member: Member) -> Reply {
        if !http::bearer(request).is_some_and(|token| self.tokens.accepts(token)) {
            return self.challenge(request);
        }
        // Only then may a request be wrong in other ways. What it carries is not read: nothing that is done here needs it.
        let version = http::parameter(request.uri().query(), "api-version");
        if !version.is_some_and(|version| is_api_version(&version)) {
            return refusal(&Refusal::BadParameter("The api-version parameter is missing or not a version."));
        }
        let Some(segments) = http::segments(request.uri().path()) else {
            return refusal(&Refusal::BadParameter("The request URI is not well-formed."));
        };
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        match (request.method(), segments.as_slice()) {
            (&Method::GET, ["secrets", name] | ["secrets", name, ""]) if !name.is_empty() => {
                self.get(name, None, member).await
            }
            (&Method::GET, ["secrets", name, version] | ["secrets", name, version, ""]) if *version != "versions" => {
                self.get(name, Some(version), member).await
            }
            (method, ["secrets" | "deletedsecrets" | "keys" | "certificates" | "storage", ..]) => {
                self.forbidden(method)
            }
            _ => other(StatusCode::NOT_FOUND, "NotFound", None, "There is no such resource in a vault."),
        }
    }

    /// Where tokens come from.
    fn challenge<B>(&self, request: &Request<B>) -> Reply {
        let mut reply = if request.headers().contains_key(hyper::header::AUTHORIZATION) {
            let message = "AKV10032: Invalid token: only an unexpired one of this run's own identity is accepted here.";
            other(StatusCode::UNAUTHORIZED, "Unauthorized", None, message)
        } else {
            refusal(&Refusal::NoToken)
        };
        let challenge = HeaderValue::try_from(self.names.url.challenge()).expect("names and ports are header values");
        reply.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        reply
    }

    async fn get(&self, name: &str, version: Option<&str>, member: Member) -> Reply {
        let name = match SecretName::parse(name) {
            Ok(name) if !name.as_str().contains('_') => name,
            Ok(_) => return refusal(&Refusal::InvalidName("`_` is none of this face's characters")),
            Err(error) => return refusal(&Refusal::InvalidName(&error.to_string())),
        };
        let asker = Asker { rank: peers::rank(member, self.desk.context.node), pid: member.process.pid };
        let secrets = &self.desk.secrets;
        let read = match version {
            None => secrets.read(std::slice::from_ref(&name), false, asker, PATIENCE).await.map(Some),
            Some(version) => {
                let Ok(version) = version.parse::<VersionId>() else { return not_found(&name) };
                secrets.read_version(&name, version, asker, PATIENCE).await
            }
        };
        match read {
            Ok(Some(read)) => read.items.first().map_or_else(|| not_found(&name), |item| self.bundle(item)),
            Ok(None) => self.denied("a run reads the version that its attempt began with, and this is another"),
            Err(error) => self.refused(&name, error),
        }
    }

    fn bundle(&self, item: &ReadValue) -> Reply {
        let id = self.names.url.secret_id(&item.name, Some(item.version));
        let bundle = Bundle { value: &item.value, id, attributes: Attributes { enabled: true } };
        // JSON makes at most six bytes of one.
        http::sized_json(StatusCode::OK, &bundle, 512 + 6 * item.value.len())
    }

    fn denied(&self, why: &str) -> Reply {
        let principal = self.desk.context.run.as_str();
        let denied = Refusal::AccessDenied { principal, permission: "get", vault: self.names.url.name() };
        other(StatusCode::FORBIDDEN, "Forbidden", Some("AccessDenied"), format!("{denied} Reason: {why}."))
    }

    /// The run's own refusals in the vault's words. What is final is never a status that clients repeat.
    fn refused(&self, name: &SecretName, error: BrokerError) -> Reply {
        match error.code.as_str() {
            code::SECRET_DISABLED => refusal(&Refusal::Disabled),
            code::SECRET_NOT_FOUND | code::SECRET_DELETED | code::NOT_FOUND => not_found(name),
            code::SECRET_UNDECLARED => self.denied("it is not among the secrets that the run declared"),
            code::UNAVAILABLE => other(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", None, error.detail),
            _ => self.denied(&error.detail),
        }
    }

    fn forbidden(&self, method: &Method) -> Reply {
        let message = format!(
            "Caller is not authorized to perform action on resource: the run '{}' may get secrets of the key vault '{}' \
             one by one and do nothing else there ({method} was asked). Set, list and delete secrets outside of a run.",
            self.desk.context.run,
            self.names.url.name()
        );
        other(StatusCode::FORBIDDEN, "Forbidden", Some("ForbiddenByRbac"), message)
    }
}

fn not_found(name: &SecretName) -> Reply {
    refusal(&Refusal::SecretNotFound { id: name.as_str() })
}
