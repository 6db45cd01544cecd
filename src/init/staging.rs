//! The dbt project: one staging model a table with its tests, and the sources as they land.

use ballpoint_postgres::ident::quote;
use serde_json::{Value, json};

use super::layout::{Column, Layout, Table};
use super::names;
use super::roles::{Role, plain_type};
use super::text::{plain, yaml};

/// A column with more values than this is not checked against a list of them.
const LISTED_MAX: usize = 12;
/// Rows that have to stand behind each value of a list that was read from the data.
const ROWS_PER_VALUE_MIN: i64 = 5;

/// `stg_shop__orders.sql`.
pub(super) fn model(layout: &Layout, table: &Table) -> String {
    let source = &layout.sources[table.source];
    let list: Vec<String> = table.columns.iter().map(select).collect();
    let filter = "where _ab_cdc_deleted_at is null";
    format!(
        "-- One row per {}, as {} has it; names in snake case, types that the warehouse computes with.\n\
         select\n    {},\n    _airbyte_extracted_at\nfrom {{{{ source('{}', '{}') }}}}\n{filter}\n",
        table.noun.join(" "),
        source.name,
        list.join(",\n    "),
        source.name,
        source_table(layout, table),
    )
}

/// The name of a table in `_sources.yml`: its model's, without what says whose it is.
fn source_table<'a>(layout: &Layout, table: &'a Table) -> &'a str {
    let prefix = format!("stg_{}__", layout.sources[table.source].name);
    table.model.strip_prefix(&prefix).unwrap_or(&table.model)
}

fn select(column: &Column) -> String {
    let name = &column.profile.name;
    let quoted = jinja(&quote(name));
    let base = plain_type(&column.profile.base_type);
    let textual = ["text", "character varying", "character", "name", "citext"].contains(&base);
    let expression = match base {
        "money" => format!("{quoted}::numeric"),
        "interval" => format!("extract(epoch from {quoted}::interval)"),
        _ if column.profile.landed_type == "text" && is_computed(column) && !textual => {
            format!("{quoted}::{}", column.profile.base_type)
        }
        _ if *name == column.name => return column.name.clone(),
        _ => quoted,
    };
    format!("{expression} as {}", column.name)
}

/// Whether questions compute with the column: what is opaque stays as it landed.
fn is_computed(column: &Column) -> bool {
    column.profile.enum_labels.is_empty()
        && !matches!(column.role, Role::Opaque | Role::Category)
        && plain_type(&column.profile.base_type) != "text"
}

/// Text that Jinja leaves as it is.
fn jinja(text: &str) -> String {
    if ["{{", "{%", "{#"].iter().any(|mark| text.contains(mark)) {
        format!("{{% raw %}}{text}{{% endraw %}}")
    } else {
        text.to_owned()
    }
}

/// `_sources.yml` of one source.
pub(super) fn sources(layout: &Layout, source: usize) -> String {
    let own = layout.tables.iter().filter(|table| table.source == source);
    let tables: Vec<Value> = own
        .map(|table| {
            let mut entry = json!({
                "name": source_table(layout, table),
                "description": description(layout, table),
            });
            if source_table(layout, table) != table.profile.table.name {
                entry["identifier"] = json!(table.profile.table.name);
            }
            entry
        })
        .collect();
    let source = &layout.sources[source];
    yaml(&json!({
        "version": 2,
        "sources": [{
            "name": source.name,
            "description": format!("The tables of {}, as they landed.", source.name),
            "schema": source.schema,
            "loader": "ballpoint",
            "loaded_at_field": "_airbyte_extracted_at",
            "tables": tables,
        }],
    }))
}

/// What a table holds, in its own comment's words where it has one.
pub(super) fn description(layout: &Layout, table: &Table) -> String {
    let grain = format!(
        "One row per {}: table {} of {}.",
        table.noun.join(" "),
        table.profile.table,
        layout.sources[table.source].name
    );
    match &table.profile.comment {
        Some(comment) => plain(&format!("{} {grain}", sentence(comment))),
        None => plain(&grain),
    }
}

fn sentence(text: &str) -> String {
    if text.ends_with(['.', '!', '?']) {
        text.to_owned()
    } else {
        format!("{text}.")
    }
}

