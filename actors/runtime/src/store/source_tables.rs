//! What is known of each source's tables (`ballpoint.source_tables`): the shape that the raw table
//! follows, and whether it waits.

use jiff::Timestamp;
use sqlx::{PgConnection, PgPool};

use super::{StoreError, timestamp};
use crate::segment::TableName;
use crate::shape::{Hold, Shape};

/// Reads what is known; writes it on the caller's connection only.
#[derive(Clone, Debug)]
pub struct SourceTables {
    pool: PgPool,
}

/// A table that a source has, or had.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownTable {
    pub source: String,
    pub table: TableName,
    /// What the raw table follows.
    pub shape: Shape,
    /// Why it waits, if it does.
    pub hold: Option<Hold>,
    /// In words; empty unless it waits.
    pub reason: String,
    /// The shape that it waits for somebody to mend or accept.
    pub seen: Option<Shape>,
    /// Real time: since when it waits, or the shape is followed.
    pub since: Timestamp,
}

const SELECT: &str = "select source, table_schema, table_name, shape::text, hold, reason,
    seen::text, (extract(epoch from since) * 1000000)::bigint from ballpoint.source_tables";

type Row = (
    String,
    String,
    String,
    String,
    Option<String>,
    Option<String>,
    Option<String>,
    i64,
);

impl SourceTables {
    pub(super) fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// The tables of one source, by name.
    ///
    /// # Errors
    /// As every query; [`StoreError::Malformed`] when a row was edited by hand.
    pub async fn of(&self, source: &str) -> Result<Vec<KnownTable>, StoreError> {
        let sql = format!("{SELECT} where source = $1 order by 2, 3");
        let rows: Vec<Row> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .bind(source)
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::query("reading a source's tables"))?;
        rows.into_iter().map(known).collect()
    }

    /// The tables that wait, of all sources.
    ///
    /// # Errors
    /// As [`SourceTables::of`].
    pub async fn held(&self) -> Result<Vec<KnownTable>, StoreError> {
        let sql = format!("{SELECT} where hold is not null order by 1, 2, 3");
        let rows: Vec<Row> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::query("reading the tables that wait"))?;
        rows.into_iter().map(known).collect()
    }

    /// What is known of one table.
    ///
    /// # Errors
    /// As [`SourceTables::of`].
    pub async fn get_in(
        connection: &mut PgConnection,
        source: &str,
        table: &TableName,
    ) -> Result<Option<KnownTable>, StoreError> {
        let sql = format!("{SELECT} where source = $1 and table_schema = $2 and table_name = $3");
        let row: Option<Row> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .bind(source)
            .bind(&table.schema)
            .bind(&table.name)
            .fetch_optional(connection)
            .await
            .map_err(StoreError::query("reading what is known of a table"))?;
        row.map(known).transpose()
    }

    /// The raw table follows `shape` from this transaction's commit on.
    ///
    /// # Errors
    /// As every query.
    pub async fn follow_in(
        connection: &mut PgConnection,
        source: &str,
        table: &TableName,
        shape: &Shape,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "insert into ballpoint.source_tables (source, table_schema, table_name, shape)
             values ($1, $2, $3, $4::text::jsonb)
             on conflict (source, table_schema, table_name) do update
             set shape = excluded.shape, hold = null, reason = null, seen = null,
                 since = clock_timestamp()",
        )
        .bind(source)
        .bind(&table.schema)
        .bind(&table.name)
        .bind(text(shape)?)
        .execute(connection)
        .await
        .map_err(StoreError::query("writing what is known of a table"))?;
        Ok(())
    }

    /// The table waits from this transaction's commit on; what it follows stays: of a table that was
    /// never followed, no column.
    ///
    /// # Errors
    /// As every query.
    pub async fn hold_in(
        connection: &mut PgConnection,
        source: &str,
        table: &TableName,
        hold: Hold,
        reason: &str,
        seen: Option<&Shape>,
    ) -> Result<(), StoreError> {
        let seen = seen.map(text).transpose()?;
        sqlx::query(
            "insert into ballpoint.source_tables as known
                 (source, table_schema, table_name, shape, hold, reason, seen)
             values ($1, $2, $3, '{\"columns\": []}', $4, $5, $6::text::jsonb)
             on conflict (source, table_schema, table_name) do update
             set hold = excluded.hold, reason = excluded.reason, seen = excluded.seen,
                 since = case when known.hold is null then clock_timestamp() else known.since end",
        )
        .bind(source)
        .bind(&table.schema)
        .bind(&table.name)
        .bind(hold.as_str())
        .bind(reason)
        .bind(seen)
        .execute(connection)
        .await
        .map_err(StoreError::query("holding a table"))?;
        Ok(())
    }
}

impl SourceTables {
    /// Changes to `seen` were told of, and are not followed.
    ///
    /// # Errors
    /// As every query.
    pub async fn ignore_in(
        connection: &mut PgConnection,
        source: &str,
        table: &TableName,
        seen: &Shape,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "update ballpoint.source_tables
             set seen = $4::text::jsonb, hold = null, reason = null
             where source = $1 and table_schema = $2 and table_name = $3",
        )
        .bind(source)
        .bind(&table.schema)
        .bind(&table.name)
        .bind(text(seen)?)
        .execute(connection)
        .await
        .map_err(StoreError::query("writing what is known of a table"))?;
        Ok(())
    }

    /// The table is nobody's business any more.
    ///
    /// # Errors
    /// As every query.
    pub async fn forget_in(
        connection: &mut PgConnection,
        source: &str,
        table: &TableName,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "delete from ballpoint.source_tables
             where source = $1 and table_schema = $2 and table_name = $3",
        )
        .bind(source)
        .bind(&table.schema)
        .bind(&table.name)
        .execute(connection)
        .await
        .map_err(StoreError::query("forgetting a table"))?;
        Ok(())
    }
}

fn text(shape: &Shape) -> Result<String, StoreError> {
    serde_json::to_string(shape).map_err(StoreError::malformed("the shape of a table"))
}

fn known(
    (source, schema, name, shape, hold, reason, seen, since): Row,
) -> Result<KnownTable, StoreError> {
    let read = |json: &str| -> Result<Shape, StoreError> {
        serde_json::from_str(json).map_err(StoreError::malformed(format!(
            "what is known of {source} {schema}.{name}"
        )))
    };
    Ok(KnownTable {
        shape: read(&shape)?,
        seen: seen.as_deref().map(read).transpose()?,
        hold: hold.as_deref().and_then(Hold::parse),
        reason: reason.unwrap_or_default(),
        since: timestamp(since),
        table: TableName { schema, name },
        source,
    })
}
