//! Each event is looked at once: its command and its mark are written in one transaction.

use std::collections::BTreeSet;

use ballpoint_runtime::clock::Clock;
use ballpoint_runtime::redact::Secrets;
use ballpoint_runtime::store::{
    EventBus, Freshness, Incidents, RecordedEvent, Store, StoreError, WorkQueue,
};
use ballpoint_runtime::work::Trigger;
use sqlx::PgConnection;

use crate::decide::{Stages, work_for};
use crate::trouble::{Turn, sign_of, turn_of};

/// Events in one transaction: enough for a burst, few enough to hold no lock for long.
const BATCH_MAX: u32 = 200;

/// What one look did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Enqueued {
    /// Events that were looked at.
    pub events: u64,
    /// Commands that were written or merged into queued ones.
    pub commands: u64,
}

/// Turns every event that nobody has looked at into the command it asks for, in the event's trace,
/// and wakes those who carry the commands out. What an event says of incidents and of a source's
/// freshness is taken in with it.
///
/// # Errors
/// The database's; events that were not marked then are looked at again.
pub async fn enqueue_pending(
    store: &Store,
    stages: Stages,
    clock: &Clock,
) -> Result<Enqueued, StoreError> {
    let mut total = Enqueued::default();
    loop {
        let batch = enqueue_batch(store, stages, clock).await?;
        total.events += batch.events;
        total.commands += batch.commands;
        if batch.events < u64::from(BATCH_MAX) {
            return Ok(total);
        }
    }
}

async fn enqueue_batch(
    store: &Store,
    stages: Stages,
    clock: &Clock,
) -> Result<Enqueued, StoreError> {
    let failed = |source| StoreError::Query {
        doing: "handling events",
        source,
    };
    let mut transaction = store.pool().begin().await.map_err(failed)?;
    let events = EventBus::unhandled_in(&mut transaction, BATCH_MAX).await?;
    let mut kinds = BTreeSet::new();
    let mut batch = Enqueued {
        events: events.len() as u64,
        ..Enqueued::default()
    };
    for event in &events {
        if let Some(work) = work_for(&event.event, stages) {
            WorkQueue::enqueue_in(&mut transaction, Trigger::Change, &work, &event.trace).await?;
            kinds.insert(work.name());
            batch.commands += 1;
        }
        take_in(&mut transaction, event, clock).await?;
    }
    let ids: Vec<i64> = events.iter().map(|event| event.id).collect();
    EventBus::mark_handled_in(&mut transaction, &ids).await?;
    transaction.commit().await.map_err(failed)?;
    for kind in kinds {
        store.work().wake(kind);
    }
    Ok(batch)
}

async fn take_in(
    connection: &mut PgConnection,
    event: &RecordedEvent,
    clock: &Clock,
) -> Result<(), StoreError> {
    match turn_of(&event.event) {
        Some(Turn::Begins(mut trouble)) => {
            trouble.error = Secrets::default().hide(&trouble.error);
            Incidents::begin_in(connection, &trouble).await?;
        }
        Some(Turn::Ends(kind, subject, cause)) => {
            Incidents::end_in(connection, kind, &subject, cause.as_deref()).await?;
        }
        None => {}
    }
    if let Some((source, sign)) = sign_of(&event.event) {
        Freshness::note_in(connection, source, sign, clock.business(event.at)).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use ballpoint_postgres::testing::TestDatabase;
    use ballpoint_runtime::event::Event;
    use ballpoint_runtime::segment::TableName;
    use ballpoint_runtime::trace::TraceContext;
    use ballpoint_runtime::work::WorkKind;

    use super::*;

    const ALL: Stages = Stages {
        transform: true,
        metrics: true,
        write_backs: true,
    };
    const LEASE: Duration = Duration::from_secs(60);

    async fn store() -> (TestDatabase, Store) {
        let database = TestDatabase::create().await;
        let store = Store::open(database.pool().clone()).await.unwrap();
        (database, store)
    }

    async fn loaded(store: &Store, table: &str) {
        let event = Event::TableLoaded {
            source: "orders".into(),
            table: TableName::new("public", table),
            raw: TableName::new("raw", table),
            rows: 1,
        };
        store
            .events()
            .publish(event, TraceContext(format!("trace of {table}")))
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn a_command_carries_the_trace_of_its_event_and_is_written_once() {
        let (_database, store) = store().await;
        loaded(&store, "a").await;
        assert_eq!(
            enqueue_pending(&store, ALL, &Clock::system())
                .await
                .unwrap(),
            Enqueued {
                events: 1,
                commands: 1
            }
        );
        assert_eq!(
            enqueue_pending(&store, ALL, &Clock::system())
                .await
                .unwrap(),
            Enqueued::default()
        );
        let claimed = store
            .work()
            .claim("build", "", LEASE)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(claimed.trace, TraceContext("trace of a".into()));
        assert_eq!(
            claimed.work,
            WorkKind::Build {
                changed: vec![TableName::new("raw", "a")]
            }
        );
    }

    #[tokio::test]
    async fn a_burst_larger_than_a_batch_becomes_one_command() {
        let (_database, store) = store().await;
        let count = BATCH_MAX + 10;
        for number in 0..count {
            loaded(&store, &format!("t{number:03}")).await;
        }
        let enqueued = enqueue_pending(&store, ALL, &Clock::system())
            .await
            .unwrap();
        assert_eq!(enqueued.commands, u64::from(count));
        let claimed = store
            .work()
            .claim("build", "", LEASE)
            .await
            .unwrap()
            .unwrap();
        let WorkKind::Build { changed } = claimed.work else {
            panic!("{claimed:?}")
        };
        assert_eq!(changed.len(), count as usize);
    }

    #[tokio::test]
    async fn two_that_look_at_once_handle_each_event_once() {
        let (_database, store) = store().await;
        for table in ["a", "b", "c"] {
            loaded(&store, table).await;
        }
        let clock = Clock::system();
        let (one, two) = tokio::join!(
            enqueue_pending(&store, ALL, &clock),
            enqueue_pending(&store, ALL, &clock)
        );
        assert_eq!(one.unwrap().events + two.unwrap().events, 3);
        assert_eq!(store.work().open_count().await.unwrap(), 1);
    }
}
