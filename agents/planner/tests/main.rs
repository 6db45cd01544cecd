//! Questions in words, and the queries they mean.

mod questions;
mod tables;
