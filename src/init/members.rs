//! The dimensions that a table has of its own, and what its columns are called.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::cubes::object;
use super::layout::{Column, Table};
use super::names::{self, Taken};
use super::roles::{Role, plain_type};
use super::text::plain;

/// Texts with more distinct values than this are not what other cubes group by.
const LENT_VALUES_MAX: i64 = 500;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    String,
    Number,
    Boolean,
    Time,
}

/// A dimension of a cube.
#[derive(Clone, Debug)]
pub(super) struct Dimension {
    pub(super) name: String,
    pub(super) sql: String,
    pub(super) kind: Kind,
    pub(super) words: Vec<String>,
    pub(super) description: Option<String>,
    pub(super) synonyms: Vec<String>,
    pub(super) value_synonyms: Map<String, Value>,
    pub(super) is_key: bool,
    /// Names the row.
    pub(super) is_label: bool,
    /// Few enough values to group other tables by.
    pub(super) is_small: bool,
}

impl Dimension {
    /// Whether cubes that refer to this one take it over.
    pub(super) fn lends(&self) -> bool {
        !self.is_key && (self.is_label || self.is_small) && self.kind != Kind::Time
    }

    pub(super) fn to_json(&self) -> Value {
        let mut seen = BTreeSet::from([self.words.join(" ")]);
        let mut synonyms = self.synonyms.clone();
        synonyms.retain(|it| seen.insert(it.clone()));
        let kind = match self.kind {
            Kind::String => "string",
            Kind::Number => "number",
            Kind::Boolean => "boolean",
            Kind::Time => "time",
        };
        let meta = object(vec![
            ("synonyms", json!(synonyms)),
            ("value_synonyms", json!(self.value_synonyms)),
        ]);
        Value::Object(object(vec![
            ("name", json!(self.name)),
            ("sql", json!(self.sql)),
            ("type", json!(kind)),
            (
                "primary_key",
                if self.is_key {
                    json!(true)
                } else {
                    Value::Null
                },
            ),
            (
                "public",
                if self.is_key {
                    json!(true)
                } else {
                    Value::Null
                },
            ),
            ("title", json!(names::title(&self.words))),
            ("description", json!(self.description)),
            ("meta", json!(meta)),
        ]))
    }
}

/// The dimensions made of a table's own columns.
pub(super) fn own_dimensions(table: &Table, taken: &mut Taken) -> Vec<Dimension> {
    let key = table.key();
    let label = label(table);
    let mut out = Vec::new();
    for column in &table.columns {
        let is_key = key.contains(&column.name);
        let labels = label.as_ref().is_some_and(|(sql, _)| *sql == column.name);
        let Some(kind) = kind(column).or_else(|| is_key.then(|| key_kind(column))) else {
            continue;
        };
        if is_key || matches!(column.role, Role::Key) && !labels {
            if is_key {
                out.push(dimension(table, column, kind, taken, true));
            }
            if !(labels && is_key) {
                continue;
            }
        }
        let mut own = dimension(table, column, kind, taken, false);
        own.is_label = labels;
        if labels {
            own.synonyms.extend(noun_phrases(table, &column.words));
        }
        out.push(own);
    }
    if let Some((sql, words)) = label.filter(|(sql, _)| sql.contains('(')) {
        out.push(Dimension {
            name: taken.give(&names::camel(&words)),
            sql,
            kind: Kind::String,
            synonyms: noun_phrases(table, &words),
            words,
            description: None,
            value_synonyms: Map::new(),
            is_key: false,
            is_label: true,
            is_small: false,
        });
    }
    out
}

/// What the rows themselves are called stands for the column that names them.
fn noun_phrases(table: &Table, words: &[String]) -> Vec<String> {
    let noun = table.noun.join(" ");
    // A number or code tells rows apart; "invoices" are the rows themselves.
    let codes = [
        "no",
        "number",
        "nr",
        "code",
        "sku",
        "symbol",
        "slug",
        "serial",
        "email",
        "id",
        "ref",
        "reference",
        "key",
    ];
    if words.iter().any(|it| codes.contains(&it.as_str())) {
        return vec![format!("{noun} {}", words.join(" "))];
    }
    vec![
        names::plural(&table.noun).join(" "),
        noun.clone(),
        format!("{noun} {}", words.join(" ")),
    ]
}

fn kind(column: &Column) -> Option<Kind> {
    match column.role {
        Role::Category => Some(Kind::String),
        Role::Flag => Some(Kind::Boolean),
        Role::Time => Some(Kind::Time),
        Role::Ordinal => Some(Kind::Number),
        Role::Key | Role::Additive | Role::Level | Role::Opaque => None,
    }
}

fn key_kind(column: &Column) -> Kind {
    match plain_type(&column.profile.base_type) {
        "smallint" | "integer" | "bigint" | "numeric" | "real" | "double precision" => Kind::Number,
        "date" => Kind::Time,
        base if base.starts_with("timestamp") => Kind::Time,
        _ => Kind::String,
    }
}

