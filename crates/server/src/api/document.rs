//! What every route's documentation has in common.

use std::collections::BTreeMap;

use kluis_core::api::Problem;
use kluis_core::api::session::{HEADER_SESSION, HEADER_SIGNATURE};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Components, Content, Info, OpenApi, OpenApiBuilder, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, PartialSchema, ToSchema};

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
    OpenApiBuilder::new()
        .info(Info::new("Kluis", env!("CARGO_PKG_VERSION")))
        .components(Some(components))
        .security(Some([SecurityRequirement::new("token", [""; 0])]))
        .build()
}
