//! The metric registry: a Cube data model, natively.
//!
//! YAML is compiled to a [`model::Model`]; a query is normalized and planned to one statement
//! ([`plan`]), run read only ([`execute`]) and answered in Cube's JSON ([`api`]).

pub mod api;
pub mod catalog;
pub mod execute;
pub mod model;
pub mod plan;
pub mod query;
pub mod service;

pub use api::ApiReply;
pub use model::{Model, ModelError, SecurityContext};
pub use plan::QueryError;
pub use service::{QueryResult, Service, Snapshot};
