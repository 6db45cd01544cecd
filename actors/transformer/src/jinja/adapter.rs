//! Templates that look into the database: `run_query`, `statement`, `adapter`, `api`.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use ballpoint_postgres::ident::{quote, quote_literal};
use minijinja::value::{DynObject, Object, ObjectRepr, Tuple, Value};
use minijinja::{Error, State};
use serde_json::Value as Json;

use super::column::{ColumnApi, ColumnValue};
use super::context::{QueryPort, failed};
use super::engine::BUILT_IN;
use super::macros::{Arguments, Keywords, MacroTable, split_keywords, take};
use super::relation::{RelationApi, RelationValue, relation_of};
use super::results::ResultTable;
use super::values::MutableList;

pub(super) type Results = Arc<Mutex<HashMap<String, Value>>>;

/// Where a dispatched macro is looked for: this adapter's, then the one for all.
const PREFIXES: [&str; 2] = ["postgres__", "default__"];

type Port = Option<Arc<dyn QueryPort>>;

fn queried(queries: &Port, sql: &str) -> Result<Value, Error> {
    match queries {
        Some(port) => {
            let (columns, rows) = port.query(sql).map_err(failed)?;
            Ok(ResultTable::value(columns, &rows))
        }
        None => Ok(Value::from(())),
    }
}

fn rows(queries: &Port, sql: &str) -> Result<Vec<Vec<Json>>, Error> {
    match queries {
        Some(port) => Ok(port.query(sql).map_err(failed)?.1),
        None => Ok(Vec::new()),
    }
}

pub(super) fn run_query(queries: Port) -> Value {
    Value::from_function(move |sql: Value| queried(&queries, &sql.to_string()))
}

fn result_of(table: Value) -> Value {
    let data = match table.get_attr("rows") {
        Ok(rows) if !rows.is_undefined() => rows,
        _ => MutableList::value(Vec::new()),
    };
    let count = data.len().unwrap_or(0);
    let response = Value::from_pairs([
        ("code", Value::from("SELECT")),
        ("rows_affected", Value::from(count)),
        ("_message", Value::from(format!("SELECT {count}"))),
    ]);
    Value::from_pairs([("table", table), ("data", data), ("response", response)])
}

/// `store_result(name, response, agate_table)`.
pub(super) fn store_result(results: Results) -> Value {
    Value::from_function(move |args: Arguments| {
        let (positional, mut keywords) = split_keywords(&args.into_values())?;
        let name = positional.first().cloned().unwrap_or_default();
        let table = take(&mut keywords, "agate_table")
            .or_else(|| positional.get(2).cloned())
            .unwrap_or_else(|| Value::from(()));
        let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
        results.insert(name.to_string(), result_of(table));
        Ok::<_, Error>(String::new())
    })
}

/// `{% call statement('name', fetch_result=True) %}`.
pub(super) fn statement(queries: Port, results: Results) -> Value {
    Value::from_dyn_object(DynObject::new(Arc::new(Statement { queries, results })))
}

struct Statement {
    queries: Port,
    results: Results,
}

impl fmt::Debug for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("statement")
    }
}

impl Object for Statement {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        let (positional, mut keywords) = split_keywords(args)?;
        let name = positional
            .first()
            .cloned()
            .or_else(|| take(&mut keywords, "name"));
        let caller = take(&mut keywords, "caller");
        let (Some(caller), true) = (caller, self.queries.is_some()) else {
            return Ok(Value::from(""));
        };
        let sql = caller.call(state, &[])?.to_string();
        let table = queried(&self.queries, &sql)?;
        if let Some(name) = name {
            let mut results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
            results.insert(name.to_string(), result_of(table));
        }
        Ok(Value::from(""))
    }
}

/// `api`: what relations and columns are made of.
pub(super) fn api() -> Value {
    Value::from_pairs([
        ("Relation", Value::from_object(RelationApi)),
        ("Column", Value::from_object(ColumnApi)),
    ])
}

