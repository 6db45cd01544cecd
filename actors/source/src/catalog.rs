//! What a source's own catalog says about its tables. Read-only, and cheap: no table is touched.
//!
//! A column whose type's binary form means the same on every PostgreSQL keeps its type and is read as
//! it is. A domain lands as the type under it and an enum as `text`, whose binary forms theirs are. The
//! binary form of a composite or extension type holds object ids of its own database, or needs its
//! extension: such a column is read, and lands, as `text`; so do the `reg*` types. Arrays follow their
//! elements: `text[]`, `numeric(8,2)[]`. Why: docs/adr.

use ballpoint_postgres::ident::{quote, quote_qualified};
use ballpoint_runtime::segment::{Column, ColumnOrigin, TableName};
use sqlx::postgres::PgConnection;

/// A table of the source, as its catalog has it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceTable {
    pub oid: i64,
    /// See [`Origin::file`](ballpoint_runtime::segment::Origin::file).
    pub file: i64,
    pub table: TableName,
    pub columns: Vec<SourceColumn>,
    /// In key order; empty when the table has none.
    pub primary_key: Vec<String>,
    /// Columns that lead a complete btree index: their maximum is read from the index alone.
    pub index_leads: Vec<String>,
    /// Whether the configured user may SELECT from it.
    pub readable: bool,
    /// What the rows that are read fulfil; `None`: all are.
    pub fits: Option<String>,
}

/// A column and how it travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceColumn {
    /// As it lands.
    pub column: Column,
    /// Whether its binary form is, undecoded, that of the type that it lands as.
    pub portable: bool,
    /// Whether values may be longer than a page: those are what `max_value_bytes` is for.
    pub long: bool,
    /// What it is known by again.
    pub origin: ColumnOrigin,
    /// Its type in the catalog, and the modifier of that: the log names it so.
    pub type_id: u32,
    pub type_modifier: i32,
    /// Whether rows older than the column hold a value in it without having been rewritten.
    pub fills_old_rows: bool,
}

impl SourceTable {
    /// The quoted, qualified name.
    pub(crate) fn quoted(&self) -> String {
        quote_qualified(&self.table.schema, &self.table.name)
    }

    pub(crate) fn column(&self, name: &str) -> Option<&SourceColumn> {
        self.columns
            .iter()
            .find(|column| column.column.name == name)
    }

    pub(crate) fn is_index_lead(&self, name: &str) -> bool {
        self.index_leads.iter().any(|lead| lead == name)
    }

    /// `condition`, of the rows that are read.
    pub(crate) fn where_fits(&self, condition: &str) -> String {
        match &self.fits {
            Some(fits) => format!("({condition}) and ({fits})"),
            None => condition.to_owned(),
        }
    }

    /// The select list that reads every column in the form in which it travels.
    pub(crate) fn select_list(&self) -> String {
        let expressions: Vec<String> = self
            .columns
            .iter()
            .map(|column| {
                let name = quote(&column.column.name);
                if column.portable {
                    name
                } else {
                    format!("{name}::{}", column.column.sql_type)
                }
            })
            .collect();
        expressions.join(", ")
    }
}

/// Ordinary and partitioned tables outside PostgreSQL's own schemas; partitions are read through
/// their parent. `$1` restricts to one table.
const TABLES: &str = "
select c.oid::bigint, coalesce(pg_relation_filenode(c.oid), 0)::bigint,
       n.nspname::text, c.relname::text,
       has_table_privilege(c.oid, 'SELECT') and has_schema_privilege(n.oid, 'USAGE'),
       coalesce((select array_agg(a.attname::text order by k.position)
                 from pg_index i
                 cross join unnest(i.indkey::int2[]) with ordinality k(attnum, position)
                 join pg_attribute a on a.attrelid = c.oid and a.attnum = k.attnum
                 where i.indrelid = c.oid and i.indisprimary), '{}'),
       coalesce((select array_agg(distinct a.attname::text)
                 from pg_index i
                 join pg_class ic on ic.oid = i.indexrelid
                 join pg_am m on m.oid = ic.relam and m.amname = 'btree'
                 join pg_attribute a on a.attrelid = c.oid and a.attnum = i.indkey[0]
                 where i.indrelid = c.oid and i.indisvalid and i.indpred is null), '{}')
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p') and not c.relispartition and c.relpersistence <> 't'
  and n.nspname <> 'information_schema' and n.nspname !~ '^pg_'
  and ($1::text is null or c.oid = to_regclass($1))
