//! Commands as rows of `ballpoint.work` (R2): the row is the command, a message only wakes.

use serde::{Deserialize, Serialize};

use crate::segment::TableName;

/// A command and what it applies to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum WorkKind {
    /// Bring these tables (empty: all) of a source up to date in raw. Done by `loader.<source>`.
    Sync { source: String, tables: Vec<TableName>, full_refresh: bool },
    /// Build what depends on these raw tables (empty: everything). Done by `transformer`.
    Build { changed: Vec<TableName> },
    /// Serve the new build. Done by `metric_registry`.
    RefreshMetrics,
}

impl WorkKind {
    /// The column `work.kind`: what an actor claims by.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sync { .. } => "sync",
            Self::Build { .. } => "build",
            Self::RefreshMetrics => "refresh_metrics",
        }
    }

    /// Whose work it is within its kind: the source for a sync, empty otherwise. Queued work of one
    /// kind and scope coalesces into one row.
    pub fn scope(&self) -> &str {
        match self {
            Self::Sync { source, .. } => source,
            Self::Build { .. } | Self::RefreshMetrics => "",
        }
    }
}
