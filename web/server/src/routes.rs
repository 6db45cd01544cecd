//! One file a concern; each turns HTTP into calls on a handle.

mod actors;
mod ask;
mod bootstrap;
mod conversations;
mod cube;
mod events;
mod health;
mod pipeline;
mod runs;
mod stream;
mod write_backs;

pub use bootstrap::Backend;

use crate::page;
use crate::table::Route;

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
        write_backs::routes(),
    ]
    .into_iter()
    .flatten()
    .collect();
    if has_metrics {
        table.extend(cube::routes());
    }
    table
}
