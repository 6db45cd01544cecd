//! From a Cube query to one PostgreSQL statement: normalize, resolve members, join, write.

pub mod dates;
pub mod error;
mod filters;
pub mod granularity;
pub mod normalize;
mod resolve;
mod select;
mod statement;
mod writer;

pub use error::QueryError;
pub use normalize::{Normalized, QueryType, normalize};
pub use statement::Statement;

use crate::model::{MemberId, Model, SecurityContext};
use crate::query::Filter;

/// What to send to PostgreSQL, and what its columns are.
#[derive(Clone, Debug)]
pub struct Plan {
    pub statement: Statement,
    pub columns: Vec<Column>,
    pub segments: Vec<MemberId>,
    /// What the caller's row policies add to the query's filters.
    pub row_filters: Vec<Filter>,
    /// Counts the rows without limit and offset, when the query asks for it.
    pub total: Option<Statement>,
    /// The order that applies: the query's, or Cube's default.
    pub order: Vec<(String, bool)>,
    /// Cubes that the statement reads.
    pub cubes: Vec<usize>,
}

/// A column of the result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// The key in result rows: `Cube.member` or `Cube.time.granularity`.
    pub key: String,
    /// The name in the statement.
    pub alias: String,
    pub member: MemberId,
    pub kind: ColumnKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    Dimension,
    Time { granularity: String },
    Measure,
}

/// Plans one normalized query for the caller that `context` describes.
///
/// # Errors
/// Members that do not exist, may not be seen or cannot be joined.
pub fn plan(
    model: &Model,
    query: &Normalized,
    context: &SecurityContext,
) -> Result<Plan, QueryError> {
    let resolved = resolve::resolve(model, query, context)?;
    select::write(model, query, context, resolved)
}

/// The first and last time of a time dimension, over all rows of its cube.
///
/// # Errors
/// A dimension that other cubes have to be joined for.
pub(crate) fn extent(model: &Model, id: MemberId) -> Result<Plan, QueryError> {
    let context = SecurityContext::default();
    let zone = jiff::tz::TimeZone::UTC;
    let mut writer = writer::Writer::new(model, &context, &zone, "UTC");
    let own = writer.resolve(id);
    let sql = writer.member(own)?;
    let table = writer.table(own.cube)?;
    let text = format!("SELECT min({sql}) AS first, max({sql}) AS last FROM {table}");
    Ok(Plan {
        statement: Statement::new(text, writer.params),
        columns: Vec::new(),
        segments: Vec::new(),
        row_filters: Vec::new(),
        total: None,
        order: Vec::new(),
        cubes: vec![own.cube],
    })
}
