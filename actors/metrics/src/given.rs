//! Results that went out: for as long as one is here, its proof can be asked for by its id.
//!
//! What stands behind the tables (verdicts of tests, positions of sources) is looked up beside the
//! answer and once for all answers between two changes: nobody waits for it, and a proof that is
//! asked for later still tells of the moment of its result.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use ballpoint_runtime::segment::TableName;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use tracing::Instrument as _;

use crate::results::Kept;
use crate::service::Service;
use crate::sql_api::proof::SqlResult;

/// What all results together may take; the oldest give way.
const BYTES_MAX: u64 = 64 * 1024 * 1024;
/// What an entry takes beside its result, about.
const ENTRY_BYTES: usize = 512;

/// What stands behind the tables of a result, once that is known.
pub(crate) type Behind = Arc<OnceCell<Value>>;

/// A result that went out.
#[derive(Clone, Debug)]
pub(crate) enum Answered {
    Load(Arc<Kept>),
    Sql(Arc<SqlResult>),
}

impl Answered {
    fn bytes(&self) -> usize {
        ENTRY_BYTES
            + match self {
                Self::Load(kept) => kept.bytes(),
                Self::Sql(result) => result.bytes(),
            }
    }
}

/// See the module.
pub(crate) struct Given {
    results: Cache<Arc<str>, Answered>,
    /// What stands behind tables, as of an epoch.
    behind: Mutex<(u64, HashMap<Vec<TableName>, Behind>)>,
}

impl Default for Given {
    fn default() -> Self {
        let weigh = |_: &Arc<str>, it: &Answered| u32::try_from(it.bytes()).unwrap_or(u32::MAX);
        Self {
            results: Cache::builder()
                .max_capacity(BYTES_MAX)
                // The latest are asked for; how often an older one was says nothing.
                .eviction_policy(EvictionPolicy::lru())
                .weigher(weigh)
                .build(),
            behind: Mutex::default(),
        }
    }
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Given").finish_non_exhaustive()
    }
}

impl Given {
    pub(crate) fn add(&self, id: &str, result: Answered) {
        self.results.insert(id.into(), result);
    }

    pub(crate) fn get(&self, id: &str) -> Option<Answered> {
        self.results.get(id)
    }

    #[cfg(test)]
    pub(crate) fn settle(&self) {
        self.results.run_pending_tasks();
    }

    /// The place for what stands behind these tables at an epoch, and whether nobody fills it yet.
    fn behind(&self, epoch: u64, tables: &[TableName]) -> (Behind, bool) {
        let mut known = self.behind.lock().unwrap_or_else(PoisonError::into_inner);
        if known.0 != epoch {
            *known = (epoch, HashMap::new());
        }
        if let Some(behind) = known.1.get(tables) {
            return (Arc::clone(behind), false);
        }
        let behind = Behind::default();
        known.1.insert(tables.to_vec(), Arc::clone(&behind));
        (behind, true)
    }
}

impl Service {
    /// Has looked up what stands behind tables, without waiting for it.
    pub(crate) fn look_behind(&self, tables: &[TableName]) -> Behind {
        let epoch = self.results.versions.epoch();
        let (behind, is_new) = self.results.given.behind(epoch, tables);
        if is_new && self.lineage.is_some() {
            let (service, behind, tables) = (self.clone(), Arc::clone(&behind), tables.to_vec());
            let look = async move {
                service.behind_of(&behind, &tables).await;
            };
            tokio::spawn(look.in_current_span());
        }
        behind
    }

    /// What stands behind tables, looked up now if that was not done yet.
    pub(crate) async fn behind_of(&self, behind: &Behind, tables: &[TableName]) -> Value {
        let look = || self.behind_now(tables);
        behind.get_or_init(look).await.clone()
    }

    pub(crate) async fn behind_now(&self, tables: &[TableName]) -> Value {
        let Some(lineage) = &self.lineage else {
            return Value::Null;
        };
        let looked_at = self.clock.real_now().to_string();
        match lineage.behind(tables).await {
            Ok(mut behind) => {
                behind["looked_at"] = json!(looked_at);
                behind
            }
            Err(error) => json!({ "error": error }),
        }
    }

    /// What stands behind the tables of results at this moment; null where nobody knows.
    pub async fn behind(&self, evidence: &[crate::proof::Evidence]) -> Value {
        let read = evidence.iter().flat_map(|it| &it.tables);
        let mut tables: Vec<TableName> = read.filter_map(|it| it.name()).collect();
        tables.sort_unstable();
        tables.dedup();
        self.behind_now(&tables).await
    }
}
