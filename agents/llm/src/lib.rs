//! The port behind which a question becomes a plan: the deterministic planner by default, a language
//! model beside it where one is configured.
//!
//! A backend only plans. Checking the query, running it and wording the answer is the analyst's,
//! whichever backend planned.

mod model;
mod settings;
#[cfg(feature = "testing")]
pub mod testing;
mod trouble;

pub use model::ModelBackend;
pub use settings::{Limits, ModelSettings, Secret};
pub use trouble::Trouble;

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use ballpoint_metrics::catalog::Catalog;
use ballpoint_metrics::query::Query;
use ballpoint_planner::{Context, DialogueState, Plan, Planner};

/// What a backend plans from.
pub struct PlanRequest<'a> {
    pub question: &'a str,
    pub state: &'a DialogueState,
    pub context: &'a Context,
    pub catalog: Arc<Catalog>,
    /// Whether the registry would run a query, without running it.
    pub check: &'a QueryCheck<'a>,
    /// No model is asked, whatever is configured.
    pub local_only: bool,
}

/// The registry's own validation of a query; the error says what is wrong.
pub type QueryCheck<'a> = dyn Fn(&Query) -> Result<(), String> + Send + Sync + 'a;

/// A plan, and who made it.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    pub plan: Plan,
    /// The name that the answer carries.
    pub backend: &'static str,
    /// Why the model that was asked did not make it.
    pub trouble: Option<Trouble>,
}

impl Planned {
    /// The local planner's.
    pub fn local(plan: Plan) -> Self {
        Self {
            plan,
            backend: PlannerBackend::NAME,
            trouble: None,
        }
    }
}

/// Plans questions.
#[async_trait]
pub trait PlanBackend: Send + Sync {
    /// Its name: `planner` or `llm`.
    fn name(&self) -> &'static str;

    /// The model that it may ask.
    fn model(&self) -> Option<&str> {
        None
    }

    /// What to do with a question.
    async fn plan(&self, request: PlanRequest<'_>) -> Planned;
}

/// The local planner. Its lexicon is compiled once for each state of the catalog.
#[derive(Default)]
pub struct PlannerBackend {
    planner: Mutex<Option<Arc<Planner>>>,
}

impl PlannerBackend {
    /// The name that answers carry.
    pub const NAME: &'static str = "planner";

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
        Self::NAME
    }

    async fn plan(&self, request: PlanRequest<'_>) -> Planned {
        let planner = self.planner(request.catalog);
        Planned::local(planner.plan(request.question, request.state, request.context))
    }
}
