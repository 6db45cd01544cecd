//! What does not work (`ballpoint.incidents`): one row from the first failure to the recovery.
//!
//! An incident has causes, and closes when the last of them is gone. One that comes back before its
//! end was announced, or within [`WINDOW`] of it, is the same incident again: its count goes up.
//! A state is announced once it has lasted, and each return doubles how long it has to, so that what
//! flaps is told once and not at every beat.

use std::borrow::Cow;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use sqlx::postgres::PgRow;
use sqlx::{Connection, PgConnection, PgPool, Row};
use uuid::Uuid;

use super::{StoreError, timestamp};

/// What comes back within this is the same incident.
const WINDOW: Duration = Duration::from_secs(15 * 60);

/// No state has to last longer than this to be announced.
const HOLD_MAX: Duration = Duration::from_secs(5 * 60);

/// Closed incidents older than this are pruned, with their messages.
const KEEP_DAYS: i32 = 90;

/// The cause of a source's incident while changes of its log may be missing.
pub const LOG_GAP: &str = "log gap";

/// What kind of thing does not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IncidentKind {
    /// A source cannot be read or landed.
    Source,
    /// A table of a source waits; the others go on.
    Table,
    /// Models or tests fail; nothing of them is published.
    Build,
    /// The data model cannot be served.
    Metrics,
    /// An approved plan cannot be written, or a written one not be taken back.
    WriteBack,
    /// An actor used up its restarts.
    Actor,
    /// A source is staler than its limit.
    Freshness,
}

impl IncidentKind {
    /// As it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Table => "table",
            Self::Build => "build",
            Self::Metrics => "metrics",
            Self::WriteBack => "write_back",
            Self::Actor => "actor",
            Self::Freshness => "freshness",
        }
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Warning,
    Error,
}

impl Severity {
    /// As it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// A failure that opens an incident, or belongs to an open one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    pub kind: IncidentKind,
    /// The source, the sync, the actor; empty where the kind says it.
    pub subject: String,
    /// What has to end; failures of one cause are one.
    pub cause: Cow<'static, str>,
    pub severity: Severity,
    pub error: String,
}

/// What the configuration has that can fail.
#[derive(Clone, Copy, Debug)]
pub struct Configured<'a> {
    pub sources: &'a [String],
    /// Sources with a freshness limit.
    pub limited: &'a [String],
    /// Whether there are any.
    pub write_backs: bool,
}

/// An incident as it is shown to people.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Incident {
    pub id: Uuid,
    /// `source`, `table`, `build`, `metrics`, `write_back`, `actor` or `freshness`.
    pub kind: String,
    pub subject: String,
    /// `warning` or `error`.
    pub severity: String,
    /// `open` or `closed`.
    pub state: String,
    /// The latest failure.
    pub error: String,
    /// How often it began: once, and each time that it came back. Failures while it is open do not
    /// count.
    pub count: i32,
    pub opened_at: Timestamp,
    pub closed_at: Option<Timestamp>,
    /// Which state was announced last: `nothing`, `open` or `closed`.
    pub notified: String,
    /// Of its messages: `queued`, `sent` or `dead`, the latest; absent where there is none.
    pub delivery: Option<String>,
}

const COLUMNS: &str = "i.id, i.kind, i.subject, i.severity, i.state, i.error, i.count, i.notified,
    (extract(epoch from i.opened_at) * 1000000)::bigint as opened,
    (extract(epoch from i.closed_at) * 1000000)::bigint as closed,
    (select a.state from ballpoint.alerts a where a.incident = i.id
     order by a.created_at desc, a.id desc limit 1) as delivery";

/// The failure belongs to the open incident.
const JOIN: &str = "update ballpoint.incidents
     set causes = case when $3 = any(causes) then causes else causes || $3 end,
         severity = $4, error = $5
     where kind = $1 and subject = $2 and state = 'open' and $6::bigint is not null";

/// The latest incident is back.
const RETURN: &str = "update ballpoint.incidents
     set state = 'open', causes = array[$3], severity = $4, error = $5, count = count + 1,
         closed_at = null, changed_at = clock_timestamp()
     where id = (select id from ballpoint.incidents
                 where kind = $1 and subject = $2 and state = 'closed'
                   and (notified = 'open'
                        or closed_at > clock_timestamp() - $6 * interval '1 second')
                 order by closed_at desc limit 1)";

const OPEN: &str = "insert into ballpoint.incidents (id, kind, subject, causes, severity, error)
     select gen_random_uuid(), $1, $2, array[$3], $4, $5 where $6::bigint is not null";

/// Opens, closes and lists incidents.
#[derive(Clone, Debug)]
pub struct Incidents {
    pool: PgPool,
}

