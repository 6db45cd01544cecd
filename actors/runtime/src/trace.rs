//! Trace context as it is carried in events and work rows: W3C `traceparent` text.
//!
//! A span's context leaves the process memory here and comes back on the other side of a database
//! row, so that one trace runs from a source's commit to the metric that shows it.

use serde::{Deserialize, Serialize};

/// W3C Trace Context, `00-<trace id>-<span id>-<flags>`; empty when no span was active.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TraceContext(pub String);
