//! Tables and columns as the catalogue describes them. No table is touched.

use std::collections::HashMap;

use ballpoint_runtime::segment::TableName;
use sqlx::postgres::PgConnection;

use super::{ColumnProfile, TableProfile};
use crate::catalog::SourceTable;

const VIEWS: &str = "
select n.nspname::text, c.relname::text
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('v', 'm', 'f') and n.nspname <> 'information_schema' and n.nspname !~ '^pg_'
  and not exists (select from pg_depend d where d.objid = c.oid and d.deptype = 'e')
order by 1, 2";

/// Views, materialised views and foreign tables, those of extensions left out.
pub(super) async fn views(connection: &mut PgConnection) -> Result<Vec<TableName>, sqlx::Error> {
    let rows: Vec<(String, String)> = sqlx::query_as(VIEWS).fetch_all(connection).await?;
    Ok(rows
        .into_iter()
        .map(|(schema, name)| TableName::new(schema, name))
        .collect())
}

/// Partitioned tables have the rows and pages of their leaves. A table never analysed has no row
/// count (-1): its pages tell.
const SIZES: &str = "
select t.oid, obj_description(t.oid::oid, 'pg_class'),
       coalesce(sum(pg_relation_size(c.oid)), 0)::bigint,
       coalesce(sum(case when c.reltuples >= 0 and c.relpages > 0
                         then c.reltuples * (pg_relation_size(c.oid) / 8192.0) / c.relpages
                         else pg_relation_size(c.oid) / 100.0 end), 0)::bigint
from unnest($1::bigint[]) t(oid)
cross join lateral (select p.relid::oid as oid from pg_partition_tree(t.oid::oid::regclass) p
                    union select t.oid::oid) leaf
join pg_class c on c.oid = leaf.oid and c.relkind in ('r', 'p')
group by t.oid";

const COLUMNS: &str = "
with recursive base(attrelid, attnum, typid, typmod) as (
  select attrelid, attnum, atttypid, atttypmod
  from pg_attribute
  where attrelid = any($1::bigint[]::oid[]) and attnum > 0 and not attisdropped
  union all
  select b.attrelid, b.attnum, t.typbasetype, t.typtypmod
  from base b
  join pg_type t on t.oid = b.typid and t.typtype = 'd')
select a.attrelid::bigint, a.attname::text, format_type(b.typid, b.typmod),
       col_description(a.attrelid, a.attnum::int),
       a.attidentity <> '' or a.attgenerated <> ''
         or coalesce(pg_get_expr(d.adbin, d.adrelid) like 'nextval(%', false),
       array(select e.enumlabel::text from pg_enum e where e.enumtypid = b.typid order by e.enumsortorder)
from base b
join pg_type t on t.oid = b.typid and t.typtype <> 'd'
join pg_attribute a on a.attrelid = b.attrelid and a.attnum = b.attnum
left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
order by a.attrelid, a.attnum";

type SizeRow = (i64, Option<String>, i64, i64);
type ColumnRow = (i64, String, String, Option<String>, bool, Vec<String>);

/// The readable tables with their columns, comments and sizes.
pub(super) async fn tables(
    connection: &mut PgConnection,
    readable: Vec<SourceTable>,
) -> Result<Vec<TableProfile>, sqlx::Error> {
    let oids: Vec<i64> = readable.iter().map(|table| table.oid).collect();
    let sizes: Vec<SizeRow> = sqlx::query_as(SIZES)
        .bind(&oids)
        .fetch_all(&mut *connection)
        .await?;
    let described: Vec<ColumnRow> = sqlx::query_as(COLUMNS)
        .bind(&oids)
        .fetch_all(&mut *connection)
        .await?;
    let sizes: HashMap<i64, SizeRow> = sizes.into_iter().map(|row| (row.0, row)).collect();
    let mut described: HashMap<(i64, String), ColumnRow> = described
        .into_iter()
        .map(|row| ((row.0, row.1.clone()), row))
        .collect();
    Ok(readable
        .into_iter()
        .map(|table| {
            let (_, comment, bytes, rows) = sizes.get(&table.oid).cloned().unwrap_or_default();
            let columns = table.columns.iter().map(|source| {
                let own = described.remove(&(table.oid, source.column.name.clone()));
                let (_, _, base_type, comment, generated, enum_labels) = own.unwrap_or_default();
                ColumnProfile {
                    name: source.column.name.clone(),
                    landed_type: source.column.sql_type.clone(),
                    base_type,
                    comment: filled(comment),
                    not_null: source.column.not_null,
                    generated,
                    enum_labels,
                    ..ColumnProfile::default()
                }
            });
            TableProfile {
                columns: columns.collect(),
                oid: table.oid,
                table: table.table,
                comment: filled(comment),
                primary_key: table.primary_key,
                unique: Vec::new(),
                foreign_keys: Vec::new(),
                rows_estimated: rows,
                bytes,
                sampled_rows: 0,
                sample_complete: false,
                sample_failure: None,
            }
        })
        .collect())
}

/// A comment on one line; an empty one is none.
fn filled(comment: Option<String>) -> Option<String> {
    let text = comment?.split_whitespace().collect::<Vec<_>>().join(" ");
    (!text.is_empty()).then_some(text)
}