order by 3, 4";

/// `flat` is the type under a domain, `element` that of an array, itself without its domain.
const COLUMNS: &str = "
with recursive under(domain, typ, mod) as (
  select oid, typbasetype, typtypmod from pg_type where typtype = 'd'
  union all
  select u.domain, t.typbasetype, t.typtypmod
  from under u join pg_type t on t.oid = u.typ and t.typtype = 'd'),
flat(domain, typ, mod) as (
  select u.* from under u join pg_type t on t.oid = u.typ and t.typtype <> 'd'),
kind(oid, portable, enum) as (
  select oid, typnamespace = 'pg_catalog'::regnamespace and typtype in ('b', 'r', 'm')
         and typsend <> 0 and typreceive <> 0
         and typname !~ '^_?(reg|aclitem|gtsvector|pg_(node_tree|ndistinct|dependencies|mcv|brin))',
         typtype = 'e'
  from pg_type)
select a.attrelid::bigint, a.attname::text, a.attnotnull,
       case when e.oid is null then case when k.portable then format_type(c.typ, c.mod) else 'text' end
            when et.typcategory = 'A' then 'text'
            when ek.portable and ef.typ is null then format_type(c.typ, c.mod)
            when ek.portable then format_type(ef.typ, ef.mod) || '[]'
            else 'text[]' end,
       case when e.oid is null then k.portable or k.enum else ek.portable and ef.typ is null end,
       t.typlen = -1, a.attnum::int,
       format_type(a.atttypid, a.atttypmod)
         || coalesce((select ' (' || string_agg(quote_literal(l.enumlabel), ', ' order by l.enumsortorder)
                      || ')' from pg_enum l where l.enumtypid in (c.typ, et.oid)), '')
         || coalesce((select ' (' || string_agg(f.attname || ' ' || format_type(f.atttypid, f.atttypmod),
                                                 ', ' order by f.attnum) || ')'
                      from pg_type r join pg_attribute f on f.attrelid = r.typrelid and f.attnum > 0
                       and not f.attisdropped
                      where r.oid in (c.typ, et.oid) and r.typtype = 'c'), ''),
       a.atthasmissing or a.attgenerated <> '' or a.attidentity <> '', a.atttypid::bigint, a.atttypmod
from pg_attribute a
left join flat f on f.domain = a.atttypid
cross join lateral (select coalesce(f.typ, a.atttypid), coalesce(f.mod, a.atttypmod)) c(typ, mod)
join pg_type t on t.oid = c.typ
join kind k on k.oid = c.typ
left join pg_type e on e.oid = t.typelem and t.typelem <> 0 and t.typcategory = 'A'
left join flat ef on ef.domain = e.oid
left join pg_type et on et.oid = coalesce(ef.typ, e.oid)
left join kind ek on ek.oid = et.oid
where a.attrelid = any($1::bigint[]::oid[]) and a.attnum > 0 and not a.attisdropped
order by a.attrelid, a.attnum";

type TableRow = (i64, i64, String, String, bool, Vec<String>, Vec<String>);
type ColumnRow = (
    i64,
    String,
    bool,
    String,
    bool,
    bool,
    i32,
    String,
    bool,
    i64,
    i32,
);

