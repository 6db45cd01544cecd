//! The routes as clients meet them, without a socket between.

mod doors;
mod events;
mod mcp;
mod openai;
mod page;
mod proofs;
mod sql;
mod support;
mod turns;
