//! The grants. A program proves itself with its client secret, or with a token of ours in place of a foreign one
//! (workload identity: nobody else's tokens are trusted here); a person by device code.

use axum::extract::State;
use kluis_core::access::PrincipalKind;
use kluis_core::api::identity::ClientLogin;
use kluis_core::id::PrincipalId;
use kluis_core::plaintext::Plaintext;

use super::answer::{Account, Refusal, Result, TokenAnswer};
use super::device;
use super::form::{Form, Here, Tenant};
use crate::api::Json;
use crate::app::App;
use crate::caller::{Caller, Source};
use crate::error::{Error, Unauthenticated};
use crate::service::identity::{FaceIssued, Issuer, guid};

const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

pub(super) async fn adfs(State(app): State<App>, source: Source, here: Here, form: Form) -> Result<Json<TokenAnswer>> {
    granted(&app, source, &here.issuer(&Tenant::adfs()), &form).await.map(Json)
}

pub(super) async fn tenant(
    State(app): State<App>,
    source: Source,
    here: Here,
    tenant: Tenant,
    form: Form,
) -> Result<Json<TokenAnswer>> {
    granted(&app, source, &here.issuer(&tenant), &form).await.map(Json)
}

/// `claims` is taken and left alone: there is nothing more to say than what a token says anyway.
async fn granted(app: &App, source: Source, issuer: &Issuer, form: &Form) -> Result<TokenAnswer> {
    match form.need("grant_type", "`grant_type` is missing")? {
        "client_credentials" if form.get("client_assertion").is_some() => asserted(app, source, issuer, form).await,
        "client_credentials" => by_secret(app, source, issuer, form).await,
        "urn:ietf:params:oauth:grant-type:device_code" | "device_code" => {
            by_device_code(app, source, issuer, form).await
        }
        "refresh_token" => refreshed(app, source, issuer, form).await,
        _ => Err(Refusal::OAuth(
            "unsupported_grant_type",
            "the grants are client_credentials, device_code and refresh_token; passwords and browsers have none here",
        )),
    }
}

async fn by_secret(app: &App, Source(source): Source, issuer: &Issuer, form: &Form) -> Result<TokenAnswer> {
    let audience = form.audience(app)?;
    let client_id = client_id(app, form)?;
    let secret = form.need("client_secret", "`client_secret` is missing, and so is `client_assertion`")?;
    let client_secret = Plaintext::from_text(secret).map_err(|_| not_accepted(app))?;
    let login = ClientLogin { client_id, client_secret };
    Ok(TokenAnswer::new(app.identity().face_login_client(&login, source, &audience, issuer).await?))
}

/// The assertion is a token of this installation, of the program that it is said to be of: a person's is not one, and a
/// face's is one for the resource alone that it is good for.
async fn asserted(app: &App, Source(source): Source, issuer: &Issuer, form: &Form) -> Result<TokenAnswer> {
    let audience = form.audience(app)?;
    if form.get("client_assertion_type") != Some(JWT_BEARER) {
        return Err(Refusal::OAuth("invalid_request", "`client_assertion_type` must be that of a JWT"));
    }
    let client_id = client_id(app, form)?;
    let caller = signed_in(app, form.need("client_assertion", "`client_assertion` is missing")?, source).await?;
    let elsewhere = caller.token.kind.audience().is_some_and(|own| own != audience.as_str());
    if caller.id() != client_id || caller.known.principal.kind == PrincipalKind::User || elsewhere {
        return Err(not_accepted(app).into());
    }
    Ok(TokenAnswer::new(app.identity().face_token(&caller, &audience, issuer).await?))
}

/// A person's login by device code. Its refresh token is the login itself.
async fn by_device_code(app: &App, Source(source): Source, issuer: &Issuer, form: &Form) -> Result<TokenAnswer> {
    let (login, audience) = device::approved(app, source, form).await?;
    let caller = app.sign_in(login.token.expose(), source).await?;
    let issued = app.identity().face_token(&caller, &audience, issuer).await?;
    Ok(of_a_person(app, issued, &caller, issuer, form, Some(login.token)).scoped(&audience))
}

/// A person's login by device code, from then on.
async fn refreshed(app: &App, Source(source): Source, issuer: &Issuer, form: &Form) -> Result<TokenAnswer> {
    let audience = form.audience(app)?;
    let token = form.need("refresh_token", "`refresh_token` is missing")?;
    let caller = match app.sign_in(token, source).await {
        Ok(caller) if caller.known.principal.kind == PrincipalKind::User => caller,
        Ok(_) | Err(Error::Unauthenticated(_)) => {
            app.throttle.count();
            return Err(Refusal::OAuth("invalid_grant", "the login has ended; sign in again"));
        }
        Err(e) => return Err(e.into()),
    };
    let issued = app.identity().face_token(&caller, &audience, issuer).await?;
    Ok(of_a_person(app, issued, &caller, issuer, form, None))
}

/// An answer to a client that signs in a person.
fn of_a_person(
    app: &App,
    issued: FaceIssued,
    caller: &Caller,
    issuer: &Issuer,
    form: &Form,
    refresh_token: Option<Plaintext>,
) -> TokenAnswer {
    let (oid, tid) = (guid(caller.id().as_bytes()), guid(app.installation.as_bytes()));
    let seconds = |time: kluis_core::clock::Timestamp| time.millis().div_euclid(1000);
    let account = Account {
        aud: form.get("client_id").unwrap_or_default(),
        iss: &issuer.0,
        iat: seconds(issued.issued),
        nbf: seconds(issued.issued),
        exp: seconds(issued.expires),
        oid: &oid,
        sub: &oid,
        tid: &tid,
        name: caller.known.principal.name.as_str(),
        preferred_username: caller.known.principal.name.as_str(),
        upn: caller.known.principal.name.as_str(),
        ver: "2.0",
    };
    TokenAnswer::new(issued).of_a_person(&account, refresh_token)
}

/// A service principal's id, as we write ids or as Azure does. One that can not be one is refused like one that is not.
fn client_id(app: &App, form: &Form) -> Result<PrincipalId> {
    let text = form.need("client_id", "`client_id` is missing")?;
    let plain = text.replace('-', "").to_ascii_lowercase();
    plain.parse().map_err(|_| not_accepted(app).into())
}

/// By a token of ours of either kind.
async fn signed_in(app: &App, text: &str, source: std::net::IpAddr) -> Result<Caller> {
    let signed_in = if text.starts_with("kls_") {
        app.sign_in(text, source).await
    } else {
        app.sign_in_face_for_any(text, source).await
    };
    match signed_in {
        // It is neither kind: to name one of them would mislead.
        Err(Error::Unauthenticated(Unauthenticated::Form(_))) => Err(not_accepted(app).into()),
        Err(e @ Error::Unauthenticated(_)) => {
            app.throttle.count();
            Err(e.into())
        }
        signed_in => Ok(signed_in?),
    }
}

fn not_accepted(app: &App) -> Error {
    app.throttle.count();
    Unauthenticated::Credentials.into()
}
