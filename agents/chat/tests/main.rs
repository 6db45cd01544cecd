//! Conversations over metrics of a real PostgreSQL.

mod conversation;
mod progress;
