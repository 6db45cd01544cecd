//! Follow a source's log: snapshot, then stream, into the warehouse, exactly once.
//!
//! **The argument.** A table's snapshot is exported by a slot at one LSN and lands with that LSN in
//! one transaction; changes of transactions that committed before it are left out, all later ones are
//! in the stream, because the source's slot was made before. A batch of changes and the stream's new
//! position land in one transaction; the slot is confirmed only after that. A restart asks for the
//! stream from the position in the warehouse, so what was not committed comes again and what was does
//! not. Where the slot and the position do not fit together, changes may be missing: that is a *gap*,
//! said as such, and every table is copied again (or the source is refused, if so configured).
//!
//! Tables are copied beside the stream, which goes on for the others; see `copies`. So each table has an
//! LSN of its own from which its changes count, and the stream's position is never past any of them.
//!
//! One session follows a source: an advisory lock of the warehouse keeps a second one away, in this
//! process or another.

pub mod actor;
mod columns;
mod copies;
mod copying;
mod encode;
mod follow;
mod following;
mod look;
mod looking;
mod net;
mod postponed;
mod refusal;
mod session;
mod slot;
mod statements;
pub(crate) mod table;
mod verify;

pub use follow::{FollowReport, Follower, StreamStatus, Until};

#[cfg(test)]
mod tests;
