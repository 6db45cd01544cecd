//! dbt's Jinja on minijinja: block tags it does not know are lifted out before compilation,
//! literals become mutable objects, macros are host objects so that `return()` can unwind.

mod adapter;
pub(crate) mod builtins;
mod column;
pub(crate) mod context;
pub(crate) mod engine;
pub(crate) mod lift;
pub(crate) mod macros;
mod modules;
pub(crate) mod relation;
mod results;
pub(crate) mod values;
