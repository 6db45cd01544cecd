//! Where each table of each source stands (`ballpoint.checkpoints`).

use jiff::Timestamp;
use sqlx::{PgConnection, PgPool};

use super::{StoreError, timestamp};
use crate::segment::{Position, TableName};

/// Reads checkpoints; writes them in the caller's transaction only.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    pool: PgPool,
}

/// One table's checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    pub source: String,
    /// The table in the source.
    pub table: TableName,
    pub position: Position,
    /// Real time of the commit that reached it.
    pub updated_at: Timestamp,
}

impl Checkpoints {
    pub(super) fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// The position that `table` of `source` was loaded up to, `None` before its first load.
    ///
    /// # Errors
    /// [`StoreError::Malformed`] when the row was edited by hand into something unreadable.
    pub async fn get(
        &self,
        source: &str,
        table: &TableName,
    ) -> Result<Option<Position>, StoreError> {
        let connection = self.pool.acquire().await;
        let mut connection = connection.map_err(StoreError::query("reading a checkpoint"))?;
        Self::get_in(&mut connection, source, table).await
    }

    /// The same on the caller's connection: who holds one must not wait for a second.
    ///
    /// # Errors
    /// As [`Checkpoints::get`].
    pub async fn get_in(
        connection: &mut PgConnection,
        source: &str,
        table: &TableName,
    ) -> Result<Option<Position>, StoreError> {
        let row: Option<(String,)> = sqlx::query_as(
            "select position::text from ballpoint.checkpoints
             where source = $1 and table_schema = $2 and table_name = $3",
        )
        .bind(source)
        .bind(&table.schema)
        .bind(&table.name)
        .fetch_optional(connection)
        .await
        .map_err(StoreError::query("reading a checkpoint"))?;
        row.map(|(json,)| position(source, table, &json))
            .transpose()
    }

    /// Keeps others from writing a checkpoint until the caller's transaction has ended.
    ///
    /// # Errors
    /// As every query.
    pub async fn lock_in(
        connection: &mut PgConnection,
        source: &str,
        table: &TableName,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "select from ballpoint.checkpoints
             where source = $1 and table_schema = $2 and table_name = $3 for update",
        )
        .bind(source)
        .bind(&table.schema)
        .bind(&table.name)
        .execute(connection)
        .await
        .map_err(StoreError::query("locking a checkpoint"))?;
        Ok(())
    }

    /// Writes a checkpoint on the connection, and in the transaction, of the rows it stands for (R7).
    ///
    /// # Errors
    /// As every query; the caller rolls the rows back with it.
    pub async fn put_in(
        connection: &mut PgConnection,
        source: &str,
        table: &TableName,
        position: &Position,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "insert into ballpoint.checkpoints (source, table_schema, table_name, position)
             values ($1, $2, $3, $4::text::jsonb)
             on conflict (source, table_schema, table_name)
             do update set position = excluded.position, updated_at = clock_timestamp()",
        )
        .bind(source)
        .bind(&table.schema)
        .bind(&table.name)
        .bind(position.0.to_string())
        .execute(connection)
        .await
        .map_err(StoreError::query("writing a checkpoint"))?;
        Ok(())
    }

    /// Forgets a checkpoint: the table is read whole next.
    ///
    /// # Errors
    /// As every query.
    pub async fn remove_in(
        connection: &mut PgConnection,
        source: &str,
        table: &TableName,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "delete from ballpoint.checkpoints
             where source = $1 and table_schema = $2 and table_name = $3",
        )
        .bind(source)
        .bind(&table.schema)
        .bind(&table.name)
        .execute(connection)
        .await
        .map_err(StoreError::query("forgetting a checkpoint"))?;
        Ok(())
    }

    /// Every checkpoint, by source and table.
    ///
    /// # Errors
    /// As [`Checkpoints::get`].
    pub async fn all(&self) -> Result<Vec<Checkpoint>, StoreError> {
        let rows: Vec<(String, String, String, String, i64)> = sqlx::query_as(
            "select source, table_schema, table_name, position::text,
                    (extract(epoch from updated_at) * 1000000)::bigint
             from ballpoint.checkpoints order by 1, 2, 3",
        )
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::query("reading the checkpoints"))?;
        rows.into_iter()
            .map(|(source, schema, name, json, micros)| {
                let table = TableName { schema, name };
                let position = position(&source, &table, &json)?;
                Ok(Checkpoint {
                    source,
                    table,
                    position,
                    updated_at: timestamp(micros),
                })
            })
            .collect()
    }
}

fn position(source: &str, table: &TableName, json: &str) -> Result<Position, StoreError> {
    serde_json::from_str(json).map_err(StoreError::malformed(format!(
        "the checkpoint of {source} {table}"
    )))
}
