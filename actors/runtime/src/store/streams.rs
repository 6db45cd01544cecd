//! Up to where the log of each source is in the warehouse (`ballpoint.streams`).

use jiff::Timestamp;
use sqlx::{AssertSqlSafe, PgConnection, PgPool};

use super::{StoreError, timestamp};
use crate::changes::{Lsn, SlotLag, StreamPosition};

/// Reads stream positions; writes them in the caller's transaction only.
#[derive(Clone, Debug)]
pub struct Streams {
    pool: PgPool,
}

/// A source's stream.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamRow {
    pub source: String,
    pub position: StreamPosition,
    /// The source's clock, at the last transaction that is in the warehouse.
    pub committed_at: Option<Timestamp>,
    /// How far the slot is behind, when it was last looked at; `None` before the first look.
    pub lag: Option<SlotLag>,
    /// Real time of that look.
    pub lag_at: Option<Timestamp>,
}

const SELECT: &str = "select source, slot, system_id, timeline, end_lsn::text,
    (extract(epoch from committed_at) * 1000000)::bigint,
    lag_bytes, lag_seconds, retained_bytes,
    (extract(epoch from lag_at) * 1000000)::bigint from ballpoint.streams";

/// What a failure was about.
const AHEAD: &str = "noting how far tables are ahead of their stream";

impl Streams {
    pub(super) fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// The position of a source; `None` when its log is not followed.
    ///
    /// # Errors
    /// As every query.
    pub async fn get(&self, source: &str) -> Result<Option<StreamPosition>, StoreError> {
        let connection = self.pool.acquire().await;
        let mut connection =
            connection.map_err(StoreError::query("reading a stream's position"))?;
        Self::get_in(&mut connection, source).await
    }

    /// The same on the caller's connection.
    ///
    /// # Errors
    /// As every query.
    pub async fn get_in(
        connection: &mut PgConnection,
        source: &str,
    ) -> Result<Option<StreamPosition>, StoreError> {
        let sql = format!("{SELECT} where source = $1");
        let row: Option<Row> = sqlx::query_as(AssertSqlSafe(sql))
            .bind(source)
            .fetch_optional(connection)
            .await
            .map_err(StoreError::query("reading a stream's position"))?;
        Ok(row.map(stream).transpose()?.map(|row| row.position))
    }

