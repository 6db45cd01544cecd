//! Adding to a table that exists: append, delete+insert, merge.

use std::sync::atomic::{AtomicU64, Ordering};

use ballpoint_postgres::ident;
use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::{Built, execute};
use crate::jinja::relation::Relation;
use crate::project::config;
use crate::project::node::Node;

/// Temporary tables of one session need names of their own.
static SEQUENCE: AtomicU64 = AtomicU64::new(0);

/// A column of a table: its name and PostgreSQL's spelling of its type.
pub(crate) type Column = (String, String);

fn configuration(message: String) -> sqlx::Error {
    sqlx::Error::Configuration(message.into())
}

/// Merges the rows of a select into `target` by the node's strategy.
///
/// # Errors
/// Those of PostgreSQL, and a configuration error for a strategy that does not exist.
pub(crate) async fn merge_into(
    conn: &mut PgConnection,
    node: &Node,
    target: &Relation,
    sql: &str,
) -> Result<Built, sqlx::Error> {
    let number = SEQUENCE.fetch_add(1, Ordering::Relaxed);
    let fresh = ident::quote(&format!("__dbt_tmp_{number}"));
    execute(
        conn,
        &format!("create temporary table {fresh} on commit drop as (\n{sql}\n);"),
    )
    .await?;
    let columns = reconcile_columns(conn, node, target, &fresh).await?;
    let keys = config::names(&node.config, "unique_key");
    let default = if keys.is_empty() {
        "append"
    } else {
        "delete+insert"
    };
    let strategy = config::text(&node.config, "incremental_strategy").unwrap_or(default);
    let built = match strategy {
        "append" => insert(conn, target, &fresh, &columns).await?,
        "delete+insert" | "default" => {
            if !keys.is_empty() {
                delete(conn, node, target, &fresh, &keys).await?;
            }
            insert(conn, target, &fresh, &columns).await?
        }
        "merge" => merge(conn, node, target, &fresh, &columns, &keys).await?,
        other => {
            return Err(configuration(format!(
                "model '{}' has the incremental strategy '{other}'; known are append, \
                 delete+insert and merge",
                node.name
            )));
        }
    };
    execute(conn, &format!("drop table {fresh}")).await?;
    Ok(built)
}

pub(crate) async fn columns_of(
    conn: &mut PgConnection,
    relation: &str,
) -> Result<Vec<Column>, sqlx::Error> {
    let sql = "select attname::text, format_type(atttypid, atttypmod) from pg_attribute \
               where attrelid = $1::regclass and attnum > 0 and not attisdropped order by attnum";
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(relation)
        .fetch_all(conn)
        .await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// The columns to fill: the target's, after `on_schema_change` was followed.
async fn reconcile_columns(
    conn: &mut PgConnection,
    node: &Node,
    target: &Relation,
    fresh: &str,
) -> Result<Vec<String>, sqlx::Error> {
    let known = columns_of(conn, &target.in_schema()).await?;
    let policy = config::text(&node.config, "on_schema_change").unwrap_or("ignore");
    if policy == "ignore" {
        return Ok(known.into_iter().map(|(name, _)| name).collect());
    }
    let given = columns_of(conn, fresh).await?;
    let has = |list: &[Column], name: &str| list.iter().any(|(known, _)| known == name);
    let added: Vec<&Column> = given
        .iter()
        .filter(|(name, _)| !has(&known, name))
        .collect();
    let removed: Vec<&Column> = known
        .iter()
        .filter(|(name, _)| !has(&given, name))
        .collect();
    if policy == "fail" && !(added.is_empty() && removed.is_empty()) {
        return Err(configuration(format!(
            "the columns of model '{}' changed and on_schema_change is fail",
            node.name
        )));
    }
    for (name, data_type) in added {
        let add = format!(
            "alter table {target} add column {} {data_type}",
            ident::quote(name)
        );
        execute(conn, &add).await?;
    }
    if policy == "sync_all_columns" {
        for (name, _) in &removed {
            let drop = format!("alter table {target} drop column {}", ident::quote(name));
            execute(conn, &drop).await?;
        }
    }
    let now = columns_of(conn, &target.in_schema()).await?;
    Ok(now
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| has(&given, name))
        .collect())
}

pub(crate) fn quoted_list(columns: &[String]) -> String {
    columns
        .iter()
        .map(|column| ident::quote(column))
        .collect::<Vec<_>>()
        .join(", ")
}

async fn insert(
    conn: &mut PgConnection,
    target: &Relation,
    fresh: &str,
    columns: &[String],
) -> Result<Built, sqlx::Error> {
    let list = quoted_list(columns);
    let sql = format!("insert into {target} ({list}) (select {list} from {fresh})");
    let rows = execute(conn, &sql).await?;
    Ok(Built {
        message: format!("INSERT 0 {rows}"),
        rows: Some(rows),
    })
}

fn predicates(node: &Node) -> String {
    config::names(&node.config, "incremental_predicates")
        .iter()
        .map(|predicate| format!(" and {predicate}"))
        .collect()
}

async fn delete(
    conn: &mut PgConnection,
    node: &Node,
    target: &Relation,
    fresh: &str,
    keys: &[String],
) -> Result<(), sqlx::Error> {
    let matched: Vec<String> = keys
        .iter()
        .map(|key| format!("fresh.{key} = DBT_INTERNAL_DEST.{key}"))
        .collect();
    let sql = format!(
        "delete from {target} as DBT_INTERNAL_DEST using {fresh} as fresh where {}{}",
        matched.join(" and "),
        predicates(node),
    );
    execute(conn, &sql).await?;
    Ok(())
}

async fn merge(
    conn: &mut PgConnection,
    node: &Node,
    target: &Relation,
    fresh: &str,
    columns: &[String],
    keys: &[String],
) -> Result<Built, sqlx::Error> {
    let matched = if keys.is_empty() {
        "false".to_owned()
    } else {
        let matched: Vec<String> = keys
            .iter()
            .map(|key| format!("DBT_INTERNAL_SOURCE.{key} = DBT_INTERNAL_DEST.{key}"))
            .collect();
        matched.join(" and ")
    };
    let only = config::names(&node.config, "merge_update_columns");
    let except = config::names(&node.config, "merge_exclude_columns");
    let updated: Vec<String> = columns
        .iter()
        .filter(|column| only.is_empty() || only.contains(column))
        .filter(|column| !except.contains(column))
        .map(|column| {
            let column = ident::quote(column);
            format!("{column} = DBT_INTERNAL_SOURCE.{column}")
        })
        .collect();
    let update = if updated.is_empty() || keys.is_empty() {
        String::new()
    } else {
        format!("when matched then update set {}\n", updated.join(", "))
    };
    let list = quoted_list(columns);
    let values: Vec<String> = columns
        .iter()
        .map(|column| format!("DBT_INTERNAL_SOURCE.{}", ident::quote(column)))
        .collect();
    let sql = format!(
        "merge into {target} as DBT_INTERNAL_DEST using {fresh} as DBT_INTERNAL_SOURCE \
         on ({matched}{})\n{update}when not matched then insert ({list}) values ({})",
        predicates(node),
        values.join(", "),
    );
    let rows = execute(conn, &sql).await?;
    Ok(Built {
        message: format!("MERGE {rows}"),
        rows: Some(rows),
    })
}
