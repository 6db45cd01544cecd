//! A table's load as it is seen from outside: a step of its run, which says how far it is.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ballpoint_runtime::event::Event;
use ballpoint_runtime::failure::in_one_line;
use ballpoint_runtime::segment::{SourceReader, TableSpec};
use ballpoint_runtime::store::{StepRecorder, StepStatus};
use ballpoint_runtime::trace::TraceContext;

use super::Loader;
use crate::error::LoadError;
use crate::report::{Progress, TableReport};

/// Between two broadcasts of how far a load is; one that is shorter tells only its end.
const TOLD_EVERY: Duration = Duration::from_millis(500);
/// The step's row is written at each of so many broadcasts.
const RECORDED_EVERY: u32 = 4;

impl Loader {
    /// [`Loader::load`] as a step of the run, if there is one.
    pub(super) async fn attended(
        &self,
        reader: &dyn SourceReader,
        spec: &TableSpec,
        full_refresh: bool,
    ) -> Result<TableReport, LoadError> {
        let step = match &self.run {
            Some(run) => Some(run.step(&spec.table.to_string()).await?),
            None => None,
        };
        let latest: Arc<Mutex<Option<Progress>>> = Arc::default();
        let sink = Arc::clone(&latest);
        let loader = self.clone().with_progress(Arc::new(move |now: &Progress| {
            *sink.lock().unwrap_or_else(PoisonError::into_inner) = Some(now.clone());
        }));
        let mut loading = Box::pin(loader.load(reader, spec, full_refresh));
        let begin = tokio::time::Instant::now() + TOLD_EVERY;
        let mut tick = tokio::time::interval_at(begin, TOLD_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut ticks = 0;
        let loaded = loop {
            tokio::select! {
                biased;
                loaded = &mut loading => break loaded,
                _ = tick.tick() => {
                    ticks += 1;
                    let now = latest.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    let record = step.as_ref().filter(|_| ticks % RECORDED_EVERY == 0);
                    self.tell(now.as_ref(), record).await;
                }
            }
        };
        let Some(step) = step else { return loaded };
        match &loaded {
            Ok(report) => {
                if let Some(run) = &self.run {
                    run.add_rows(report.changed());
                }
                let rows = Some(report.changed());
                step.finish(StepStatus::Success, rows, None).await?;
            }
            Err(error) => {
                let error = in_one_line(error);
                step.finish(StepStatus::Failed, None, Some(&error)).await?;
            }
        }
        loaded
    }

    /// Tells everybody how far a load is, and its step where that is given.
    async fn tell(&self, now: Option<&Progress>, record: Option<&StepRecorder>) {
        let Some(now) = now else { return };
        let whole = |number: f64| number.max(0.0).round() as u64;
        let event = Event::SyncProgress {
            run: self.run.as_ref().map(|run| run.id().to_string()),
            source: now.source.clone(),
            table: now.table.clone(),
            rows: now.sent,
            bytes: now.bytes,
            rows_expected: now.expected,
            rows_per_second: now.rows_per_second().map(whole),
            remaining_ms: now.remaining().map(|it| whole(it.as_secs_f64() * 1000.0)),
        };
        self.store
            .events()
            .announce_passing(event, TraceContext::current());
        // A figure on the way: the load does not fail over it.
        if let (Some(step), Some(rows)) = (record, now.sent)
            && let Err(error) = step.so_far(rows).await
        {
            tracing::debug!(%error, "how far a step is was not recorded");
        }
    }
}