/// `adapter`: dispatch, quoting, introspection and small changes.
pub(super) struct Adapter {
    pub(super) queries: Port,
    pub(super) macros: Arc<MacroTable>,
    pub(super) root: String,
    pub(super) database: String,
}

impl fmt::Debug for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("adapter")
    }
}

impl Object for Adapter {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        // Behaviours of later dbt versions that a project may ask about: none is on.
        (key.as_str()? == "behavior").then(|| Value::from_object(NothingOn))
    }

    fn call_method(
        self: &Arc<Self>,
        state: &mut State<'_, '_>,
        method: &str,
        args: &[Value],
    ) -> Result<Value, Error> {
        let (positional, mut keywords) = split_keywords(args)?;
        let first = positional
            .first()
            .map(ToString::to_string)
            .unwrap_or_default();
        match method {
            "dispatch" => {
                let name = match positional.is_empty() {
                    true => take(&mut keywords, "macro_name")
                        .unwrap_or_default()
                        .to_string(),
                    false => first,
                };
                let namespace = positional
                    .get(1)
                    .cloned()
                    .or_else(|| take(&mut keywords, "macro_namespace"));
                self.dispatch(state, &name, namespace.map(|name| name.to_string()))
            }
            "quote" => Ok(Value::from(quote(&first))),
            "quote_as_configured" => Ok(Value::from(quote(&first))),
            "quote_seed_column" => {
                let quoted = positional.get(1).is_none_or(|flag| flag.is_true());
                Ok(Value::from(if quoted { quote(&first) } else { first }))
            }
            "type" => Ok(Value::from("postgres")),
            "commit"
            | "clear_transaction"
            | "cache_added"
            | "cache_renamed"
            | "cache_dropped"
            | "verify_database"
            | "expand_target_column_types"
            | "reset_csv_table" => Ok(Value::from("")),
            _ => self.look(method, &positional, keywords),
        }
    }
}

/// `adapter.behavior`: every flag is off.
#[derive(Debug)]
struct NothingOn;

impl Object for NothingOn {
    fn get_value(self: &Arc<Self>, _: &Value) -> Option<Value> {
        Some(Value::from(false))
    }
}

impl Adapter {
    /// The implementation of a dispatched macro, in the order of packages that the project says.
    fn dispatch(
        &self,
        state: &State<'_, '_>,
        name: &str,
        namespace: Option<String>,
    ) -> Result<Value, Error> {
        let packages = match &namespace {
            Some(namespace) => self
                .macros
                .search_order(namespace)
                .unwrap_or_else(|| vec![self.root.clone(), namespace.clone()]),
            None => vec![self.root.clone(), BUILT_IN.to_owned()],
        };
        for package in &packages {
            for prefix in PREFIXES {
                if let Some(found) = self.macros.find(package, &format!("{prefix}{name}")) {
                    return Ok(found);
                }
            }
        }
        // A package that calls its own macros without naming itself, and dbt's own.
        for prefix in PREFIXES {
            let wanted = format!("{prefix}{name}");
            let found = state.lookup(&wanted);
            if let Some(found) = found.or_else(|| self.macros.find(BUILT_IN, &wanted)) {
                return Ok(found);
            }
        }
        self.macros.find(BUILT_IN, name).ok_or_else(|| {
            failed(format!(
                "In dispatch: No macro named '{name}' found within namespace: '{}'. Searched for: {}",
                namespace.as_deref().unwrap_or("None"),
                packages
                    .iter()
                    .flat_map(|package| PREFIXES.map(|prefix| format!("'{package}.{prefix}{name}'")))
                    .collect::<Vec<_>>()
                    .join(", ")
            ))
        })
    }

