//! The benchmark: questions with the outcomes that are right, scored by what was answered.

pub mod case;
pub mod outcome;
pub mod structural;
