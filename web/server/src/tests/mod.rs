//! The routes as clients meet them, without a socket between.

mod doors;
mod events;
mod page;
mod support;
mod turns;
