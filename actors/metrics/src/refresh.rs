//! One look at the data, in a task of its own.

use std::collections::HashSet;
use std::sync::Arc;

use ballpoint_runtime::event::Event;
use ballpoint_runtime::store::{ClaimedWork, Store};
use ballpoint_runtime::trace::{TraceContext, set_parent};
use tracing::Instrument;

use crate::execute::Runner;
use crate::model::Model;
use crate::survey::{Survey, survey};

/// What a look needs.
pub(crate) struct Refresh {
    pub(crate) model: Arc<Model>,
    pub(crate) runner: Arc<Runner>,
    pub(crate) crowded: HashSet<String>,
    pub(crate) store: Option<Store>,
}

impl Refresh {
    /// Carries out a work row, in the trace of what caused it.
    pub(crate) async fn carry_out(&self, work: &ClaimedWork) -> Result<Box<Survey>, String> {
        let span = tracing::info_span!("refresh_metrics", work = work.id, attempt = work.attempt);
        set_parent(&span, &work.trace);
        async {
            let outcome = self.look(true).await;
            let Some(store) = &self.store else {
                return outcome;
            };
            let ended = match &outcome {
                Ok(_) => store.work().complete(work.id).await,
                Err(error) => store.work().fail(work.id, error, None).await,
            };
            if let Err(error) = ended {
                tracing::warn!(%error, "the end of the work was not recorded");
            }
            outcome
        }
        .instrument(span)
        .await
    }

    /// Surveys the data, and announces that it is served.
    pub(crate) async fn look(&self, announce: bool) -> Result<Box<Survey>, String> {
        self.runner.forget();
        let found = survey(&self.model, &self.runner, &self.crowded).await;
        let found = found.map_err(|error| error.to_string())?;
        if let Some(store) = self.store.as_ref().filter(|_| announce) {
            let cubes = found.catalog.cubes.len() as u64;
            let event = Event::MetricsRefreshed { cubes };
            let published = store.events().publish(event, TraceContext::current()).await;
            published.map_err(|error| error.to_string())?;
        }
        Ok(Box::new(found))
    }
}
