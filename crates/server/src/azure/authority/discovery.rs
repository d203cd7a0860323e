//! Where everything is (OpenID Connect Discovery). Public, and says nothing but our own addresses.

use serde::Serialize;

use super::form::{Here, Tenant};
use crate::api::Json;

#[derive(Serialize)]
pub(super) struct Configuration {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    device_authorization_endpoint: String,
    jwks_uri: String,
    token_endpoint_auth_methods_supported: [&'static str; 2],
    grant_types_supported: [&'static str; 3],
    response_types_supported: [&'static str; 0],
    subject_types_supported: [&'static str; 1],
    id_token_signing_alg_values_supported: [&'static str; 1],
    scopes_supported: [&'static str; 3],
    tenant_region_scope: Option<&'static str>,
    cloud_instance_name: String,
}

pub(super) async fn adfs(here: Here) -> Json<Configuration> {
    Json(configuration(&here, &Tenant::adfs()))
}

pub(super) async fn tenant(here: Here, tenant: Tenant) -> Json<Configuration> {
    Json(configuration(&here, &tenant))
}

fn configuration(here: &Here, tenant: &Tenant) -> Configuration {
    let base = format!("https://{}/{}/oauth2", here.host, tenant.as_str());
    let base = if tenant.is_adfs() { base } else { format!("{base}/v2.0") };
    Configuration {
        issuer: here.issuer(tenant).0,
        // Clients want one; nobody signs in there: who wants to sign in in a browser has none that knows us.
        authorization_endpoint: format!("{base}/authorize"),
        token_endpoint: format!("{base}/token"),
        device_authorization_endpoint: format!("{base}/devicecode"),
        // Clients in JavaScript want this one too, and never ask there: nothing is signed.
        jwks_uri: format!("{base}/keys"),
        token_endpoint_auth_methods_supported: ["client_secret_post", "private_key_jwt"],
        grant_types_supported: ["client_credentials", "urn:ietf:params:oauth:grant-type:device_code", "refresh_token"],
        response_types_supported: [],
        subject_types_supported: ["public"],
        id_token_signing_alg_values_supported: ["none"],
        scopes_supported: ["openid", "profile", "offline_access"],
        tenant_region_scope: None,
        cloud_instance_name: here.host.clone(),
    }
}
