//! ballpoint-web
