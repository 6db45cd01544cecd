//! Notice what changed in a source database, and read exactly that.
//!
//! A plain library with a thin actor over it: [`reader::PostgresSource`] turns the tables of a
//! PostgreSQL database into segments of undecoded COPY bytes with the position they reach, and
//! [`watcher`] notices commits. Nothing is installed in the source and nothing is written to it.
//!
//! Whether a row is new is decided by the transaction that wrote it, never by a clock and never by
//! the cursor's value alone: see [`position`] for the argument.

pub mod catalog;
pub mod config;
mod connection;
mod copy_stream;
pub mod mode;
pub mod position;
mod probe;
pub mod profile;
pub mod reader;
pub mod watch;
pub mod watcher;

pub use config::{Mode, PostgresSourceConfig, TableConfig};
pub use mode::TableChoice;
pub use reader::PostgresSource;
