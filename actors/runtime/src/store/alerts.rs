//! Messages about incidents (`ballpoint.alerts`): written with what they tell of, delivered later,
//! at least once. The id is the same however often a message is sent.

use std::time::Duration;

use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::StoreError;
use super::incidents::Incident;

/// The outbox.
#[derive(Clone, Debug)]
pub struct Alerts {
    pool: PgPool,
}

/// A message that is due.
#[derive(Clone, Debug, PartialEq)]
pub struct DueAlert {
    pub id: Uuid,
    /// JSON, as it is to be sent.
    pub body: String,
    /// This delivery's number, from 1.
    pub attempt: u32,
}

impl Alerts {
    pub(super) fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// Queues a message that tells the state of an incident, and marks the state as announced.
    ///
    /// # Errors
    /// As every query.
    pub async fn announce_in(
        connection: &mut PgConnection,
        incident: &Incident,
        body: &str,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "with told as (update ballpoint.incidents set notified = state where id = $2)
             insert into ballpoint.alerts (id, incident, says, body) values ($1, $2, $3, $4::json)",
        )
        .bind(Uuid::now_v7())
        .bind(incident.id)
        .bind(&incident.state)
        .bind(body)
        .execute(connection)
        .await
        .map_err(StoreError::query("queueing an alert"))?;
        Ok(())
    }

    /// The oldest message that is due. One incident's messages are sent in their order.
    ///
    /// # Errors
    /// As every query.
    pub async fn next(&self) -> Result<Option<DueAlert>, StoreError> {
        let row: Option<(Uuid, String, i32)> = sqlx::query_as(
            "select id, body::text, attempt + 1 from ballpoint.alerts a
             where state = 'queued' and run_after <= clock_timestamp()
               and not exists (select from ballpoint.alerts earlier
                               where earlier.incident = a.incident and earlier.state = 'queued'
                                 and (earlier.created_at, earlier.id) < (a.created_at, a.id))
             order by created_at, id limit 1",
        )
        .fetch_optional(&self.pool)
        .await
        .map_err(StoreError::query("looking for alerts"))?;
        Ok(row.map(|(id, body, attempt)| DueAlert {
            id,
            body,
            attempt: attempt.unsigned_abs(),
        }))
    }

    /// The receiver has it.
    ///
    /// # Errors
    /// As every query; the message is then sent again.
    pub async fn sent(&self, alert: &DueAlert) -> Result<(), StoreError> {
        sqlx::query(
            "update ballpoint.alerts
             set state = 'sent', attempt = $2, sent_at = clock_timestamp(), last_error = null
             where id = $1",
        )
        .bind(alert.id)
        .bind(i32::try_from(alert.attempt).unwrap_or(i32::MAX))
        .execute(&self.pool)
        .await
        .map_err(StoreError::query("recording that an alert was sent"))?;
        Ok(())
    }

    /// It could not be delivered: again after `retry_in`, or never.
    ///
    /// # Errors
    /// As every query.
    pub async fn not_sent(
        &self,
        alert: &DueAlert,
        error: &str,
        retry_in: Option<Duration>,
    ) -> Result<(), StoreError> {
        let millis = retry_in.map(|pause| i64::try_from(pause.as_millis()).unwrap_or(i64::MAX));
        sqlx::query(
            "update ballpoint.alerts
             set state = case when $4::bigint is null then 'dead' else 'queued' end, attempt = $2,
                 last_error = $3,
                 run_after = clock_timestamp() + coalesce($4, 0) * interval '1 millisecond'
             where id = $1",
        )
        .bind(alert.id)
        .bind(i32::try_from(alert.attempt).unwrap_or(i32::MAX))
        .bind(error)
        .bind(millis)
        .execute(&self.pool)
        .await
        .map_err(StoreError::query("recording that an alert was not sent"))?;
        Ok(())
    }
}
