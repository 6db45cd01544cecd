//! Views that hang on a raw table, around its replacement: see [`ballpoint_postgres::dependents`].

use ballpoint_postgres::dependents;
pub(crate) use ballpoint_postgres::dependents::{Dependent, attributes};
use ballpoint_postgres::ident::quote;
use ballpoint_runtime::segment::TableName;
use sqlx::{AssertSqlSafe, Executor, PgConnection};

use crate::error::LoadError;
use crate::target::{self, Target};

/// The views below the table `oid`, in the order in which they can be created.
pub(crate) async fn collect(
    connection: &mut PgConnection,
    oid: i64,
) -> Result<Vec<Dependent>, sqlx::Error> {
    dependents::collect(connection, &[oid]).await
}

const USED: &str = "
select a.attname::text, format_type(a.atttypid, a.atttypmod)
from pg_attribute a
where a.attrelid = $1::oid and a.attnum > 0 and not a.attisdropped
  and exists (select from pg_depend d join pg_rewrite r on r.oid = d.objid
              where d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_class'::regclass
                and d.refobjid = a.attrelid and d.refobjsubid = a.attnum)
  and not exists (select from pg_attribute n
                  where n.attrelid = to_regclass($2) and n.attname = a.attname and n.attnum > 0)
order by a.attnum";

/// Gives `new` the columns of `old` that the source has no longer and that views read: they are null
/// from now on, and the views stay.
pub(crate) async fn keep_columns(
    connection: &mut PgConnection,
    old: &Target,
    new: &TableName,
) -> Result<(), sqlx::Error> {
    let new = target::quoted(new);
    let used: Vec<(String, String)> = sqlx::query_as(USED)
        .bind(old.oid.to_string())
        .bind(&new)
        .fetch_all(&mut *connection)
        .await?;
    for (name, sql_type) in used {
        let sql = format!("alter table {new} add column {} {sql_type}", quote(&name));
        connection.execute(AssertSqlSafe(sql)).await?;
    }
    Ok(())
}

/// Drops the views, the ones on top first.
pub(crate) async fn drop_all(
    connection: &mut PgConnection,
    views: &[Dependent],
) -> Result<(), sqlx::Error> {
    let dropped = dependents::drop_all(connection, views).await;
    dropped.map_err(|view| view.source)
}

/// Makes the views again, the ones at the bottom first.
pub(crate) async fn create_all(
    connection: &mut PgConnection,
    raw: &TableName,
    views: &[Dependent],
) -> Result<(), LoadError> {
    let made = dependents::create_all(connection, views).await;
    made.map_err(|view| LoadError::Dependent {
        raw: raw.clone(),
        dependent: format!("{}.{}", view.schema, view.name),
        reason: view.source.to_string(),
    })
}
