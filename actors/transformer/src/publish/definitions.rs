//! What a relation was built from: a digest that changes when its template, its configuration, a
//! macro, a variable of the project, what its properties declare or anything upstream of it changes.
//! And what a test judges by.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value as Json;
use sqlx::{AssertSqlSafe, PgConnection, Row};

use crate::materialize::{execute, persists};
use crate::project::node::{Materialization, Node, ResourceType};
use crate::project::{Project, md5_hex};

/// The digest of every relation and data test of a project, by unique id.
pub(super) fn digests(project: &Project) -> BTreeMap<String, String> {
    let mut digests = upstream(project);
    let shared = shared(project);
    for (id, node) in &project.nodes {
        match digests.get_mut(id) {
            Some(digest) => add_declared(node, digest),
            None if node.materialization == Materialization::Test => {
                digests.insert(id.clone(), test_digest(node, &shared));
            }
            None => {}
        }
    }
    digests
}

/// What a relation takes from its properties beside its query, and hands on to no other: comments
/// that are kept in the warehouse, a contract.
fn add_declared(node: &Node, digest: &mut String) {
    let mut declared = String::new();
    if persists(node, "relation") {
        declared.push_str(&node.description);
    }
    let (docs, is_contracted) = (persists(node, "columns"), node.is_contracted());
    for column in node.columns.iter().filter(|_| docs || is_contracted) {
        let description = column.description.as_str();
        let of_contract = (&column.data_type, &column.constraints, column.quote);
        let (docs, of_contract) = (
            docs.then_some(description),
            is_contracted.then_some(of_contract),
        );
        declared.push_str(&format!("\u{0}{}{docs:?}{of_contract:?}", column.name));
    }
    if is_contracted {
        declared.push_str(&format!("\u{0}{:?}", node.constraints));
    }
    if !declared.is_empty() {
        *digest = md5_hex(&format!("{digest}\u{0}{declared}"));
    }
}

/// What a test judges by; of what it judges, the build itself knows.
fn test_digest(node: &Node, shared: &str) -> String {
    let config = Json::Object(node.config.clone());
    let asked = node.test.as_ref().map(|test| {
        let kwargs = Json::Object(test.kwargs.clone());
        format!("{:?}{}{kwargs}", test.namespace, test.name)
    });
    let text = &node.raw_code;
    md5_hex(&format!("{shared}\u{0}{text}\u{0}{asked:?}\u{0}{config}"))
}

/// What every definition stands on.
fn shared(project: &Project) -> String {
    format!(
        "{}\u{0}{}\u{0}{}",
        project.macros_digest,
        Json::Object(project.globals.vars.clone()),
        project.target.schema,
    )
}

/// The digests of relations that their readers take on.
fn upstream(project: &Project) -> BTreeMap<String, String> {
    let mut digests: BTreeMap<String, String> = BTreeMap::new();
    let shared = shared(project);
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
    let config = Json::Object(node.config.clone());
    md5_hex(&format!(
        "{shared}\u{0}{content}\u{0}{config}\u{0}{}\u{0}{}",
        node.relation,
        parents.join("\u{0}"),
    ))
}

/// What an earlier build published: of which definition, and where.
pub(super) struct Published {
    pub(super) digest: String,
    pub(super) relation: String,
}

/// Reads what the published relations were built from, by unique id, making the table on first use.
pub(super) async fn published(
    conn: &mut PgConnection,
) -> Result<HashMap<String, Published>, sqlx::Error> {
    execute(
        conn,
        "create schema if not exists ballpoint;
         create table if not exists ballpoint.build_state (
             node_id text primary key, definition_hash text not null, relation text not null,
             built_at timestamptz not null default clock_timestamp());",
    )
    .await?;
    let rows = sqlx::query("select node_id, definition_hash, relation from ballpoint.build_state")
        .persistent(false)
        .fetch_all(conn)
        .await?;
    let published = rows.iter().map(|row| {
        let (digest, relation) = (row.get(1), row.get(2));
        (row.get(0), Published { digest, relation })
    });
    Ok(published.collect())
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
