//! Relations as dbt's templates see them.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use ballpoint_postgres::ident;
use minijinja::value::{DynObject, Enumerator, Object, ObjectRepr, Value};
use minijinja::{Error, ErrorKind, State};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::macros::{Keywords, split_keywords, take};

/// A table or view by its full name, unquoted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Relation {
    pub database: String,
    pub schema: String,
    pub identifier: String,
}

impl Relation {
    /// The same place under another identifier.
    #[must_use]
    pub fn renamed(&self, identifier: impl Into<String>) -> Self {
        Self {
            identifier: identifier.into(),
            ..self.clone()
        }
    }

    fn parts(&self) -> [&String; 3] {
        [&self.database, &self.schema, &self.identifier]
    }

    /// The full name as SQL has it.
    pub fn rendered(&self, quoting: Quoting) -> String {
        self.with_parts(quoting, [true; 3])
    }

    fn with_parts(&self, quoting: Quoting, included: [bool; 3]) -> String {
        let parts = self.parts().into_iter().zip(quoting.0).zip(included);
        let parts = parts.filter(|((part, _), included)| *included && !part.is_empty());
        let parts = parts.map(|((part, quoted), _)| match quoted {
            true => ident::quote(part),
            false => part.clone(),
        });
        parts.collect::<Vec<_>>().join(".")
    }

    /// The name that PostgreSQL knows: parts that are not quoted are in lower case.
    #[must_use]
    pub fn folded(mut self, quoting: Quoting) -> Self {
        let parts = [&mut self.database, &mut self.schema, &mut self.identifier];
        for (part, quoted) in parts.into_iter().zip(quoting.0) {
            if !quoted {
                *part = part.to_lowercase();
            }
        }
        self
    }

    /// `"schema"."identifier"`, quoted.
    pub fn in_schema(&self) -> String {
        ident::quote_qualified(&self.schema, &self.identifier)
    }

    /// `schema.identifier` as log lines show it.
    pub fn shown(&self) -> String {
        format!("{}.{}", self.schema, self.identifier)
    }
}

impl fmt::Display for Relation {
    /// As dbt renders a relation into SQL where nothing else is said: every part quoted.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rendered(Quoting::default()))
    }
}

/// Which parts of a relation's name are quoted: database, schema, identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoting(pub [bool; 3]);

impl Default for Quoting {
    fn default() -> Self {
        Self([true; 3])
    }
}

impl Quoting {
    /// The quoting with what a `quoting:` says instead.
    #[must_use]
    pub fn changed(self, given: Option<&Json>) -> Self {
        let mut parts = self.0;
        for (part, name) in parts.iter_mut().zip(PARTS) {
            let said = given.and_then(|given| given.get(name)?.as_bool());
            *part = said.unwrap_or(*part);
        }
        Self(parts)
    }
}

/// What stands in a template for a relation.
#[derive(Clone, Debug)]
pub(crate) struct RelationValue {
    pub(crate) relation: Relation,
    /// `table` or `view`; absent when it does not exist or is not known.
    pub(crate) kind: Option<&'static str>,
    /// Instead of the relation's own name: a CTE, or a subquery with a filter.
    pub(crate) text: Option<String>,
    include: [bool; 3],
    quoting: Quoting,
}

impl RelationValue {
    pub(crate) fn new(relation: Relation, kind: Option<&'static str>) -> Self {
        Self {
            relation,
            kind,
            text: None,
            include: [true; 3],
            quoting: Quoting::default(),
        }
    }

    /// With the quoting that its project asks for.
    pub(crate) fn quoted(self, quoting: Quoting) -> Self {
        Self { quoting, ..self }
    }

    pub(crate) fn cte(relation: Relation, name: String) -> Self {
        Self {
            text: Some(name),
            ..Self::new(relation, None)
        }
    }

    /// `--empty`: the relation's columns and none of its rows.
    pub(crate) fn without_rows(self) -> Self {
        let (name, identifier) = (self.rendered(), &self.relation.identifier);
        let text =
            format!("(select * from {name} where false limit 0) _dbt_limit_subq_{identifier}");
        Self {
            text: Some(text),
            ..self
        }
    }

    pub(crate) fn value(self) -> Value {
        Value::from_object(self)
    }

    pub(crate) fn rendered(&self) -> String {
        if let Some(text) = &self.text {
            return text.clone();
        }
        self.relation.with_parts(self.quoting, self.include)
    }
}

const PARTS: [&str; 3] = ["database", "schema", "identifier"];

/// A relation's kind by dbt's name.
fn kind_named(name: &str) -> Option<&'static str> {
    ["table", "view", "materialized_view", "external", "cte"]
        .into_iter()
        .find(|kind| kind.eq_ignore_ascii_case(name))
}

/// The relation that a value is.
pub(super) fn relation_of(value: &Value) -> Option<&RelationValue> {
    value.downcast_object_ref::<RelationValue>()
}

impl RelationValue {
    fn set_path(&mut self, parts: Keywords) {
        for (name, value) in parts {
            let text = match value.is_none() || value.is_undefined() {
                true => String::new(),
                false => value.to_string(),
            };
            match name.as_str() {
                "database" => self.relation.database = text,
                "schema" => self.relation.schema = text,
                "identifier" => self.relation.identifier = text,
                _ => {}
            }
        }
    }

