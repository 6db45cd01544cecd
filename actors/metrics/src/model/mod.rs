//! A Cube data model: YAML files compiled to cubes whose references are resolved.

mod access;
mod adhoc;
mod compile;
mod counting;
mod dimensions;
mod jinja;
pub mod joins;
mod measures;
mod members;
mod policies;
mod pre_aggregations;
mod reference;
mod source;
pub mod template;
pub mod title;
mod views;
mod written;

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;

use crate::query::Filter;

pub(crate) use access::claim_path;
pub use access::{Listed, Policy, SecurityContext};
pub use counting::CustomGranularities;
pub use pre_aggregations::PreAggregation;
pub use source::{ModelError, Problem, SourceFile, nearest};
pub use template::{Part, Template};

/// A compiled data model.
#[derive(Clone, Debug, Default)]
pub struct Model {
    pub cubes: Vec<Cube>,
    /// SHA-256 over the files, names and texts.
    pub hash: String,
    /// How granularities of its own are counted.
    pub custom_granularities: CustomGranularities,
    /// Measures that a query brought along, by their names.
    pub(crate) computed: HashMap<String, MemberId>,
    by_name: HashMap<String, usize>,
}

/// A member by its place in [`Model::cubes`] and [`Cube::members`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemberId {
    pub cube: usize,
    pub index: usize,
}

/// A cube, or a view over members of cubes.
#[derive(Clone, Debug, Default)]
pub struct Cube {
    pub name: String,
    /// The table alias in generated SQL.
    pub alias: String,
    pub title: String,
    pub description: Option<String>,
    pub public: bool,
    /// Where the rows come from; `None` for a view.
    pub table: Option<Table>,
    pub joins: Vec<Join>,
    pub members: Vec<Member>,
    pub primary_key: Vec<MemberId>,
    pub hierarchies: Vec<Value>,
    pub folders: Vec<Value>,
    /// The same with folders in folders.
    pub nested_folders: Vec<Value>,
    /// Of a view: the places of its members, with the join paths that they come from.
    pub(crate) sources: Vec<(usize, String)>,
    pub meta: Value,
    /// Cubes that joins connect have the same number; `None` when it is alone.
    pub component: Option<usize>,
    /// Results that are kept in advance.
    pub pre_aggregations: Vec<PreAggregation>,
    /// Who may see what; `None`: everybody everything.
    pub policies: Option<Vec<Policy>>,
    /// Of a view: filters that hold where a query says nothing else.
    pub default_filters: Vec<DefaultFilter>,
    /// The file that defines it, relative to the model's folder.
    pub file: String,
    /// `pre_aggregations` as the file writes them, under Cube's names.
    pub written_pre_aggregations: Value,
    by_name: HashMap<String, usize>,
}

/// The rows of a cube.
#[derive(Clone, Debug)]
pub enum Table {
    /// `sql_table`, as the model writes it.
    Name(String),
    /// `sql`: a query.
    Query(Template),
}

/// A declared join; `sql` relates the columns of both.
#[derive(Clone, Debug)]
pub struct Join {
    pub to: usize,
    pub relationship: Relationship,
    pub sql: Template,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relationship {
    OneToOne,
    OneToMany,
    ManyToOne,
}

/// A measure, dimension or segment.
#[derive(Clone, Debug)]
pub struct Member {
    pub name: String,
    /// `Cube.member`.
    pub full_name: String,
    /// The column alias in generated SQL.
    pub alias: String,
    pub title: String,
    pub short_title: String,
    pub description: Option<String>,
    pub public: bool,
    pub meta: Value,
    pub format: Option<Value>,
    pub currency: Option<String>,
    pub definition: Definition,
    /// What is shown instead where a policy masks the member; NULL where nothing is said.
    pub mask: Option<Mask>,
    /// For a member of a view: what it stands for, and the join path that leads there.
    pub origin: Option<Origin>,
    /// The SQL as the file writes it.
    pub sql: Option<String>,
    /// SHA-256 over all that decides the member's value, what it refers to included.
    pub hash: String,
}

/// What stands for a masked value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mask {
    /// A text.
    Text(String),
    /// A number or boolean, as YAML writes it.
    Bare(String),
    Sql(Template),
}

