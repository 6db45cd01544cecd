//! Fills one empty database: the table from `schema.sql`, its rows by COPY, in one transaction.

use ballpoint_postgres::ident::quote_qualified;
use jiff::Timestamp;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::{
    generate::generate,
    parameters::{Parameters, ParametersError, SeedFiles},
};

/// Why a source was not filled; the database is as it was before.
#[derive(Debug, thiserror::Error)]
pub enum FillError {
    /// The parameters cannot be used.
    #[error(transparent)]
    Parameters(#[from] ParametersError),
    /// Seeding adds to nothing: what is there may be real.
    #[error("{table} holds rows already; seeding only fills an empty table")]
    NotEmpty {
        /// The table, as `generator.yml` names it.
        table: String,
    },
    /// `schema.sql` was refused by the database.
    #[error("{directory}/schema.sql failed")]
    Schema {
        /// The source's folder.
        directory: String,
        /// What the database said.
        #[source]
        source: sqlx::Error,
    },
    /// The rows did not arrive.
    #[error("filling {table} failed")]
    Database {
        /// The table, as `generator.yml` names it.
        table: String,
        /// What the database said.
        #[source]
        source: sqlx::Error,
    },
}

/// Creates the source's table where it is missing and fills it with `rows` rows.
///
/// Returns the number of rows. Readers see none of them or all; the identity sequence goes on
/// after them.
///
/// # Errors
/// When the parameters are wrong, the table holds rows, or the database refuses; nothing is
/// changed then.
pub async fn fill(
    connection: &mut PgConnection,
    files: &SeedFiles,
    rows: u64,
    seed: u64,
    now: Timestamp,
) -> Result<u64, FillError> {
    let parameters = Parameters::parse(files)?;
    let failed = |source| FillError::Database {
        table: parameters.table().to_owned(),
        source,
    };
    let table = quoted(parameters.table());
    let mut transaction = connection.begin().await.map_err(failed)?;
    sqlx::raw_sql(AssertSqlSafe(files.schema_sql.clone()))
        .execute(&mut *transaction)
        .await
        .map_err(|source| FillError::Schema {
            directory: files.directory.clone(),
            source,
        })?;
    // Two fills at once: the second waits here, and then finds the rows of the first.
    execute(
        &mut transaction,
        format!("lock table {table} in share row exclusive mode"),
    )
    .await
    .map_err(failed)?;
    let holds_rows: bool = sqlx::query_scalar(AssertSqlSafe(format!(
        "select exists (select from {table})"
    )))
    .persistent(false)
    .fetch_one(&mut *transaction)
    .await
    .map_err(failed)?;
    if holds_rows {
        return Err(FillError::NotEmpty {
            table: parameters.table().to_owned(),
        });
    }
    let copied = copy(&mut transaction, &parameters, &table, rows, seed, now)
        .await
        .map_err(failed)?;
    if copied > 0 {
        let literal = ballpoint_postgres::ident::quote_literal(&table);
        let next = format!("select setval(pg_get_serial_sequence({literal}, 'id'), {copied})");
        execute(&mut transaction, next).await.map_err(failed)?;
    }
    transaction.commit().await.map_err(failed)?;
    tracing::info!(table = parameters.table(), rows = copied, "seeded");
    Ok(copied)
}

async fn copy(
    connection: &mut PgConnection,
    parameters: &Parameters,
    table: &str,
    rows: u64,
    seed: u64,
    now: Timestamp,
) -> Result<u64, sqlx::Error> {
    let columns: Vec<String> = parameters
        .columns()
        .map(ballpoint_postgres::ident::quote)
        .collect();
    let statement = format!("copy {table} ({}) from stdin", columns.join(", "));
    let mut sink = connection.copy_in_raw(&statement).await?;
    for chunk in generate(parameters, rows, seed, now) {
        sink.send(chunk).await?;
        // Making a chunk takes about a millisecond of CPU: let others on this thread go first.
        tokio::task::yield_now().await;
    }
    sink.finish().await
}

async fn execute(connection: &mut PgConnection, statement: String) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(statement))
        .execute(connection)
        .await
        .map(drop)
}

/// `schema.table` with both names quoted; the parameters were checked to have both.
pub(crate) fn quoted(table: &str) -> String {
    table.split_once('.').map_or_else(
        || ballpoint_postgres::ident::quote(table),
        |(schema, name)| quote_qualified(schema, name),
    )
}