/// `stg_shop__orders.yml`: what the columns are, and the tests that hold of the data at hand.
pub(super) fn properties(layout: &Layout, table: &Table) -> String {
    let columns: Vec<Value> = table
        .columns
        .iter()
        .map(|column| {
            let mut entry = json!({ "name": column.name });
            if let Some(comment) = &column.profile.comment {
                entry["description"] = json!(plain(comment));
            }
            let tests = tests(layout, table, column);
            if !tests.is_empty() {
                entry["data_tests"] = json!(tests);
            }
            entry
        })
        .collect();
    let mut model = json!({ "name": table.model, "description": description(layout, table) });
    let combinations: Vec<Value> = std::iter::once(table.profile.primary_key.clone())
        .chain(
            table
                .profile
                .unique
                .iter()
                .filter(|set| all_not_null(table, set))
                .cloned(),
        )
        .filter(|set| set.len() > 1)
        .map(|set| {
            let columns: Vec<&str> = set
                .iter()
                .filter_map(|name| table.column_of(name).map(|it| it.name.as_str()))
                .collect();
            json!({ "unique_combination": { "arguments": { "columns": columns } } })
        })
        .collect();
    if !combinations.is_empty() {
        model["data_tests"] = json!(combinations);
    }
    model["columns"] = json!(columns);
    yaml(&json!({ "version": 2, "models": [model] }))
}

fn all_not_null(table: &Table, set: &[String]) -> bool {
    let filled = |name: &String| table.column_of(name).is_some_and(|it| it.profile.not_null);
    set.iter().all(filled)
}

/// What the source itself enforces stops a build when it does not hold. What was only seen in the
/// data, or holds between tables that are read one after the other, warns.
fn tests(layout: &Layout, table: &Table, column: &Column) -> Vec<Value> {
    let mut out = Vec::new();
    let own = &column.profile;
    let alone = std::slice::from_ref(&own.name);
    if table.profile.primary_key == alone || table.profile.unique.iter().any(|set| set == alone) {
        out.push(json!("unique"));
    }
    if own.not_null {
        out.push(json!("not_null"));
    }
    if let Some(values) = listed(table, column) {
        out.push(json!({ "accepted_values": {
            "arguments": { "values": values }, "config": { "severity": "warn" },
        }}));
    }
    for reference in table
        .references
        .iter()
        .filter(|it| it.columns == [column.name.clone()])
    {
        let target = &layout.tables[reference.target];
        out.push(json!({ "relationships": {
            "arguments": { "to": format!("ref('{}')", target.model), "field": reference.target_columns[0] },
            "config": { "severity": "warn" },
        }}));
    }
    out
}

/// The values that a column may take: declared, or so few in a whole table that they are no chance.
fn listed<'a>(table: &Table, column: &'a Column) -> Option<&'a [String]> {
    let own = &column.profile;
    if column.role != Role::Category {
        return None;
    }
    let seen = || {
        let few = (1..=LISTED_MAX).contains(&own.values.len());
        let count = i64::try_from(own.values.len()).unwrap_or(i64::MAX);
        let often = own.filled.unwrap_or_default() >= count * ROWS_PER_VALUE_MIN;
        (few && often && table.profile.sample_complete).then_some(&own.values)
    };
    let declared = [&own.enum_labels, &own.checked_values]
        .into_iter()
        .find(|values| !values.is_empty());
    let values = declared.or_else(seen)?;
    // A value with braces would be read as a template.
    let safe = values
        .iter()
        .all(|value| !value.contains('{') && !value.is_empty());
    safe.then_some(values)
}

/// `dbt_project.yml`.
pub(super) fn project(layout: &Layout) -> String {
    let name = names::snake(&names::words(&layout.project)).unwrap_or_else(|| "project".to_owned());
    yaml(&json!({
        "name": name,
        "version": "1.0.0",
        "config-version": 2,
        "profile": name,
        "require-dbt-version": [">=1.8.0", "<2.0.0"],
        "model-paths": ["models"],
        "macro-paths": ["macros"],
        "test-paths": ["tests"],
        "target-path": "target",
        "clean-targets": ["target", "logs"],
        "models": { name.clone(): { "staging": { "+materialized": "view", "+schema": "staging" } } },
    }))
}

/// The profile that dbt itself reads; Ballpoint knows the warehouse without it.
pub(super) fn profiles(layout: &Layout) -> String {
    let name = names::snake(&names::words(&layout.project)).unwrap_or_else(|| "project".to_owned());
    let variable =
        |name: &str, otherwise: &str| format!("{{{{ env_var('{name}', '{otherwise}') }}}}");
    yaml(
        &json!({ name: { "target": "warehouse", "outputs": { "warehouse": {
            "type": "postgres",
            "host": variable("DBT_HOST", "127.0.0.1"),
            "port": "{{ env_var('DBT_PORT', '5432') | as_number }}",
            "user": variable("DBT_USER", "postgres"),
            "password": variable("DBT_PASSWORD", ""),
            "dbname": variable("DBT_DBNAME", "warehouse"),
            "schema": "public",
            "threads": 4,
        }}}}),
    )
}

/// A folder's schema is taken as it is written.
pub(super) const SCHEMA_MACRO: &str =
    include_str!("../../warehouse/macros/generate_schema_name.sql");

/// The test of keys of several columns.
pub(super) const COMBINATION_TEST: &str =
    include_str!("../../warehouse/tests/generic/unique_combination.sql");
