//! Says whether the first pass is through, and what does not work at the moment.
//!
//! The first pass is the composition root's: it is through when every source has synced or failed
//! to, and a build and a refresh asked for after that have ended. What fails is retried by its owner
//! and said as *degraded* until it works.

use std::collections::BTreeMap;
use std::time::Duration;

use ballpoint_runtime::event::Event;
use ballpoint_runtime::segment::TableName;
use ballpoint_runtime::shape::Hold;
use ballpoint_runtime::store::{RecordedEvent, Store, StoreError};
use ballpoint_runtime::trace::TraceContext;
use ballpoint_runtime::work::{Trigger, WorkKind};
use ballpoint_web::Readiness;
use tokio::sync::{broadcast, watch};

/// Between two looks at a work row that is waited for.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Before a first pass that failed begins again.
const PASS_PAUSE: Duration = Duration::from_secs(1);

/// What does not work, by what is troubled: a source's name, `build`, `metrics`.
#[derive(Debug, Default)]
struct Troubles(BTreeMap<String, String>);

impl Troubles {
    fn note(&mut self, event: &Event) {
        match event {
            Event::SyncFinished { source, .. } | Event::SourceRecovered { source } => {
                self.0.remove(source);
            }
            Event::SyncFailed { source, error, .. }
            | Event::SourceUnavailable { source, error, .. } => {
                self.0
                    .insert(source.clone(), format!("source {source}: {error}"));
            }
            Event::BuildPublished { absent, .. } if absent.is_empty() => {
                self.0.remove("build");
            }
            Event::BuildPublished { absent, .. } => {
                let names: Vec<_> = absent.iter().map(ToString::to_string).collect();
                let text = format!("build: {}: not landed yet", names.join(", "));
                self.0.insert("build".to_owned(), text);
            }
            Event::BuildFailed { failed, reason, .. } => {
                let names = || failed.join(", ");
                let text = Some(reason.clone()).filter(|reason| !reason.is_empty());
                let text = format!("build: {}", text.unwrap_or_else(names));
                self.0.insert("build".to_owned(), text);
            }
            Event::MetricsRefreshed { .. } => {
                self.0.remove("metrics");
            }
            Event::MetricsRejected { error } => {
                self.0
                    .insert("metrics".to_owned(), format!("metrics: {error}"));
            }
            Event::TableHeld {
                source,
                table,
                hold,
                reason,
            } => self.held(source, table, Some(*hold), reason),
            Event::TableReleased { source, table } => {
                self.0.remove(&of_table(source, table));
            }
            _ => {}
        }
    }

    /// A table waits; its source's others go on.
    fn held(&mut self, source: &str, table: &TableName, hold: Option<Hold>, reason: &str) {
        let Some(hold) = hold.filter(|hold| hold.is_trouble()) else {
            return;
        };
        let text = format!("{source}: {table} is {}: {reason}", hold.as_str());
        self.0.insert(of_table(source, table), text);
    }

    fn in_words(&self) -> Vec<String> {
        self.0.values().cloned().collect()
    }
}

fn of_table(source: &str, table: &TableName) -> String {
    format!("{source}: {table}")
}

/// Follows the events until the process ends.
pub(crate) fn follow(store: &Store) -> watch::Sender<Readiness> {
    let mut events = store.events().subscribe();
    let known = store.clone();
    let sender = watch::Sender::new(Readiness::default());
    let follower = sender.clone();
    tokio::spawn(async move {
        let mut troubles = Troubles::default();
        // What waits since before this start was told then. Who cannot be asked is told of below.
        for table in known.source_tables().held().await.unwrap_or_default() {
            troubles.held(&table.source, &table.table, table.hold, &table.reason);
        }
        follower.send_modify(|now| now.degraded = troubles.in_words());
        loop {
            match events.recv().await {
                Ok(recorded) => {
                    troubles.note(&recorded.event);
                    follower.send_modify(|now| now.degraded = troubles.in_words());
                }
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => break,
            }
        }
    });
    sender
}

/// Which stages the project has; one that it lacks is not waited for.
pub(crate) struct Stages {
    pub(crate) sources: Vec<String>,
    pub(crate) transform: bool,
    pub(crate) metrics: bool,
}

