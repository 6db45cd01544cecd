//! Follows the events to say how far the first pass is, and what does not work at the moment.
//!
//! The first pass is through when every source has synced or failed to, and a build that began
//! after that has been published or has failed, and the metrics serve it. What fails is retried by
//! its owner and said as *degraded* until it works.

use std::collections::{BTreeMap, BTreeSet};

use ballpoint_runtime::event::Event;
use ballpoint_runtime::store::Store;
use ballpoint_web::Readiness;
use tokio::sync::{broadcast, watch};

/// What the events say so far.
#[derive(Debug)]
struct Progress {
    waiting_for: BTreeSet<String>,
    built: bool,
    refreshed: bool,
    /// By what is troubled: a source's name, `build`, `metrics`.
    troubles: BTreeMap<String, String>,
}

impl Progress {
    fn note(&mut self, event: &Event) {
        match event {
            Event::SyncFinished { source, .. } => {
                self.waiting_for.remove(source);
                self.troubles.remove(source);
            }
            Event::SyncFailed { source, error } | Event::SourceUnavailable { source, error, .. } => {
                self.waiting_for.remove(source);
                self.troubles.insert(source.clone(), format!("source {source}: {error}"));
            }
            Event::SourceRecovered { source } => {
                self.troubles.remove(source);
            }
            Event::BuildPublished { .. } => {
                self.built = true;
                self.troubles.remove("build");
            }
            Event::BuildFailed { failed, .. } => {
                self.built = true;
                // A failed build refreshes nothing: the last good numbers stay.
                self.refreshed = true;
                self.troubles.insert("build".to_owned(), format!("build: {}", failed.join(", ")));
            }
            Event::MetricsRefreshed { .. } => {
                self.refreshed = true;
                self.troubles.remove("metrics");
            }
            Event::MetricsRejected { error } => {
                self.refreshed = true;
                self.troubles.insert("metrics".to_owned(), format!("metrics: {error}"));
            }
            _ => {}
        }
    }

    fn readiness(&self) -> Readiness {
        Readiness {
            first_pass_done: self.waiting_for.is_empty() && self.built && self.refreshed,
            degraded: self.troubles.values().cloned().collect(),
        }
    }
}

/// Which stages the project has; one that it lacks is not waited for.
pub(crate) struct Stages {
    pub(crate) sources: Vec<String>,
    pub(crate) transform: bool,
    pub(crate) metrics: bool,
}

/// Follows the events until the process ends. Called before the tree starts, so that none is missed.
pub(crate) fn follow(store: &Store, stages: Stages) -> watch::Receiver<Readiness> {
    let mut events = store.events().subscribe();
    let mut progress = Progress {
        waiting_for: stages.sources.into_iter().collect(),
        built: !stages.transform,
        refreshed: !stages.metrics,
        troubles: BTreeMap::new(),
    };
    let (sender, receiver) = watch::channel(progress.readiness());
    tokio::spawn(async move {
        loop {
            match events.recv().await {
                Ok(recorded) => {
                    progress.note(&recorded.event);
                    sender.send_replace(progress.readiness());
                }
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => break,
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress() -> Progress {
        Progress {
            waiting_for: BTreeSet::from(["a".to_owned(), "b".to_owned()]),
            built: false,
            refreshed: false,
            troubles: BTreeMap::new(),
        }
    }

    #[test]
    fn it_is_ready_when_every_stage_has_had_its_first_pass() {
        let mut progress = progress();
        let synced = |source: &str| Event::SyncFinished { source: source.to_owned(), rows: 1 };
        progress.note(&synced("a"));
        progress.note(&synced("b"));
        assert!(!progress.readiness().first_pass_done);
        let published =
            Event::BuildPublished { run_id: "r".to_owned(), relations: Vec::new(), tests_passed: 1 };
        progress.note(&published);
        progress.note(&Event::MetricsRefreshed { cubes: 1 });
        assert!(progress.readiness().first_pass_done);
    }

    #[test]
    fn a_dead_source_is_degraded_and_not_waited_for() {
        let mut progress = progress();
        let down = Event::SourceUnavailable {
            source: "a".to_owned(),
            error: "refused".to_owned(),
            retry_in_ms: 100,
        };
        progress.note(&down);
        assert_eq!(progress.waiting_for.len(), 1);
        assert_eq!(progress.readiness().degraded, ["source a: refused"]);
        progress.note(&Event::SourceRecovered { source: "a".to_owned() });
        assert!(progress.readiness().degraded.is_empty());
    }
}
