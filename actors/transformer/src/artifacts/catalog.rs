//! `catalog.json`, version 1: what the database says of the project's relations.

use std::collections::BTreeSet;

use serde_json::{Map, Value as Json, json};
use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::metadata;
use crate::jinja::relation::Relation;
use crate::project::Project;

const CATALOG_SCHEMA: &str = "https://schemas.getdbt.com/dbt/catalog/v1.json";

/// A column of a relation, with what is said of its table.
#[derive(Debug)]
pub(crate) struct CatalogRow {
    schema: String,
    table: String,
    kind: &'static str,
    owner: String,
    table_comment: Option<String>,
    column: String,
    index: i64,
    dtype: String,
    comment: Option<String>,
}

/// Reads the columns of every relation in the project's schemas.
///
/// # Errors
/// Those of PostgreSQL.
pub(crate) async fn read(
    conn: &mut PgConnection,
    project: &Project,
) -> Result<Vec<CatalogRow>, sqlx::Error> {
    let sql = "select n.nspname::text, c.relname::text, c.relkind::text, \
               pg_get_userbyid(c.relowner)::text, obj_description(c.oid, 'pg_class'), \
               a.attname::text, a.attnum::int8, format_type(a.atttypid, a.atttypmod), \
               col_description(c.oid, a.attnum) \
               from pg_class c join pg_namespace n on n.oid = c.relnamespace \
               join pg_attribute a on a.attrelid = c.oid \
               where n.nspname = any($1) and c.relkind in ('r', 'p', 'v', 'm', 'f') \
               and a.attnum > 0 and not a.attisdropped order by 1, 2, 7";
    let rows = sqlx::query(AssertSqlSafe(sql.to_owned()))
        .persistent(false)
        .bind(crate::run::schemas_of(project))
        .fetch_all(conn)
        .await?;
    rows.iter()
        .map(|row| {
            let kind: String = row.try_get(2)?;
            Ok(CatalogRow {
                schema: row.try_get(0)?,
                table: row.try_get(1)?,
                kind: match kind.as_str() {
                    "v" => "VIEW",
                    "m" => "MATERIALIZED VIEW",
                    "f" => "FOREIGN TABLE",
                    _ => "BASE TABLE",
                },
                owner: row.try_get(3)?,
                table_comment: row.try_get(4)?,
                column: row.try_get(5)?,
                index: row.try_get(6)?,
                dtype: row.try_get(7)?,
                comment: row.try_get(8)?,
            })
        })
        .collect()
}

fn entry(id: &str, relation: &Relation, rows: &[CatalogRow]) -> Option<Json> {
    let own: Vec<&CatalogRow> = rows
        .iter()
        .filter(|row| row.schema == relation.schema && row.table == relation.identifier)
        .collect();
    let first = own.first()?;
    let columns: Map<String, Json> = own
        .iter()
        .map(|row| {
            let facts = json!({
                "type": row.dtype, "index": row.index, "name": row.column, "comment": row.comment,
            });
            (row.column.clone(), facts)
        })
        .collect();
    Some(json!({
        "metadata": {
            "type": first.kind, "schema": first.schema, "name": first.table,
            "database": relation.database, "comment": first.table_comment, "owner": first.owner,
        },
        "columns": columns,
        "stats": {"has_stats": {
            "id": "has_stats", "label": "Has Stats?", "value": false, "include": false,
            "description": "Indicates whether there are statistics for this table",
        }},
        "unique_id": id,
    }))
}

/// The catalog of what is selected and exists.
pub(crate) fn catalog(
    project: &Project,
    rows: &[CatalogRow],
    selected: &BTreeSet<String>,
    generated_at: &str,
) -> Json {
    let nodes: Map<String, Json> = project
        .nodes
        .values()
        .filter(|node| node.is_relation() && selected.contains(&node.unique_id))
        .filter_map(|node| {
            let facts = entry(&node.unique_id, &node.relation, rows)?;
            Some((node.unique_id.clone(), facts))
        })
        .collect();
    let sources: Map<String, Json> = project
        .sources
        .iter()
        .filter(|(id, _)| selected.contains(*id))
        .filter_map(|(id, source)| Some((id.clone(), entry(id, &source.relation, rows)?)))
        .collect();
    json!({
        "metadata": metadata(project, CATALOG_SCHEMA, generated_at),
        "nodes": nodes, "sources": sources, "errors": null,
    })
}
