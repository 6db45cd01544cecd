//! Materialized views: made once, then refreshed; indexes follow the configuration.

use sqlx::{AssertSqlSafe, Row};

use super::{Built, Index, Sender, create, created, drop_if_exists, indexes, named};
use crate::catalog::RelationKind;
use crate::jinja::relation::Relation;
use crate::project::config;
use crate::project::node::Node;
use crate::run::Failure;

/// Makes or refreshes a materialized view.
pub(super) async fn build(
    sender: &mut Sender<'_>,
    node: &Node,
    sql: &str,
    existing: Option<RelationKind>,
    full_refresh: bool,
) -> Result<Built, Failure> {
    let relation = &node.relation;
    // One that was there when the run began has fallen with a table that was replaced since.
    let existing = match existing {
        Some(RelationKind::MaterializedView) if !is_there(sender, relation).await? => None,
        existing => existing,
    };
    if existing != Some(RelationKind::MaterializedView) || full_refresh {
        let mut statements = existing
            .map(|kind| drop_if_exists(kind, relation))
            .unwrap_or_default();
        statements.push_str(&create(node, RelationKind::MaterializedView, relation, sql));
        let wanted = indexes(node);
        statements.extend(wanted.iter().map(|index| index.create(relation)));
        sender.run(&statements).await?;
        return Ok(created(RelationKind::MaterializedView, 0));
    }
    let known = existing_indexes(sender, relation).await?;
    let wanted = indexes(node);
    let gone: Vec<&(String, Index)> = known.iter().filter(|(_, i)| !wanted.contains(i)).collect();
    let new: Vec<&Index> = wanted
        .iter()
        .filter(|index| known.iter().all(|(_, known)| known != *index))
        .collect();
    if gone.is_empty() && new.is_empty() {
        sender
            .run(&format!("refresh materialized view {relation}"))
            .await?;
        return Ok(Built::tag("REFRESH MATERIALIZED VIEW"));
    }
    match config::text(&node.config, "on_configuration_change").unwrap_or("apply") {
        "apply" => {
            let schema = ballpoint_postgres::ident::quote(&relation.schema);
            let mut statements = String::new();
            for (name, _) in gone {
                let name = ballpoint_postgres::ident::quote(name);
                statements.push_str(&format!("drop index if exists {schema}.{name};\n"));
            }
            statements.extend(new.iter().map(|index| index.create(relation)));
            sender.run(&statements).await?;
            Ok(Built::tag("ALTER MATERIALIZED VIEW"))
        }
        "continue" => Ok(Built::tag("SKIP")),
        "fail" => Err(Failure::lasting(format!(
            "Configuration changes were identified and `on_configuration_change` was set to \
             `fail` for {}",
            named(node)
        ))),
        other => Err(Failure::lasting(format!(
            "{} has on_configuration_change '{other}'; known are apply, continue and fail",
            named(node)
        ))),
    }
}

async fn is_there(sender: &mut Sender<'_>, relation: &Relation) -> Result<bool, Failure> {
    let there = sqlx::query_scalar(AssertSqlSafe("select to_regclass($1) is not null"))
        .persistent(false)
        .bind(relation.in_schema())
        .fetch_one(&mut *sender.conn)
        .await?;
    Ok(there)
}

async fn existing_indexes(
    sender: &mut Sender<'_>,
    relation: &Relation,
) -> Result<Vec<(String, Index)>, Failure> {
    let rows = sqlx::query(AssertSqlSafe(
        "select i.relname::text, m.amname::text, x.indisunique,
                array(select a.attname::text from unnest(x.indkey) with ordinality as k (attnum, at)
                      join pg_attribute a on a.attrelid = x.indrelid and a.attnum = k.attnum
                      order by k.at)
         from pg_index x join pg_class i on i.oid = x.indexrelid join pg_am m on m.oid = i.relam
         where x.indrelid = $1::regclass order by 1",
    ))
    .persistent(false)
    .bind(relation.in_schema())
    .fetch_all(&mut *sender.conn)
    .await?;
    rows.iter()
        .map(|row| {
            let index = Index {
                method: row.try_get(1)?,
                unique: row.try_get(2)?,
                columns: row.try_get(3)?,
            };
            Ok((row.try_get(0)?, index))
        })
        .collect()
}
