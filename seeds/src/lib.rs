//! ballpoint-seeds
