//! Unit tests: a model over rows that stand for its inputs, compared with the rows that are expected.

use std::collections::BTreeMap;

use ballpoint_postgres::ident;
use serde_json::{Map, Value as Json};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Column as _, PgConnection, PgPool, Row, ValueRef};

use crate::compile::{Compiler, UnitInput, UnitSql};
use crate::materialize::incremental::{Column, columns_of, columns_of_query};
use crate::project::node::{Fixture, Materialization, Node};
use crate::queries::blocking_compile;
use crate::run::Failure;

/// The fixture that a message is about, where it is no input's.
const EXPECTED: &str = "expected output";

/// What a unit test found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Compared {
    pub(crate) same: bool,
    /// Rows that only one side has, as a table.
    pub(crate) difference: String,
    /// The model over its fixtures.
    pub(crate) sql: String,
}

/// Runs a unit test.
///
/// # Errors
/// When a fixture or the model cannot be run.
pub(crate) async fn run(
    conn: &mut PgConnection,
    compiler: &Compiler,
    pool: &PgPool,
    node: &Node,
) -> Result<Compared, Failure> {
    let Some(unit) = &node.unit_test else {
        return Err(Failure::lasting(format!("{} is no unit test", node.name)));
    };
    let compiled = compile(compiler, pool, node).await?;
    let mut ctes = Vec::new();
    for input in &compiled.inputs {
        let sql = given_sql(conn, compiler, pool, input).await?;
        ctes.push((input.cte.clone(), sql));
    }
    let sql = crate::compile::with_ctes(&compiled.sql, &ctes);
    let types = columns_of_query(conn, &sql).await?;
    let columns = expected_columns(&unit.expect, &types)?;
    let expected = match &unit.expect.sql {
        Some(sql) => sql.clone(),
        None => rows_sql(EXPECTED, &unit.expect.rows, &types, false)?,
    };
    let list: Vec<String> = columns.iter().map(|name| ident::quote(name)).collect();
    let list = list.join(", ");
    let ask = |query: &str| format!("select {list} from (\n{query}\n) _dbt_internal_unit_test");
    let actual = rows(conn, &ask(&sql)).await?;
    let wanted = match unit.expect.sql.is_none() && unit.expect.rows.is_empty() {
        true => Vec::new(),
        false => rows(conn, &ask(&expected)).await?,
    };
    let difference = difference(&columns, &wanted, &actual);
    Ok(Compared {
        same: difference.is_none(),
        difference: difference.unwrap_or_default(),
        sql,
    })
}

/// The columns that are compared: those that the expected rows name, or all.
fn expected_columns(expect: &Fixture, types: &[Column]) -> Result<Vec<String>, Failure> {
    let Some(first) = expect.rows.first() else {
        return Ok(types.iter().map(|(name, _)| name.clone()).collect());
    };
    first
        .keys()
        .map(|name| {
            let known = types
                .iter()
                .find(|(known, _)| known.eq_ignore_ascii_case(name));
            known
                .map(|(known, _)| known.clone())
                .ok_or_else(|| invalid_column(name, EXPECTED, types))
        })
        .collect()
}

fn invalid_column(name: &str, fixture: &str, types: &[Column]) -> Failure {
    let known: Vec<&str> = types.iter().map(|(name, _)| name.as_str()).collect();
    Failure::lasting(format!(
        "Invalid column name: '{name}' in unit test fixture for {fixture}.\nAccepted columns for \
         {fixture} are: {known:?}"
    ))
}

/// The tested model over the names of its fixtures. Rendering may query, so it has a thread that
/// may wait.
async fn compile(compiler: &Compiler, pool: &PgPool, node: &Node) -> Result<UnitSql, Failure> {
    let compiler = Compiler {
        queries: Some(crate::queries::port(pool)),
        ..compiler.clone()
    };
    let id = node.unique_id.clone();
    let task = tokio::task::spawn_blocking(move || {
        compiler.compile_unit_test(&compiler.project.nodes[&id])
    });
    match task.await {
        Ok(compiled) => Ok(compiled?),
        Err(error) => Err(Failure::lasting(error.to_string())),
    }
}

/// A query for the rows of a fixture, typed as the relation that it stands for.
async fn given_sql(
    conn: &mut PgConnection,
    compiler: &Compiler,
    pool: &PgPool,
    input: &UnitInput,
) -> Result<String, Failure> {
    let fixture = &input.fixture;
    if let Some(sql) = &fixture.sql {
        return Ok(sql.clone());
    }
    let ephemeral = compiler
        .project
        .nodes
        .get(&fixture.unique_id)
        .filter(|node| node.materialization == Materialization::Ephemeral);
    let types = match (ephemeral, &input.relation) {
        (Some(node), _) => {
            let compiled = blocking_compile(compiler, pool, &node.unique_id).await?;
            columns_of_query(conn, &compiled.sql).await?
        }
        (None, Some(relation)) if compiler.catalog.kind(relation).is_some() => {
            columns_of(conn, &relation.in_schema()).await?
        }
        (None, relation) => {
            let relation = relation
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default();
            return Err(Failure::lasting(format!(
                "Not able to get columns for unit test '{}' from relation {relation} because the \
                 relation doesn't exist",
                fixture.input
            )));
        }
    };
    let named = input.relation.as_ref().map(|it| it.identifier.as_str());
    let named = format!("'{}'", named.unwrap_or(&fixture.input));
    rows_sql(&named, &fixture.rows, &types, true)
}

