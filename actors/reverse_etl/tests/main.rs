//! Write-backs on real databases. Where they stop halfway is in `crash_points`, a process of its own:
//! failpoints are the process's.
#![allow(clippy::unwrap_used)]

mod support;

mod decisions;
mod proposals;
mod refusals;
mod round_trip;
mod scheduled;
