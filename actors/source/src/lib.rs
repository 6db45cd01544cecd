//! ballpoint-source