/// Brings every source up to date once, whether or not its watcher sees a change, then builds and
/// refreshes: what a crash or an edit between two starts left open is caught up with here. While the
/// warehouse does not answer, it begins again.
pub(crate) async fn first_pass(store: Store, stages: Stages, readiness: watch::Sender<Readiness>) {
    let mut events = store.events().subscribe();
    let passed = async {
        while let Err(error) = pass(&store, &stages).await {
            tracing::warn!(%error, "the first pass begins again");
            tokio::time::sleep(PASS_PAUSE).await;
        }
    };
    tokio::select! {
        () = passed => {}
        // Whoever is parked will not do its part: the rest is ready, and degraded is said beside.
        () = somebody_is_parked(&mut events) => {}
    }
    readiness.send_modify(|now| now.first_pass_done = true);
}

async fn pass(store: &Store, stages: &Stages) -> Result<(), StoreError> {
    let nobody = TraceContext::default();
    let mut syncs = Vec::new();
    for source in &stages.sources {
        let work = WorkKind::Sync {
            source: source.clone(),
            tables: Vec::new(),
            full_refresh: false,
        };
        syncs.push(
            store
                .work()
                .enqueue_as(Trigger::Start, &work, &nobody)
                .await?,
        );
    }
    for sync in syncs {
        ended(store, sync).await?;
    }
    if stages.transform {
        let build = WorkKind::Build {
            changed: Vec::new(),
        };
        let build = store.work().enqueue_as(Trigger::Start, &build, &nobody);
        ended(store, build.await?).await?;
    }
    if stages.metrics {
        let refresh = WorkKind::RefreshMetrics;
        let refresh = store.work().enqueue_as(Trigger::Start, &refresh, &nobody);
        ended(store, refresh.await?).await?;
    }
    Ok(())
}

async fn somebody_is_parked(events: &mut broadcast::Receiver<RecordedEvent>) {
    loop {
        match events.recv().await {
            Ok(RecordedEvent {
                event: Event::ActorChanged { state, .. },
                ..
            }) if state == "parked" => {
                return;
            }
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// Waits until a command has been carried out, or its first attempt has failed.
async fn ended(store: &Store, id: i64) -> Result<(), StoreError> {
    while store.work().is_under_way(id).await? {
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_has_not_landed_is_said_until_a_build_finds_it() {
        let mut troubles = Troubles::default();
        let built = |absent: Vec<TableName>| Event::BuildPublished {
            run_id: "r".to_owned(),
            relations: Vec::new(),
            tests_passed: 0,
            absent,
        };
        troubles.note(&built(vec![TableName::new("raw", "orders")]));
        assert_eq!(troubles.in_words(), ["build: raw.orders: not landed yet"]);
        troubles.note(&built(Vec::new()));
        assert!(troubles.in_words().is_empty());
    }

    #[test]
    fn a_table_that_waits_is_said_until_it_is_followed_again() {
        let mut troubles = Troubles::default();
        let table = TableName::new("public", "items");
        troubles.note(&Event::TableHeld {
            source: "a".to_owned(),
            table: table.clone(),
            hold: Hold::Quarantined,
            reason: "narrower".to_owned(),
        });
        // The others of its source go on.
        troubles.note(&Event::SyncFinished {
            source: "a".to_owned(),
            rows: 1,
        });
        assert_eq!(
            troubles.in_words(),
            ["a: public.items is quarantined: narrower"]
        );
        troubles.note(&Event::TableReleased {
            source: "a".to_owned(),
            table,
        });
        assert!(troubles.in_words().is_empty());
    }

    #[test]
    fn what_fails_is_said_until_it_works_again() {
        let mut troubles = Troubles::default();
        troubles.note(&Event::SourceUnavailable {
            source: "a".to_owned(),
            error: "refused".to_owned(),
            retry_in_ms: 100,
        });
        troubles.note(&Event::BuildFailed {
            run_id: "r".to_owned(),
            failed: vec!["not_null_x".to_owned()],
            skipped: Vec::new(),
            reason: "models/x.yml: 2 rows fail test not_null_x".to_owned(),
        });
        assert_eq!(
            troubles.in_words(),
            [
                "source a: refused",
                "build: models/x.yml: 2 rows fail test not_null_x"
            ]
        );
        troubles.note(&Event::SourceRecovered {
            source: "a".to_owned(),
        });
        assert_eq!(
            troubles.in_words(),
            ["build: models/x.yml: 2 rows fail test not_null_x"]
        );
    }
}
