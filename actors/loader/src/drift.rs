//! A raw table made to fit its source's new columns, in place, with the views that hang on it.
//!
//! Columns are added, renamed and widened; one that the source has given up stays, and is null in rows
//! to come: what has landed is not taken back, and no view breaks. What cannot be said in place is read
//! whole again: the checkpoint goes with the changes, in one transaction, so that no kill forgets it.

use ballpoint_postgres::ident::quote;
use ballpoint_runtime::segment::{Column, TableName, TableSpec};
use ballpoint_runtime::shape::SchemaChange;
use ballpoint_runtime::shape::types::{Fit, fit};
use ballpoint_runtime::store::Checkpoints;
use sqlx::PgPool;

use crate::error::LoadError;
use crate::target::{self, Target};
use crate::transaction::WarehouseTransaction;
use crate::{dependents, extraction};

/// What has changed about a source's table.
#[derive(Debug)]
pub(crate) struct Change<'a> {
    pub(crate) source: &'a str,
    pub(crate) spec: &'a TableSpec,
    pub(crate) changes: &'a [SchemaChange],
    /// The rows that are there say nothing of the source's.
    pub(crate) reload: bool,
}

/// What has to happen before rows of the source's shape fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Drift {
    /// Nothing.
    None,
    /// Columns to add, and columns that are null from now on.
    Widened {
        added: Vec<Column>,
        nullable: Vec<String>,
    },
    /// What no widening mends, in words that name the column.
    Incompatible(String),
}

/// Compares by name; the order of columns does not matter.
pub(crate) fn compare(raw: &[Column], source: &[Column]) -> Drift {
    let in_raw = |name: &str| raw.iter().find(|column| column.name == name);
    let mut added = Vec::new();
    let mut nullable = Vec::new();
    for column in source {
        match in_raw(&column.name) {
            None => added.push(Column {
                not_null: false,
                ..column.clone()
            }),
            Some(known) if known.sql_type != column.sql_type => {
                return Drift::Incompatible(format!(
                    "column {:?} is {} there and now {} in the source",
                    column.name, known.sql_type, column.sql_type
                ));
            }
            Some(known) if known.not_null && !column.not_null => nullable.push(column.name.clone()),
            Some(_) => {}
        }
    }
    let in_source = |name: &str| source.iter().any(|column| column.name == name);
    let given_up = raw.iter().filter(|it| it.not_null && !in_source(&it.name));
    nullable.extend(given_up.map(|column| column.name.clone()));
    if added.is_empty() && nullable.is_empty() {
        Drift::None
    } else {
        Drift::Widened { added, nullable }
    }
}

/// Makes the changes that can be made in place, and forgets the checkpoint if the table has to be read
/// whole. The caller commits.
pub(crate) async fn apply(
    pool: &PgPool,
    raw: &TableName,
    change: &Change<'_>,
) -> Result<WarehouseTransaction, LoadError> {
    let mut transaction = WarehouseTransaction::begin(pool, raw).await?;
    let target = Target::find(&mut transaction, raw)
        .await
        .map_err(LoadError::warehouse("looking at the raw table"))?;
    let whole = match target {
        Some(target) => alter(&mut transaction, &target, change).await?,
        None => true,
    };
    if whole {
        let table = &change.spec.table;
        Checkpoints::remove_in(&mut transaction, change.source, table).await?;
    }
    Ok(transaction)
}

/// Whether the table has to be read whole.
async fn alter(
    transaction: &mut WarehouseTransaction,
    target: &Target,
    change: &Change<'_>,
) -> Result<bool, LoadError> {
    let failed = || LoadError::warehouse("changing the raw table");
    let renamed = renames(change.changes);
    let table = target::quoted(&target.raw);
    let (columns, moved) = after(&table, &target.columns, &renamed);
    let wanted = &change.spec.columns;
    // Of a column that the source once gave up, and has again, the rows hold what it was then.
    let added = |name: &str| {
        let is = |it: &SchemaChange| matches!(it, SchemaChange::ColumnAdded { column, .. } if column == name);
        change.changes.iter().any(is)
    };
    let whole = change.reload || columns.iter().any(|column| added(&column.name));
    let retyped = if whole {
        Vec::new()
    } else {
        widened(&columns, wanted)
    };
    let after: Vec<Column> = columns.iter().map(|c| now(c, &retyped)).collect();
    let mut statements = moved;
    let mut whole = whole;
    match compare(&after, wanted) {
        _ if whole => {}
        Drift::None => {}
        Drift::Incompatible(_) => whole = true,
        Drift::Widened { added, nullable } => {
            let add = added
                .iter()
                .map(|c| format!("add column {} {}", quote(&c.name), c.sql_type));
            let free = nullable
                .iter()
                .map(|name| format!("alter column {} drop not null", quote(name)));
            let parts: Vec<String> = add.chain(free).collect();
            statements.push(format!("alter table {table} {}", parts.join(", ")));
        }
    }
    let types: Vec<String> = retyped
        .iter()
        .map(|c| format!("alter column {} type {}", quote(&c.name), c.sql_type))
        .collect();
    if statements.is_empty() && types.is_empty() {
        return Ok(whole);
    }
    // Before any lock on a table that others read.
    extraction::assign(transaction).await.map_err(failed())?;
    for statement in statements {
        transaction.run(statement).await.map_err(failed())?;
    }
    if !types.is_empty() {
        // PostgreSQL alters no type below a view.
        let views = dependents::collect(transaction, target.oid).await;
        let views = views.map_err(failed())?;
        dependents::drop_all(transaction, &views)
            .await
            .map_err(failed())?;
        let alter = format!("alter table {table} {}", types.join(", "));
        transaction.run(alter).await.map_err(failed())?;
        dependents::create_all(transaction, &target.raw, &views).await?;
    }
    Ok(whole)
}

