//! The whole stack, as its users meet it: the real binary on a real PostgreSQL, asked over HTTP.
//!
//! Figures (seconds, percentiles, memory) are not asserted here: `make bench` prints them.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on says where"
)]

mod support;

mod alerts;
mod api;
mod bad_input;
mod cold_start;
mod connectors;
mod containers;
mod corruption;
mod freshness;
mod init;
mod kill;
mod paraphrases;
mod questions;
mod security;
mod supervision;
mod sync;
mod telemetry;
mod write_back;
