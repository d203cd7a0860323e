//! What every route's documentation has in common.

use std::collections::BTreeMap;

use kluis_core::api::session::{HEADER_SESSION, HEADER_SIGNATURE};
use kluis_core::api::{PREFIX, Problem};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Components, Content, Info, OpenApi, OpenApiBuilder, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, PartialSchema, ToSchema};

use crate::version;

/// Every refusal of every route.
pub(crate) struct Problems;

impl IntoResponses for Problems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let content = Content::new(Some(Ref::from_schema_name(Problem::name())));
        let response = ResponseBuilder::new()
            .description("It was not done; `code` says why")
            .content("application/problem+json", content)
            .build();
        BTreeMap::from([("default".to_owned(), response.into())])
    }
}

/// The document without its routes.
pub(super) fn base() -> OpenApi {
    let mut components = Components::new();
    components.schemas.insert(Problem::name().into_owned(), Problem::schema());
    components.add_security_scheme("token", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    components.add_security_scheme("session", SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new(HEADER_SESSION))));
    components
        .add_security_scheme("signature", SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new(HEADER_SIGNATURE))));
    OpenApiBuilder::new().info(Info::new("Kluis", version::OWN)).components(Some(components)).build()
}

/// Says for every operation that does not say it itself how it is authenticated: launchers sign, everybody else has a
/// token. So a route is public only when it says so (`security(())`), or when it is the redemption of a ticket, which is
/// signed by the key that it brings.
pub(super) fn secured(mut document: OpenApi) -> OpenApi {
    let none = [""; 0];
    let by = |name: &str| SecurityRequirement::new(name, none);
    for (path, item) in &mut document.paths.paths {
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch];
        for operation in operations.into_iter().flatten() {
            let launcher = path.strip_prefix(PREFIX).is_some_and(|p| p.starts_with("/session/"));
            let how = match (launcher, path.ends_with("/session/redeem")) {
                (true, true) => by("signature"),
                (true, false) => by("session").add("signature", none),
                (false, _) => by("token"),
            };
            operation.security.get_or_insert_with(|| vec![how]);
        }
    }
    document
}
