//! Adding to a table that exists: append, delete+insert, merge.

use std::sync::atomic::{AtomicU64, Ordering};

use ballpoint_postgres::ident;
use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::{Built, Sender, named};
use crate::jinja::relation::Relation;
use crate::project::config;
use crate::project::node::{Materialization, Node};
use crate::run::Failure;

/// Temporary tables of one session need names of their own.
static SEQUENCE: AtomicU64 = AtomicU64::new(0);

/// How new rows get into the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strategy {
    Append,
    DeleteInsert,
    Merge,
}

impl Strategy {
    /// What a node's configuration asks for; of a node that is not incremental, nothing that matters.
    ///
    /// # Errors
    /// With the strategy that PostgreSQL has not.
    pub(crate) fn of(node: &Node) -> Result<Self, Failure> {
        let given = match node.materialization {
            Materialization::Incremental => config::text(&node.config, "incremental_strategy"),
            _ => None,
        };
        match given {
            None if unique_keys(node).is_empty() => Ok(Self::Append),
            None | Some("delete+insert" | "default" | "delete_insert") => Ok(Self::DeleteInsert),
            Some("append") => Ok(Self::Append),
            Some("merge") => Ok(Self::Merge),
            Some(other) => Err(Failure::lasting(format!(
                "dbt could not find an incremental strategy macro with the name \
                 \"get_incremental_{}_sql\": {} has the incremental strategy '{other}', which is not \
                 valid for postgres; known are append, delete+insert and merge",
                other.replace('+', "_"),
                named(node)
            ))),
        }
    }
}

/// The columns that tell which row is which; a name without letters is none.
fn unique_keys(node: &Node) -> Vec<String> {
    let mut keys = config::names(&node.config, "unique_key");
    keys.retain(|key| !key.trim().is_empty());
    keys
}

/// A column of a table: its name and PostgreSQL's spelling of its type.
pub(crate) type Column = (String, String);

/// New rows of an incremental model, beside its table.
pub(crate) struct Staged {
    /// The temporary table that they are in, quoted.
    fresh: String,
    given: Vec<Column>,
    /// The columns of the table.
    known: Vec<Column>,
    /// What `on_schema_change` asks of the table first: clauses of `alter table`.
    changes: Vec<String>,
}

impl Staged {
    /// Whether the table has to be altered, which nobody reads meanwhile.
    pub(crate) fn alters(&self) -> bool {
        !self.changes.is_empty()
    }
}

/// Merges the rows of a select into `target` by the node's strategy.
///
/// # Errors
/// Those of PostgreSQL, and for a configuration that cannot be followed.
pub(crate) async fn merge_into(
    sender: &mut Sender<'_>,
    node: &Node,
    target: &Relation,
    sql: &str,
) -> Result<Built, Failure> {
    let staged = stage(sender, node, target, sql).await?;
    merge_staged(sender, node, target, staged).await
}

/// Carries out the select, and compares its columns with those of `target`.
///
/// # Errors
/// As [`merge_into`].
pub(crate) async fn stage(
    sender: &mut Sender<'_>,
    node: &Node,
    target: &Relation,
    sql: &str,
) -> Result<Staged, Failure> {
    let number = SEQUENCE.fetch_add(1, Ordering::Relaxed);
    let fresh = ident::quote(&format!("__dbt_tmp_{number}"));
    let header = config::text(&node.config, "sql_header")
        .map(|header| format!("{header}\n"))
        .unwrap_or_default();
    let before = format!("{header}create temporary table {fresh} on commit drop as (\n");
    sender
        .run(&format!("{before}{sql}\n);"))
        .await
        .map_err(|error| error.pointing_at(node, sql, &before))?;
    let known = columns_of(sender.conn, &target.in_schema()).await?;
    let given = columns_of(sender.conn, &fresh).await?;
    let changes = Difference::between(&known, &given).changes(node)?;
    Ok(Staged {
        fresh,
        given,
        known,
        changes,
    })
}

