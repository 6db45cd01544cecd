//! Land a source's rows in the warehouse, exactly once.
//!
//! [`Loader`] is the library: it asks a reader for what lies past a table's checkpoint, brings those
//! COPY bytes into the table undecoded, and commits rows and checkpoint in one transaction. A kill at
//! any moment leaves the table and its checkpoint as they were before or as they are after, never in
//! between. [`actor`] is the supervised actor over it.

pub mod actor;
mod careful;
pub mod changes;
mod counter;
mod dependents;
mod drift;
mod error;
mod extraction;
mod merge;
mod proof;
mod records;
mod rejected;
mod replace;
mod report;
mod settle;
mod shadow;
mod sync;
mod target;
mod transaction;
mod tuples;

pub use error::{LoadError, SyncError, TableFailure};
pub use proof::Proof;
pub use report::{HeldTable, Progress, ProgressSink, SyncReport, TableReport};
pub use sync::Loader;
