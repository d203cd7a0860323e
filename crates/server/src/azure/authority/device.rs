//! Signing a person in by device code (RFC 8628). The person approves with `kluis login approve`, being signed in already:
//! there is no page of ours to open, so the address that clients show says what to do.

use std::net::IpAddr;

use axum::extract::State;
use kluis_core::api::identity::TokenIssued;
use kluis_core::clock::Timestamp;
use kluis_core::plaintext::Plaintext;
use serde::Serialize;

use super::answer::{Refusal, Result};
use super::form::{Form, Here, Tenant};
use crate::api::Json;
use crate::app::App;
use crate::caller::Source;
use crate::service::identity::{Audience, Polled};

/// What a client is called in the lists of whoever approves it: what it says of itself is not believed.
const LABEL: &str = "an Azure client, by device code";

#[derive(Serialize)]
pub(super) struct DeviceAnswer {
    device_code: Plaintext,
    user_code: String,
    verification_uri: String,
    /// What the first drafts called it, and some clients still do.
    verification_url: String,
    expires_in: i64,
    interval: u64,
    message: String,
}

pub(super) async fn start(
    State(app): State<App>,
    Source(source): Source,
    here: Here,
    form: Form,
) -> Result<Json<DeviceAnswer>> {
    form.need("client_id", "`client_id` is missing")?;
    let audience = form.audience(&app)?;
    let started = app.identity().device_start(LABEL, source, Some(&audience)).await?;
    let uri = format!("https://{}/azure/device", here.host);
    let left = |until: Timestamp| (until.millis() - app.now().millis()).div_euclid(1000);
    Ok(Json(DeviceAnswer {
        message: format!(
            "To sign in, run this where you are signed in to Kluis already:  kluis login approve {}",
            started.user_code
        ),
        expires_in: left(started.expires),
        interval: started.interval_seconds,
        device_code: started.device_code,
        user_code: started.user_code,
        verification_url: uri.clone(),
        verification_uri: uri,
    }))
}

pub(super) async fn start_of_tenant(
    app: State<App>,
    source: Source,
    here: Here,
    _: Tenant,
    form: Form,
) -> Result<Json<DeviceAnswer>> {
    start(app, source, here, form).await
}

/// For whoever opens the address that a client shows.
pub(super) async fn page() -> &'static str {
    "Run this where you are signed in to Kluis already, with the code that the program shows:\n\n    kluis login approve CODE\n"
}

/// The login behind a device code, once somebody has approved it; why not yet, or not at all (RFC 8628, 3.5).
pub(super) async fn approved(app: &App, source: IpAddr, form: &Form) -> Result<(TokenIssued, Audience)> {
    // Some clients say `code`.
    let code = form.get("device_code").or_else(|| form.get("code"));
    let code = code.ok_or(Refusal::OAuth("invalid_request", "`device_code` is missing"))?;
    let refused = |error, text| Err(Refusal::OAuth(error, text));
    match app.identity().device_poll(code, true, source).await? {
        Polled::SignedIn(issued, Some(audience)) => Ok((*issued, audience)),
        Polled::Waiting => refused("authorization_pending", "nobody has approved the login yet"),
        Polled::TooSoon => refused("slow_down", "ask less often"),
        Polled::Denied => refused("access_denied", "the login was refused"),
        Polled::Ended | Polled::SignedIn(_, None) => {
            refused("expired_token", "the code has expired or was used; begin again")
        }
    }
}
