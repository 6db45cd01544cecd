//! What a refusal of the warehouse says of the rows that were to be written.

use sqlx::postgres::PgDatabaseError;

use crate::error::LoadError;

/// What is wrong with the rows, and what mends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A new row was there already: written by its key it fits.
    Duplicate,
    /// A column that the raw table does not let be null is null.
    Null(String),
    /// Bad data, a violated constraint, a table that is not what it was; or rows that do not fit what it
    /// has: a new copy of the table says more.
    Table,
}

impl Refusal {
    /// `None`: the warehouse is away, or the like.
    pub(super) fn of(error: &LoadError) -> Option<Self> {
        let refused = match error {
            LoadError::Unmatched { .. } | LoadError::Refused { .. } => return Some(Self::Table),
            LoadError::Warehouse {
                source: sqlx::Error::Database(refused),
                ..
            } => refused.try_downcast_ref::<PgDatabaseError>()?,
            _ => return None,
        };
        match (refused.code(), refused.column()) {
            ("23505", _) => Some(Self::Duplicate),
            ("23502", Some(column)) => Some(Self::Null(column.to_owned())),
            (code, _) => {
                let is_of_rows = ["22", "23", "42"].iter().any(|it| code.starts_with(it));
                is_of_rows.then_some(Self::Table)
            }
        }
    }
}
