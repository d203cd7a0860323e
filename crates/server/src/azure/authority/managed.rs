//! What a client takes for the managed identity of the machine that it runs on: an address and a secret from its
//! environment, and the token behind them. Here the secret is a native token; the clients know two ways of sending it.

use axum::extract::State;
use http::header::HeaderName;
use http::request::Parts;

use super::answer::{ManagedAnswer, Result};
use super::form::{Form, Here, Tenant};
use crate::api::Json;
use crate::app::App;
use crate::caller::source;
use crate::error::{Error, Unauthenticated};
use crate::service::identity::guid;

/// As on a machine of Azure's machine learning service: `MSI_ENDPOINT` and `MSI_SECRET`.
const SECRET: HeaderName = HeaderName::from_static("secret");
/// As on an application service: `IDENTITY_ENDPOINT` and `IDENTITY_HEADER`.
const IDENTITY: HeaderName = HeaderName::from_static("x-identity-header");

/// Which identity is asked for (`clientid` and the like) changes nothing: the secret says whose it is.
pub(super) async fn token(State(app): State<App>, here: Here, parts: Parts) -> Result<Json<ManagedAnswer>> {
    let signed_in = match secret(&parts) {
        Some(secret) => app.sign_in(secret, source(&parts)).await,
        None => Err(Unauthenticated::Missing.into()),
    };
    if let Err(Error::Unauthenticated(_)) = signed_in {
        app.throttle.count();
    }
    let caller = signed_in?;
    let query = Form::parse(parts.uri.query().unwrap_or_default().as_bytes())?;
    query.need("api-version", "`api-version` is missing")?;
    query.need("resource", "`resource` is missing")?;
    let audience = query.audience(&app)?;
    let issued = app.identity().face_token(&caller, &audience, &here.issuer(&Tenant::adfs())).await?;
    Ok(Json(ManagedAnswer::new(issued, guid(caller.id().as_bytes()))))
}

/// The secret, sent once, in one of the two ways.
fn secret(parts: &Parts) -> Option<&str> {
    let mut all = parts.headers.get_all(SECRET).iter().chain(parts.headers.get_all(IDENTITY).iter());
    let only = all.next().filter(|_| all.next().is_none())?;
    only.to_str().ok()
}
