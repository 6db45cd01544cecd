//! dbt's job for PostgreSQL, natively: a project of SQL models and tests is read, compiled, built
//! in dependency order and tested between its nodes.
//!
//! Two ways in: [`cli`] is `dbt` on a command line, step by step as dbt does it; [`publish`] is one
//! transactional build for the resident [`actor`], of which readers see all or nothing.

mod catalog;
mod compile;
mod data_tests;
mod error;
mod freshness;
mod graph;
mod hook_names;
mod jinja;
mod materialize;
mod project;
mod queries;
mod run;
mod select;
mod sql_text;
mod unit_tests;

pub mod actor;
mod artifacts;
pub mod cli;
pub mod compare;
pub mod lineage;
pub mod publish;

pub use error::{Place, ProjectError};
pub use jinja::relation::Relation;
pub use project::node;
pub use project::profile::Target;
pub use project::{LoadOptions, Project, TargetChoice};
pub use run::{NodeResult, Status};
pub use select::{Indirect, Selection, State, select};
