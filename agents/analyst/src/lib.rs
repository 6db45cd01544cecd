//! ballpoint-analyst
