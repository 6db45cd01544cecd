//! How an attempt at a command ends: its payload is queued again, moved, or given up.

use std::time::Duration;

use sqlx::PgConnection;

use crate::retry::RetryPolicy;
use crate::store::StoreError;
use crate::work::WorkKind;

/// Every write that can move a payload between rows of one kind and scope holds this lock, so that a
/// payload is in exactly one live row.
const LOCK: &str =
    "select pg_advisory_xact_lock(hashtextextended('ballpoint.work ' || $1 || ' ' || $2, 0))";

/// How an attempt ended, other than well.
#[derive(Clone, Copy)]
pub(super) enum Ending {
    Failed {
        retry_in: Option<Duration>,
    },
    /// `counts`: as an attempt, because the work itself may be what ended its worker.
    Interrupted {
        counts: bool,
    },
    Abandoned,
    /// Somebody ended it and does not want it tried again.
    Cancelled,
}

/// How many attempts count from here on, how long the next one waits, and whether there is none.
fn after(attempt: i32, ending: Ending, retries: RetryPolicy) -> (i32, Duration, bool) {
    let attempts = attempt.unsigned_abs();
    match ending {
        Ending::Failed { retry_in } => {
            let delay = retry_in.unwrap_or_else(|| retries.delay(attempts, rand::random()));
            (attempt, delay, attempts >= retries.attempts)
        }
        Ending::Interrupted { counts: true } => {
            (attempt, Duration::ZERO, attempts >= retries.attempts)
        }
        Ending::Interrupted { counts: false } => (attempt - 1, Duration::ZERO, false),
        Ending::Abandoned | Ending::Cancelled => (attempt, Duration::ZERO, true),
    }
}

/// Ends the attempt of a running row, given by its id and claim, and returns its kind; `None` when
/// that claim does not run any more.
pub(super) async fn end_attempt_in(
    connection: &mut PgConnection,
    (id, claim): (i64, i64),
    error: &str,
    ending: Ending,
    retries: RetryPolicy,
) -> Result<Option<String>, StoreError> {
    let found: Option<(String, String)> =
        sqlx::query_as("select kind, scope from ballpoint.work where id = $1")
            .bind(id)
            .fetch_optional(&mut *connection)
            .await
            .map_err(StoreError::query("ending work"))?;
    let Some((kind, scope)) = found else {
        return Ok(None);
    };
    lock(connection, &kind, &scope).await?;
    let running: Option<(String, i32)> = sqlx::query_as(
        "select payload::text, attempt from ballpoint.work
         where id = $1 and claim = $2 and state = 'running' for update",
    )
    .bind(id)
    .bind(claim)
    .fetch_optional(&mut *connection)
    .await
    .map_err(StoreError::query("ending work"))?;
    let Some((payload, attempt)) = running else {
        return Ok(None);
    };
    let (attempt, delay, give_up) = after(attempt, ending, retries);
    let moved_to = match give_up {
        true => None,
        false => merge_into_queued(connection, &from_json(id, &payload)?, attempt).await?,
    };
    let state = match (give_up, moved_to) {
        (true, _) => "dead",
        (false, Some(_)) => "failed",
        (false, None) => "queued",
    };
    sqlx::query(
        "update ballpoint.work
         set state = $2, attempt = $3, last_error = $4, lease_until = null,
             run_after = clock_timestamp() + $5 * interval '1 millisecond', moved_to = $6,
             updated_at = clock_timestamp()
         where id = $1",
    )
    .bind(id)
    .bind(state)
    .bind(attempt)
    .bind(error)
    .bind(millis(delay))
    .bind(moved_to)
    .execute(&mut *connection)
    .await
    .map_err(StoreError::query("ending work"))?;
    let run = match (state, ending) {
        ("queued", Ending::Interrupted { .. }) | (_, Ending::Cancelled) => "interrupted",
        ("queued", _) => "retrying",
        _ => "failed",
    };
    end_run_in(connection, id, run, error).await?;
    Ok(Some(kind))
}

/// The run of a command whose attempt ended other than well, if it has one.
async fn end_run_in(
    connection: &mut PgConnection,
    work: i64,
    status: &str,
    error: &str,
) -> Result<(), StoreError> {
    for statement in [
        "update ballpoint.run_steps
         set status = case when $2 = 'interrupted' then $2 else 'failed' end,
             error = coalesce(error, $3), finished_at = clock_timestamp()
         where run_id = (select id from ballpoint.runs where work_id = $1) and status = 'running'",
        "update ballpoint.runs set status = $2, error = $3, finished_at = clock_timestamp()
         where work_id = $1",
    ] {
        sqlx::query(statement)
            .bind(work)
            .bind(status)
            .bind(error)
            .execute(&mut *connection)
            .await
            .map_err(StoreError::query("ending a command's run"))?;
    }
    Ok(())
}

/// Merges `work` into the queued row of its kind and scope, if there is one. `attempt` is what the
/// work has behind it: a poison payload does not begin anew by moving.
pub(super) async fn merge_into_queued(
    connection: &mut PgConnection,
    work: &WorkKind,
    attempt: i32,
) -> Result<Option<i64>, StoreError> {
    let queued: Option<(i64, String)> = sqlx::query_as(
        "select id, payload::text from ballpoint.work
         where kind = $1 and scope = $2 and state = 'queued' for update",
    )
    .bind(work.name())
    .bind(work.scope())
    .fetch_optional(&mut *connection)
    .await
    .map_err(StoreError::query("looking for queued work"))?;
    let Some((id, payload)) = queued else {
        return Ok(None);
    };
    let merged = from_json(id, &payload)?.merge(work);
    sqlx::query(
        "update ballpoint.work
         set payload = $2::text::jsonb, attempt = greatest(attempt, $3),
             updated_at = clock_timestamp()
         where id = $1",
    )
    .bind(id)
    .bind(to_json(&merged)?)
    .bind(attempt)
    .execute(connection)
    .await
    .map_err(StoreError::query("merging work"))?;
    Ok(Some(id))
}

pub(super) async fn lock(
    connection: &mut PgConnection,
    kind: &str,
    scope: &str,
) -> Result<(), StoreError> {
    sqlx::query(LOCK)
        .bind(kind)
        .bind(scope)
        .execute(connection)
        .await
        .map_err(StoreError::query("locking the work queue"))?;
    Ok(())
}

pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

pub(super) fn to_json(work: &WorkKind) -> Result<String, StoreError> {
    serde_json::to_string(work).map_err(StoreError::malformed("the new work"))
}

pub(super) fn from_json(id: i64, payload: &str) -> Result<WorkKind, StoreError> {
    serde_json::from_str(payload).map_err(StoreError::malformed(format!("work {id}")))
}
