//! ballpoint-llm