    /// What asks the database, or changes something small in it.
    fn look(
        &self,
        method: &str,
        positional: &[Value],
        mut keywords: Keywords,
    ) -> Result<Value, Error> {
        let mut given = |index: usize, name: &str| {
            let value = positional.get(index).cloned();
            value
                .or_else(|| take(&mut keywords, name))
                .unwrap_or_else(|| Value::from(()))
        };
        match method {
            "get_columns_in_relation" => self.columns_in(&given(0, "relation")),
            "get_missing_columns" => {
                let known = self.columns_in(&given(1, "to_relation"))?;
                let names: Vec<Value> = known
                    .try_iter()?
                    .map(|column| column.get_attr("name"))
                    .collect::<Result<_, _>>()?;
                let wanted = self.columns_in(&given(0, "from_relation"))?;
                let missing = wanted.try_iter()?.filter(|column| {
                    column
                        .get_attr("name")
                        .is_ok_and(|name| !names.contains(&name))
                });
                Ok(MutableList::value(missing.collect()))
            }
            "get_relation" => {
                let database = given(0, "database");
                let (schema, identifier) = (given(1, "schema"), given(2, "identifier"));
                self.relation(&database, &schema.to_string(), &identifier.to_string())
            }
            "list_relations" | "list_relations_without_caching" => {
                let schema = given(1, "schema");
                let schema = match relation_of(&given(0, "schema_relation")) {
                    Some(relation) => relation.relation.schema.clone(),
                    None => schema.to_string(),
                };
                self.relations(&schema)
            }
            "check_schema_exists" => {
                let schema = given(1, "schema").to_string();
                let sql = format!(
                    "select 1 from pg_namespace where nspname = {}",
                    quote_literal(&schema)
                );
                Ok(Value::from(!rows(&self.queries, &sql)?.is_empty()))
            }
            "list_schemas" => {
                let found = rows(&self.queries, "select nspname::text from pg_namespace")?;
                let names = found.iter().filter_map(|row| row.first()?.as_str());
                Ok(MutableList::value(names.map(Value::from).collect()))
            }
            "create_schema" | "drop_schema" => {
                let relation = given(0, "relation");
                let schema = relation_of(&relation).map(|found| quote(&found.relation.schema));
                let schema = schema.unwrap_or_else(|| relation.to_string());
                let sql = match method {
                    "create_schema" => format!("create schema if not exists {schema}"),
                    _ => format!("drop schema if exists {schema} cascade"),
                };
                rows(&self.queries, &sql)?;
                Ok(Value::from(""))
            }
            "drop_relation" | "truncate_relation" | "rename_relation" => {
                self.change(method, &given(0, "relation"), &given(1, "to_relation"))
            }
            "get_column_schema_from_query" => self.columns_of_query(&given(0, "sql").to_string()),
            "execute" => {
                let table = queried(&self.queries, &given(0, "sql").to_string())?;
                let response = result_of(table.clone()).get_attr("response")?;
                Ok(Value::from(Tuple::new(vec![response, table])))
            }
            "add_query" => {
                rows(&self.queries, &given(0, "sql").to_string())?;
                Ok(Value::from(""))
            }
            "valid_incremental_strategies" | "builtin_incremental_strategies" => {
                let names = ["append", "delete+insert", "merge", "microbatch"];
                Ok(MutableList::value(
                    names.iter().map(|name| Value::from(*name)).collect(),
                ))
            }
            // Nothing runs while a project is read: the node that asks fails when it runs.
            _ if self.queries.is_none() => Ok(Value::from("")),
            _ => Err(failed(format!("adapter.{method}() is not supported"))),
        }
    }

    fn change(&self, method: &str, relation: &Value, to: &Value) -> Result<Value, Error> {
        let Some(found) = relation_of(relation) else {
            return Ok(Value::from(""));
        };
        let name = found.rendered();
        let sql = match method {
            "truncate_relation" => format!("truncate table {name}"),
            "drop_relation" => {
                let kind = found.kind.unwrap_or("table");
                format!("drop {kind} if exists {name} cascade")
            }
            _ => {
                let target = relation_of(to).ok_or_else(|| {
                    failed("adapter.rename_relation() takes two relations".to_owned())
                })?;
                let target = quote(&target.relation.identifier);
                format!("alter table {name} rename to {target}")
            }
        };
        rows(&self.queries, &sql)?;
        Ok(Value::from(""))
    }

