//! Since when the warehouse may lack something that a source has (`ballpoint.freshness`).
//!
//! A source that answers and whose every known change has landed is fresh, however long ago its last
//! change was. What makes it stale is a change that has not landed, or that nobody can say because the
//! source does not answer. Both moments are business time.

use jiff::Timestamp;
use serde::Serialize;
use sqlx::{PgConnection, PgPool};

use super::{StoreError, micros, timestamp};

/// What is known of the freshness of each source.
#[derive(Clone, Debug)]
pub struct Freshness {
    pool: PgPool,
}

/// How fresh the warehouse's copy of a source is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SourceFreshness {
    pub source: String,
    /// It has not answered since.
    pub unanswered_since: Option<Timestamp>,
    /// The oldest change that has not landed; a source that never landed: when it was declared.
    pub behind_since: Option<Timestamp>,
}

impl SourceFreshness {
    /// Up to when the warehouse has everything; `None`: up to now.
    pub fn complete_until(&self) -> Option<Timestamp> {
        match (self.unanswered_since, self.behind_since) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }
}

/// What an event says of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It has a change that has not landed.
    Changed,
    /// What it had has landed, so it answered too.
    Landed,
    Unanswered,
    Answered,
}

impl Freshness {
    pub(super) fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// Follows exactly these sources. What was known of them stays; one that is new has landed
    /// nothing yet.
    ///
    /// # Errors
    /// As every query.
    pub async fn declare(&self, sources: &[String], now: Timestamp) -> Result<(), StoreError> {
        for statement in [
            "insert into ballpoint.freshness (source, behind_since)
             select source, 'epoch'::timestamptz + $2 * interval '1 microsecond'
             from unnest($1::text[]) source on conflict (source) do nothing",
            "delete from ballpoint.freshness where source <> all($1) and $2::bigint is not null",
        ] {
            sqlx::query(statement)
                .bind(sources)
                .bind(micros(now))
                .execute(&self.pool)
                .await
                .map_err(StoreError::query("declaring the sources"))?;
        }
        Ok(())
    }

    /// Takes in what an event said of a source at that business time, in the caller's transaction.
    ///
    /// # Errors
    /// As every query.
    pub async fn note_in(
        connection: &mut PgConnection,
        source: &str,
        sign: Sign,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let statement = match sign {
            Sign::Changed => {
                "update ballpoint.freshness set behind_since = coalesce(behind_since,
                     'epoch'::timestamptz + $2 * interval '1 microsecond') where source = $1"
            }
            Sign::Landed => {
                "update ballpoint.freshness set behind_since = null, unanswered_since = null
                 where source = $1 and $2::bigint is not null"
            }
            Sign::Unanswered => {
                "update ballpoint.freshness set unanswered_since = coalesce(unanswered_since,
                     'epoch'::timestamptz + $2 * interval '1 microsecond') where source = $1"
            }
            Sign::Answered => {
                "update ballpoint.freshness set unanswered_since = null
                 where source = $1 and $2::bigint is not null"
            }
        };
        sqlx::query(statement)
            .bind(source)
            .bind(micros(at))
            .execute(connection)
            .await
            .map_err(StoreError::query("noting a source's freshness"))?;
        Ok(())
    }

    /// Every declared source, by name.
    ///
    /// # Errors
    /// As every query.
    pub async fn all(&self) -> Result<Vec<SourceFreshness>, StoreError> {
        let rows: Vec<(String, Option<i64>, Option<i64>)> = sqlx::query_as(
            "select source, (extract(epoch from unanswered_since) * 1000000)::bigint,
                    (extract(epoch from behind_since) * 1000000)::bigint
             from ballpoint.freshness order by source",
        )
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::query("reading the sources' freshness"))?;
        let shown =
            |(source, unanswered, behind): (String, Option<i64>, Option<i64>)| SourceFreshness {
                source,
                unanswered_since: unanswered.map(timestamp),
                behind_since: behind.map(timestamp),
            };
        Ok(rows.into_iter().map(shown).collect())
    }
}
