//! The face of `azureml-core`: an unmodified client of that package on a laptop, told by environment variables alone
//! where its cloud is. What it asks for is mapped to the workspace of the name that it asks for: the subscription and
//! the resource group in an address are stored nowhere and authorize nothing. docs/guide/azureml-core.md tells users
//! what works and what does not; the wire types stand in `kluis_core::api::azureml`.
//!
//! | addresses | module |
//! |---|---|
//! | `/azure/metadata`: the cloud, public | `metadata` |
//! | `/azure/arm/SUBSCRIPTIONS/...`: subscriptions, workspaces | `arm` |
//! | `/azure/ml/discovery/...`: where the services are, public | `discovery` |
//! | `/azure/ml/credential/...`: secrets | `credential` |
//! | `/azure/ml/history/...`: experiments, runs | `history`, `experiments` |
//! | `/azure/ml/metric/...`: what runs have logged | `metrics` |
//! | `/azure/ml/artifact/...`, `/azure/ml/content/...`: files, and their content by address | `artifacts`, `content` |
//! | `/azure/ml/execution/...`: submitting | `execution`, over `definition`, `form`, `invocation` |
//!
//! What every request has in common stands in `wire` (who, from which address, bodies) and `edge` (refusals).

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::any;

use crate::app::App;
use crate::error::Error;

mod arm;
mod artifacts;
mod content;
mod credential;
mod definition;
mod discovery;
mod edge;
mod execution;
mod experiments;
mod filter;
mod form;
mod history;
mod invocation;
mod metadata;
mod metrics;
mod wire;

/// Every route, ready to serve: addresses below `/azure/ml`, `/azure/arm`, and `/azure/metadata`.
pub(crate) fn router(app: App) -> Router {
    let services = [
        discovery::routes(),
        credential::routes(),
        experiments::routes(),
        history::routes(),
        metrics::routes(),
        artifacts::routes(),
        content::routes(),
        execution::routes(),
    ];
    let services = services.into_iter().fold(Router::new(), Router::merge);
    Router::new()
        .merge(metadata::routes())
        .nest(&format!("/azure/arm/{{{}}}", arm::SUBSCRIPTIONS), arm::routes().fallback(nothing))
        .nest("/azure/ml", services)
        .route("/azure/ml/{*rest}", any(nothing))
        .method_not_allowed_fallback(|| async { Err::<(), edge::Refusal>(Error::MethodNotAllowed.into()) })
        .layer(from_fn_with_state(app.clone(), edge::edge))
        .with_state(app)
}

/// Whoever asks for what is not there is told in the words that it understands.
async fn nothing() -> edge::Refusal {
    Error::NotFound("address").into()
}
