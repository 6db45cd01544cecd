//! Reverse ETL: plan, approve, write back.
//!
//! [`WriteBacks`] is the library. A *sync* (a YAML file) says which rows of the warehouse belong in
//! which table of a source, and which columns may be written there at all. A *plan* is the stored
//! difference between the two; an approval is bound to its hash; *applying* it is one transaction in
//! the target, which a row that changed meanwhile stops; *undo* is the same plan backwards. [`actor`]
//! is the supervised actor over it, [`ReverseEtlHandle`] the way in.
//!
//! Rows flow warehouse ⇄ target as COPY bytes and are compared set by set; none is decoded here.

pub mod actor;
mod definition;
mod diff;
mod error;
mod handle;
mod library;
mod pass;
mod planning;
mod proposal;
mod requests;
mod settle;
mod target;
mod warehouse;
mod writing;

pub use actor::{ReverseEtl, ReverseEtlArgs};
pub use ballpoint_runtime::store::{AuditEntry, Plan, PlanCounts, PlanRow, PlanState};
pub use definition::{
    Action, Approval, ColumnType, DefinitionError, Field, Limits, Mode, Problem, Scalar, Sync,
};
pub use error::WriteBackError;
pub use handle::ReverseEtlHandle;
pub use library::{WriteBacks, WriteBacksConfig};
pub use pass::{PassEntry, PassOutcome};
pub use proposal::{Proposal, ProposedRow};
