//! The orchestrator on a real PostgreSQL.

mod freshness;
mod schedules;
