//! One file a concern; each turns HTTP into calls on a handle.

mod actors;
mod ask;
mod cube;
mod health;
mod pipeline;

use axum::Router;

use crate::app::App;

/// Cube's routes are there when there is a data model to serve.
pub(crate) fn all(has_metrics: bool) -> Router<App> {
    let ours = Router::new()
        .merge(health::routes())
        .merge(actors::routes())
        .merge(ask::routes())
        .merge(pipeline::routes());
    if has_metrics {
        ours.nest("/cubejs-api/v1", cube::routes())
    } else {
        ours
    }
}
