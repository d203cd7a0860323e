//! Routes of this noun.

use utoipa_axum::router::OpenApiRouter;

use crate::app::App;

/// This noun's routes.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default()
}
