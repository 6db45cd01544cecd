//! Writing a rollup's table: whole, or the partitions that were touched.

use ballpoint_postgres::ident::{quote, quote_literal, quote_qualified};
use sqlx::{AssertSqlSafe, PgConnection};

use super::build::{Builder, SCHEMA, shown, versions_text};
use super::parts::{Parted, Signatures};
use super::planned::Planned;

/// How many partitions were written, of how many.
type Written = Option<(usize, usize)>;

/// A table as it is: its name, another text when it is another, whether it is a plain one.
const TABLE: &str = "
select concat(nspname, '.', relname),
       concat_ws(':', class.oid, pg_relation_filenode(class.oid),
           (select md5(string_agg(concat_ws(' ', attname, atttypid, atttypmod), ',' order by attnum))
            from pg_attribute where attrelid = class.oid and attnum > 0 and not attisdropped)),
       relkind = 'r'
from pg_class as class join pg_namespace as space on space.oid = relnamespace
where class.oid = to_regclass($1)";

impl Builder<'_> {
    /// Writes what the rollup holds now.
    pub(super) async fn build(&self, planned: &Planned) -> Result<(u64, Written), sqlx::Error> {
        let mut transaction = self.owner.begin().await?;
        let parted = match &planned.parts {
            Ok(parted) => self.locked(&mut transaction, planned, parted).await?,
            Err(_) => None,
        };
        let prepare = format!(
            "create schema if not exists {SCHEMA};
             create table if not exists {SCHEMA}._built (name text primary key, hash text not null,
                 versions text not null, row_count bigint not null, built_at timestamptz not null);
             create table if not exists {SCHEMA}._partitions (name text primary key, signatures text not null);
             set local timezone = 'UTC'"
        );
        sqlx::raw_sql(AssertSqlSafe(prepare))
            .execute(&mut *transaction)
            .await?;
        let mut written = None;
        let mut touched = None;
        let mut signatures = String::new();
        if let Some((parted, table)) = parted {
            let now = present(&mut transaction, parted, table).await?;
            touched = touched_since(&mut transaction, planned, &now).await?;
            // Much of a table is faster written anew than row by row.
            touched = touched.filter(|keys| keys.len() * 2 <= now.parts.len());
            let all = now.parts.len();
            written = Some((touched.as_ref().map_or(all, Vec::len), all));
            signatures = serde_json::to_string(&now).unwrap_or_default();
        }
        match (&planned.parts, touched) {
            (Ok(parted), Some(keys)) => rewrite(&mut transaction, planned, parted, &keys).await?,
            _ => self.write_whole(&mut transaction, planned).await?,
        }
        let rows = note(&mut transaction, planned, &signatures).await?;
        transaction.commit().await?;
        Ok((rows, written))
    }

    /// One moment for all statements, at which the tables stand still as they are; with the table
    /// that decides on partitions. `None` where PostgreSQL cannot tell of one of them.
    async fn locked<'p>(
        &self,
        transaction: &mut PgConnection,
        planned: &Planned,
        parted: &'p Parted,
    ) -> Result<Option<(&'p Parted, String)>, sqlx::Error> {
        let read = &planned.rollup.reads;
        let names = read.iter().map(|it| quote_qualified(&it.schema, &it.name));
        let names: Vec<String> = names.collect();
        let mut table = None;
        for name in &names {
            let found: Option<(String, String, bool)> = sqlx::query_as(TABLE)
                .bind(name)
                .fetch_optional(self.owner)
                .await?;
            match found {
                Some((_, _, true)) => {}
                _ => return Ok(None),
            }
        }
        let found: Option<(String, String, bool)> = sqlx::query_as(TABLE)
            .bind(&parted.table)
            .fetch_optional(self.owner)
            .await?;
        if let Some((name, state, true)) = found
            && read.iter().any(|it| shown(it) == name)
        {
            table = Some((parted, state));
        }
        if table.is_some() {
            // Locked before the first look: rows that are seen are those of the tables named.
            let sql = format!(
                "set transaction isolation level repeatable read;
                 lock table {} in access share mode",
                names.join(", ")
            );
            sqlx::raw_sql(AssertSqlSafe(sql))
                .execute(&mut *transaction)
                .await?;
        }
        Ok(table)
    }

    async fn write_whole(
        &self,
        transaction: &mut PgConnection,
        planned: &Planned,
    ) -> Result<(), sqlx::Error> {
        let reader: String = sqlx::query_scalar("select current_user::text")
            .fetch_one(self.runner.pool())
            .await?;
        let (new, old) = (
            quote_qualified(SCHEMA, &format!("{}__new", planned.table)),
            quote_qualified(SCHEMA, &planned.table),
        );
        let mut sql = format!(
            "drop table if exists {new}; create table {new} as {};",
            planned.sql
        );
        for columns in &planned.indexes {
            let columns: Vec<String> = columns.iter().map(|it| quote(it)).collect();
            sql.push_str(&format!("create index on {new} ({});", columns.join(", ")));
        }
        sql.push_str(&format!(
            "analyze {new}; drop table if exists {old}; alter table {new} rename to {};
             grant usage on schema {SCHEMA} to {reader}; grant select on {old} to {reader};",
            quote(&planned.table),
            reader = quote(&reader),
        ));
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(transaction)
            .await?;
        Ok(())
    }
}

