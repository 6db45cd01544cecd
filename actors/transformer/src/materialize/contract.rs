//! `contract: {enforced: true}`: the columns of a model are those that its properties declare, and
//! the table has their constraints.

use ballpoint_postgres::ident;
use serde_json::Value as Json;

use super::incremental::{Column, columns_of};
use super::{Sender, execute};
use crate::jinja::relation::Relation;
use crate::project::config;
use crate::project::node::{ColumnDoc, Node};
use crate::run::Failure;

/// The classes of types that a contract tells apart, as dbt's driver for PostgreSQL names them.
const TYPE_CLASSES: &[(&str, &[&str])] = &[
    ("INTEGER", &["smallint", "integer"]),
    ("LONGINTEGER", &["bigint"]),
    ("FLOAT", &["real", "double precision"]),
    ("DECIMAL", &["numeric"]),
    (
        "STRING",
        &["text", "character varying", "character", "name", "\"char\""],
    ),
    ("BOOLEAN", &["boolean"]),
    ("DATE", &["date"]),
    ("TIME", &["time without time zone", "time with time zone"]),
    ("DATETIME", &["timestamp without time zone"]),
    ("DATETIMETZ", &["timestamp with time zone"]),
    ("INTERVAL", &["interval"]),
    ("BINARY", &["bytea"]),
    ("JSON", &["json"]),
    ("JSONB", &["jsonb"]),
];

/// The class of a type: `numeric(10,2)` is a `DECIMAL`, `text[]` a `STRINGARRAY`.
fn type_class(name: &str) -> String {
    let (name, array) = match name.strip_suffix("[]") {
        Some(element) => (element, "ARRAY"),
        None => (name, ""),
    };
    // `timestamp(3) without time zone` has its precision in the middle.
    let plain = match (name.find('('), name.find(')')) {
        (Some(open), Some(close)) if open < close => {
            format!("{}{}", &name[..open], &name[close + 1..])
        }
        _ => name.to_owned(),
    };
    let class = TYPE_CLASSES
        .iter()
        .find(|(_, types)| types.contains(&plain.trim()))
        .map_or_else(|| plain.to_uppercase(), |(class, _)| (*class).to_owned());
    format!("{class}{array}")
}

fn quoted(column: &ColumnDoc) -> String {
    match column.quote {
        Some(true) => ident::quote(&column.name),
        _ => column.name.clone(),
    }
}

/// Compares what the query gives with what the properties declare.
///
/// # Errors
/// With every column that differs, as dbt says it.
pub(crate) async fn check(sender: &mut Sender<'_>, node: &Node, sql: &str) -> Result<(), Failure> {
    if node.columns.is_empty() {
        return Err(Failure::lasting(violated(&[], &[])));
    }
    let declared: Vec<String> = node
        .columns
        .iter()
        .map(|column| {
            let data_type = column.data_type.as_deref().unwrap_or("text");
            format!("cast(null as {data_type}) as {}", quoted(column))
        })
        .collect();
    let views = format!(
        "create temporary view \"__dbt_contract_given\" as select * from (\n{sql}\n) as __dbt_sbq where false;\n\
         create temporary view \"__dbt_contract_wanted\" as select {};",
        declared.join(", ")
    );
    execute(sender.conn, &views).await?;
    let given = columns_of(sender.conn, "pg_temp.\"__dbt_contract_given\"").await?;
    let wanted = columns_of(sender.conn, "pg_temp.\"__dbt_contract_wanted\"").await?;
    let drop = "drop view pg_temp.\"__dbt_contract_given\", pg_temp.\"__dbt_contract_wanted\"";
    execute(sender.conn, drop).await?;
    let same = given.len() == wanted.len()
        && given.iter().all(|(name, data_type)| {
            wanted.iter().any(|(other, wanted)| {
                name.eq_ignore_ascii_case(other) && type_class(data_type) == type_class(wanted)
            })
        });
    match same {
        true => Ok(()),
        false => Err(Failure::lasting(violated(&given, &wanted))),
    }
}

