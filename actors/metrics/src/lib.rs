//! The metric registry: a Cube data model, natively.
//!
//! YAML is compiled to a [`model::Model`]; a query is normalized and planned to one statement
//! ([`plan`]), run read only ([`execute`]) and answered in Cube's JSON ([`api`]). The actor in
//! [`registry`] keeps the model and what is known of its data up to date.

pub mod api;
mod args;
pub mod catalog;
pub mod execute;
mod given;
pub mod handle;
pub mod live;
mod load_proof;
pub mod model;
pub mod plan;
pub mod proof;
pub mod query;
mod refresh;
pub mod registry;
pub mod relations;
pub mod results;
pub mod rollups;
pub mod served;
pub mod service;
pub mod sql_api;
mod standing;
pub mod survey;
pub mod versions;
mod words;

pub use api::ApiReply;
pub use args::MetricRegistryArgs;
pub use handle::MetricRegistryHandle;
pub use model::{Model, ModelError, SecurityContext};
pub use plan::QueryError;
pub use registry::{MetricRegistry, MetricRegistryMsg, MetricRegistryStatus};
pub use served::Served;
pub use service::{QueryResult, Service, Snapshot};
