//! One file a concern; each turns HTTP into calls on a handle.

mod actors;
mod ask;
mod cube;
mod health;
mod pipeline;

use axum::Router;

use crate::app::App;

pub(crate) fn all() -> Router<App> {
    Router::new()
        .merge(health::routes())
        .merge(actors::routes())
        .merge(ask::routes())
        .merge(pipeline::routes())
        .nest("/cubejs-api/v1", cube::routes())
}
