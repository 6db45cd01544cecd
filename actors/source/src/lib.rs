//! Notice what changed in a source database, and read exactly that.
//!
//! A plain library with a thin actor over it: [`reader::PostgresSource`] turns the tables of a
//! PostgreSQL database into segments of undecoded COPY bytes with the position they reach, and
//! [`watcher`] notices commits. Nothing is installed in the source and nothing is written to it.
//!
//! Whether a row is new is decided by the transaction that wrote it, never by a clock and never by
//! the cursor's value alone: see [`position`] for the argument.

pub mod airbyte;
pub mod catalog;
pub mod cdc;
pub mod config;
mod connection;
mod copy_stream;
mod encode;
pub mod file;
pub mod mode;
mod oversize;
pub mod poller;
pub mod position;
mod probe;
pub mod profile;
mod ranges;
pub mod reader;
mod selection;
pub mod watch;
pub mod watcher;

pub use airbyte::{AirbyteConfig, AirbyteSource, Connector};
pub use config::{Mode, PostgresSourceConfig, TableConfig};
pub use file::{FileConfig, FileSource};
pub use mode::TableChoice;
pub use reader::PostgresSource;
