//! What is true of the seeded sources, asked of a real PostgreSQL.

mod support;

mod corruptions_at_the_source;
mod facts_at_the_source;
