//! ballpoint-orchestrator
