//! Which tables a statement reads: its words looked up in the warehouse's catalogue, views opened to
//! what they read.
//!
//! What is found is never too little: a word that names a relation by chance counts as one.

use ballpoint_runtime::segment::TableName;
use sqlx::{PgPool, Row as _};

use crate::words::Words;

/// What a statement's rows depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    /// Views and tables, by schema and name.
    pub relations: Vec<TableName>,
    /// Whether the rows depend on these relations alone: no clock, no chance, no function of
    /// somebody's own.
    pub steady: bool,
}

/// Relations that the words name, and what the views among them read.
const SQL: &str = "
with recursive named as (
    select to_regclass(word)::oid as oid from unnest($1::text[]) as word
), reads (oid) as (
    select oid from named where oid is not null
    union
    select depends.refobjid
    from reads
    join pg_rewrite as rule on rule.ev_class = reads.oid
    join pg_depend as depends
      on depends.classid = 'pg_rewrite'::regclass and depends.objid = rule.oid
     and depends.refclassid = 'pg_class'::regclass
)
select space.nspname::text, class.relname::text,
       case when class.relkind = 'v' then pg_get_viewdef(class.oid) end,
       class.relkind = 'f'
from reads
join pg_class as class on class.oid = reads.oid
join pg_namespace as space on space.oid = class.relnamespace
where class.relkind in ('r', 'p', 'v', 'm', 'f')
  and space.nspname not in ('pg_catalog', 'information_schema')
order by 1, 2";

const OWN_FUNCTIONS: &str = "
select exists (
    select 1 from pg_proc join pg_namespace on pg_namespace.oid = pronamespace
    where nspname not in ('pg_catalog', 'information_schema') and proname = any ($1::text[]))";

/// Looks up what statements read.
///
/// # Errors
/// As every query.
pub async fn reads(pool: &PgPool, statements: &[String]) -> Result<Reads, sqlx::Error> {
    let words: Vec<Words> = statements.iter().map(|sql| Words::of(sql)).collect();
    let mut candidates: Vec<String> = words.iter().flat_map(Words::candidates).collect();
    candidates.sort_unstable();
    candidates.dedup();
    let rows = sqlx::query(SQL).bind(candidates).fetch_all(pool).await?;
    let mut steady = words.iter().all(Words::is_steady);
    let mut calls: Vec<String> = words.into_iter().flat_map(|it| it.calls).collect();
    let mut relations = Vec::with_capacity(rows.len());
    for row in &rows {
        relations.push(TableName::new(
            row.try_get::<String, _>(0)?,
            row.try_get::<String, _>(1)?,
        ));
        if let Some(definition) = row.try_get::<Option<String>, _>(2)? {
            let words = Words::of(&definition);
            steady &= words.is_steady();
            calls.extend(words.calls);
        }
        // Nobody here hears of a write to a foreign table.
        steady &= !row.try_get::<bool, _>(3)?;
    }
    if steady {
        calls.sort_unstable();
        calls.dedup();
        let own: bool = sqlx::query_scalar(OWN_FUNCTIONS)
            .bind(calls)
            .fetch_one(pool)
            .await?;
        steady = !own;
    }
    Ok(Reads { relations, steady })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use ballpoint_postgres::testing::TestDatabase;

    use super::*;

    async fn of(database: &TestDatabase, sql: &str) -> (Vec<String>, bool) {
        let found = reads(database.pool(), &[sql.to_owned()]).await.unwrap();
        let names = found.relations.iter();
        let names = names.map(|it| format!("{}.{}", it.schema, it.name));
        (names.collect(), found.steady)
    }

    #[tokio::test]
    async fn a_view_is_opened_to_the_tables_under_it() {
        let database = TestDatabase::create().await;
        sqlx::raw_sql(
            "create schema raw; create schema marts; create table raw.orders (id int, at date);
             create table raw.\"Odd name\" (id int);
             create view marts.orders as select * from raw.orders;
             create view marts.today as select * from marts.orders where at = current_date;
             create function marts.mine() returns int language sql as 'select 1';",
        )
        .execute(database.pool())
        .await
        .unwrap();
        let (names, steady) = of(&database, "select count(*) from marts.orders as o").await;
        assert_eq!(
            (names.join(" ").as_str(), steady),
            ("marts.orders raw.orders", true)
        );
        let (names, steady) = of(&database, "select * from marts.today").await;
        assert_eq!(names, ["marts.orders", "marts.today", "raw.orders"]);
        assert!(!steady, "the view reads the clock");
        let (names, _) = of(
            &database,
            "select 1 from raw.\"Odd name\" where 'marts.orders' = ''",
        )
        .await;
        assert_eq!(names, ["raw.Odd name"]);
        let (_, steady) = of(&database, "select marts.mine() from raw.orders").await;
        assert!(!steady, "what a function of somebody's reads is not known");
    }
}
