//! ballpoint-postgres
