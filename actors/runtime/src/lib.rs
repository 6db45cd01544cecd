//! What every stage shares: supervision, handles, the clock, typed events, work rows, run records,
//! telemetry, and schema `ballpoint` in the warehouse with one typed repository a table.
//!
//! The stages never depend on each other. They meet here: `source` opens a [`segment::Segment`],
//! `loader` lands it, both announce what happened as an [`event::Event`], and whoever needs a
//! command carried out writes a [`work::WorkKind`] row.

pub mod changes;
pub mod clock;
pub mod event;
pub mod failure;
pub mod files;
pub mod records;
pub mod redact;
pub mod retry;
pub mod segment;
pub mod shape;
pub mod store;
pub mod supervision;
pub mod telemetry;
pub mod trace;
pub mod wording;
pub mod work;