fn dimension(
    table: &Table,
    column: &Column,
    kind: Kind,
    taken: &mut Taken,
    is_key: bool,
) -> Dimension {
    let words = column.words.clone();
    let own = &column.profile;
    let mut synonyms = Vec::new();
    if !is_key {
        synonyms.push(format!("{} {}", table.noun.join(" "), words.join(" ")));
        synonyms.extend(said(column));
    }
    let flag: Vec<String> = match words.first().map(String::as_str) {
        Some("is" | "has" | "was") if words.len() > 1 => words[1..].to_vec(),
        _ => words.clone(),
    };
    let mut value_synonyms = Map::new();
    if kind == Kind::Boolean {
        let yes = flag.join(" ");
        value_synonyms.insert("true".into(), json!([yes]));
        value_synonyms.insert(
            "false".into(),
            json!([format!("in{yes}"), format!("un{yes}"), format!("non {yes}")]),
        );
    }
    let distinct = own.distinct.unwrap_or_default();
    let free_text = [
        "note",
        "notes",
        "comment",
        "comments",
        "description",
        "url",
        "email",
        "phone",
        "address",
        "text",
        "body",
        "message",
    ];
    Dimension {
        name: taken.give(&names::camel(if kind == Kind::Boolean {
            &flag
        } else {
            &words
        })),
        // A key that is a time or day is compared as it is.
        sql: column.name.clone(),
        kind,
        is_small: match kind {
            Kind::Boolean | Kind::Number => true,
            Kind::String => {
                distinct <= LENT_VALUES_MAX
                    && !words.iter().any(|it| free_text.contains(&it.as_str()))
            }
            Kind::Time => false,
        },
        description: own.comment.as_deref().map(plain),
        words,
        synonyms,
        value_synonyms,
        is_key,
        is_label: false,
    }
}

/// The SQL and words of what names a row.
fn label(table: &Table) -> Option<(String, Vec<String>)> {
    let column = |wanted: &[String]| {
        let textual = |it: &&Column| it.role == Role::Category || key_kind(it) == Kind::String;
        table
            .columns
            .iter()
            .filter(textual)
            .find(|it| it.words == wanted)
    };
    let simple = |list: &[&str]| {
        let mut found = list.iter().filter_map(|name| {
            let words = names::words(name);
            column(&words).or_else(|| column(&[table.noun.clone(), words].concat()))
        });
        found.next().map(|it| (it.name.clone(), it.words.clone()))
    };
    let person = || {
        let first = ["first_name", "firstname", "given_name", "forename"];
        let last = ["last_name", "lastname", "surname", "family_name"];
        let (first, last) = simple(&first).zip(simple(&last))?;
        let sql = format!("concat_ws(' ', {{CUBE}}.{}, {{CUBE}}.{})", first.0, last.0);
        Some((sql, names::words("full_name")))
    };
    let unique = || {
        let single = table.profile.unique.iter().filter(|set| set.len() == 1);
        let mut named = single.filter_map(|set| table.column_of(&set[0]));
        named
            .find(|it| it.role == Role::Category)
            .map(|it| (it.name.clone(), it.words.clone()))
    };
    let key = || match table.profile.primary_key.as_slice() {
        [only] => {
            let column = table.column_of(only)?;
            let text =
                plain_type(&column.profile.base_type) != "uuid" && key_kind(column) == Kind::String;
            text.then(|| (column.name.clone(), column.words.clone()))
        }
        _ => None,
    };
    let own_noun = || column(&table.noun).map(|it| (it.name.clone(), it.words.clone()));
    simple(&["name", "title", "label", "full_name", "display_name"])
        .or_else(own_noun)
        .or_else(person)
        .or_else(|| {
            simple(&[
                "username", "login", "code", "sku", "symbol", "slug", "serial", "email",
            ])
        })
        .or_else(unique)
        .or_else(key)
}

/// What people may call a column besides its name: the name in its own script, and what its comment
/// says it is called.
pub(super) fn said(column: &Column) -> Vec<String> {
    let spoken = names::spoken(&column.profile.name).join(" ");
    let mut out: Vec<String> = Vec::new();
    if names::words(&spoken).join(" ") != spoken {
        out.push(spoken);
    }
    if let Some(comment) = &column.profile.comment {
        out.extend(called(comment));
    }
    out
}

/// The names in a comment: a short comment is one; a longer one says "synonyms: a, b" or "also
/// called a, b".
fn called(comment: &str) -> Vec<String> {
    let lower = plain(comment).to_lowercase();
    let marks = ["synonyms:", "also called", "also known as", "aka "];
    let listed = marks.iter().find_map(|mark| lower.split_once(mark));
    let names: Vec<&str> = match listed {
        Some((_, rest)) => {
            let end = rest.find(['.', ';']).unwrap_or(rest.len());
            rest[..end]
                .split([',', '/'])
                .flat_map(|it| it.split(" or "))
                .collect()
        }
        None if lower.split_whitespace().count() <= 3 => vec![lower.trim_end_matches('.')],
        None => Vec::new(),
    };
    let clean = |name: &&str| !name.is_empty() && name.chars().any(char::is_alphabetic);
    names
        .into_iter()
        .map(str::trim)
        .filter(clean)
        .map(str::to_owned)
        .collect()
}