/// Alters `target` as its new rows ask, and puts them into it.
///
/// # Errors
/// As [`merge_into`].
pub(crate) async fn merge_staged(
    sender: &mut Sender<'_>,
    node: &Node,
    target: &Relation,
    staged: Staged,
) -> Result<Built, Failure> {
    let Staged {
        fresh,
        given,
        mut known,
        changes,
    } = staged;
    if !changes.is_empty() {
        let alter = format!("alter table {target} {}", changes.join(", "));
        sender.run(&alter).await?;
        known = columns_of(sender.conn, &target.in_schema()).await?;
    }
    // What is not given stays, where `on_schema_change` looks at columns at all.
    let fills_all = !["fail", "append_new_columns", "sync_all_columns"].contains(&policy(node));
    let is_given = |name: &str| given.iter().any(|(other, _)| other == name);
    let names = known.into_iter().map(|(name, _)| name);
    let columns: Vec<String> = names.filter(|name| fills_all || is_given(name)).collect();
    let keys = unique_keys(node);
    let built = match Strategy::of(node)? {
        Strategy::Append => insert(sender, target, &fresh, &columns).await?,
        Strategy::DeleteInsert => {
            if !keys.is_empty() {
                delete(sender, node, target, &fresh, &keys).await?;
            }
            insert(sender, target, &fresh, &columns).await?
        }
        Strategy::Merge => merge(sender, node, target, &fresh, &columns, &keys).await?,
    };
    sender.run(&format!("drop table {fresh}")).await?;
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

/// The columns that a query gives.
pub(crate) async fn columns_of_query(
    conn: &mut PgConnection,
    sql: &str,
) -> Result<Vec<Column>, sqlx::Error> {
    let view = format!(
        "create temporary view \"__dbt_columns\" as select * from (\n{sql}\n) as __dbt_sbq where false;"
    );
    super::execute(conn, &view).await?;
    let columns = columns_of(conn, "pg_temp.\"__dbt_columns\"").await?;
    super::execute(conn, "drop view pg_temp.\"__dbt_columns\"").await?;
    Ok(columns)
}

/// How the columns of what is new differ from those of the table.
struct Difference {
    added: Vec<Column>,
    removed: Vec<Column>,
    /// Name, type in the table, type of what is new.
    retyped: Vec<(String, String, String)>,
}

impl Difference {
    fn between(known: &[Column], given: &[Column]) -> Self {
        let absent = |from: &[Column], list: &[Column]| -> Vec<Column> {
            let has = |name: &str| list.iter().any(|(other, _)| other == name);
            from.iter()
                .filter(|(name, _)| !has(name))
                .cloned()
                .collect()
        };
        let retyped = given.iter().filter_map(|(name, new)| {
            let (_, old) = known.iter().find(|(other, _)| other == name)?;
            (old != new).then(|| (name.clone(), old.clone(), new.clone()))
        });
        Self {
            added: absent(given, known),
            removed: absent(known, given),
            retyped: retyped.collect(),
        }
    }

    /// The clauses of `alter table` that `on_schema_change` asks for; a `varchar` grows in any case.
    ///
    /// # Errors
    /// When it says that columns must not differ.
    fn changes(&self, node: &Node) -> Result<Vec<String>, Failure> {
        let policy = policy(node);
        let is_only_wider = self.added.is_empty()
            && self.removed.is_empty()
            && self.retyped.iter().all(|(_, old, new)| wider(old, new));
        if policy == "fail" && !is_only_wider {
            return Err(Failure::lasting(format!(
                "Compilation Error in {} ({})\n{}",
                named(node),
                node.original_file_path,
                self.refused()
            )));
        }
        let syncs = policy == "sync_all_columns";
        let retyped = self.retyped.iter();
        let mut changes: Vec<String> = retyped
            .filter(|(_, old, new)| wider(old, new) || syncs)
            .map(|(name, _, new)| {
                let name = ident::quote(name);
                format!("alter column {name} type {new} using {name}::{new}")
            })
            .collect();
        if syncs || policy == "append_new_columns" {
            changes.extend(
                self.added.iter().map(|(name, data_type)| {
                    format!("add column {} {data_type}", ident::quote(name))
                }),
            );
        }
        if syncs {
            let removed = self.removed.iter();
            changes.extend(removed.map(|(name, _)| format!("drop column {}", ident::quote(name))));
        }
        Ok(changes)
    }

    /// dbt's words for `on_schema_change: fail`.
    fn refused(&self) -> String {
        let names = |columns: &[Column]| -> String {
            let shown: Vec<String> = columns
                .iter()
                .map(|(name, data_type)| format!("{name} {data_type}"))
                .collect();
            format!("[{}]", shown.join(", "))
        };
        let retyped: Vec<String> = self
            .retyped
            .iter()
            .map(|(name, old, new)| format!("{name} {old} -> {new}"))
            .collect();
        format!(
            "The source and target schemas on this incremental model are out of sync!\n\
             They can be reconciled in several ways:\n  \
               - set the `on_schema_change` config to either append_new_columns or \
             sync_all_columns, depending on your situation.\n  \
               - Re-run the incremental model with `full_refresh: True` to update the target \
             schema.\n  \
               - update the schema manually and re-run the process.\n\n\
             Additional troubleshooting context:\n   \
             Source columns not in target: {}\n   \
             Target columns not in source: {}\n   \
             New column types: [{}]",
            names(&self.added),
            names(&self.removed),
            retyped.join(", ")
        )
    }
}

/// What `on_schema_change` says; dbt ignores what it does not know.
fn policy(node: &Node) -> &str {
    config::text(&node.config, "on_schema_change").unwrap_or("ignore")
}

/// Whether a table lacks columns that a query gives, or room in them.
pub(crate) fn outgrows(known: &[Column], given: &[Column]) -> bool {
    let difference = Difference::between(known, given);
    let mut retyped = difference.retyped.iter();
    !difference.added.is_empty() || retyped.any(|(_, old, new)| wider(old, new))
}

/// A `varchar` that has to grow before longer texts fit: its new type.
pub(super) fn wider(old: &str, new: &str) -> bool {
    let length = |data_type: &str| -> Option<u64> {
        let rest = data_type.strip_prefix("character varying(")?;
        rest.strip_suffix(')')?.parse().ok()
    };
    matches!((length(old), length(new)), (Some(old), Some(new)) if new > old)
}

pub(crate) fn quoted_list(columns: &[String]) -> String {
    columns
        .iter()
        .map(|column| ident::quote(column))
        .collect::<Vec<_>>()
        .join(", ")
}

async fn insert(
    sender: &mut Sender<'_>,
    target: &Relation,
    fresh: &str,
    columns: &[String],
) -> Result<Built, Failure> {
    let list = quoted_list(columns);
    let sql = format!("insert into {target} ({list}) (select {list} from {fresh})");
    Ok(Built::rows("INSERT 0", sender.run(&sql).await?))
}

fn predicates(node: &Node) -> String {
    let mut all = config::names(&node.config, "incremental_predicates");
    all.extend(config::names(&node.config, "predicates"));
    all.iter()
        .map(|predicate| format!(" and {predicate}"))
        .collect()
}

async fn delete(
    sender: &mut Sender<'_>,
    node: &Node,
    target: &Relation,
    fresh: &str,
    keys: &[String],
) -> Result<(), Failure> {
    // As dbt writes it: predicates may name columns of the target alone.
    let keys = keys.join(", ");
    let sql = format!(
        "delete from {target} as DBT_INTERNAL_DEST where ({keys}) in (\
         select distinct {keys} from {fresh} as DBT_INTERNAL_SOURCE){}",
        predicates(node),
    );
    sender.run(&sql).await?;
    Ok(())
}

async fn merge(
    sender: &mut Sender<'_>,
    node: &Node,
    target: &Relation,
    fresh: &str,
    columns: &[String],
    keys: &[String],
) -> Result<Built, Failure> {
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
    if !only.is_empty() && !except.is_empty() {
        return Err(Failure::lasting(format!(
            "{} must not have both merge_update_columns and merge_exclude_columns",
            named(node)
        )));
    }
    let in_list =
        |list: &[String], column: &str| list.iter().any(|name| name.eq_ignore_ascii_case(column));
    let updated: Vec<String> = columns
        .iter()
        .filter(|column| only.is_empty() || in_list(&only, column))
        .filter(|column| !in_list(&except, column))
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
    Ok(Built::rows("MERGE", sender.run(&sql).await?))
}