    fn relation(&self, database: &Value, schema: &str, identifier: &str) -> Result<Value, Error> {
        let known = self.relations_where(&format!(
            "n.nspname = {} and c.relname = {}",
            quote_literal(schema),
            quote_literal(identifier)
        ))?;
        let other = !database.is_none() && !self.database.is_empty();
        if other && *database.to_string() != self.database {
            return Ok(Value::from(()));
        }
        Ok(known.into_iter().next().unwrap_or_else(|| Value::from(())))
    }

    fn relations(&self, schema: &str) -> Result<Value, Error> {
        let found = self.relations_where(&format!("n.nspname = {}", quote_literal(schema)))?;
        Ok(MutableList::value(found))
    }

    fn relations_where(&self, condition: &str) -> Result<Vec<Value>, Error> {
        let sql = format!(
            "select n.nspname::text, c.relname::text, c.relkind::text from pg_class c \
             join pg_namespace n on n.oid = c.relnamespace \
             where c.relkind in ('r', 'p', 'v', 'm', 'f') and {condition} order by 1, 2"
        );
        let rows = rows(&self.queries, &sql)?;
        let text = |cell: &Json| cell.as_str().unwrap_or_default().to_owned();
        let relations = rows.iter().map(|row| {
            let kind = match row[2].as_str() {
                Some("v") => "view",
                Some("m") => "materialized_view",
                _ => "table",
            };
            let relation = super::relation::Relation {
                database: self.database.clone(),
                schema: text(&row[0]),
                identifier: text(&row[1]),
            };
            RelationValue::new(relation, Some(kind)).value()
        });
        Ok(relations.collect())
    }

    fn columns_in(&self, relation: &Value) -> Result<Value, Error> {
        let Some(found) = relation_of(relation) else {
            return Ok(MutableList::value(Vec::new()));
        };
        // Temporary tables have no schema of their own.
        let schema = match found.relation.schema.is_empty() {
            true => String::new(),
            false => format!(
                "and table_schema = {}",
                quote_literal(&found.relation.schema)
            ),
        };
        let sql = format!(
            "select column_name::text, data_type::text, character_maximum_length::int8, \
             numeric_precision::int8, numeric_scale::int8 from information_schema.columns \
             where table_name = {} {schema} order by ordinal_position",
            quote_literal(&found.relation.identifier),
        );
        let mut columns = columns_of(&rows(&self.queries, &sql)?);
        if columns.is_empty() && self.queries.is_some() {
            // information_schema knows no materialized views.
            let sql = format!(
                "select a.attname::text, format_type(a.atttypid, null)::text, null::int8, \
                 null::int8, null::int8 from pg_attribute a join pg_class c on c.oid = a.attrelid \
                 join pg_namespace n on n.oid = c.relnamespace where c.relname = {} \
                 and n.nspname = {} and a.attnum > 0 and not a.attisdropped order by a.attnum",
                quote_literal(&found.relation.identifier),
                quote_literal(&found.relation.schema),
            );
            columns = columns_of(&rows(&self.queries, &sql)?);
        }
        Ok(MutableList::value(columns))
    }

    fn columns_of_query(&self, sql: &str) -> Result<Value, Error> {
        let Some(port) = &self.queries else {
            return Ok(MutableList::value(Vec::new()));
        };
        let described = port.describe(sql).map_err(failed)?;
        let columns = described.into_iter().map(|(name, dtype)| {
            ColumnValue {
                name,
                dtype,
                ..ColumnValue::default()
            }
            .value()
        });
        Ok(MutableList::value(columns.collect()))
    }
}

fn columns_of(rows: &[Vec<Json>]) -> Vec<Value> {
    let text = |cell: &Json| cell.as_str().unwrap_or_default().to_owned();
    let columns = rows.iter().map(|row| {
        ColumnValue {
            name: text(&row[0]),
            dtype: text(&row[1]),
            char_size: row[2].as_i64(),
            precision: row[3].as_i64(),
            scale: row[4].as_i64(),
        }
        .value()
    });
    columns.collect()
}