impl Incidents {
    pub(super) fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// What does not work now, oldest first.
    ///
    /// # Errors
    /// As every query.
    pub async fn open(&self) -> Result<Vec<Incident>, StoreError> {
        self.list(
            "where i.state = 'open' order by i.opened_at, i.id limit $1",
            i64::MAX,
        )
        .await
    }

    /// The latest incidents, open or closed, newest first.
    ///
    /// # Errors
    /// As every query.
    pub async fn recent(&self, limit: u32) -> Result<Vec<Incident>, StoreError> {
        self.list(
            "order by i.opened_at desc, i.id desc limit $1",
            i64::from(limit),
        )
        .await
    }

    async fn list(&self, which: &str, limit: i64) -> Result<Vec<Incident>, StoreError> {
        let statement = format!("select {COLUMNS} from ballpoint.incidents i {which}");
        let rows = sqlx::query(sqlx::AssertSqlSafe(statement))
            .bind(limit)
            .fetch_all(&self.pool)
            .await
            .and_then(|rows| rows.iter().map(shown).collect());
        rows.map_err(StoreError::query("listing incidents"))
    }

    /// Takes in a failure: it joins the open incident, brings a recent one back, or opens one.
    ///
    /// # Errors
    /// As every query.
    pub async fn begin_in(
        connection: &mut PgConnection,
        trouble: &Trouble,
    ) -> Result<(), StoreError> {
        let failed = || StoreError::query("opening an incident");
        // One after the other for one subject, also where the caller has no transaction of its own:
        // two that begin at once are one incident.
        let mut transaction = connection.begin().await.map_err(failed())?;
        sqlx::query(
            "select pg_advisory_xact_lock(
                 hashtextextended('ballpoint.incident ' || $1 || ' ' || $2, 0))",
        )
        .bind(trouble.kind.as_str())
        .bind(&trouble.subject)
        .execute(&mut *transaction)
        .await
        .map_err(failed())?;
        for statement in [JOIN, RETURN, OPEN] {
            let written = sqlx::query(statement)
                .bind(trouble.kind.as_str())
                .bind(&trouble.subject)
                .bind(&*trouble.cause)
                .bind(trouble.severity.as_str())
                .bind(&trouble.error)
                .bind(i64::try_from(WINDOW.as_secs()).unwrap_or(i64::MAX))
                .execute(&mut *transaction)
                .await
                .map_err(failed())?;
            if written.rows_affected() > 0 {
                break;
            }
        }
        transaction.commit().await.map_err(failed())
    }

    /// A cause (`None`: every one) is gone; the incident closes with its last.
    ///
    /// # Errors
    /// As every query.
    pub async fn end_in(
        connection: &mut PgConnection,
        kind: IncidentKind,
        subject: &str,
        cause: Option<&str>,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "with rest as (
                 select id, case when $3::text is null then '{}' else array_remove(causes, $3) end
                     as causes
                 from ballpoint.incidents where kind = $1 and subject = $2 and state = 'open'
             )
             update ballpoint.incidents i
             set causes = rest.causes,
                 state = case when cardinality(rest.causes) = 0 then 'closed' else 'open' end,
                 closed_at = case when cardinality(rest.causes) = 0 then clock_timestamp() end,
                 changed_at = case when cardinality(rest.causes) = 0 then clock_timestamp()
                                   else i.changed_at end
             from rest where i.id = rest.id",
        )
        .bind(kind.as_str())
        .bind(subject)
        .bind(cause)
        .execute(connection)
        .await
        .map_err(StoreError::query("closing an incident"))?;
        Ok(())
    }

    /// Whether a gap in the log of `source` was told of and not closed yet: its events say so at once,
    /// the incident that they lead to for as long as it takes.
    ///
    /// # Errors
    /// As every query.
    pub async fn has_log_gap(&self, source: &str) -> Result<bool, StoreError> {
        sqlx::query_scalar(
            "select exists (select from ballpoint.incidents
                            where kind = $1 and subject = $2 and state = 'open' and $3 = any(causes))
                 or coalesce((select payload->>'type' = 'log_gap' from ballpoint.events
                              where payload->>'type' in ('log_gap', 'gap_closed')
                                and payload->>'source' = $2 order by id desc limit 1), false)",
        )
        .bind(IncidentKind::Source.as_str())
        .bind(source)
        .bind(LOG_GAP)
        .fetch_one(&self.pool)
        .await
        .map_err(StoreError::query("looking for a gap in a source's log"))
    }

    /// Whether somebody was told that syncs of `source` fail, and not yet that they work again: by the latest
    /// of its events, and where history has them no longer by its incident.
    ///
    /// # Errors
    /// As every query.
    pub async fn has_failing_syncs(&self, source: &str) -> Result<bool, StoreError> {
        sqlx::query_scalar(
            "select coalesce((select payload->>'type' = 'sync_failed' from ballpoint.events
                              where payload->>'type' in ('sync_failed', 'sync_finished')
                                and payload->>'source' = $2 order by id desc limit 1),
                             exists (select from ballpoint.incidents
                                     where kind = $1 and subject = $2 and state = 'open'
                                       and causes <> array[$3]))",
        )
        .bind(IncidentKind::Source.as_str())
        .bind(source)
        .bind(LOG_GAP)
        .fetch_one(&self.pool)
        .await
        .map_err(StoreError::query("looking for failed syncs"))
    }

    /// Closes the incidents of what is configured no longer: nothing else would.
    ///
    /// # Errors
    /// As every query.
    pub async fn end_of_what_is_gone(&self, configured: Configured<'_>) -> Result<(), StoreError> {
        // An actor that belongs to a source is named `<what>.<source>`.
        sqlx::query(
            "update ballpoint.incidents
             set causes = '{}', state = 'closed', closed_at = clock_timestamp(),
                 changed_at = clock_timestamp()
             where state = 'open'
               and (kind = 'source' and subject <> all($1)
                    or kind = 'table' and split_part(subject, ': ', 1) <> all($1)
                    or kind = 'freshness' and subject <> all($2)
                    or kind = 'actor' and strpos(subject, '.') > 0
                       and substr(subject, strpos(subject, '.') + 1) <> all($1)
                    or kind = 'write_back' and not $3)",
        )
        .bind(configured.sources)
        .bind(configured.limited)
        .bind(configured.write_backs)
        .execute(&self.pool)
        .await
        .map_err(StoreError::query("closing the incidents of what is gone"))?;
        Ok(())
    }

    /// Closes the incident of the build when a later build had nothing to do: what failed is gone,
    /// and nothing was published that would say so.
    ///
    /// # Errors
    /// As every query.
    pub async fn end_by_quiet_build(&self) -> Result<(), StoreError> {
        sqlx::query(
            "update ballpoint.incidents i
             set causes = '{}', state = 'closed', closed_at = clock_timestamp(),
                 changed_at = clock_timestamp()
             where kind = 'build' and state = 'open'
               and exists (select from ballpoint.runs r
                           where r.kind = 'build' and r.status = 'nothing_new'
                             and r.started_at > i.changed_at)",
        )
        .execute(&self.pool)
        .await
        .map_err(StoreError::query("closing the build's incident"))?;
        Ok(())
    }

    /// Incidents whose state has lasted and was not announced, locked for the caller's transaction.
    ///
    /// # Errors
    /// As every query.
    pub async fn unannounced_in(
        connection: &mut PgConnection,
        hold: Duration,
    ) -> Result<Vec<Incident>, StoreError> {
        let statement = format!(
            "select {COLUMNS} from ballpoint.incidents i
             where (i.state = 'open' and i.notified <> 'open'
                    or i.state = 'closed' and i.notified = 'open')
               and i.changed_at <= clock_timestamp() - interval '1 millisecond'
                   * least($1 * 2 ^ least(i.count - 1, 16), greatest($1, $2))
             order by i.changed_at, i.id for update of i"
        );
        let millis = |duration: Duration| duration.as_secs_f64() * 1000.0;
        let rows = sqlx::query(sqlx::AssertSqlSafe(statement))
            .bind(millis(hold))
            .bind(millis(HOLD_MAX))
            .fetch_all(connection)
            .await
            .and_then(|rows| rows.iter().map(shown).collect());
        rows.map_err(StoreError::query("looking for incidents to announce"))
    }

    pub(super) async fn prune(&self) -> Result<(), StoreError> {
        sqlx::query(
            "delete from ballpoint.incidents
             where closed_at < clock_timestamp() - $1 * interval '1 day'",
        )
        .bind(KEEP_DAYS)
        .execute(&self.pool)
        .await
        .map_err(StoreError::query("pruning incidents"))?;
        Ok(())
    }
}

fn shown(row: &PgRow) -> Result<Incident, sqlx::Error> {
    Ok(Incident {
        id: row.try_get("id")?,
        kind: row.try_get("kind")?,
        subject: row.try_get("subject")?,
        severity: row.try_get("severity")?,
        state: row.try_get("state")?,
        error: row.try_get("error")?,
        count: row.try_get("count")?,
        opened_at: timestamp(row.try_get("opened")?),
        closed_at: row.try_get::<Option<i64>, _>("closed")?.map(timestamp),
        notified: row.try_get("notified")?,
        delivery: row.try_get("delivery")?,
    })
}
