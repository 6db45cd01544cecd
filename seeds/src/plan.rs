//! Parameters resolved: names become indexes, decimals become whole ticks, order becomes fixed.

mod compile;

use crate::parameters::{Batch, Calendar, Numbered, Swing};

/// Index of a column in [`Plan::columns`].
pub(crate) type ColumnId = usize;
/// Index of a text in [`Plan::symbols`].
pub(crate) type Symbol = u32;

/// What is wrong with the parameters, and the texts that lead to its line.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) near: Vec<String>,
    pub(crate) message: String,
}

/// A source's parameters, ready to make rows.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) table: String,
    pub(crate) days: u16,
    pub(crate) calendar: Calendar,
    pub(crate) failure: FailurePlan,
    pub(crate) columns: Vec<Column>,
    /// Columns in the order in which one can follow from another: categories first.
    pub(crate) categories: Vec<ColumnId>,
    pub(crate) measurements: Vec<ColumnId>,
    pub(crate) derived: Vec<ColumnId>,
    pub(crate) episodes: Vec<Episode>,
    /// All texts, escaped for COPY.
    pub(crate) symbols: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// What its draws are mixed with.
    pub(crate) salt: u64,
    pub(crate) rule: Rule,
}

/// How a column's value comes about.
#[derive(Debug)]
pub(crate) enum Rule {
    Time,
    /// One of the entries, each once per block of as many hours.
    Shares(Vec<Symbol>),
    Lookup {
        of: ColumnId,
        values: Vec<(Symbol, Symbol)>,
    },
    Batch(Batch),
    /// By UTC hour of the day.
    Hours([Symbol; 24]),
    Numbered(Numbered),
    Outcome {
        good: Symbol,
        failed: Symbol,
    },
    Defect,
    Flag {
        share: f64,
        condition: FlagCondition,
    },
    Between(BetweenPlan),
    Swing(Swing),
    Product {
        of: Vec<ColumnId>,
        decimals: u8,
    },
}

impl Rule {
    /// Decimals of a number column.
    pub(crate) fn decimals(&self) -> Option<u8> {
        match self {
            Self::Between(between) => Some(between.decimals),
            Self::Swing(swing) => Some(swing.decimals),
            Self::Product { decimals, .. } => Some(*decimals),
            _ => None,
        }
    }
}

/// Which units a flag may be true for, and how many those are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum FlagCondition {
    Any,
    /// Good units: their share depends on the hour.
    Good,
    /// Units whose other flag is false; that flag's share is given.
    Unless {
        flag: ColumnId,
        share: f64,
    },
}

/// A range in ticks (units of the last decimal), both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticks {
    pub(crate) low: i64,
    pub(crate) high: i64,
}

#[derive(Debug)]
pub(crate) struct BetweenPlan {
    pub(crate) decimals: u8,
    pub(crate) range: Ticks,
    pub(crate) weekend: i64,
    pub(crate) night: i64,
    pub(crate) by: Option<(ColumnId, Vec<(Symbol, Ticks)>)>,
}

/// When units fail and how it shows.
#[derive(Debug)]
pub(crate) struct FailurePlan {
    pub(crate) rate: f64,
    pub(crate) weekend: f64,
    pub(crate) night: f64,
    pub(crate) salt: u64,
    pub(crate) measurements: Vec<(ColumnId, Ticks)>,
    pub(crate) defects: Vec<Defect>,
}

#[derive(Debug)]
pub(crate) struct Defect {
    pub(crate) symbol: Symbol,
    pub(crate) weight: u32,
    pub(crate) measurements: Vec<(ColumnId, Ticks)>,
}

/// A stretch of days in which the units it is about differ.
#[derive(Debug)]
pub(crate) struct Episode {
    /// UTC days before today: `last_day < days_ago <= first_day`.
    pub(crate) first_day: i64,
    pub(crate) last_day: i64,
    pub(crate) filter: Vec<(ColumnId, Symbol)>,
    pub(crate) failure_rate: Option<f64>,
    /// Bit per defect a failed unit may have.
    pub(crate) defects_allowed: u64,
    pub(crate) scale: Vec<(ColumnId, f64)>,
    pub(crate) lift: Option<LiftPlan>,
    pub(crate) drift: Vec<(ColumnId, DriftPlan)>,
}

#[derive(Debug)]
pub(crate) struct LiftPlan {
    pub(crate) factors: Vec<ColumnId>,
    pub(crate) by: f64,
    pub(crate) at_most: f64,
}

/// Levels by day of the episode, oldest first, in fractions of ticks.
#[derive(Debug)]
pub(crate) struct DriftPlan {
    pub(crate) levels: Vec<f64>,
    pub(crate) spread: f64,
}
