//! ballpoint-transformer
