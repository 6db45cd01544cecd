//! How old the newest row of a source is, against what its declaration allows.

use serde_json::{Value as Json, json};
use sqlx::{AssertSqlSafe, PgConnection, Row};

use crate::project::node::{Age, Source};

/// A source's age, judged.
#[derive(Clone, Debug)]
pub(crate) struct Checked {
    /// `pass`, `warn`, `error`, or `runtime error` when there is no row.
    pub(crate) status: &'static str,
    max_loaded_at: Option<String>,
    snapshotted_at: String,
    age_seconds: Option<f64>,
}

/// Looks at a source; `None` when it declares no freshness. `now` is an RFC 3339 time to compare
/// with instead of the server's.
///
/// # Errors
/// Those of PostgreSQL.
pub(crate) async fn check(
    conn: &mut PgConnection,
    source: &Source,
    now: Option<&str>,
) -> Result<Option<Checked>, sqlx::Error> {
    let (Some(field), Some(freshness)) = (&source.loaded_at_field, &source.freshness) else {
        return Ok(None);
    };
    let filter = match &freshness.filter {
        Some(filter) => format!(" where {filter}"),
        None => String::new(),
    };
    // A time without a zone is taken as UTC, as dbt does.
    let sql = format!(
        "with newest as (select max({field}) as at from {}{filter}), \
         clock as (select coalesce($1::text::timestamptz, now()) as at), \
         utc as (select set_config('timezone', 'UTC', true)) \
         select newest.at::text, clock.at::text, \
         extract(epoch from clock.at - newest.at::timestamptz)::float8 from utc, newest, clock",
        source.relation,
    );
    let row = sqlx::query(AssertSqlSafe(sql))
        .persistent(false)
        .bind(now)
        .fetch_one(conn)
        .await?;
    let age_seconds: Option<f64> = row.try_get(2)?;
    let over = |limit: &Option<Age>| match (limit, age_seconds) {
        (Some(limit), Some(age)) => age > limit.seconds() as f64,
        _ => false,
    };
    let status = if age_seconds.is_none() || over(&freshness.error_after) {
        "error"
    } else if over(&freshness.warn_after) {
        "warn"
    } else {
        "pass"
    };
    Ok(Some(Checked {
        status,
        max_loaded_at: row.try_get(0)?,
        snapshotted_at: row.try_get(1)?,
        age_seconds,
    }))
}

impl Checked {
    /// As `sources.json` holds it.
    pub(crate) fn json(&self, source: &Source) -> Json {
        let age = |age: &Option<Age>| match age {
            Some(age) => json!({"count": age.count, "period": age.period}),
            None => json!({"count": null, "period": null}),
        };
        let freshness = source.freshness.clone().unwrap_or_default();
        json!({
            "unique_id": source.unique_id, "max_loaded_at": self.max_loaded_at,
            "snapshotted_at": self.snapshotted_at, "max_loaded_at_time_ago_in_s": self.age_seconds,
            "status": self.status,
            "criteria": {"warn_after": age(&freshness.warn_after),
                         "error_after": age(&freshness.error_after), "filter": freshness.filter},
            "adapter_response": {}, "timing": [], "thread_id": "Thread-1", "execution_time": 0.0,
        })
    }
}
