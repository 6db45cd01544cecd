//! What a relation gets once it is there: grants and comments.

use std::collections::{BTreeMap, BTreeSet};

use ballpoint_postgres::ident;
use serde_json::Value as Json;
use sqlx::{AssertSqlSafe, Row};

use super::{Sender, incremental, relation_kind};
use crate::jinja::context::LogSink;
use crate::jinja::relation::Relation;
use crate::project::config;
use crate::project::node::{ColumnDoc, Node};
use crate::run::Failure;

/// dbt's mark around comments.
const COMMENT_MARK: &str = "$dbt_comment_literal_block$";

/// Privileges and who has them.
type Grants = BTreeMap<String, BTreeSet<String>>;

fn wanted(node: &Node) -> Grants {
    let grants = node.config.get("grants").and_then(Json::as_object);
    grants
        .into_iter()
        .flatten()
        .map(|(privilege, to)| {
            let to = config::as_list(to.clone());
            let to = to.iter().filter_map(|who| who.as_str().map(str::to_owned));
            (privilege.to_lowercase(), to.collect())
        })
        .collect()
}

/// `persist_docs`: whether comments of the relation, or of its columns, are kept in the warehouse.
pub(crate) fn persists(node: &Node, what: &str) -> bool {
    node.config
        .get("persist_docs")
        .and_then(|docs| docs.get(what))
        .and_then(Json::as_bool)
        .unwrap_or(false)
}

/// Whether the configuration asks for grants or comments.
pub(super) fn is_asked_for(node: &Node) -> bool {
    !wanted(node).is_empty() || persists(node, "relation") || persists(node, "columns")
}

/// Grants and comments on `relation`, which holds the node for now. A relation that is new has
/// nothing to take back.
pub(crate) async fn finish(
    sender: &mut Sender<'_>,
    node: &Node,
    relation: &Relation,
    is_new: bool,
    log: &LogSink,
) -> Result<(), Failure> {
    let grants = wanted(node);
    if !grants.is_empty() {
        let current = match is_new {
            true => Grants::new(),
            false => granted(sender, relation).await?,
        };
        for (verb, to, from, these) in [
            ("revoke", "from", &grants, &current),
            ("grant", "to", &current, &grants),
        ] {
            for (privilege, who) in missing(these, from) {
                let who = match verb {
                    "revoke" => who.iter().map(|one| ident::quote(one)).collect::<Vec<_>>(),
                    // As they are written, as dbt does: `public` is no role.
                    _ => who,
                };
                let statement = format!("{verb} {privilege} on {relation} {to} {}", who.join(", "));
                sender.run(&statement).await?;
            }
        }
    }
    comments(sender, node, relation, log).await
}

/// What `these` have and `those` have not.
fn missing(these: &Grants, those: &Grants) -> Vec<(String, Vec<String>)> {
    let none = BTreeSet::new();
    these
        .iter()
        .map(|(privilege, who)| {
            let others = those.get(privilege).unwrap_or(&none);
            let more: Vec<String> = who.difference(others).cloned().collect();
            (privilege.clone(), more)
        })
        .filter(|(_, who)| !who.is_empty())
        .collect()
}

async fn granted(sender: &mut Sender<'_>, relation: &Relation) -> Result<Grants, Failure> {
    let rows = sqlx::query(AssertSqlSafe(
        "select lower(privilege_type)::text, grantee::text \
         from information_schema.role_table_grants \
         where grantor = current_role and grantee <> current_role \
           and table_schema = $1 and table_name = $2",
    ))
    .persistent(false)
    .bind(&relation.schema)
    .bind(&relation.identifier)
    .fetch_all(&mut *sender.conn)
    .await?;
    let mut grants = Grants::new();
    for row in rows {
        let (privilege, who): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        grants.entry(privilege).or_default().insert(who);
    }
    Ok(grants)
}

async fn comments(
    sender: &mut Sender<'_>,
    node: &Node,
    relation: &Relation,
    log: &LogSink,
) -> Result<(), Failure> {
    let literal = |comment: &str| match comment.contains(COMMENT_MARK) {
        true => Err(Failure::lasting(format!(
            "The string {COMMENT_MARK} is not allowed in comments."
        ))),
        false => Ok(format!("{COMMENT_MARK}{comment}{COMMENT_MARK}")),
    };
    if persists(node, "relation") && !node.description.is_empty() {
        let kind = relation_kind(node).name();
        let statement = format!(
            "comment on {kind} {relation} is {}",
            literal(&node.description)?
        );
        sender.run(&statement).await?;
    }
    if !persists(node, "columns") || node.columns.is_empty() {
        return Ok(());
    }
    let known = incremental::columns_of(sender.conn, &relation.in_schema()).await?;
    let (there, absent): (Vec<&ColumnDoc>, Vec<&ColumnDoc>) = node
        .columns
        .iter()
        .partition(|column| known.iter().any(|(name, _)| *name == column.name));
    if !absent.is_empty() {
        let names: Vec<&str> = absent.iter().map(|column| column.name.as_str()).collect();
        log.warn(&format!(
            "In {relation}: The following columns are specified in the schema but are not present \
             in the database: {}",
            names.join(", ")
        ));
    }
    let mut statements = String::new();
    for column in there {
        statements.push_str(&format!(
            "comment on column {relation}.{} is {};\n",
            ident::quote(&column.name),
            literal(&column.description)?
        ));
    }
    if !statements.is_empty() {
        sender.run(&statements).await?;
    }
    Ok(())
}
