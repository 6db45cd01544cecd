//! The shape of a source's table, how two shapes differ, and what a difference leads to.
//!
//! [`decide`] is pure and the only place where that is decided: the loader asks it before a snapshot
//! and before an incremental load, change data capture asks it at each new relation message.

use serde::{Deserialize, Serialize};

use crate::segment::{ColumnOrigin, SchemaPolicy, TableName, TableSpec};

pub mod types;

use types::Fit;

/// A table's columns and key as a source had them at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// The table's object id; 0 where nobody knows it.
    #[serde(default)]
    pub oid: i64,
    pub columns: Vec<ShapeColumn>,
    #[serde(default)]
    pub primary_key: Vec<String>,
}

/// A column of a [`Shape`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShapeColumn {
    pub name: String,
    /// The type that it lands as.
    pub sql_type: String,
    pub not_null: bool,
    #[serde(flatten)]
    pub origin: ColumnOrigin,
}

/// One difference between two shapes of a table, or of a source's tables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum SchemaChange {
    ColumnAdded {
        column: String,
        sql_type: String,
    },
    ColumnDropped {
        column: String,
    },
    ColumnRenamed {
        from: String,
        to: String,
    },
    /// In the source's own words: an enum comes with its labels.
    ColumnRetyped {
        column: String,
        from: String,
        to: String,
    },
    /// NOT NULL was given or taken away.
    NullabilityChanged {
        column: String,
        not_null: bool,
    },
    PrimaryKeyChanged {
        from: Vec<String>,
        to: Vec<String>,
    },
    /// A table that was not there matches the patterns.
    TableAdded,
    /// The table is no longer in the source.
    TableDropped,
    /// The table has another name now.
    TableRenamed {
        to: TableName,
    },
    /// Another table has its name now.
    TableRecreated,
}

/// What becomes of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Rows of the new shape are loaded once the changes are made to the raw table. With `reload`
    /// the rows that are there say nothing of the source's: the table is read whole again.
    Follow { reload: bool },
    /// The table keeps its last good rows and waits.
    Hold(Hold, String),
}

/// Why a table waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hold {
    /// Its rows do not fit those that have landed.
    Quarantined,
    /// The policy is to ask first.
    Paused,
    /// A new table, and the policy is to leave those out.
    Ignored,
    /// The source has it no longer.
    Gone,
}

impl Hold {
    /// As it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Quarantined => "quarantined",
            Self::Paused => "paused",
            Self::Ignored => "ignored",
            Self::Gone => "gone",
        }
    }

    /// What is stored, read back.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Quarantined, Self::Paused, Self::Ignored, Self::Gone]
            .into_iter()
            .find(|hold| hold.as_str() == word)
    }

    /// Whether somebody has to look: what the policy leaves out is no trouble.
    pub fn is_trouble(self) -> bool {
        self != Self::Ignored
    }
}

/// What [`decide`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub changes: Vec<SchemaChange>,
    pub verdict: Verdict,
}

impl From<&TableSpec> for Shape {
    fn from(spec: &TableSpec) -> Self {
        let origins = spec.origin.columns.iter().cloned().map(Some);
        let origins = origins.chain(std::iter::repeat(None));
        let columns = spec.columns.iter().zip(origins).map(|(column, origin)| {
            let origin = origin.unwrap_or_else(|| ColumnOrigin {
                number: 0,
                declared: column.sql_type.clone(),
            });
            ShapeColumn {
                name: column.name.clone(),
                sql_type: column.sql_type.clone(),
                not_null: column.not_null,
                origin,
            }
        });
        Self {
            oid: spec.origin.oid,
            columns: columns.collect(),
            primary_key: spec.primary_key.clone(),
        }
    }
}

