//! What every request of this face has: somebody who asks, an address that it was sent to, and perhaps a body.

use axum::extract::{FromRequest, FromRequestParts, Request};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use kluis_core::api::MAX_JSON_BODY;
use kluis_core::name::{ExperimentName, RunId, WorkspaceName};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::edge::Refusal;
use crate::api::json;
use crate::app::App;
use crate::azure::host;
use crate::caller::{Caller, bearer, source};
use crate::error::{Error, Unauthenticated};

/// The part of an address that names a workspace. Only the last part does.
pub(super) const SCOPE: &str = "/subscriptions/{subscription}/resourceGroups/{group}/providers/\
                                Microsoft.MachineLearningServices/workspaces/{workspace}";

/// An address of a service: what stands before the workspace, and what after it.
pub(super) fn at(service: &str, rest: &str) -> String {
    format!("{service}{SCOPE}{rest}")
}

/// A workspace's place.
#[derive(Debug, Deserialize)]
pub(super) struct InWorkspace {
    pub(super) workspace: WorkspaceName,
}

/// An experiment's place.
#[derive(Debug, Deserialize)]
pub(super) struct InExperiment {
    pub(super) workspace: WorkspaceName,
    pub(super) experiment: ExperimentName,
}

/// A run's place.
#[derive(Debug, Deserialize)]
pub(super) struct OfRun {
    pub(super) workspace: WorkspaceName,
    pub(super) run: RunId,
    /// Where the address names it, and then the run is one of its runs.
    #[serde(default)]
    pub(super) experiment: Option<ExperimentName>,
}

/// Somebody who is signed in, with a token that was issued for this address, or a native one. A run's session is
/// neither.
#[derive(Debug)]
pub(super) struct By(pub(super) Caller);

impl FromRequestParts<App> for By {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        let source = source(parts);
        let signed_in = match bearer(&parts.headers) {
            Ok(text) if text.starts_with("kls_") => app.sign_in(text, source).await,
            Ok(text) => app.sign_in_face(text, source, &Origin::of(parts)?.0).await,
            Err(e) => Err(e),
        };
        if let Err(Error::Unauthenticated(_)) = signed_in {
            app.throttle.count();
        }
        Ok(Self(signed_in?))
    }
}

/// The address that the request was sent to, such as `https://localhost:8443`: what answers point to leads back to it.
#[derive(Clone, Debug)]
pub(super) struct Origin(pub(super) String);

impl<S: Sync> FromRequestParts<S> for Origin {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        Ok(Self::of(parts)?)
    }
}

impl Origin {
    fn of(parts: &Parts) -> Result<Self, Error> {
        Ok(Self(format!("https://{}", host(parts)?)))
    }

    /// The address of the services.
    pub(super) fn services(&self) -> String {
        format!("{}/azure/ml", self.0)
    }
}

/// A JSON object, by one of the names that this client has for JSON.
#[derive(Debug)]
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        is_json(&request)?;
        let body = json::read_body(request, MAX_JSON_BODY).await?;
        Ok(Self(json::parse(&body)?))
    }
}

/// A JSON list of texts.
#[derive(Debug)]
pub(super) struct Texts(pub(super) Vec<String>);

impl<S: Send + Sync> FromRequest<S> for Texts {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        is_json(&request)?;
        let body = json::read_body(request, MAX_JSON_BODY).await?;
        Ok(Self(json::parse_list(&body)?))
    }
}

/// A JSON body that says nothing here, read to its end.
#[derive(Debug)]
pub(super) struct Ignored;

impl<S: Send + Sync> FromRequest<S> for Ignored {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        json::read_body(request, MAX_JSON_BODY).await?;
        Ok(Self)
    }
}

/// Refuses a body that is not said to be JSON: a browser's form cannot say so.
fn is_json(request: &Request) -> Result<(), Refusal> {
    let given = request.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let kind = given.split(';').next().unwrap_or_default().trim();
    if ["application/json", "application/json-patch+json"].iter().any(|json| kind.eq_ignore_ascii_case(json)) {
        Ok(())
    } else {
        Err(Error::bad_request("the body must be JSON, with `content-type: application/json`").into())
    }
}

/// An address that this face does not serve on purpose, with what to do instead.
pub(super) fn unsupported<T>(what: &'static str) -> Result<T, Refusal> {
    Err(Error::bad_request(what).into())
}

impl From<Unauthenticated> for Refusal {
    fn from(why: Unauthenticated) -> Self {
        Error::from(why).into()
    }
}
