//! ballpoint-chat
