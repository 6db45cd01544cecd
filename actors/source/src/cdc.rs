//! Change data capture: a PostgreSQL source's log as committed changes, in commit order.
//!
//! Installed in the source are one publication and one slot of the same name, and nothing else. What
//! the source must allow for it, and what to grant where it does not, is `preflight`'s answer.
//!
//! The stream is `pgwire-replication`'s, protocol version 1: a transaction comes as a whole once it
//! is committed, however large; it is passed on in bounded batches. The decoder of `pgoutput` is
//! ours, because it must keep values as bytes.

mod added;
mod endpoint;
mod log;
pub mod pgoutput;
pub(crate) mod preflight;
mod slot;
mod snapshot;
mod stream;

pub use log::ChangeLog;
