//! What the warehouse's side of a sync looks like.

use sqlx::PgConnection;

use crate::definition::Sync;
use crate::diff;
use crate::error::WriteBackError;

/// Values have one text on both sides under these.
pub(crate) const SESSION: &str = "set local timezone = 'UTC'; set local datestyle = 'ISO, YMD'; \
    set local intervalstyle = 'iso_8601'; set local extra_float_digits = 1";

/// What of the sync does not fit the relation: each complaint with the text its line is found by.
///
/// # Errors
/// When the relation or query cannot be read; PostgreSQL's reason is in the complaint then.
pub(crate) async fn complaints(
    connection: &mut PgConnection,
    sync: &Sync,
) -> Result<Vec<(String, String)>, WriteBackError> {
    let reading = "looking at the desired rows";
    let needle = if sync.model.is_some() {
        "model:"
    } else {
        "query:"
    };
    let probe = sqlx::raw_sql(sqlx::AssertSqlSafe(diff::probe(sync)));
    match probe.execute(&mut *connection).await {
        Ok(_) => {}
        // 42 syntax error or access rule violation: the name, a column of the condition, a right.
        Err(sqlx::Error::Database(error)) if error.code().is_some_and(|c| c.starts_with("42")) => {
            return Ok(vec![(needle.to_owned(), error.message().to_owned())]);
        }
        Err(error) => return Err(WriteBackError::warehouse(reading)(error)),
    }
    let columns: Vec<(String, String)> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
        "select attname::text, format_type(atttypid, null) from pg_attribute
         where attrelid = '{}'::regclass and attnum > 0",
        diff::PROBE
    )))
    .persistent(false)
    .fetch_all(&mut *connection)
    .await
    .map_err(WriteBackError::warehouse(reading))?;
    let mut found = Vec::new();
    for field in sync.fields() {
        let known = columns.iter().find(|(name, _)| name == field.from());
        let line = match &field.from {
            Some(from) => from.clone(),
            None => format!("column: {}", field.column),
        };
        match known {
            None => {
                let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
                found.push((
                    line,
                    format!("no column {} in the warehouse; there are {}", field.from(), names.join(", ")),
                ));
            }
            Some((_, warehouse)) if !field.r#type.accepts(warehouse) => found.push((
                line,
                format!(
                    "column {} is {warehouse} in the warehouse and {} in the target: cast it in the model",
                    field.column, field.r#type
                ),
            )),
            Some(_) => {}
        }
    }
    Ok(found)
}
