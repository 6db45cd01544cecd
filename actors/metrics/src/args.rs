//! What the metric registry works with: its model's folder, the warehouse, the store, how often it
//! looks.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ballpoint_runtime::clock::Clock;
use ballpoint_runtime::store::Store;
use sqlx::PgPool;

use crate::model::CustomGranularities;
use crate::proof::Lineage;
use crate::service::STATEMENT_TIMEOUT;

/// What the registry works with.
#[derive(Clone)]
pub struct MetricRegistryArgs {
    /// The folder (or file) of the data model.
    pub path: PathBuf,
    /// How the model's own granularities are counted.
    pub custom_granularities: CustomGranularities,
    /// The warehouse.
    pub pool: PgPool,
    /// Work rows and events; without it only files are watched.
    pub store: Option<Store>,
    pub clock: Clock,
    pub statement_timeout: Duration,
    /// How often the model's files are looked at.
    pub files_every: Duration,
    /// Whether cubes and views stand in the warehouse's catalogue, for clients of the SQL API.
    pub tables: bool,
    /// What stands behind the tables, for proofs.
    pub lineage: Option<Arc<dyn Lineage>>,
}

impl MetricRegistryArgs {
    /// The usual time-outs.
    pub fn new(path: impl Into<PathBuf>, pool: PgPool, store: Option<Store>, clock: Clock) -> Self {
        Self {
            path: path.into(),
            custom_granularities: CustomGranularities::default(),
            pool,
            store,
            clock,
            statement_timeout: STATEMENT_TIMEOUT,
            files_every: Duration::from_secs(1),
            tables: false,
            lineage: None,
        }
    }
}
