//! The metric registry: a Cube data model, natively.

pub mod catalog;
pub mod query;
