//! What happened (`ballpoint.events`): rows first, a broadcast within the process second.
//!
//! The broadcast can be missed (a slow subscriber, a restart), the rows cannot: the orchestrator
//! reads the unhandled ones, a page that reconnects asks for those after the last it saw.

use jiff::Timestamp;
use serde::Serialize;
use sqlx::{PgConnection, PgPool};
use tokio::sync::broadcast;

use super::{StoreError, timestamp};
use crate::clock::Clock;
use crate::event::Event;
use crate::segment::TableName;
use crate::trace::TraceContext;

/// A subscriber that falls further behind reads the rows instead.
const BROADCAST_CAPACITY: usize = 1024;

/// Handled events older than this, and beyond this many, are pruned.
const KEEP_DAYS: i32 = 7;
const KEEP_ROWS: i64 = 100_000;

/// Announces events. Cheap to clone; clones share the broadcast.
#[derive(Clone, Debug)]
pub struct EventBus {
    pool: PgPool,
    sender: broadcast::Sender<RecordedEvent>,
}

/// An event as it was written.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RecordedEvent {
    /// Counts up; events of concurrent transactions may appear out of order.
    pub id: i64,
    /// Real time.
    pub at: Timestamp,
    pub event: Event,
    /// The trace it happened in.
    pub trace: TraceContext,
}

impl EventBus {
    pub(super) fn new(pool: PgPool) -> Self {
        Self {
            pool,
            sender: broadcast::Sender::new(BROADCAST_CAPACITY),
        }
    }

    /// Writes the event, then broadcasts it.
    ///
    /// # Errors
    /// As every query; nothing is broadcast then.
    pub async fn publish(
        &self,
        event: Event,
        trace: TraceContext,
    ) -> Result<RecordedEvent, StoreError> {
        let mut connection = self
            .pool
            .acquire()
            .await
            .map_err(StoreError::query("writing an event"))?;
        let recorded = Self::record_in(&mut connection, event, trace).await?;
        self.announce(recorded.clone());
        Ok(recorded)
    }

    /// Writes the event in the caller's transaction: it happened if, and only if, that commits. The
    /// caller calls [`EventBus::announce`] after the commit.
    ///
    /// # Errors
    /// As every query.
    pub async fn record_in(
        connection: &mut PgConnection,
        event: Event,
        trace: TraceContext,
    ) -> Result<RecordedEvent, StoreError> {
        let payload = serde_json::to_string(&event).map_err(StoreError::malformed("the event"))?;
        let (id, micros): (i64, i64) = sqlx::query_as(
            "insert into ballpoint.events (payload, traceparent) values ($1::text::jsonb, $2)
             returning id, (extract(epoch from at) * 1000000)::bigint",
        )
        .bind(payload)
        .bind(&trace.0)
        .fetch_one(connection)
        .await
        .map_err(StoreError::query("writing an event"))?;
        Ok(RecordedEvent {
            id,
            at: timestamp(micros),
            event,
            trace,
        })
    }

    /// Broadcasts an event whose row is committed.
    pub fn announce(&self, event: RecordedEvent) {
        // Nobody listening is fine: the row is there.
        let _ = self.sender.send(event);
    }

    /// Broadcasts an event that no row is written of, with the id 0: it is out of date before anybody
    /// could read it.
    pub fn announce_passing(&self, event: Event, trace: TraceContext) {
        self.announce(RecordedEvent {
            id: 0,
            at: Clock::system().real_now(),
            event,
            trace,
        });
    }

    /// Every event announced from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<RecordedEvent> {
        self.sender.subscribe()
    }

    /// Locks, in the caller's transaction, up to `limit` events that nobody has handled, oldest
    /// first. The caller marks them with [`EventBus::mark_handled_in`] before its commit. One that
    /// cannot be read is reported, marked and left out: it must not hold up those behind it.
    ///
    /// # Errors
    /// As every query.
    pub async fn unhandled_in(
        connection: &mut PgConnection,
        limit: u32,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as(
            "select id, payload::text, traceparent, (extract(epoch from at) * 1000000)::bigint
             from ballpoint.events where handled_at is null
             order by id limit $1 for update skip locked",
        )
        .bind(i64::from(limit))
        .fetch_all(&mut *connection)
        .await
        .map_err(StoreError::query("reading unhandled events"))?;
        let mut unreadable = Vec::new();
        let events = rows
            .into_iter()
            .filter_map(|row| {
                let id = row.0;
                let reported = |error: &StoreError| {
                    tracing::warn!(event = id, %error, "an event is skipped");
                    unreadable.push(id);
                };
                recorded(row).inspect_err(reported).ok()
            })
            .collect();
        if !unreadable.is_empty() {
            Self::mark_handled_in(connection, &unreadable).await?;
        }
        Ok(events)
    }

    /// Marks events as handled.
    ///
    /// # Errors
    /// As every query.
    pub async fn mark_handled_in(
        connection: &mut PgConnection,
        ids: &[i64],
    ) -> Result<(), StoreError> {
        sqlx::query(
            "update ballpoint.events set handled_at = clock_timestamp() where id = any($1)",
        )
        .bind(ids)
        .execute(connection)
        .await
        .map_err(StoreError::query("marking events as handled"))?;
        Ok(())
    }

    /// Up to `limit` of the latest events with a higher id than `after_id`, oldest first.
    ///
    /// # Errors
    /// As every query.
    pub async fn recent(
        &self,
        limit: u32,
        after_id: i64,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as(
            "select id, payload::text, traceparent, (extract(epoch from at) * 1000000)::bigint
             from (select * from ballpoint.events where id > $2 order by id desc limit $1) latest
             order by id",
        )
        .bind(i64::from(limit))
        .bind(after_id)
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::query("reading events"))?;
        rows.into_iter().map(recorded).collect()
    }

    /// The id of the latest event that tells of each relation's rows: a load, or a build that
    /// published it. As [`Event::written`] of every event that is kept.
    ///
    /// # Errors
    /// As every query.
    pub async fn writes(&self) -> Result<Vec<(TableName, i64)>, StoreError> {
        let rows: Vec<(String, String, i64)> = sqlx::query_as(
            "select written->>'schema', written->>'name', max(id)
             from (select id, jsonb_array_elements(payload->'relations') as written
                   from ballpoint.events where payload->>'type' = 'build_published'
                   union all
                   select id, payload->'raw'
                   from ballpoint.events where payload->>'type' = 'table_loaded') told
             group by 1, 2",
        )
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::query("reading what was written"))?;
        let named = |(schema, name, id)| (TableName { schema, name }, id);
        Ok(rows.into_iter().map(named).collect())
    }

    pub(super) async fn prune(&self) -> Result<(), StoreError> {
        sqlx::query(
            "delete from ballpoint.events
             where handled_at is not null
               and (at < clock_timestamp() - $1 * interval '1 day'
                    or id <= (select max(id) from ballpoint.events) - $2)",
        )
        .bind(KEEP_DAYS)
        .bind(KEEP_ROWS)
        .execute(&self.pool)
        .await
        .map_err(StoreError::query("pruning events"))?;
        Ok(())
    }
}

type Row = (i64, String, String, i64);

fn recorded((id, payload, trace, micros): Row) -> Result<RecordedEvent, StoreError> {
    let event =
        serde_json::from_str(&payload).map_err(StoreError::malformed(format!("event {id}")))?;
    Ok(RecordedEvent {
        id,
        at: timestamp(micros),
        event,
        trace: TraceContext(trace),
    })
}
