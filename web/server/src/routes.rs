//! One file a concern; each turns HTTP into calls on a handle.

pub(crate) mod actors;
pub(crate) mod ask;
pub(crate) mod bootstrap;
pub(crate) mod conversations;
mod cube;
mod cube_jobs;
pub(crate) mod cube_socket;
mod cube_sql;
pub(crate) mod events;
mod health;
pub(crate) mod lineage;
pub(crate) mod live;
mod mcp;
mod openai;
mod original;
pub(crate) mod pipeline;
pub(crate) mod runs;
pub(crate) mod stream;
pub(crate) mod watch;
pub(crate) mod write_backs;

pub use bootstrap::{Backend, Suggestions};

use crate::table::Route;
use crate::{openapi, page};

/// The whole table. Cube's routes are there when there is a data model to serve.
pub(crate) fn all(has_metrics: bool) -> Vec<Route> {
    let mut table: Vec<Route> = [
        page::routes(),
        health::routes(),
        actors::routes(),
        ask::routes(),
        pipeline::routes(),
        bootstrap::routes(),
        conversations::routes(),
        stream::routes(),
        events::routes(),
        runs::routes(),
        lineage::routes(),
        live::routes(),
        write_backs::routes(),
        watch::routes(),
        openai::routes(),
        mcp::routes(),
        original::routes(),
        openapi::routes(),
    ]
    .into_iter()
    .flatten()
    .collect();
    if has_metrics {
        table.extend(cube::routes());
        table.extend(cube_jobs::routes());
        table.extend(cube_sql::routes());
    }
    table
}