    /// Every stream, by source.
    ///
    /// # Errors
    /// As every query.
    pub async fn all(&self) -> Result<Vec<StreamRow>, StoreError> {
        let sql = format!("{SELECT} order by source");
        let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(sql))
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::query("reading the streams' positions"))?;
        rows.into_iter().map(stream).collect()
    }

    /// Begins a stream, in place of an older one.
    ///
    /// # Errors
    /// As every query; the caller rolls back.
    pub async fn begin_in(
        connection: &mut PgConnection,
        source: &str,
        position: &StreamPosition,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "insert into ballpoint.streams (source, slot, system_id, timeline, end_lsn)
             values ($1, $2, $3, $4, $5::pg_lsn)
             on conflict (source) do update
             set slot = excluded.slot, system_id = excluded.system_id,
                 timeline = excluded.timeline, end_lsn = excluded.end_lsn, committed_at = null,
                 ahead_lsn = null,
                 lag_bytes = null, lag_seconds = null, retained_bytes = null, lag_at = null,
                 updated_at = clock_timestamp()",
        )
        .bind(source)
        .bind(&position.slot)
        .bind(&position.system)
        .bind(i64::from(position.timeline))
        .bind(position.end.to_string())
        .execute(connection)
        .await
        .map_err(StoreError::query("beginning a stream"))?;
        Ok(())
    }

    /// Moves a stream on, in the transaction of the rows up to `end` (R7): no table is ahead of it then.
    /// Never back: that would mean that somebody else has moved it.
    ///
    /// # Errors
    /// [`StoreError::Malformed`] when the stream is not there, or further already.
    pub async fn advance_in(
        connection: &mut PgConnection,
        source: &str,
        end: Lsn,
        committed_at: Option<i64>,
    ) -> Result<(), StoreError> {
        let moved = sqlx::query(
            "update ballpoint.streams
             set end_lsn = $2::pg_lsn, ahead_lsn = null, updated_at = clock_timestamp(),
                 committed_at = coalesce('epoch'::timestamptz + $3::bigint * interval '1 microsecond',
                                         committed_at)
             where source = $1 and end_lsn <= $2::pg_lsn",
        )
        .bind(source)
        .bind(end.to_string())
        .bind(committed_at)
        .execute(connection)
        .await
        .map_err(StoreError::query("moving a stream's position"))?
        .rows_affected();
        match moved {
            1 => Ok(()),
            _ => Err(StoreError::query("moving a stream's position")(
                sqlx::Error::RowNotFound,
            )),
        }
    }

    /// Notes, in the transaction of their rows, how far the tables are that run ahead of the stream's
    /// position while others are copied or wait (R7).
    ///
    /// # Errors
    /// As [`Streams::advance_in`].
    pub async fn run_ahead_in(
        connection: &mut PgConnection,
        source: &str,
        ahead: Lsn,
    ) -> Result<(), StoreError> {
        let noted = sqlx::query(
            "update ballpoint.streams
             set ahead_lsn = greatest(ahead_lsn, $2::pg_lsn), updated_at = clock_timestamp()
             where source = $1",
        )
        .bind(source)
        .bind(ahead.to_string())
        .execute(connection)
        .await
        .map_err(StoreError::query(AHEAD))?
        .rows_affected();
        match noted {
            1 => Ok(()),
            _ => Err(StoreError::query(AHEAD)(sqlx::Error::RowNotFound)),
        }
    }

    /// Says that no table runs ahead any more, in the transaction that has written down how far each is.
    ///
    /// # Errors
    /// As every query; the caller rolls back.
    pub async fn rejoin_in(connection: &mut PgConnection, source: &str) -> Result<(), StoreError> {
        sqlx::query(
            "update ballpoint.streams set ahead_lsn = null
             where source = $1 and ahead_lsn is not null",
        )
        .bind(source)
        .execute(connection)
        .await
        .map_err(StoreError::query(AHEAD))?;
        Ok(())
    }

    /// Whether the stream still stands at `position`; if it does, it stays there until the caller's
    /// transaction has ended.
    ///
    /// # Errors
    /// As every query.
    pub async fn hold_in(
        connection: &mut PgConnection,
        source: &str,
        position: &StreamPosition,
    ) -> Result<bool, StoreError> {
        let stands: Option<bool> = sqlx::query_scalar(
            "select slot = $2 and system_id = $3 and end_lsn = $4::pg_lsn
             from ballpoint.streams where source = $1 for share",
        )
        .bind(source)
        .bind(&position.slot)
        .bind(&position.system)
        .bind(position.end.to_string())
        .fetch_optional(connection)
        .await
        .map_err(StoreError::query("holding a stream's position"))?;
        Ok(stands == Some(true))
    }

    /// Writes down how far a stream's slot is behind. The look of an instant: not with any rows.
    ///
    /// # Errors
    /// As every query.
    pub async fn note_lag(&self, source: &str, lag: &SlotLag) -> Result<(), StoreError> {
        let whole = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        sqlx::query(
            "update ballpoint.streams
             set lag_bytes = $2, lag_seconds = $3, retained_bytes = $4, lag_at = clock_timestamp()
             where source = $1",
        )
        .bind(source)
        .bind(whole(lag.bytes))
        .bind(lag.seconds)
        .bind(whole(lag.retained_bytes))
        .execute(&self.pool)
        .await
        .map_err(StoreError::query("writing how far a slot is behind"))?;
        Ok(())
    }

    /// Forgets a stream: its source is not followed any more, or from another point.
    ///
    /// # Errors
    /// As every query; the caller rolls back.
    pub async fn forget_in(connection: &mut PgConnection, source: &str) -> Result<(), StoreError> {
        sqlx::query("delete from ballpoint.streams where source = $1")
            .bind(source)
            .execute(connection)
            .await
            .map_err(StoreError::query("forgetting a stream"))?;
        Ok(())
    }
}

type Row = (
    String,
    String,
    String,
    i64,
    String,
    Option<i64>,
    Option<i64>,
    Option<f64>,
    Option<i64>,
    Option<i64>,
);

fn stream(
    (source, slot, system, timeline, end, committed, behind, seconds, retained, looked): Row,
) -> Result<StreamRow, StoreError> {
    let malformed = || malformed(&source);
    let position = StreamPosition {
        slot,
        system,
        timeline: u32::try_from(timeline).map_err(|_| malformed())?,
        end: end.parse().map_err(|_| malformed())?,
    };
    let bytes = |bytes: Option<i64>| bytes.unwrap_or_default().unsigned_abs();
    let lag = looked.map(|_| SlotLag {
        bytes: bytes(behind),
        seconds,
        retained_bytes: bytes(retained),
    });
    Ok(StreamRow {
        position,
        committed_at: committed.map(timestamp),
        lag,
        lag_at: looked.map(timestamp),
        source,
    })
}

fn malformed(source: &str) -> StoreError {
    let text = format!("the stream's position of {source}");
    StoreError::malformed(text)(serde::de::Error::custom("its log position cannot be read"))
}
