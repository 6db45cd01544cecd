//! The door for people and programs: the page, our API, and Cube's API, on one port.
//!
//! Routes hold no logic of a stage: they turn HTTP into calls on handles, and the answers back.

mod actor;
mod app;
mod doors;
mod error;
mod extract;
mod mcp;
mod openapi;
mod page;
mod routes;
mod shapes;
mod sql;
mod table;
#[cfg(test)]
mod tests;
mod waiting;

pub use actor::{Web, WebArgs, WebMsg};
pub use app::{App, Backend, Readiness, Suggestions, SystemFacts};
pub use doors::{Doors, Identity, JwtKey, Keys, Pace, Role};
pub use mcp::Mcp;
pub use waiting::Waiting;
