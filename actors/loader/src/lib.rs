//! ballpoint-loader