/// What a view's member stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    pub member: MemberId,
    pub path: Vec<usize>,
}

#[derive(Clone, Debug)]
pub enum Definition {
    Measure(Measure),
    Dimension(Dimension),
    Segment(Template),
}

#[derive(Clone, Debug)]
pub struct Measure {
    pub aggregation: Aggregation,
    pub sql: Option<Template>,
    pub filters: Vec<Template>,
    pub drill_members: Vec<String>,
    pub rolling_window: Option<RollingWindow>,
    /// Set for measures computed over the result of others.
    pub stage: Option<Stage>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregation {
    Count,
    CountDistinct,
    CountDistinctApprox,
    Sum,
    Avg,
    Min,
    Max,
    Number,
    String,
    Time,
    Boolean,
    Rank,
    NumberAgg,
}

impl Aggregation {
    /// The type as YAML writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::CountDistinct => "count_distinct",
            Self::CountDistinctApprox => "count_distinct_approx",
            Self::Sum => "sum",
            Self::Avg => "avg",
            Self::Min => "min",
            Self::Max => "max",
            Self::Number => "number",
            Self::String => "string",
            Self::Time => "time",
            Self::Boolean => "boolean",
            Self::Rank => "rank",
            Self::NumberAgg => "number_agg",
        }
    }

    /// Whether the SQL is an expression of its own rather than the argument of an aggregate.
    pub fn is_calculated(self) -> bool {
        matches!(
            self,
            Self::Number | Self::String | Self::Time | Self::Boolean | Self::NumberAgg
        )
    }
}

/// The window of a measure that accumulates over time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RollingWindow {
    /// Intervals before and after each point; `None` is unbounded.
    Fixed {
        trailing: Option<String>,
        leading: Option<String>,
        from_start: bool,
    },
    /// From the start of this granularity.
    ToDate { granularity: String },
    /// From the start of the query's date range.
    RunningTotal,
}

/// How a multi-stage measure is computed over the grouped result.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stage {
    pub group_by: Option<Vec<MemberId>>,
    pub reduce_by: Option<Vec<MemberId>>,
    /// Dimensions by which the measures it reads are grouped too.
    pub add_group_by: Vec<MemberId>,
    pub order_by: Vec<(Template, bool)>,
    /// What it does with the query's filters.
    pub filter: Option<StageFilter>,
    pub time_shifts: Vec<TimeShift>,
}

/// What a multi-stage measure does with the query's filters.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StageFilter {
    /// Members whose filters it does not heed.
    pub exclude: Vec<MemberId>,
    /// The only members whose filters it heeds; `None`: all.
    pub keep_only: Option<Vec<MemberId>>,
    /// Filters of its own.
    pub include: Vec<Filter>,
}

/// A filter of a view, for queries that have none of the named ones.
#[derive(Clone, Debug, PartialEq)]
pub struct DefaultFilter {
    pub filter: Filter,
    /// Full names of members.
    pub unless: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeShift {
    pub dimension: Option<MemberId>,
    /// A PostgreSQL interval.
    pub interval: String,
    /// A shift that the calendar of the dimension names.
    pub name: Option<String>,
    pub prior: bool,
}

#[derive(Clone, Debug)]
pub struct Dimension {
    pub kind: DimensionKind,
    pub sql: DimensionSql,
    pub primary_key: bool,
    pub sub_query: bool,
    pub granularities: Vec<Granularity>,
    pub suggest_filter_values: bool,
    /// What a time shift reads in a calendar, instead of adding the interval.
    pub time_shifts: Vec<CalendarShift>,
}

/// A time shift that a calendar knows better than arithmetic does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CalendarShift {
    pub name: Option<String>,
    pub interval: Option<String>,
    pub prior: bool,
    pub sql: Template,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DimensionKind {
    String,
    Number,
    Boolean,
    Time,
    Geo,
}

impl DimensionKind {
    pub fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Time => "time",
            Self::Geo => "geo",
        }
    }
}

#[derive(Clone, Debug)]
pub enum DimensionSql {
    Expression(Template),
    Case {
        when: Vec<(Template, CaseLabel)>,
        otherwise: Option<CaseLabel>,
    },
    Geo {
        latitude: Template,
        longitude: Template,
    },
}

