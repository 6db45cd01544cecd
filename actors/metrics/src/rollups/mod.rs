//! Rollups: results that are kept in advance, as tables of the warehouse's schema
//! `ballpoint_rollups`.
//!
//! A rollup is built after each build that wrote what it reads, and used only while the versions of
//! these tables are those it was built from. In between, and while it is built, queries read the
//! source: no query fails or differs for a rollup. What may change unseen is never rolled up.

mod build;

use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;
use serde::Serialize;

use crate::plan::{Considered, Rollup};
use crate::versions::Versions;

pub use build::{Builder, RollupError, SCHEMA};

/// The rollups of the model that is served.
#[derive(Debug, Default)]
pub struct Rollups {
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The hash of the model whose members the rollups name.
    model: String,
    ready: Vec<Arc<Rollup>>,
    shown: Vec<RollupStatus>,
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
            if versions.of(&rollup.reads).as_ref() == Some(&rollup.versions) {
                usable.push(Arc::clone(rollup));
            } else {
                let why = "its tables have new rows: it is being built again";
                unfit.push(refuse(&rollup.name, why.to_owned()));
            }
        }
        (usable, unfit)
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