    fn incorporate(&mut self, mut keywords: Keywords) -> Result<(), Error> {
        if let Some(path) = take(&mut keywords, "path") {
            let mut parts = Vec::new();
            for key in path.try_iter()? {
                parts.push((key.to_string(), path.get_item(&key)?));
            }
            self.set_path(parts);
        }
        if let Some(kind) = take(&mut keywords, "type") {
            self.kind = kind_named(&kind.to_string());
        }
        Ok(())
    }
}

/// `api.Relation`.
#[derive(Debug)]
pub(super) struct RelationApi;

impl RelationApi {
    fn create(args: &[Value]) -> Result<Value, Error> {
        let (positional, mut keywords) = split_keywords(args)?;
        let mut relation = RelationValue::new(Relation::default(), None);
        let named = PARTS.iter().zip(positional);
        relation.set_path(
            named
                .map(|(name, value)| ((*name).to_owned(), value))
                .collect(),
        );
        if let Some(kind) = take(&mut keywords, "type") {
            relation.kind = kind_named(&kind.to_string());
        }
        relation.set_path(keywords);
        Ok(relation.value())
    }
}

impl Object for RelationApi {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        Some(Value::from(match key.as_str()? {
            "Table" => "table",
            "View" => "view",
            "CTE" => "cte",
            "External" => "external",
            "MaterializedView" => "materialized_view",
            _ => return None,
        }))
    }

    fn call_method(
        self: &Arc<Self>,
        _state: &mut State<'_, '_>,
        method: &str,
        args: &[Value],
    ) -> Result<Value, Error> {
        match method {
            "create" => Self::create(args),
            // PostgreSQL cuts longer names.
            "relation_max_name_length" => Ok(Value::from(63)),
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}

impl Object for RelationValue {
    /// A mapping, as packages ask before they take something for a relation.
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }

    fn is_true(self: &Arc<Self>) -> bool {
        true
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Str(&["database", "schema", "identifier", "type", "metadata"])
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        Some(match key.as_str()? {
            "database" => Value::from(self.relation.database.as_str()),
            "schema" => Value::from(self.relation.schema.as_str()),
            "identifier" | "name" | "table" => Value::from(self.relation.identifier.as_str()),
            "type" => self.kind.map_or_else(|| Value::from(()), Value::from),
            "is_table" => Value::from(self.kind == Some("table")),
            "is_view" => Value::from(self.kind == Some("view")),
            "is_materialized_view" => Value::from(self.kind == Some("materialized_view")),
            "metadata" => Value::from_pairs([("type", "PostgresRelation")]),
            "is_cte" => Value::from(self.text.is_some()),
            "is_pointer" | "is_function" => Value::from(false),
            "can_be_renamed" => Value::from(matches!(self.kind, Some("table" | "view"))),
            "can_be_replaced" => Value::from(matches!(self.kind, Some("table" | "view"))),
            // For `relation.MaterializedView` and its kin.
            "Table" => Value::from("table"),
            "View" => Value::from("view"),
            "CTE" => Value::from("cte"),
            "External" => Value::from("external"),
            "MaterializedView" => Value::from("materialized_view"),
            _ => return None,
        })
    }

    /// Two are the same when they render the same, as Python compares dataclasses.
    fn custom_cmp(self: &Arc<Self>, other: &DynObject) -> Option<Ordering> {
        let other = other.downcast_ref::<Self>()?;
        Some(self.rendered().cmp(&other.rendered()))
    }

    fn call_method(
        self: &Arc<Self>,
        _state: &mut State<'_, '_>,
        method: &str,
        args: &[Value],
    ) -> Result<Value, Error> {
        let mut copy = RelationValue::clone(self);
        match method {
            "get" => {
                let found = args.first().and_then(|key| self.get_value(key));
                let default = || args.get(1).cloned().unwrap_or_else(|| Value::from(()));
                return Ok(found.unwrap_or_else(default));
            }
            "render" => return Ok(Value::from(self.rendered())),
            "include" | "quote" => {
                let (_, mut keywords) = split_keywords(args)?;
                for (index, part) in PARTS.iter().enumerate() {
                    let flags = match method {
                        "include" => &mut copy.include,
                        _ => &mut copy.quoting.0,
                    };
                    if let Some(given) = take(&mut keywords, part) {
                        flags[index] = given.is_true();
                    }
                }
            }
            "incorporate" => copy.incorporate(split_keywords(args)?.1)?,
            "replace_path" => copy.set_path(split_keywords(args)?.1),
            "without_identifier" => copy.include[2] = false,
            "information_schema" => {
                let view = args.first().map(ToString::to_string).unwrap_or_default();
                let database = ident::quote(&self.relation.database);
                let name = match view.is_empty() {
                    true => "information_schema".to_owned(),
                    false => format!("information_schema.{}", view.to_lowercase()),
                };
                return Ok(Value::from(format!("{database}.{name}")));
            }
            "matches" => {
                let (_, keywords) = split_keywords(args)?;
                let same = |name: &str, wanted: &Value| match name {
                    "database" => self.relation.database == wanted.to_string(),
                    "schema" => self.relation.schema == wanted.to_string(),
                    _ => self.relation.identifier == wanted.to_string(),
                };
                let all = keywords.iter().all(|(name, wanted)| same(name, wanted));
                return Ok(Value::from(all));
            }
            "add_ephemeral_prefix" => {
                let name = args.first().map(ToString::to_string).unwrap_or_default();
                return Ok(Value::from(format!("__dbt__cte__{name}")));
            }
            "create" => return RelationApi::create(args),
            _ => return Err(Error::from(ErrorKind::UnknownMethod)),
        }
        Ok(copy.value())
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rendered())
    }
}
