//! From a Cube query to one PostgreSQL statement: normalize, resolve members, join, write.

pub(crate) mod computed;
pub mod dates;
pub mod error;
mod fan_out;
mod filters;
pub mod folded;
pub mod granularity;
mod needs;
pub mod normalize;
mod policies;
mod reading;
mod resolve;
mod rolling;
pub mod rollup;
mod select;
mod stage;
mod statement;
mod sub_query;
mod writer;

pub use error::QueryError;
pub use folded::Folded;
use needs::reached;
pub(crate) use needs::reached_anyhow;
pub use normalize::{Normalized, QueryType, normalize};
pub(crate) use resolve::may_show;
pub use rollup::{Considered, Rollup};
pub use statement::Statement;

use std::sync::Arc;

use crate::model::{MemberId, Model, SecurityContext};
use crate::query::Filter;

/// What to send to PostgreSQL, and what its columns are.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub statement: Statement,
    pub columns: Vec<Column>,
    pub segments: Vec<MemberId>,
    /// What the caller's row policies add to the query's filters.
    pub row_filters: Vec<Filter>,
    /// Whether these depend on the day.
    pub(crate) is_dated: bool,
    /// Counts the rows without limit and offset, when the query asks for it.
    pub total: Option<Statement>,
    /// The order that applies: the query's, or Cube's default.
    pub order: Vec<(String, bool)>,
    /// Cubes that the statement reads.
    pub cubes: Vec<usize>,
    /// What it reads instead of the source.
    pub rollup: Option<Arc<Rollup>>,
    /// The same in terms of the rollup's columns, where it is plain enough.
    pub folded: Option<Folded>,
    /// The rollups that were looked at, and why they were not used.
    pub considered: Vec<Considered>,
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
    plan_with(model, query, context, &[])
}

/// The same, reading one of `rollups` where that gives the same rows.
///
/// # Errors
/// As [`plan`].
pub fn plan_with(
    model: &Model,
    query: &Normalized,
    context: &SecurityContext,
    rollups: &[Arc<Rollup>],
) -> Result<Plan, QueryError> {
    let resolved = resolve::resolve(model, query, context)?;
    select::write(model, query, context, resolved, rollups)
}

/// For each bucket of a time dimension (the empty one has the rows without a time) a text that is
/// another one once a row of it was added, changed, moved or deleted.
///
/// # Errors
/// A time that other cubes, or the caller, have a say in.
pub(crate) fn signatures(model: &Model, time: MemberId, unit: &str) -> Result<String, QueryError> {
    let context = SecurityContext::default();
    let zone = jiff::tz::TimeZone::UTC;
    let mut writer = writer::Writer::new(model, &context, &zone, "UTC");
    let read = reached(model, [time]);
    let is_own = |id: &MemberId| id.cube == time.cube;
    let sub_query = |id: &MemberId| model.member(*id).dimension().is_some_and(|it| it.sub_query);
    let sql = writer.member(time)?;
    let table = writer.table(time.cube)?;
    if !read.iter().all(is_own) || read.iter().any(sub_query) || !writer.params.is_empty() {
        let name = &model.member(time).full_name;
        let why = format!("{name} is not made of its own table's columns alone");
        return Err(QueryError::Unplannable(why));
    }
    let alias = writer.table_alias(time.cube);
    Ok(format!(
        "SELECT coalesce(date_trunc('{unit}', ({sql})::timestamptz AT TIME ZONE 'UTC')::text, ''), \
         concat_ws(' ', count(*), sum(hashint8({alias}.xmin::text::bigint))) FROM {table} GROUP BY 1"
    ))
}

/// The values of some dimensions and the extent of some times of one cube, in one scan. Columns:
/// which dimension a row is for (its bit in GROUPING is 0; all 1: the extents), each dimension as
/// text, the first and last of each time. At most `values_max` rows a dimension.
///
/// # Errors
/// A dimension that other cubes have to be joined for.
pub(crate) fn survey(
    model: &Model,
    cube: usize,
    dimensions: &[MemberId],
    times: &[MemberId],
    values_max: usize,
) -> Result<Plan, QueryError> {
    let context = SecurityContext::default();
    let zone = jiff::tz::TimeZone::UTC;
    let mut writer = writer::Writer::new(model, &context, &zone, "UTC");
    let (mut expressions, mut extents) = (Vec::new(), Vec::new());
    for dimension in dimensions {
        expressions.push(format!("({})::text", writer.member(*dimension)?));
    }
    for time in times {
        let sql = writer.member(*time)?;
        extents.push(format!("min({sql}), max({sql})"));
    }
    let table = writer.table(cube)?;
    let mut sets: Vec<String> = expressions.iter().map(|sql| format!("({sql})")).collect();
    sets.push("()".to_owned());
    let which = if expressions.is_empty() {
        "0".to_owned()
    } else {
        format!("GROUPING({})", expressions.join(", "))
    };
    let columns: Vec<&str> = std::iter::once(&which)
        .chain(&expressions)
        .chain(&extents)
        .map(String::as_str)
        .collect();
    let text = format!(
        "SELECT {}, row_number() OVER (PARTITION BY {which}) AS number FROM {table} \
         GROUP BY GROUPING SETS ({})",
        columns.join(", "),
        sets.join(", ")
    );
    let count = 1 + dimensions.len() + 2 * times.len();
    let names: Vec<String> = (0..count).map(|at| format!("s{at}")).collect();
    let names = names.join(", ");
    let text = format!(
        "SELECT {names} FROM ({text}) AS surveyed ({names}, number) WHERE number <= {values_max}"
    );
    Ok(Plan {
        statement: Statement::new(text, writer.params),
        columns: Vec::new(),
        segments: Vec::new(),
        row_filters: Vec::new(),
        is_dated: false,
        total: None,
        order: Vec::new(),
        cubes: vec![cube],
        rollup: None,
        folded: None,
        considered: Vec::new(),
    })
}