/// Every table of the database, or the one called `only`.
pub(crate) async fn read(
    connection: &mut PgConnection,
    only: Option<&TableName>,
) -> Result<Vec<SourceTable>, sqlx::Error> {
    let mut tables = tables(&mut *connection, only).await?;
    let oids: Vec<i64> = tables.iter().map(|table| table.oid).collect();
    let columns: Vec<ColumnRow> = sqlx::query_as(COLUMNS)
        .bind(&oids)
        .fetch_all(&mut *connection)
        .await?;
    for row in columns {
        if let Some(table) = tables.iter_mut().find(|table| table.oid == row.0) {
            table.columns.push(column_of(row));
        }
    }
    Ok(tables)
}

/// The same, without their columns.
pub(crate) async fn tables(
    connection: &mut PgConnection,
    only: Option<&TableName>,
) -> Result<Vec<SourceTable>, sqlx::Error> {
    let only = only.map(|table| quote_qualified(&table.schema, &table.name));
    let tables: Vec<TableRow> = sqlx::query_as(TABLES)
        .bind(only)
        .fetch_all(connection)
        .await?;
    Ok(tables.into_iter().map(table_of).collect())
}

fn column_of(
    (_, name, not_null, sql_type, portable, long, number, declared, fills, type_id, type_modifier): ColumnRow,
) -> SourceColumn {
    SourceColumn {
        column: Column {
            name,
            sql_type,
            not_null,
        },
        portable,
        long,
        origin: ColumnOrigin { number, declared },
        type_id: u32::try_from(type_id).unwrap_or_default(),
        type_modifier,
        fills_old_rows: fills,
    }
}

fn table_of(
    (oid, file, schema, name, readable, primary_key, index_leads): TableRow,
) -> SourceTable {
    let table = TableName::new(schema, name);
    SourceTable {
        oid,
        file,
        table,
        columns: Vec::new(),
        primary_key,
        index_leads,
        readable,
        fits: None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use ballpoint_postgres::testing::TestDatabase;

    use super::*;

    #[tokio::test]
    async fn the_catalog_is_read_with_keys_indexes_and_portable_types() {
        let database = TestDatabase::create().await;
        sqlx::raw_sql(
            "create type mood as enum ('good', 'bad');
             create domain price as numeric(8,2);
             create table t (
               b int, a int generated always as identity, m mood, p price, ms mood[],
               n numeric(6,2) not null, xs int[], r int4range, j json, c regclass,
               twice int generated always as (b * 2) stored, primary key (b, a));
             create index on t (n);
             create index on t (r) where b > 0;
             create table parts (id int primary key) partition by range (id);
             create table parts_1 partition of parts for values from (0) to (10);
             create view v as select 1;",
        )
        .execute(database.pool())
        .await
        .unwrap();
        let mut connection = database.pool().acquire().await.unwrap();
        let tables = read(&mut connection, None).await.unwrap();
        let names: Vec<&str> = tables
            .iter()
            .map(|table| table.table.name.as_str())
            .collect();
        assert_eq!(names, ["parts", "t"]);
        let t = &tables[1];
        assert_eq!(t.primary_key, ["b", "a"]);
        assert_eq!(t.index_leads, ["b", "n"]);
        let types: Vec<(&str, &str)> = t
            .columns
            .iter()
            .map(|c| (c.column.name.as_str(), c.column.sql_type.as_str()))
            .collect();
        assert_eq!(
            types,
            [
                ("b", "integer"),
                ("a", "integer"),
                ("m", "text"),
                ("p", "numeric(8,2)"),
                ("ms", "text[]"),
                ("n", "numeric(6,2)"),
                ("xs", "integer[]"),
                ("r", "int4range"),
                ("j", "json"),
                ("c", "text"),
                ("twice", "integer"),
            ]
        );
        let one = read(&mut connection, Some(&TableName::new("public", "t")))
            .await
            .unwrap();
        assert_eq!(one.len(), 1);
        assert!(
            read(&mut connection, Some(&TableName::new("no", "t")))
                .await
                .unwrap()
                .is_empty()
        );
    }
}
