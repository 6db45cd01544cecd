//! From a compiled select to a relation, by dbt's own steps: build beside, rename, drop the old.

mod contract;
mod finish;
pub(crate) mod incremental;
mod materialized_view;
mod model;
pub(crate) mod seed;
mod snapshot;

use ballpoint_postgres::ident;
use serde_json::Value as Json;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::catalog::RelationKind;
use crate::compile::Comment;
use crate::jinja::relation::Relation;
use crate::project::node::{Materialization, Node, ResourceType};
use crate::project::{config, md5_hex};
use crate::run::Failure;

pub(crate) use contract::check as check_contract;
pub(crate) use finish::{finish, persists};
pub(crate) use model::{ModelBuild, create_view};
pub(crate) use snapshot::build as take_snapshot;

/// PostgreSQL cuts identifiers beyond this.
pub(crate) const IDENTIFIER_LENGTH_MAX: usize = 63;

/// What a materialization did, as dbt's log says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Built {
    /// `CREATE VIEW`, `SELECT 3`, `INSERT 0 2`, `MERGE 2`.
    pub(crate) message: String,
    pub(crate) rows: Option<u64>,
}

impl Built {
    /// A command tag with its number of rows.
    pub(crate) fn rows(tag: &str, rows: u64) -> Self {
        Self {
            message: format!("{tag} {rows}"),
            rows: Some(rows),
        }
    }

    /// A command tag alone.
    pub(crate) fn tag(tag: &str) -> Self {
        Self {
            message: tag.to_owned(),
            rows: None,
        }
    }
}

/// Runs statements that return nothing; the rows that they touched.
pub(crate) async fn execute(conn: &mut PgConnection, sql: &str) -> Result<u64, sqlx::Error> {
    let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(conn)
        .await?;
    Ok(done.rows_affected())
}

/// A connection that notes what is sent through it, and says whose it is.
pub(crate) struct Sender<'c> {
    pub(crate) conn: &'c mut PgConnection,
    pub(crate) sent: String,
    comment: &'c Comment,
}

impl<'c> Sender<'c> {
    pub(crate) fn new(conn: &'c mut PgConnection, comment: &'c Comment) -> Self {
        Self {
            conn,
            sent: String::new(),
            comment,
        }
    }

    /// Runs statements; the rows that they touched. A failure points into them, not into what is
    /// sent with them.
    pub(crate) async fn run(&mut self, sql: &str) -> Result<u64, Failure> {
        self.sent.push_str(sql.trim_end());
        if !sql.trim_end().ends_with(';') {
            self.sent.push(';');
        }
        self.sent.push('\n');
        let done = execute(self.conn, &self.comment.on(sql)).await;
        done.map_err(|error| Failure::from(error).behind(&self.comment.before()))
    }
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

pub(crate) fn drop_if_exists(kind: RelationKind, relation: &Relation) -> String {
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
        RelationKind::Table => format!("create table {relation} as (\n{sql}\n);\n"),
        RelationKind::MaterializedView => {
            format!("create materialized view {relation} as (\n{sql}\n);\n")
        }
    }
}

/// Creates a node's relation as its configuration asks: `sql_header`, `unlogged`, a contract.
pub(crate) fn create(node: &Node, kind: RelationKind, relation: &Relation, sql: &str) -> String {
    let header = config::text(&node.config, "sql_header")
        .map(|header| format!("{header}\n"))
        .unwrap_or_default();
    if kind != RelationKind::Table {
        return format!("{header}{}", create_as(kind, relation, sql));
    }
    let unlogged = match config::flag(&node.config, "unlogged") {
        Some(true) => "unlogged ",
        _ => "",
    };
    if node.is_contracted() {
        return format!(
            "{header}{}",
            contract::create(node, unlogged, relation, sql)
        );
    }
    format!("{header}create {unlogged}table {relation} as (\n{sql}\n);\n")
}

/// An index that a node's configuration asks for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Index {
    columns: Vec<String>,
    unique: bool,
    method: String,
}

fn indexes(node: &Node) -> Vec<Index> {
    let list = node.config.get("indexes").and_then(Json::as_array);
    list.into_iter()
        .flatten()
        .map(|index| Index {
            columns: config::as_list(index.get("columns").cloned().unwrap_or_default())
                .iter()
                .filter_map(|column| column.as_str().map(str::to_owned))
                .collect(),
            unique: index.get("unique").and_then(Json::as_bool).unwrap_or(false),
            method: index
                .get("type")
                .and_then(Json::as_str)
                .unwrap_or("btree")
                .to_owned(),
        })
        .filter(|index| !index.columns.is_empty())
        .collect()
}

impl Index {
    /// As dbt writes it: the columns as they are written, under a name that no other index has.
    fn create(&self, relation: &Relation) -> String {
        let columns = self.columns.join(", ");
        let unique = if self.unique { "unique " } else { "" };
        let name = md5_hex(&format!(
            "{relation}_{columns}_{unique}_{}_{}",
            self.method,
            uuid::Uuid::new_v4()
        ));
        format!(
            "create {unique}index \"{name}\" on {relation} using {} ({columns});\n",
            self.method
        )
    }
}

/// The indexes that a node's configuration asks for.
pub(crate) fn create_indexes(node: &Node, relation: &Relation) -> String {
    let indexes = indexes(node);
    indexes.iter().map(|index| index.create(relation)).collect()
}

/// Puts `fresh` in the place of what is at `relation`. Within one transaction, so that a reader who
/// waits for the old one gets the new one.
fn swap(relation: &Relation, existing: RelationKind, fresh: &Relation) -> String {
    // A view may have fallen already, with what it stood on.
    let mut sql = drop_if_exists(existing, relation);
    sql.push_str(&rename(fresh, &relation.identifier));
    sql
}

/// What creating a relation of this kind says.
pub(crate) fn created(kind: RelationKind, rows: u64) -> Built {
    match kind {
        RelationKind::View => Built::tag("CREATE VIEW"),
        RelationKind::MaterializedView => Built::tag("CREATE MATERIALIZED VIEW"),
        RelationKind::Table => Built::rows("SELECT", rows),
    }
}

/// The kind of relation that a model is.
pub(crate) fn relation_kind(node: &Node) -> RelationKind {
    match node.materialization {
        Materialization::View => RelationKind::View,
        Materialization::MaterializedView => RelationKind::MaterializedView,
        _ => RelationKind::Table,
    }
}

/// `model 'x'`, for messages.
fn named(node: &Node) -> String {
    let what = match node.resource_type {
        ResourceType::Snapshot => "snapshot",
        ResourceType::Seed => "seed",
        _ => "model",
    };
    format!("{what} '{}'", node.name)
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