/// `select … union all select …` of rows; with `every_column`, those that are not given are null.
fn rows_sql(
    fixture: &str,
    rows: &[Map<String, Json>],
    types: &[Column],
    every_column: bool,
) -> Result<String, Failure> {
    let mut selects = Vec::with_capacity(rows.len().max(1));
    for row in rows {
        for name in row.keys() {
            if types
                .iter()
                .all(|(known, _)| !known.eq_ignore_ascii_case(name))
            {
                return Err(invalid_column(name, fixture, types));
            }
        }
        selects.push(select_of(row, types, every_column));
    }
    if selects.is_empty() {
        return Ok(format!("{} limit 0", select_of(&Map::new(), types, true)));
    }
    Ok(selects.join("\nunion all\n"))
}

fn select_of(row: &Map<String, Json>, types: &[Column], every_column: bool) -> String {
    let cells: Vec<String> = types
        .iter()
        .filter_map(|(name, data_type)| {
            let given = row.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            let value = given.map(|(_, value)| value);
            (every_column || value.is_some())
                .then(|| format!("{} as {}", literal(value, data_type), ident::quote(name)))
        })
        .collect();
    format!("select {}", cells.join(", "))
}

fn literal(value: Option<&Json>, data_type: &str) -> String {
    match value {
        None | Some(Json::Null) => format!("cast(null as {data_type})"),
        Some(Json::String(text)) => {
            // The length of a varchar would cut the text and hide a difference.
            let data_type = match data_type.contains("varying") {
                true => data_type.split('(').next().unwrap_or(data_type),
                false => data_type,
            };
            format!("cast({} as {data_type})", ident::quote_literal(text))
        }
        Some(other @ (Json::Array(_) | Json::Object(_))) => {
            format!(
                "cast({} as {data_type})",
                ident::quote_literal(&other.to_string())
            )
        }
        Some(other) => format!("cast({other} as {data_type})"),
    }
}

/// Cells as PostgreSQL writes them.
type Cells = Vec<Option<String>>;

async fn rows(conn: &mut PgConnection, sql: &str) -> Result<Vec<Cells>, Failure> {
    let rows = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .fetch_all(conn)
        .await?;
    let cells = |row: &PgRow| -> Result<Cells, sqlx::Error> {
        row.columns()
            .iter()
            .map(|column| {
                let raw = row.try_get_raw(column.ordinal())?;
                match raw.is_null() {
                    true => Ok(None),
                    false => raw
                        .as_str()
                        .map(|text| Some(text.to_owned()))
                        .map_err(sqlx::Error::Decode),
                }
            })
            .collect()
    };
    Ok(rows.iter().map(cells).collect::<Result<_, _>>()?)
}

/// The rows that only one side has, whatever their order; `None` when there are none.
fn difference(columns: &[String], expected: &[Cells], actual: &[Cells]) -> Option<String> {
    let mut counts: BTreeMap<&Cells, i64> = BTreeMap::new();
    for row in actual {
        *counts.entry(row).or_default() += 1;
    }
    for row in expected {
        *counts.entry(row).or_default() -= 1;
    }
    counts.retain(|_, count| *count != 0);
    if counts.is_empty() {
        return None;
    }
    let mut text = format!(
        "\n\nactual differs from expected:\n\n@@ ,{}\n",
        columns.join(",")
    );
    for (row, count) in counts {
        let mark = if count > 0 { "+++" } else { "---" };
        let cells: Vec<&str> = row
            .iter()
            .map(|cell| cell.as_deref().unwrap_or("NULL"))
            .collect();
        for _ in 0..count.abs() {
            text.push_str(&format!("{mark},{}\n", cells.join(",")));
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_compared_whatever_their_order_and_as_often_as_they_come() {
        let row = |text: &str| vec![Some(text.to_owned()), None];
        let columns = ["a".to_owned(), "b".to_owned()];
        let (x, y) = (row("x"), row("y"));
        let same = difference(&columns, &[x.clone(), y.clone()], &[y.clone(), x.clone()]);
        assert_eq!(same, None);
        let differs = difference(&columns, &[x.clone(), x.clone()], &[x, y]);
        assert_eq!(
            differs.as_deref(),
            Some("\n\nactual differs from expected:\n\n@@ ,a,b\n---,x,NULL\n+++,y,NULL\n")
        );
    }
}
