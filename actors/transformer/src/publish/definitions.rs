//! What a relation was built from: a digest that changes when its template, its configuration, a
//! macro, a variable of the project or anything upstream of it changes.

use std::collections::{BTreeMap, HashMap};

use sqlx::{AssertSqlSafe, PgConnection, Row};

use crate::materialize::execute;
use crate::project::node::{Node, ResourceType};
use crate::project::{Project, md5_hex};

/// The digest of every relation of a project, by unique id.
pub(super) fn digests(project: &Project) -> BTreeMap<String, String> {
    let mut digests: BTreeMap<String, String> = BTreeMap::new();
    let shared = format!(
        "{}\u{0}{}\u{0}{}",
        project.macros_digest,
        serde_json::Value::Object(project.globals.vars.clone()),
        project.target.schema,
    );
    for id in project.graph.order() {
        let digest = match (project.nodes.get(&id), project.sources.get(&id)) {
            (Some(node), _) if !node.is_test() => digest(project, node, &shared, &digests),
            (None, Some(source)) => md5_hex(&source.relation.to_string()),
            _ => continue,
        };
        digests.insert(id, digest);
    }
    digests
}

fn digest(
    project: &Project,
    node: &Node,
    shared: &str,
    known: &BTreeMap<String, String>,
) -> String {
    let parents: Vec<&str> = node
        .depends_on
        .iter()
        .filter_map(|id| known.get(id))
        .map(String::as_str)
        .collect();
    let content = match node.resource_type {
        // A seed that cannot be read fails when it is loaded, with a better message.
        ResourceType::Seed => {
            std::fs::read_to_string(project.root.join(&node.original_file_path)).unwrap_or_default()
        }
        _ => node.raw_code.clone(),
    };
    let config = serde_json::Value::Object(node.config.clone());
    md5_hex(&format!(
        "{shared}\u{0}{content}\u{0}{config}\u{0}{}\u{0}{}",
        node.relation,
        parents.join("\u{0}"),
    ))
}

/// Reads what the published relations were built from, making the table on first use.
pub(super) async fn published(
    conn: &mut PgConnection,
) -> Result<HashMap<String, String>, sqlx::Error> {
    execute(
        conn,
        "create schema if not exists ballpoint;
         create table if not exists ballpoint.build_state (
             node_id text primary key, definition_hash text not null, relation text not null,
             built_at timestamptz not null default clock_timestamp());",
    )
    .await?;
    let rows = sqlx::query("select node_id, definition_hash from ballpoint.build_state")
        .persistent(false)
        .fetch_all(conn)
        .await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Writes what the relations are built from now: (unique id, digest, relation).
pub(super) async fn record(
    conn: &mut PgConnection,
    built: &[(String, String, String)],
) -> Result<(), sqlx::Error> {
    let column = |pick: fn(&(String, String, String)) -> &String| -> Vec<String> {
        built.iter().map(|row| pick(row).clone()).collect()
    };
    let sql = "insert into ballpoint.build_state (node_id, definition_hash, relation) \
               select * from unnest($1::text[], $2::text[], $3::text[]) \
               on conflict (node_id) do update set definition_hash = excluded.definition_hash, \
               relation = excluded.relation, built_at = clock_timestamp()";
    sqlx::query(AssertSqlSafe(sql))
        .bind(column(|row| &row.0))
        .bind(column(|row| &row.1))
        .bind(column(|row| &row.2))
        .execute(conn)
        .await?;
    Ok(())
}
