//! dbt projects on a real PostgreSQL, beside real dbt where there is one.

mod support;

mod actor;
mod dbt_commands;
mod dbt_parity;
mod errors;
mod execution;
mod pens;
mod publish;
mod publish_edits;
mod publish_readers;
mod warm_parse;
