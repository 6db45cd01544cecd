//! Columns as templates see them: `adapter.get_columns_in_relation`, `api.Column`.

use std::fmt;
use std::sync::Arc;

use ballpoint_postgres::ident;
use minijinja::value::{Object, ObjectRepr, Value};
use minijinja::{Error, ErrorKind, State};

use super::macros::{split_keywords, take};

/// A column and its type as `information_schema` has it.
#[derive(Clone, Debug, Default)]
pub(super) struct ColumnValue {
    pub(super) name: String,
    pub(super) dtype: String,
    pub(super) char_size: Option<i64>,
    pub(super) precision: Option<i64>,
    pub(super) scale: Option<i64>,
}

impl ColumnValue {
    fn is(&self, kinds: &[&str]) -> bool {
        kinds.contains(&self.dtype.to_lowercase().as_str())
    }

    fn is_string(&self) -> bool {
        self.is(&["text", "character varying", "character", "varchar"])
    }

    fn is_float(&self) -> bool {
        self.is(&["real", "float4", "float", "double precision", "float8"])
    }

    fn is_integer(&self) -> bool {
        self.is(&[
            "smallint",
            "integer",
            "bigint",
            "smallserial",
            "serial",
            "bigserial",
            "int2",
            "int4",
            "int8",
            "serial2",
            "serial4",
            "serial8",
        ])
    }

    fn is_numeric(&self) -> bool {
        self.is(&["numeric", "decimal"])
    }

    /// The type as SQL writes it.
    pub(super) fn data_type(&self) -> String {
        match (self.char_size, self.precision) {
            (Some(size), _) if self.is_string() && !self.is(&["text"]) => {
                format!("character varying({size})")
            }
            (_, Some(precision)) if self.is_numeric() => {
                format!("{}({precision},{})", self.dtype, self.scale.unwrap_or(0))
            }
            _ => self.dtype.clone(),
        }
    }

    pub(super) fn value(self) -> Value {
        Value::from_object(self)
    }
}

impl Object for ColumnValue {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let number = |number: Option<i64>| number.map_or_else(|| Value::from(()), Value::from);
        Some(match key.as_str()? {
            "name" | "column" => Value::from(self.name.as_str()),
            "quoted" => Value::from(ident::quote(&self.name)),
            "dtype" => Value::from(self.dtype.as_str()),
            "data_type" | "expanded_data_type" => Value::from(self.data_type()),
            "char_size" => number(self.char_size),
            "numeric_precision" => number(self.precision),
            "numeric_scale" => number(self.scale),
            _ => return None,
        })
    }

    fn call_method(
        self: &Arc<Self>,
        _state: &mut State<'_, '_>,
        method: &str,
        args: &[Value],
    ) -> Result<Value, Error> {
        Ok(match method {
            "is_string" => Value::from(self.is_string()),
            "is_number" => Value::from(self.is_float() || self.is_integer() || self.is_numeric()),
            "is_float" => Value::from(self.is_float()),
            "is_integer" => Value::from(self.is_integer()),
            "is_numeric" => Value::from(self.is_numeric()),
            "string_size" => Value::from(self.char_size.unwrap_or(256)),
            "can_expand_to" => {
                let other = args
                    .first()
                    .and_then(|value| value.downcast_object_ref::<Self>());
                Value::from(other.is_some_and(|other| {
                    self.is_string()
                        && other.is_string()
                        && other.char_size.unwrap_or(256) > self.char_size.unwrap_or(256)
                }))
            }
            _ => return Err(Error::from(ErrorKind::UnknownMethod)),
        })
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<Column {} ({})>", self.name, self.data_type())
    }
}

/// `api.Column`.
#[derive(Debug)]
pub(super) struct ColumnApi;

fn text_at(positional: &[Value], index: usize) -> String {
    positional
        .get(index)
        .map(ToString::to_string)
        .unwrap_or_default()
}

/// A type of dbt's own words as PostgreSQL calls it.
fn translated(name: &str) -> String {
    match name.eq_ignore_ascii_case("string") {
        true => "TEXT".to_owned(),
        false => name.to_owned(),
    }
}

impl Object for ColumnApi {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, _state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        let (positional, mut keywords) = split_keywords(args)?;
        let mut given = |index: usize, name: &str| {
            let value = positional.get(index).cloned();
            value.or_else(|| take(&mut keywords, name))
        };
        let column = ColumnValue {
            name: given(0, "column").unwrap_or_default().to_string(),
            dtype: given(1, "dtype").unwrap_or_default().to_string(),
            char_size: given(2, "char_size").and_then(|value| value.as_i64()),
            precision: given(3, "numeric_precision").and_then(|value| value.as_i64()),
            scale: given(4, "numeric_scale").and_then(|value| value.as_i64()),
        };
        Ok(column.value())
    }

    fn call_method(
        self: &Arc<Self>,
        _state: &mut State<'_, '_>,
        method: &str,
        args: &[Value],
    ) -> Result<Value, Error> {
        let (positional, _) = split_keywords(args)?;
        let text = |index| text_at(&positional, index);
        Ok(match method {
            "translate_type" => Value::from(translated(&text(0))),
            "string_type" => Value::from(format!("character varying({})", text(0))),
            "numeric_type" if positional.len() > 2 => {
                Value::from(format!("{}({},{})", text(0), text(1), text(2)))
            }
            "numeric_type" => Value::from(text(0)),
            "create" => {
                let (name, dtype) = (text(0), translated(&text(1)));
                ColumnValue {
                    name,
                    dtype,
                    ..ColumnValue::default()
                }
                .value()
            }
            _ => return Err(Error::from(ErrorKind::UnknownMethod)),
        })
    }
}
