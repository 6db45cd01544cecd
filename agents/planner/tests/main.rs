//! Questions in words, and the queries they mean.

mod analysis;
mod commerce;
mod questions;
mod tables;