impl Shape {
    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&ShapeColumn> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// Compares a table with what was accepted of it, and says what is to happen.
pub fn decide(old: &Shape, new: &Shape, policy: SchemaPolicy) -> Decision {
    let compared = compare(old, new);
    let verdict = compared.verdict(policy);
    Decision {
        changes: compared.changes,
        verdict,
    }
}

/// The differences, and what they mean for rows that have landed.
#[derive(Default)]
struct Compared {
    changes: Vec<SchemaChange>,
    /// What no widening mends, in words.
    misfits: Vec<String>,
    /// Types changed in a way that takes every old value as it is.
    retyped: bool,
    reload: bool,
}

impl Compared {
    fn verdict(&self, policy: SchemaPolicy) -> Verdict {
        if let [first, ..] = self.misfits.as_slice() {
            return Verdict::Hold(Hold::Quarantined, first.clone());
        }
        match policy {
            SchemaPolicy::Pause if !self.changes.is_empty() => {
                Verdict::Hold(Hold::Paused, describe(&self.changes))
            }
            SchemaPolicy::Ignore if self.retyped => Verdict::Hold(
                Hold::Quarantined,
                format!(
                    "{}, and on_schema_change = \"ignore\" keeps the old type",
                    describe(&self.changes)
                ),
            ),
            _ => Verdict::Follow {
                reload: self.reload,
            },
        }
    }
}

fn compare(old: &Shape, new: &Shape) -> Compared {
    let mut compared = Compared::default();
    let numbered = old.oid != 0 && old.oid == new.oid;
    if old.oid != 0 && new.oid != 0 && !numbered {
        compared.changes.push(SchemaChange::TableRecreated);
        compared.reload = true;
    }
    let mut met = Vec::new();
    for column in &new.columns {
        match counterpart(old, new, column, numbered) {
            Counterpart::Known(known) => {
                met.push(known.name.as_str());
                compare_column(known, column, &mut compared);
            }
            Counterpart::None { replaced } => {
                compared.reload |= replaced;
                compared.changes.push(SchemaChange::ColumnAdded {
                    column: column.name.clone(),
                    sql_type: column.sql_type.clone(),
                });
            }
        }
    }
    for gone in old
        .columns
        .iter()
        .filter(|c| !met.contains(&c.name.as_str()))
    {
        compared.changes.push(SchemaChange::ColumnDropped {
            column: gone.name.clone(),
        });
    }
    let renamed_key: Vec<String> = old
        .primary_key
        .iter()
        .map(|name| compared.new_name(name))
        .collect();
    if renamed_key != new.primary_key {
        compared.changes.push(SchemaChange::PrimaryKeyChanged {
            from: old.primary_key.clone(),
            to: new.primary_key.clone(),
        });
    }
    compared
}

impl Compared {
    fn new_name(&self, name: &str) -> String {
        let renamed = self.changes.iter().find_map(|change| match change {
            SchemaChange::ColumnRenamed { from, to } if from == name => Some(to.clone()),
            _ => None,
        });
        renamed.unwrap_or_else(|| name.to_owned())
    }
}

/// The old column that a new one is.
enum Counterpart<'a> {
    Known(&'a ShapeColumn),
    /// It is new; `replaced`: another column had its name.
    None {
        replaced: bool,
    },
}

fn counterpart<'a>(
    old: &'a Shape,
    new: &Shape,
    column: &ShapeColumn,
    numbered: bool,
) -> Counterpart<'a> {
    let namesake = old.column(&column.name);
    let number = column.origin.number;
    if !numbered || number == 0 || old.columns.iter().any(|c| c.origin.number == 0) {
        return namesake.map_or(Counterpart::None { replaced: false }, Counterpart::Known);
    }
    match old.columns.iter().find(|c| c.origin.number == number) {
        Some(known) => Counterpart::Known(known),
        // Its namesake was dropped, or is called something else now.
        None => {
            let moved_on = |c: &ShapeColumn| {
                let mut now = new.columns.iter();
                now.any(|now| now.origin.number == c.origin.number)
            };
            Counterpart::None {
                replaced: namesake.is_some_and(|c| !moved_on(c)),
            }
        }
    }
}

fn compare_column(old: &ShapeColumn, new: &ShapeColumn, compared: &mut Compared) {
    if old.name != new.name {
        compared.changes.push(SchemaChange::ColumnRenamed {
            from: old.name.clone(),
            to: new.name.clone(),
        });
    }
    let (was, is) = (&old.origin.declared, &new.origin.declared);
    let redeclared = was != is && !was.is_empty() && !is.is_empty();
    if redeclared || old.sql_type != new.sql_type {
        let (from, to) = match redeclared {
            true => (was, is),
            false => (&old.sql_type, &new.sql_type),
        };
        compared.changes.push(SchemaChange::ColumnRetyped {
            column: new.name.clone(),
            from: from.clone(),
            to: to.clone(),
        });
    }
    match types::fit(&old.sql_type, &new.sql_type) {
        Fit::Same => {}
        Fit::InPlace | Fit::Rewritten => compared.retyped = true,
        Fit::Misfit => compared.misfits.push(format!(
            "column {:?} was {} and is {} now, which does not take every old value",
            new.name, old.sql_type, new.sql_type
        )),
    }
    if old.not_null != new.not_null {
        compared.changes.push(SchemaChange::NullabilityChanged {
            column: new.name.clone(),
            not_null: new.not_null,
        });
    }
}

/// The changes in one line of words.
pub fn describe(changes: &[SchemaChange]) -> String {
    let each: Vec<String> = changes.iter().map(ToString::to_string).collect();
    each.join("; ")
}

impl std::fmt::Display for SchemaChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ColumnAdded { column, sql_type } => {
                write!(f, "column {column:?} ({sql_type}) was added")
            }
            Self::ColumnDropped { column } => write!(f, "column {column:?} was dropped"),
            Self::ColumnRenamed { from, to } => {
                write!(f, "column {from:?} was renamed to {to:?}")
            }
            Self::ColumnRetyped { column, from, to } => {
                write!(f, "column {column:?} changed from {from} to {to}")
            }
            Self::NullabilityChanged { column, not_null } => {
                let now = if *not_null { "refuses" } else { "allows" };
                write!(f, "column {column:?} {now} null now")
            }
            Self::PrimaryKeyChanged { from, to } => {
                let shown = |key: &[String]| match key {
                    [] => "none".to_owned(),
                    some => format!("({})", some.join(", ")),
                };
                let (from, to) = (shown(from), shown(to));
                write!(f, "the primary key changed from {from} to {to}")
            }
            Self::TableAdded => f.write_str("the table is new"),
            Self::TableDropped => f.write_str("the table is gone from the source"),
            Self::TableRenamed { to } => write!(f, "the table was renamed to {to}"),
            Self::TableRecreated => f.write_str("the table was dropped and made again"),
        }
    }
}

#[cfg(test)]
mod tests;
