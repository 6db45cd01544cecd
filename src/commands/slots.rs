//! The slots that sources keep their log for, as far as somebody should know of them: a slot that nobody
//! reads fills its source's disk.

use ballpoint_postgres::ident::{quote, quote_literal};
use ballpoint_postgres::pool::{self, PoolOptions};
use serde_json::Value;

use crate::config::Project;
use crate::output;
use crate::session::Own;

/// After a pass of this process: which sources keep their log from here on, and how that ends.
pub(super) async fn note_kept(own: &Own) {
    match own.store.streams().all().await {
        Ok(streams) => {
            for stream in streams {
                output::note(kept(&own.project, &stream.source, &stream.position.slot));
            }
        }
        Err(error) => tracing::debug!(%error, "the slots were not looked up"),
    }
}

/// The same without a pass, a line each: as the running system says, else as a configured warehouse has
/// it. Followed by the running system, only the slot of a source that is configured no longer matters.
pub(super) async fn explain(project: &Project, running: Option<&Value>) -> Vec<String> {
    let text = |stream: &Value, key: &str| stream[key].as_str().unwrap_or_default().to_owned();
    let streams: Vec<(String, String)> = match running {
        Some(status) => {
            let streams = status["streams"].as_array().into_iter().flatten();
            let named = streams.map(|it| (text(it, "source"), text(it, "slot")));
            named
                .filter(|(source, _)| !project.config.sources.contains_key(source))
                .collect()
        }
        None => in_warehouse(project).await.unwrap_or_default(),
    };
    let streams = streams.iter();
    streams
        .map(|(source, slot)| kept(project, source, slot))
        .collect()
}

/// None where the warehouse is embedded, does not answer, or was never used.
async fn in_warehouse(project: &Project) -> Option<Vec<(String, String)>> {
    let url = project.config.warehouse.url.as_deref()?;
    let pool = pool::connect(url, PoolOptions::named("ballpoint check"))
        .await
        .ok()?;
    let slots = sqlx::query_as("select source, slot from ballpoint.streams order by 1")
        .fetch_all(&pool)
        .await;
    pool.close().await;
    slots.ok()
}

fn kept(project: &Project, source: &str, slot: &str) -> String {
    let remove = format!(
        "SELECT pg_drop_replication_slot({}); DROP PUBLICATION {}",
        quote_literal(slot),
        quote(slot)
    );
    match project.config.sources.contains_key(source) {
        true => format!(
            "{source}: the source keeps its log for slot {slot} until the next sync or `ballpoint up`; a \
             sync in another mode removes the slot, and so does, in the source: {remove}"
        ),
        false => format!(
            "{source}: no source of this name is configured, and its server keeps its log for slot \
             {slot}; in its database: {remove}"
        ),
    }
}
