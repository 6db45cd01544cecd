//! Rollups: results that are kept in advance, as tables of the warehouse's schema
//! `ballpoint_rollups`.
//!
//! A rollup is built after each build that wrote what it reads, the partitions alone whose rows were
//! written where it has any (`parts`), and used only while the versions of
//! these tables are those it was built from. In between, and while it is built, queries read the
//! source: no query fails or differs for a rollup. Of tables that no event tells of, PostgreSQL is
//! asked with each query (`watched`); what may change unseen even so is never rolled up.

mod build;
mod load;
mod memory;
mod parts;
mod planned;
mod refreshed;
mod watched;

use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::Notify;

use crate::model::SecurityContext;
use crate::plan::{self, Considered, QueryError, Rollup};
use crate::service::Service;
use crate::versions::Versions;
use watched::Watch;

pub use build::{Builder, RollupError, SCHEMA};
pub use memory::Columns;
pub use watched::Watched;

/// The rollups of the model that is served.
#[derive(Debug, Default)]
pub struct Rollups {
    state: RwLock<State>,
    /// Somebody else wrote what a rollup was built from.
    old: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    /// The hash of the model whose members the rollups name.
    model: String,
    ready: Vec<Arc<Rollup>>,
    shown: Vec<RollupStatus>,
    /// For those that read what no event tells of.
    watch: Option<Watch>,
}

/// A rollup, for people.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RollupStatus {
    /// `Cube.name`.
    pub name: String,
    /// `schema.table` in the warehouse.
    pub relation: Option<String>,
    pub rows: Option<u64>,
    pub built_at: Option<Timestamp>,
    /// How long its latest build took; `None` when it was found built.
    pub build_ms: Option<u64>,
    /// Partitions that its latest build wrote, of how many.
    pub partitions: Option<(usize, usize)>,
    /// Why a refresh builds it whole; `None` where it builds the partitions that were touched.
    pub whole_because: Option<String>,
    /// Whether its columns are held in memory.
    pub in_memory: bool,
    /// Why there is none.
    pub error: Option<String>,
}

impl Rollups {
    /// Those that give what the source gives at this moment, and why the others do not count.
    pub fn usable(&self, model: &str, versions: &Versions) -> (Vec<Arc<Rollup>>, Vec<Considered>) {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        if state.model != model {
            return (Vec::new(), Vec::new());
        }
        let mut unfit: Vec<Considered> = Vec::new();
        let refuse = |name: &String, why: String| Considered {
            rollup: name.clone(),
            used: false,
            why_not: Some(why),
        };
        let failed = state.shown.iter();
        unfit.extend(failed.filter_map(|it| Some(refuse(&it.name, it.error.clone()?))));
        let mut usable = Vec::new();
        for rollup in &state.ready {
            if versions.each(&rollup.reads).as_ref() == Some(&rollup.versions) {
                usable.push(Arc::clone(rollup));
            } else {
                let why = "its tables have new rows: it is being built again";
                unfit.push(refuse(&rollup.name, why.to_owned()));
            }
        }
        (usable, unfit)
    }

    /// Whether PostgreSQL says that a usable rollup still gives what the source gives.
    pub(crate) async fn stands(&self, rollup: &Rollup) -> bool {
        let Some(watched) = &rollup.watched else {
            return true;
        };
        let watch = {
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            state.watch.clone()
        };
        let Some(watch) = watch else { return false };
        match watch.look(&watched.tables).await {
            // While others write it would be old again before it is built.
            Ok(look) if !look.is_settled => false,
            Ok(look) if look.state == watched.state => true,
            Ok(_) => {
                self.old.notify_one();
                false
            }
            Err(error) => {
                tracing::debug!(%error, "the source is read: PostgreSQL did not say whether it changed");
                false
            }
        }
    }

    /// Tells each time that a query found a rollup old of which no event told.
    pub(crate) fn found_old(&self) -> Arc<Notify> {
        Arc::clone(&self.old)
    }

    /// All, for people.
    pub fn status(&self) -> Vec<RollupStatus> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.shown.clone()
    }

    fn replace(&self, state: State) {
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

impl Service {
    /// The rollups that a load would look at, and why it would not use them.
    ///
    /// # Errors
    /// As planning the query.
    pub fn explain(
        &self,
        request: &Value,
        context: &SecurityContext,
    ) -> Result<Vec<Considered>, QueryError> {
        let request = crate::api::Request::read(request)?;
        let (_, queries) = plan::normalize(&request.query, self.clock.business_now())?;
        let mut all = Vec::new();
        for query in &queries {
            all.extend(self.plan(query, context)?.considered);
        }
        Ok(all)
    }

    /// The same service that reads the source for everything.
    #[must_use]
    pub fn without_rollups(&self) -> Self {
        Self {
            rollups: Arc::default(),
            ..self.clone()
        }
    }
}
