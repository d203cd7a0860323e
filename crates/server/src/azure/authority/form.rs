//! What the authority is asked: a form, read within a stranger's bounds; a tenant; a resource.

use std::borrow::Cow;

use axum::extract::{FromRequest, FromRequestParts, Request};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use zeroize::Zeroizing;

use super::answer::{Refusal, Result};
use crate::api::json::read_strangers_body;
use crate::app::App;
use crate::azure::host;
use crate::error::Error;
use crate::service::identity::{Audience, Issuer};

/// A form's fields, each at most once. Wiped afterwards.
pub(super) struct Form(Vec<(Zeroizing<String>, Zeroizing<String>)>);

impl Form {
    /// The fields of `name=value&...`, as a form or as a query.
    pub(super) fn parse(text: &[u8]) -> Result<Self> {
        let mut fields: Vec<(Zeroizing<String>, Zeroizing<String>)> = Vec::new();
        for (name, value) in form_urlencoded::parse(text) {
            if fields.iter().any(|(known, _)| **known == *name) {
                return Err(Refusal::OAuth("invalid_request", "a field stands twice in the request"));
            }
            fields.push((owned(name), owned(value)));
        }
        Ok(Self(fields))
    }

    /// A field that says something: an empty one counts as absent (RFC 6749, 3.1).
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known.as_str() == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// The same, which has to be there.
    pub(super) fn need(&self, name: &'static str, missing: &'static str) -> Result<&str> {
        self.get(name).ok_or(Refusal::OAuth("invalid_request", missing))
    }

    /// What the token is to be good for, from a `resource` or a `scope`.
    pub(super) fn audience(&self, app: &App) -> Result<Audience> {
        if let Some(resource) = self.get("resource") {
            return app.audience(resource).ok_or(Refusal::OAuth(
                "invalid_resource",
                "this server has no such resource; its vaults' is https://vault.NAME:PORT, with a NAME and the PORT of it",
            ));
        }
        let said = |scope: &&str| !matches!(*scope, "openid" | "profile" | "email" | "offline_access");
        let mut scopes = self.get("scope").unwrap_or_default().split_whitespace().filter(said);
        let resource = scopes.next().and_then(|scope| app.audience(scope));
        match (resource, scopes.next()) {
            (Some(resource), None) => Ok(resource),
            _ => Err(Refusal::OAuth(
                "invalid_target",
                "the scope must be one of this server's resources, such as https://vault.NAME:PORT/.default, with a NAME \
                 and the PORT of it",
            )),
        }
    }
}

fn owned(text: Cow<'_, str>) -> Zeroizing<String> {
    Zeroizing::new(text.into_owned())
}

impl<S: Send + Sync> FromRequest<S> for Form {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self> {
        let given = request.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let kind = given.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Err(Refusal::OAuth(
                "invalid_request",
                "the body must be a form, with `content-type: application/x-www-form-urlencoded`",
            ));
        }
        let body = read_strangers_body(request).await?;
        Self::parse(&body)
    }
}

/// By which of our addresses the client asks.
pub(super) struct Here {
    /// `HOST[:PORT]`.
    pub(super) host: String,
}

impl Here {
    /// The issuer that this client knows us as.
    pub(super) fn issuer(&self, tenant: &Tenant) -> Issuer {
        Issuer(format!("https://{}/{}", self.host, tenant.0))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Here {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> std::result::Result<Self, Error> {
        Ok(Self { host: host(parts)? })
    }
}

/// A tenant as clients write one: an id or a domain. Any will do.
pub(super) struct Tenant(String);

impl Tenant {
    /// The one for which clients ask nobody whether we may be trusted.
    pub(super) fn adfs() -> Self {
        Self("adfs".to_owned())
    }

    pub(super) fn is_adfs(&self) -> bool {
        self.0.eq_ignore_ascii_case("adfs")
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Tenant {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> std::result::Result<Self, Error> {
        let crate::api::Path(text) = crate::api::Path::<String>::from_request_parts(parts, state).await?;
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        if (1..=253).contains(&text.len()) && text.bytes().all(fits) {
            Ok(Self(text))
        } else {
            Err(Error::bad_request("a tenant is letters, digits, `-`, `.` and `_`"))
        }
    }
}
