//! A raw table as the warehouse has it, and as it should be.

use ballpoint_postgres::ident::{quote, quote_qualified};
use ballpoint_runtime::segment::{Column, SyncMode, TableName, TableSpec};
use sqlx::PgConnection;

use crate::error::LoadError;
use crate::transaction::WarehouseTransaction;

/// Added to every table, in every mode, at the end and in this order; the names are Airbyte's.
pub(crate) const EXTRACTED_AT: &str = "_airbyte_extracted_at";
pub(crate) const GENERATION_ID: &str = "_airbyte_generation_id";
const METADATA: [&str; 4] = [
    EXTRACTED_AT,
    GENERATION_ID,
    "_ab_cdc_lsn",
    "_ab_cdc_deleted_at",
];

/// A raw table that exists.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) oid: i64,
    pub(crate) raw: TableName,
    /// Without the metadata columns.
    pub(crate) columns: Vec<Column>,
    /// Sorted by name: only which columns they are matters.
    pub(crate) primary_key: Vec<String>,
    /// Which full load the rows are of; counts up with each.
    pub(crate) generation: i64,
    /// Whether all metadata columns are there: a table of somebody else's making may lack them.
    pub(crate) has_metadata: bool,
}

const COLUMNS: &str = "
select a.attname::text, format_type(a.atttypid, a.atttypmod), a.attnotnull,
       pg_get_expr(d.adbin, d.adrelid)
from pg_attribute a
left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
where a.attrelid = $1::oid and a.attnum > 0 and not a.attisdropped
order by a.attnum";

const PRIMARY_KEY: &str = "
select a.attname::text from pg_index i
join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any(i.indkey::int2[])
where i.indrelid = $1::oid and i.indisprimary order by 1";

impl Target {
    /// The raw table as it is now; `None` when there is none.
    pub(crate) async fn find(
        connection: &mut PgConnection,
        raw: &TableName,
    ) -> Result<Option<Self>, sqlx::Error> {
        let oid: Option<i64> = sqlx::query_scalar("select to_regclass($1)::oid::bigint")
            .bind(quoted(raw))
            .fetch_one(&mut *connection)
            .await?;
        let Some(oid) = oid else { return Ok(None) };
        let found: Vec<(String, String, bool, Option<String>)> = sqlx::query_as(COLUMNS)
            .bind(oid.to_string())
            .fetch_all(&mut *connection)
            .await?;
        let primary_key = sqlx::query_scalar(PRIMARY_KEY)
            .bind(oid.to_string())
            .fetch_all(connection)
            .await?;
        let has_metadata = METADATA
            .iter()
            .all(|name| found.iter().any(|(column, ..)| column == name));
        let generation = found
            .iter()
            .find(|(name, ..)| name == GENERATION_ID)
            .and_then(|(.., default)| default.as_deref())
            .map_or(0, |default| digits(default).parse().unwrap_or(0));
        let columns = found
            .into_iter()
            .filter(|(name, ..)| !METADATA.contains(&name.as_str()))
            .map(|(name, sql_type, not_null, _)| Column {
                name,
                sql_type,
                not_null,
            })
            .collect();
        Ok(Some(Self {
            oid,
            raw: raw.clone(),
            columns,
            primary_key,
            generation,
            has_metadata,
        }))
    }

    /// Makes its generation the one that the next load counts on from.
    pub(crate) async fn keep_generation(
        &self,
        transaction: &mut WarehouseTransaction,
    ) -> Result<(), LoadError> {
        let sql = format!(
            "alter table {} alter column {GENERATION_ID} set default {}",
            quoted(&self.raw),
            self.generation
        );
        let done = transaction.run(sql).await;
        done.map_err(LoadError::warehouse("counting the generation"))?;
        Ok(())
    }

    /// Whether rows can be merged into it by the spec's key.
    pub(crate) fn is_keyed_by(&self, key: &[String]) -> bool {
        let mut key = key.to_vec();
        key.sort();
        self.primary_key == key
    }
}

/// PostgreSQL spells a bigint default `5`, `'5'::bigint` or `'5000000000'::bigint`.
fn digits(default: &str) -> String {
    default
        .chars()
        .skip_while(|c| !c.is_ascii_digit())
        .take_while(char::is_ascii_digit)
        .collect()
}

pub(crate) fn quoted(table: &TableName) -> String {
    quote_qualified(&table.schema, &table.name)
}

/// `"a", "b"`
pub(crate) fn names(columns: &[Column]) -> String {
    let names: Vec<String> = columns.iter().map(|column| quote(&column.name)).collect();
    names.join(", ")
}

/// `"a" integer not null, "b" text`
pub(crate) fn definitions(columns: &[Column]) -> String {
    let each: Vec<String> = columns
        .iter()
        .map(|column| {
            let not_null = if column.not_null { " not null" } else { "" };
            format!("{} {}{not_null}", quote(&column.name), column.sql_type)
        })
        .collect();
    each.join(", ")
}

/// Adds the metadata columns as constant defaults: PostgreSQL keeps those in its catalog, no row is
/// rewritten. The generation stays the default, which is where the next load reads it.
pub(crate) fn add_metadata(table: &str, extracted_at: &str, generation: i64) -> String {
    format!(
        "alter table {table}
           add column {EXTRACTED_AT} timestamptz not null default ({extracted_at}),
           add column {GENERATION_ID} bigint not null default {generation},
           add column _ab_cdc_lsn pg_lsn, add column _ab_cdc_deleted_at timestamptz;
         alter table {table} alter column {EXTRACTED_AT} drop default"
    )
}

/// The primary key that merging needs; none where rows are only ever replaced or appended.
pub(crate) fn merge_key(spec: &TableSpec) -> &[String] {
    match spec.mode {
        SyncMode::FullRefresh => &[],
        _ if spec.options.append => &[],
        SyncMode::Incremental { .. } | SyncMode::Cdc => &spec.primary_key,
    }
}

pub(crate) fn quote_all(columns: &[String]) -> String {
    let quoted: Vec<String> = columns.iter().map(|column| quote(column)).collect();
    quoted.join(", ")
}
