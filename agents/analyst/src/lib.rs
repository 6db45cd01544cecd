//! The analyst: a question becomes a plan, the plan a query, the rows a chart and a text whose
//! every figure can be traced to them.

pub mod eval;
