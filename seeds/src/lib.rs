//! Fills source databases with data whose facts are known.
//!
//! A source's folder holds `schema.sql` (its table) and `generator.yml` (what the table is filled
//! with); this crate interprets the latter. Every row is a pure function of seed, table, hour and
//! the unit's number within the hour, so that the same hour holds the same units whatever the row
//! count, and a larger count only adds units to each hour. What is true of the data by
//! construction, under any seed and any count, is stated in `answers.yml` and read by [`answers`].

pub mod parameters;

pub mod answers;
pub mod corruptions;
pub mod fill;
pub mod generate;
pub mod script;

mod calendar;
mod draw;
mod plan;
mod row;

pub use fill::{FillError, fill};
pub use generate::{CopyChunks, Window, generate};
pub use parameters::{Parameters, ParametersError, SeedFiles};
pub use script::{ScriptError, script};
