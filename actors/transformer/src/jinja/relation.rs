//! Relations as dbt's templates see them.

use std::fmt;
use std::sync::Arc;

use ballpoint_postgres::ident;
use minijinja::value::{Object, ObjectRepr, Value};
use minijinja::{Error, ErrorKind, State};
use serde::{Deserialize, Serialize};

use super::macros::{split_keywords, take};

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
    /// As dbt renders a relation into SQL: every part quoted.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.database.is_empty() {
            return f.write_str(&self.in_schema());
        }
        write!(f, "{}.{}", ident::quote(&self.database), self.in_schema())
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
}

impl RelationValue {
    pub(crate) fn new(relation: Relation, kind: Option<&'static str>) -> Self {
        Self {
            relation,
            kind,
            text: None,
            include: [true; 3],
        }
    }

    pub(crate) fn cte(relation: Relation, name: String) -> Self {
        Self {
            text: Some(name),
            ..Self::new(relation, None)
        }
    }

    pub(crate) fn value(self) -> Value {
        Value::from_object(self)
    }

    fn rendered(&self) -> String {
        if let Some(text) = &self.text {
            return text.clone();
        }
        let parts = [
            &self.relation.database,
            &self.relation.schema,
            &self.relation.identifier,
        ];
        let quoted: Vec<String> = parts
            .iter()
            .zip(self.include)
            .filter(|(part, included)| *included && !part.is_empty())
            .map(|(part, _)| ident::quote(part))
            .collect();
        quoted.join(".")
    }
}

impl Object for RelationValue {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        Some(match key.as_str()? {
            "database" => Value::from(self.relation.database.as_str()),
            "schema" => Value::from(self.relation.schema.as_str()),
            "identifier" | "name" | "table" => Value::from(self.relation.identifier.as_str()),
            "type" => self.kind.map_or_else(|| Value::from(()), Value::from),
            "is_table" => Value::from(self.kind == Some("table")),
            "is_view" => Value::from(self.kind == Some("view")),
            "is_cte" => Value::from(self.text.is_some()),
            _ => return None,
        })
    }

    fn call_method(
        self: &Arc<Self>,
        _state: &mut State<'_, '_>,
        method: &str,
        args: &[Value],
    ) -> Result<Value, Error> {
        let mut copy = RelationValue::clone(self);
        match method {
            "render" => return Ok(Value::from(self.rendered())),
            "include" | "quote" => {
                let (_, mut keywords) = split_keywords(args)?;
                for (index, part) in ["database", "schema", "identifier"].iter().enumerate() {
                    if let (Some(given), "include") = (take(&mut keywords, part), method) {
                        copy.include[index] = given.is_true();
                    }
                }
            }
            "without_identifier" => copy.include[2] = false,
            _ => return Err(Error::from(ErrorKind::UnknownMethod)),
        }
        Ok(copy.value())
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rendered())
    }
}