fn renames(changes: &[SchemaChange]) -> Vec<(&str, &str)> {
    let each = changes.iter().filter_map(|change| match change {
        SchemaChange::ColumnRenamed { from, to } => Some((from.as_str(), to.as_str())),
        _ => None,
    });
    each.collect()
}

/// The columns after `renamed`, and the statements for it. Two columns may have swapped their names,
/// and a column that the source gave up earlier may be in the way: it is named after what it was.
fn after(table: &str, columns: &[Column], renamed: &[(&str, &str)]) -> (Vec<Column>, Vec<String>) {
    let renamed: Vec<&(&str, &str)> = renamed
        .iter()
        .filter(|(from, _)| columns.iter().any(|column| column.name == *from))
        .collect();
    let target = |name: &str| {
        let to = renamed.iter().find(|(from, _)| *from == name);
        if let Some((_, to)) = to {
            return (*to).to_owned();
        }
        match renamed.iter().any(|(_, to)| *to == name) {
            true => format!("{}_given_up", name.chars().take(50).collect::<String>()),
            false => name.to_owned(),
        }
    };
    let moves: Vec<(String, String)> = columns
        .iter()
        .map(|column| (column.name.clone(), target(&column.name)))
        .filter(|(from, to)| from != to)
        .collect();
    let rename = |from: &str, to: &str| {
        format!(
            "alter table {table} rename column {} to {}",
            quote(from),
            quote(to)
        )
    };
    let away = moves.iter().enumerate();
    let away = away.map(|(at, (from, _))| rename(from, &format!("_ballpoint_{at}")));
    let there = moves.iter().enumerate();
    let there = there.map(|(at, (_, to))| rename(&format!("_ballpoint_{at}"), to));
    let statements = away.chain(there).collect();
    let columns = columns.iter().map(|column| Column {
        name: target(&column.name),
        ..column.clone()
    });
    (columns.collect(), statements)
}

/// The columns whose type grows without a row being rewritten.
fn widened(columns: &[Column], wanted: &[Column]) -> Vec<Column> {
    let grows = |wanted: &&Column| {
        let mut columns = columns.iter();
        let known = columns.find(|column| column.name == wanted.name);
        known.is_some_and(|known| fit(&known.sql_type, &wanted.sql_type) == Fit::InPlace)
    };
    wanted.iter().filter(grows).cloned().collect()
}

fn now(column: &Column, retyped: &[Column]) -> Column {
    let new = retyped.iter().find(|it| it.name == column.name);
    Column {
        sql_type: new.map_or_else(|| column.sql_type.clone(), |it| it.sql_type.clone()),
        ..column.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, sql_type: &str, not_null: bool) -> Column {
        Column {
            name: name.to_owned(),
            sql_type: sql_type.to_owned(),
            not_null,
        }
    }

    #[test]
    fn new_columns_and_given_up_not_nulls_widen_the_table() {
        let raw = [column("a", "integer", true)];
        let source = [column("b", "text", true), column("a", "integer", false)];
        assert_eq!(compare(&raw, &raw), Drift::None);
        assert_eq!(
            compare(&raw, &source),
            Drift::Widened {
                added: vec![column("b", "text", false)],
                nullable: vec!["a".to_owned()]
            }
        );
    }

    #[test]
    fn a_dropped_column_stays_and_allows_null() {
        let raw = [column("a", "integer", true), column("b", "text", true)];
        let widened = Drift::Widened {
            added: vec![],
            nullable: vec!["b".to_owned()],
        };
        assert_eq!(compare(&raw, &raw[..1]), widened);
    }

    #[test]
    fn a_retyped_column_is_named() {
        let raw = [column("a", "integer", true)];
        let drift = compare(&raw, &[column("a", "bigint", true)]);
        assert!(
            matches!(&drift, Drift::Incompatible(why) if why.contains("\"a\"")),
            "{drift:?}"
        );
    }
}