#[derive(Clone, Debug)]
pub enum CaseLabel {
    Text(String),
    Sql(Template),
}

/// A granularity that the model adds to a time dimension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granularity {
    pub name: String,
    pub title: String,
    pub interval: String,
    pub offset: Option<String>,
    pub origin: Option<String>,
    /// Instead of an interval: the start of the bucket.
    pub sql: Option<Template>,
}

impl Model {
    /// Reads and compiles every model file under `path`.
    ///
    /// # Errors
    /// Every problem of every file, each with its file and line.
    pub fn load(path: &Path) -> Result<Self, ModelError> {
        Self::compile(&source::read_files(path)?)
    }

    /// Compiles model files.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn compile(files: &[SourceFile]) -> Result<Self, ModelError> {
        compile::compile(files)
    }

    pub fn cube(&self, name: &str) -> Option<&Cube> {
        self.by_name.get(name).map(|&index| &self.cubes[index])
    }

    pub fn cube_index(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// A member by its full name.
    pub fn find(&self, full_name: &str) -> Option<MemberId> {
        if let Some(id) = self.computed.get(full_name) {
            return Some(*id);
        }
        let (cube, member) = full_name.split_once('.')?;
        let cube = self.cube_index(cube)?;
        let index = *self.cubes[cube].by_name.get(member)?;
        Some(MemberId { cube, index })
    }

    pub fn member(&self, id: MemberId) -> &Member {
        &self.cubes[id.cube].members[id.index]
    }

    /// The full names of all public members: what error texts offer.
    pub fn public_names(&self) -> impl Iterator<Item = &str> {
        self.cubes
            .iter()
            .filter(|cube| cube.public)
            .flat_map(|cube| cube.members.iter().filter(|member| member.public))
            .map(|member| member.full_name.as_str())
    }
}

impl Member {
    pub fn measure(&self) -> Option<&Measure> {
        match &self.definition {
            Definition::Measure(measure) => Some(measure),
            _ => None,
        }
    }

    pub fn dimension(&self) -> Option<&Dimension> {
        match &self.definition {
            Definition::Dimension(dimension) => Some(dimension),
            _ => None,
        }
    }

    pub fn segment(&self) -> Option<&Template> {
        match &self.definition {
            Definition::Segment(sql) => Some(sql),
            _ => None,
        }
    }

    /// The type as Cube reports it in annotations.
    pub fn value_type(&self) -> &'static str {
        match &self.definition {
            Definition::Measure(measure) => match measure.aggregation {
                Aggregation::String => "string",
                Aggregation::Time => "time",
                Aggregation::Boolean => "boolean",
                _ => "number",
            },
            Definition::Dimension(dimension) => dimension.kind.name(),
            Definition::Segment(_) => "boolean",
        }
    }

    /// Whether a request brought it along: no file declares it, and what it reads is checked instead.
    pub(crate) fn is_brought_along(&self) -> bool {
        self.hash.is_empty()
    }

    /// Every expression that decides the member's value.
    pub fn templates(&self) -> Vec<&Template> {
        match &self.definition {
            Definition::Measure(measure) => {
                let order = measure.stage.iter().flat_map(|stage| &stage.order_by);
                let own = measure.sql.iter().chain(&measure.filters);
                own.chain(order.map(|(sql, _)| sql)).collect()
            }
            Definition::Dimension(dimension) => match &dimension.sql {
                DimensionSql::Expression(sql) => vec![sql],
                DimensionSql::Geo {
                    latitude,
                    longitude,
                } => vec![latitude, longitude],
                DimensionSql::Case { when, otherwise } => when
                    .iter()
                    .flat_map(|(sql, label)| std::iter::once(sql).chain(label.template()))
                    .chain(otherwise.iter().filter_map(CaseLabel::template))
                    .collect(),
            },
            Definition::Segment(sql) => vec![sql],
        }
    }
}

impl CaseLabel {
    fn template(&self) -> Option<&Template> {
        match self {
            Self::Text(_) => None,
            Self::Sql(sql) => Some(sql),
        }
    }
}
