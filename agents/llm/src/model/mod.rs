//! A language model behind the port. It is asked what the planner cannot read, it fills the same
//! query, and the planner checks what it filled: see `docs/adr/`.

mod client;
mod prompt;
mod reading;
mod reply;
mod tools;
mod transport;

use std::sync::Arc;

use async_trait::async_trait;
use ballpoint_planner::Plan;
use ballpoint_planner::plan::Reason;
use ballpoint_planner::understood::Understood;
use tokio::time::timeout;

use crate::settings::ModelSettings;
use crate::trouble::Trouble;
use crate::{PlanBackend, PlanRequest, Planned, PlannerBackend};
use client::ModelClient;
use reading::Reading;

/// The model that a project configures, and the planner beside it.
pub struct ModelBackend {
    settings: Arc<ModelSettings>,
    client: ModelClient,
    planner: Arc<PlannerBackend>,
}

impl ModelBackend {
    /// The name that answers carry.
    pub const NAME: &'static str = "llm";

    pub fn new(settings: ModelSettings, planner: Arc<PlannerBackend>) -> Self {
        let settings = Arc::new(settings);
        Self {
            client: ModelClient::new(Arc::clone(&settings)),
            settings,
            planner,
        }
    }
}

#[async_trait]
impl PlanBackend for ModelBackend {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn model(&self) -> Option<&str> {
        Some(&self.settings.model)
    }

    /// The planner's plan where it has read every word; else the model's, if it holds.
    async fn plan(&self, request: PlanRequest<'_>) -> Planned {
        let planner = self.planner.planner(Arc::clone(&request.catalog));
        let plan = planner.plan(request.question, request.state, request.context);
        let understood = planner.understood(request.question, request.context);
        if request.local_only || !is_for_the_model(&plan, &understood) {
            return Planned::local(plan);
        }
        let reading = Reading {
            client: &self.client,
            planner: &planner,
            request: &request,
            understood: &understood,
            settings: &self.settings,
        };
        let read = timeout(self.settings.limits.turn, reading.take()).await;
        match read.unwrap_or(Err(Trouble::Slow)) {
            Ok(read) => Planned {
                // A model that finds no query leaves the planner's reason standing.
                plan: read.unwrap_or(plan),
                backend: Self::NAME,
                trouble: None,
            },
            Err(trouble) => {
                tracing::warn!(model = %self.settings.model, code = trouble.code(), "the model {trouble}");
                Planned {
                    trouble: Some(trouble),
                    ..Planned::local(plan)
                }
            }
        }
    }
}

/// Whether a model can know better: the planner met words that it does not know. What it turned
/// down knowingly (instructions, changes of data, forecasts, what does not exist) stays so, and
/// what it read whole is not put to a vote.
fn is_for_the_model(plan: &Plan, understood: &Understood) -> bool {
    match plan {
        Plan::Refuse(refusal) => match refusal.reason {
            Reason::UnsupportedLanguage => true,
            Reason::NoMetric | Reason::NoMember | Reason::Unsupported => {
                !understood.unknown.is_empty()
            }
            _ => false,
        },
        _ => false,
    }
}
