//! The port behind which a question becomes a plan: the deterministic planner by default.
//!
//! A backend only plans. Checking the query, running it and wording the answer is the analyst's,
//! whichever backend planned.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use ballpoint_metrics::catalog::Catalog;
use ballpoint_planner::{Context, DialogueState, Plan, Planner};

/// What a backend plans from.
pub struct PlanRequest<'a> {
    pub question: &'a str,
    pub state: &'a DialogueState,
    pub context: &'a Context,
    pub catalog: Arc<Catalog>,
}

/// Plans questions.
#[async_trait]
pub trait PlanBackend: Send + Sync {
    /// The name that answers carry.
    fn name(&self) -> &'static str;

    /// What to do with a question.
    async fn plan(&self, request: PlanRequest<'_>) -> Plan;
}

/// The local planner. Its lexicon is compiled once for each state of the catalog.
#[derive(Default)]
pub struct PlannerBackend {
    planner: Mutex<Option<Arc<Planner>>>,
}

impl PlannerBackend {
    /// The planner for a catalog.
    pub fn planner(&self, catalog: Arc<Catalog>) -> Arc<Planner> {
        let mut kept = self.planner.lock().unwrap_or_else(PoisonError::into_inner);
        match kept
            .as_ref()
            .filter(|it| Arc::ptr_eq(it.catalog(), &catalog))
        {
            Some(planner) => Arc::clone(planner),
            None => Arc::clone(kept.insert(Arc::new(Planner::new(catalog)))),
        }
    }
}

#[async_trait]
impl PlanBackend for PlannerBackend {
    fn name(&self) -> &'static str {
        "planner"
    }

    async fn plan(&self, request: PlanRequest<'_>) -> Plan {
        self.planner(request.catalog)
            .plan(request.question, request.state, request.context)
    }
}