/// Writes these partitions anew; whoever reads meanwhile sees all of them as they were.
async fn rewrite(
    transaction: &mut PgConnection,
    planned: &Planned,
    parted: &Parted,
    keys: &[String],
) -> Result<(), sqlx::Error> {
    let Some(time) = planned.rollup.times.first().filter(|_| !keys.is_empty()) else {
        return Ok(());
    };
    let table = quote_qualified(SCHEMA, &planned.table);
    let sql = format!(
        "delete from {table} where {}; insert into {table} {}",
        parted.among(&quote(&time.column), keys),
        parted.rows_of(keys)
    );
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(transaction)
        .await?;
    Ok(())
}

async fn present(
    transaction: &mut PgConnection,
    parted: &Parted,
    table: String,
) -> Result<Signatures, sqlx::Error> {
    let parts: Vec<(String, String)> = sqlx::query_as(AssertSqlSafe(parted.signatures.clone()))
        .persistent(false)
        .fetch_all(transaction)
        .await?;
    let parts = parts.into_iter().collect();
    Ok(Signatures { table, parts })
}

/// The partitions that differ from those that were built; `None` where all have to be.
async fn touched_since(
    transaction: &mut PgConnection,
    planned: &Planned,
    now: &Signatures,
) -> Result<Option<Vec<String>>, sqlx::Error> {
    let sql = format!(
        "select versions, signatures from {SCHEMA}._built join {SCHEMA}._partitions using (name)
         where name = $1 and hash = $2 and to_regclass($3) is not null"
    );
    let before: Option<(String, String)> = sqlx::query_as(AssertSqlSafe(sql))
        .persistent(false)
        .bind(&planned.table)
        .bind(&planned.hash)
        .bind(&planned.rollup.relation)
        .fetch_optional(transaction)
        .await?;
    let Some((versions, signatures)) = before else {
        return Ok(None);
    };
    if !others_stand(planned, &versions) {
        return Ok(None);
    }
    let before: Option<Signatures> = serde_json::from_str(&signatures).ok();
    Ok(before.and_then(|before| before.touched(now)))
}

/// Whether of all tables only the one that decides on partitions was written.
fn others_stand(planned: &Planned, before: &str) -> bool {
    let Ok(parted) = &planned.parts else {
        return false;
    };
    let watched = planned.rollup.watched.as_ref();
    let is_own = |name: &str| parted.is_named(name);
    // What PostgreSQL says of several tables does not tell them apart.
    let is_alone =
        |tables: &[_]| tables.len() == 1 && tables.iter().map(shown).all(|it| is_own(&it));
    let states = usize::from(watched.is_some_and(|it| is_alone(&it.tables)));
    let others = |text: &str| -> Vec<String> {
        let lines: Vec<&str> = text.lines().collect();
        let kept = lines.len().saturating_sub(states);
        let lines = lines.into_iter().take(kept);
        let other = lines.filter(|line| !is_own(line.split(' ').next().unwrap_or_default()));
        other.map(str::to_owned).collect()
    };
    others(before) == others(&versions_text(&planned.rollup))
}

/// Writes down what the table was built from; says how many rows it has.
async fn note(
    transaction: &mut PgConnection,
    planned: &Planned,
    signatures: &str,
) -> Result<u64, sqlx::Error> {
    let sql = format!(
        "insert into {SCHEMA}._built
         select {name}, {hash}, {versions}, count(*), clock_timestamp() from {table}
         on conflict (name) do update set hash = excluded.hash, versions = excluded.versions,
             row_count = excluded.row_count, built_at = excluded.built_at;
         insert into {SCHEMA}._partitions values ({name}, {signatures})
         on conflict (name) do update set signatures = excluded.signatures",
        name = quote_literal(&planned.table),
        table = quote_qualified(SCHEMA, &planned.table),
        hash = quote_literal(&planned.hash),
        versions = quote_literal(&versions_text(&planned.rollup)),
        signatures = quote_literal(signatures),
    );
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(&mut *transaction)
        .await?;
    let count = format!("select row_count from {SCHEMA}._built where name = $1");
    let rows: i64 = sqlx::query_scalar(AssertSqlSafe(count))
        .persistent(false)
        .bind(&planned.table)
        .fetch_one(transaction)
        .await?;
    Ok(u64::try_from(rows).unwrap_or_default())
}
