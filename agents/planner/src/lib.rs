//! ballpoint-planner
