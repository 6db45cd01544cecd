//! `ballpoint.toml`: read once at start, checked whole, passed down as values.
//!
//! Precedence, lowest first: the file, `${NAME}` inside its strings, `BALLPOINT__SECTION__KEY`
//! overrides, flags (applied by the commands). This module is the only one that reads the
//! environment.

mod address;
mod amount;
mod checks;
mod connectors;
mod doors;
mod environment;
mod operations;
mod project;
mod reading;
mod schema;

pub(crate) use address::address;
#[cfg(feature = "failpoints")]
pub(crate) use environment::arm_abort;
pub(crate) use environment::{Environment, SECRETS_FILE, otlp_endpoint};
pub(crate) use project::{Project, ProjectError, locate};
pub(crate) use schema::{
    AuthMode, FileFormat, RoleName, SQL_LISTEN, SourceConfig, SourceKind, SyncModeName,
};
