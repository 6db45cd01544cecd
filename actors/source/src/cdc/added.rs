//! Columns that were added to a table: whether the rows that were there say something in them.

use ballpoint_postgres::ident::{quote, quote_qualified};
use ballpoint_runtime::segment::{SourceError, TableName};
use sqlx::AssertSqlSafe;

use super::log::ChangeLog;
use super::slot::is;

/// PostgreSQL keeps what a default says of older rows beside the column.
const FILLS_OLD_ROWS: &str = "
select exists (select from pg_attribute
               where attrelid = to_regclass($1) and attname::text = any($2) and atthasmissing)";

/// See [`ballpoint_runtime::changes::ChangeSource::came_empty`]. Where the rows were written anew they
/// are looked at: the first value ends that.
pub(super) async fn came_empty(
    log: &ChangeLog,
    table: &TableName,
    columns: &[&str],
    is_rewritten: bool,
) -> Result<bool, SourceError> {
    let quoted = quote_qualified(&table.schema, &table.name);
    let names: Vec<String> = columns.iter().map(|&column| column.to_owned()).collect();
    let mut connection = log.connection().await?;
    let fills: bool = sqlx::query_scalar(FILLS_OLD_ROWS)
        .bind(&quoted)
        .bind(names)
        .fetch_one(&mut connection)
        .await
        .map_err(|error| log.failed(&error))?;
    let filled = columns
        .iter()
        .map(|column| format!("{} is not null", quote(column)));
    let look = format!(
        "select not exists (select from {quoted} where {})",
        filled.collect::<Vec<_>>().join(" or ")
    );
    let empty = match (fills, is_rewritten) {
        (true, _) => false,
        (false, false) => true,
        (false, true) => {
            let looked = sqlx::query_scalar(AssertSqlSafe(look))
                .persistent(false)
                .fetch_one(&mut connection)
                .await;
            // So large a table that nobody knows in time: it is copied.
            match looked {
                Err(error) if is(&error, "57014") => return Ok(false),
                looked => looked.map_err(|error| log.failed(&error))?,
            }
        }
    };
    log.source().connections().give_back(connection);
    Ok(empty)
}