/// dbt's words for a contract that is not kept.
fn violated(given: &[Column], wanted: &[Column]) -> String {
    let mut text = "This model has an enforced contract that failed.\n".to_owned();
    if wanted.is_empty() {
        text.push_str(
            "No columns are declared in the contract: add `columns` with a `data_type` each.",
        );
        return text;
    }
    text.push_str(
        "Please ensure the name, data_type, and number of columns in your contract match the \
         columns in your model's definition.\n\n",
    );
    let find = |list: &[Column], name: &str| {
        list.iter()
            .find(|(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, data_type)| type_class(data_type))
    };
    let mut rows = vec![
        [
            "column_name",
            "definition_type",
            "contract_type",
            "mismatch_reason",
        ]
        .map(str::to_owned),
    ];
    let mut names: Vec<&String> = given.iter().chain(wanted).map(|(name, _)| name).collect();
    names.sort();
    names.dedup_by(|a, b| a.eq_ignore_ascii_case(b));
    for name in names {
        let (definition, contract) = (find(given, name), find(wanted, name));
        let reason = match (&definition, &contract) {
            (Some(_), None) => "missing in contract",
            (None, Some(_)) => "missing in definition",
            (a, b) if a != b => "data type mismatch",
            _ => continue,
        };
        rows.push([
            name.clone(),
            definition.unwrap_or_default(),
            contract.unwrap_or_default(),
            reason.to_owned(),
        ]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths = [0, 1, 2, 3].map(width);
    for (number, row) in rows.iter().enumerate() {
        let cells: Vec<String> = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
        if number == 0 {
            let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
            text.push_str(&format!("| {} |\n", rule.join(" | ")));
        }
    }
    text
}

fn text<'a>(constraint: &'a Json, key: &str) -> &'a str {
    constraint
        .get(key)
        .and_then(Json::as_str)
        .unwrap_or_default()
}

/// A constraint of one column, as PostgreSQL writes it behind the column's type.
fn of_column(constraint: &Json) -> String {
    let expression = text(constraint, "expression");
    match text(constraint, "type") {
        "check" => format!("check ({expression})"),
        "not_null" => format!("not null {expression}"),
        "unique" => format!("unique {expression}"),
        "primary_key" => format!("primary key {expression}"),
        "foreign_key" => format!("references {}", referenced(constraint)),
        "custom" => expression.to_owned(),
        _ => String::new(),
    }
    .trim_end()
    .to_owned()
}

fn referenced(constraint: &Json) -> String {
    let to = text(constraint, "to");
    if to.is_empty() {
        return text(constraint, "expression").to_owned();
    }
    let columns = names(constraint, "to_columns");
    format!("{to} ({})", columns.join(", "))
}

fn names(constraint: &Json, key: &str) -> Vec<String> {
    config::as_list(constraint.get(key).cloned().unwrap_or_default())
        .iter()
        .filter_map(|name| name.as_str().map(str::to_owned))
        .collect()
}

/// A constraint of the whole table.
fn of_model(constraint: &Json) -> String {
    let columns = names(constraint, "columns").join(", ");
    let expression = text(constraint, "expression");
    let rule = match text(constraint, "type") {
        "check" => format!("check ({expression})"),
        "unique" => format!("unique {expression} ({columns})"),
        "primary_key" => format!("primary key {expression} ({columns})"),
        "foreign_key" => format!(
            "foreign key ({columns}) references {}",
            referenced(constraint)
        ),
        "custom" => expression.to_owned(),
        _ => return String::new(),
    };
    match text(constraint, "name") {
        "" => rule,
        name => format!("constraint {name} {rule}"),
    }
}

/// Creates a table with declared columns and constraints, and fills it.
pub(super) fn create(node: &Node, unlogged: &str, relation: &Relation, sql: &str) -> String {
    let mut parts: Vec<String> = node
        .columns
        .iter()
        .map(|column| {
            let data_type = column.data_type.as_deref().unwrap_or("text");
            let rules: String = column
                .constraints
                .iter()
                .map(of_column)
                .filter(|rule| !rule.is_empty())
                .map(|rule| format!(" {rule}"))
                .collect();
            format!("{} {data_type}{rules}", quoted(column))
        })
        .collect();
    let model = node.constraints.iter().map(of_model);
    parts.extend(model.filter(|rule| !rule.is_empty()));
    let columns: Vec<String> = node.columns.iter().map(quoted).collect();
    let columns = columns.join(", ");
    format!(
        "create {unlogged}table {relation} (\n    {}\n);\ninsert into {relation} ({columns}) (\n\
         select {columns}\nfrom (\n{sql}\n) as model_subq\n);\n",
        parts.join(",\n    ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_one_class_are_one_and_others_are_not() {
        assert_eq!(type_class("numeric(10,2)"), "DECIMAL");
        assert_eq!(type_class("character varying(3)"), type_class("text"));
        assert_eq!(type_class("timestamp(3) without time zone"), "DATETIME");
        assert_eq!(type_class("text[]"), "STRINGARRAY");
        assert_ne!(type_class("integer"), type_class("bigint"));
        assert_eq!(type_class("uuid"), "UUID");
    }
}
