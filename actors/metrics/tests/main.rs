//! The metrics as their users meet them: models, queries, the registry, and what real Cube answered.

mod support;

mod date_vectors;
mod ecommerce;
mod features;
mod fuzz;
mod golden_cube;
mod kept;
mod malformed;
mod model_errors;
mod planning;
mod policies;
mod registry;
mod rollups;
mod shipped_model;
mod sql_api;
mod survey;
