//! From a compiled select to a relation, by dbt's own steps: build beside, rename, drop the old.

pub(crate) mod incremental;
pub(crate) mod seed;

use ballpoint_postgres::ident;
use serde_json::Value as Json;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::catalog::RelationKind;
use crate::compile::Compiled;
use crate::jinja::relation::Relation;
use crate::project::md5_hex;
use crate::project::node::{Materialization, Node};

/// PostgreSQL cuts identifiers beyond this.
const IDENTIFIER_LENGTH_MAX: usize = 63;

/// What a materialization did, as dbt's log says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Built {
    /// `CREATE VIEW`, `SELECT 3`, `INSERT 0 2`, `MERGE 2`.
    pub(crate) message: String,
    pub(crate) rows: Option<u64>,
}

/// Runs statements that return nothing; the rows that they touched.
pub(crate) async fn execute(conn: &mut PgConnection, sql: &str) -> Result<u64, sqlx::Error> {
    let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(conn)
        .await?;
    Ok(done.rows_affected())
}

/// A name with a suffix that still fits into an identifier. What is cut off is told by its hash, so
/// that two long names with one beginning stay two.
pub(crate) fn suffixed(relation: &Relation, suffix: &str) -> Relation {
    let name = &relation.identifier;
    if name.len() + suffix.len() <= IDENTIFIER_LENGTH_MAX {
        return relation.renamed(format!("{name}{suffix}"));
    }
    let hash = &md5_hex(name)[..8];
    let mut end = name
        .len()
        .min(IDENTIFIER_LENGTH_MAX - suffix.len() - hash.len());
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    relation.renamed(format!("{}{hash}{suffix}", &name[..end]))
}

fn drop_if_exists(kind: RelationKind, relation: &Relation) -> String {
    format!("drop {} if exists {relation} cascade;\n", kind.name())
}

/// `alter … rename`, for whatever the relation is.
pub(crate) fn rename(relation: &Relation, to: &str) -> String {
    format!("alter table {relation} rename to {};\n", ident::quote(to))
}

/// Creates a view or a table of a select.
pub(crate) fn create_as(kind: RelationKind, relation: &Relation, sql: &str) -> String {
    match kind {
        RelationKind::View => format!("create view {relation} as (\n{sql}\n);\n"),
        _ => format!("create table {relation} as (\n{sql}\n);\n"),
    }
}

/// The indexes that a node's configuration asks for.
pub(crate) fn create_indexes(node: &Node, relation: &Relation) -> String {
    let mut sql = String::new();
    for index in node
        .config
        .get("indexes")
        .and_then(Json::as_array)
        .into_iter()
        .flatten()
    {
        let columns: Vec<String> = index
            .get("columns")
            .and_then(Json::as_array)
            .into_iter()
            .flatten()
            .filter_map(Json::as_str)
            .map(ident::quote)
            .collect();
        if columns.is_empty() {
            continue;
        }
        let unique = index.get("unique").and_then(Json::as_bool).unwrap_or(false);
        let method = index.get("type").and_then(Json::as_str).unwrap_or("btree");
        sql.push_str(&format!(
            "create {}index on {relation} using {} ({});\n",
            if unique { "unique " } else { "" },
            ident::quote(method),
            columns.join(", "),
        ));
    }
    sql
}

/// Puts `fresh` in the place of what is at `relation`.
pub(crate) fn swap(
    relation: &Relation,
    existing: Option<RelationKind>,
    fresh: &Relation,
) -> String {
    let mut sql = String::new();
    if let Some(kind) = existing {
        let backup = suffixed(relation, "__dbt_backup");
        sql.push_str(&drop_if_exists(kind, &backup));
        // A view may have fallen already, with what it stood on: the drop below cascades.
        sql.push_str(&format!(
            "alter table if exists {relation} rename to {};\n",
            ident::quote(&backup.identifier)
        ));
        sql.push_str(&rename(fresh, &relation.identifier));
        sql.push_str(&drop_if_exists(kind, &backup));
    } else {
        sql.push_str(&rename(fresh, &relation.identifier));
    }
    sql
}

/// Builds a model as dbt does, in a transaction of its own.
///
/// # Errors
/// Those of PostgreSQL; the transaction is rolled back.
pub(crate) async fn build_model(
    conn: &mut PgConnection,
    node: &Node,
    compiled: &Compiled,
    existing: Option<RelationKind>,
) -> Result<Built, sqlx::Error> {
    execute(conn, "begin").await?;
    let built = build_in_transaction(conn, node, compiled, existing).await;
    match built {
        Ok(built) => {
            execute(conn, "commit").await?;
            Ok(built)
        }
        Err(error) => {
            // The first error is the one to report; a dead connection rolls back by itself.
            let _ = execute(conn, "rollback").await;
            Err(error)
        }
    }
}

async fn build_in_transaction(
    conn: &mut PgConnection,
    node: &Node,
    compiled: &Compiled,
    existing: Option<RelationKind>,
) -> Result<Built, sqlx::Error> {
    for hook in &compiled.pre_hooks {
        execute(conn, hook).await?;
    }
    let built = if compiled.incremental {
        incremental::merge_into(conn, node, &node.relation, &compiled.sql).await?
    } else {
        replace(conn, node, compiled, existing).await?
    };
    for hook in &compiled.post_hooks {
        execute(conn, hook).await?;
    }
    Ok(built)
}

async fn replace(
    conn: &mut PgConnection,
    node: &Node,
    compiled: &Compiled,
    existing: Option<RelationKind>,
) -> Result<Built, sqlx::Error> {
    let kind = relation_kind(node);
    let fresh = suffixed(&node.relation, "__dbt_tmp");
    let mut sql = drop_if_exists(kind, &fresh);
    sql.push_str(&create_as(kind, &fresh, &compiled.sql));
    if kind.is_table() {
        sql.push_str(&create_indexes(node, &fresh));
    }
    let rows = execute(conn, &sql).await?;
    execute(conn, &swap(&node.relation, existing, &fresh)).await?;
    Ok(created(kind, rows))
}

/// What creating a relation of this kind says.
pub(crate) fn created(kind: RelationKind, rows: u64) -> Built {
    match kind {
        RelationKind::View => Built {
            message: "CREATE VIEW".to_owned(),
            rows: None,
        },
        _ => Built {
            message: format!("SELECT {rows}"),
            rows: Some(rows),
        },
    }
}

/// The kind of relation that a model is.
pub(crate) fn relation_kind(node: &Node) -> RelationKind {
    match node.materialization {
        Materialization::View => RelationKind::View,
        _ => RelationKind::Table,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_with_one_beginning_stay_two_and_fit() {
        let named = |end: &str| Relation {
            database: "w".to_owned(),
            schema: "s".to_owned(),
            identifier: format!("{}{end}", "é".repeat(30)),
        };
        let suffixed = |end: &str| suffixed(&named(end), "__ballpoint_new").identifier;
        assert_ne!(suffixed("a"), suffixed("b"));
        assert!(suffixed("a").len() <= IDENTIFIER_LENGTH_MAX);
        assert!(suffixed("a").ends_with("__ballpoint_new"));
        let short = Relation {
            identifier: "orders".to_owned(),
            ..named("")
        };
        assert_eq!(super::suffixed(&short, "__x").identifier, "orders__x");
    }
}
