//! Commands as rows of `ballpoint.work` (R2): the row is the command, a message only wakes.

use serde::{Deserialize, Serialize};

use crate::segment::TableName;

/// What caused a command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// A time of a schedule.
    Schedule,
    /// Something that a stage before it published, or a source.
    Change,
    /// A person or another program asked for it.
    #[default]
    Manual,
    /// The first pass of a start.
    Start,
}

impl Trigger {
    /// As it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::Change => "change",
            Self::Manual => "manual",
            Self::Start => "start",
        }
    }

    /// The stored text back; what is unknown was asked for by somebody.
    pub(crate) fn of(text: &str) -> Self {
        match text {
            "schedule" => Self::Schedule,
            "change" => Self::Change,
            "start" => Self::Start,
            _ => Self::Manual,
        }
    }
}

/// A command and what it applies to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum WorkKind {
    /// Bring these tables (empty: all) of a source up to date in raw. Done by `loader.<source>`.
    Sync {
        source: String,
        tables: Vec<TableName>,
        full_refresh: bool,
    },
    /// Build what depends on these raw tables (empty: everything). Done by `transformer`.
    Build { changed: Vec<TableName> },
    /// Serve the new build. Done by `metric_registry`.
    RefreshMetrics,
    /// Carry out what plans are asked for (`ballpoint.plans.request`), and with `pass` also write what
    /// is approved and plan every sync. Done by `reverse_etl`.
    WriteBack {
        #[serde(default)]
        pass: bool,
    },
}

impl WorkKind {
    /// The column `work.kind`: what an actor claims by.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sync { .. } => "sync",
            Self::Build { .. } => "build",
            Self::RefreshMetrics => "refresh_metrics",
            Self::WriteBack { .. } => "write_back",
        }
    }

    /// Whose work it is within its kind: the source for a sync, empty otherwise. Queued work of one
    /// kind and scope coalesces into one row.
    pub fn scope(&self) -> &str {
        match self {
            Self::Sync { source, .. } => source,
            Self::Build { .. } | Self::RefreshMetrics | Self::WriteBack { .. } => "",
        }
    }

    /// One command that does what both do. Called for two of one kind and scope; the other is
    /// ignored if it is not.
    #[must_use]
    pub fn merge(self, other: &Self) -> Self {
        match (self, other) {
            (
                Self::Sync {
                    source,
                    tables,
                    full_refresh,
                },
                Self::Sync {
                    tables: more,
                    full_refresh: refresh,
                    ..
                },
            ) => Self::Sync {
                source,
                tables: union(tables, more),
                full_refresh: full_refresh || *refresh,
            },
            (Self::Build { changed }, Self::Build { changed: more }) => Self::Build {
                changed: union(changed, more),
            },
            (Self::WriteBack { pass }, Self::WriteBack { pass: more }) => Self::WriteBack {
                pass: pass || *more,
            },
            (mine, _) => mine,
        }
    }
}

/// Both lists without repetition; an empty list means all, and stays so.
fn union(mut tables: Vec<TableName>, more: &[TableName]) -> Vec<TableName> {
    if tables.is_empty() || more.is_empty() {
        return Vec::new();
    }
    tables.extend_from_slice(more);
    tables.sort();
    tables.dedup();
    tables
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str) -> TableName {
        TableName::new("public", name)
    }

    fn sync(tables: &[&str], full_refresh: bool) -> WorkKind {
        let tables = tables.iter().map(|name| table(name)).collect();
        WorkKind::Sync {
            source: "orders".into(),
            tables,
            full_refresh,
        }
    }

    #[test]
    fn two_syncs_merge_into_the_union_of_their_tables() {
        assert_eq!(
            sync(&["b", "a"], false).merge(&sync(&["a", "c"], false)),
            sync(&["a", "b", "c"], false)
        );
    }

    #[test]
    fn all_tables_and_a_full_refresh_survive_a_merge() {
        assert_eq!(sync(&[], false).merge(&sync(&["a"], true)), sync(&[], true));
        assert_eq!(sync(&["a"], true).merge(&sync(&[], false)), sync(&[], true));
    }

    #[test]
    fn a_pass_survives_a_merge_with_a_request() {
        let asked: WorkKind = serde_json::from_str("{\"kind\": \"write_back\"}").unwrap();
        let pass = WorkKind::WriteBack { pass: true };
        assert_eq!(asked.clone().merge(&pass), pass);
        assert_eq!(pass.clone().merge(&asked), pass);
    }

    #[test]
    fn builds_merge_as_syncs_do() {
        let build = |names: &[&str]| WorkKind::Build {
            changed: names.iter().map(|name| table(name)).collect(),
        };
        assert_eq!(build(&["b"]).merge(&build(&["a"])), build(&["a", "b"]));
        assert_eq!(build(&["b"]).merge(&build(&[])), build(&[]));
    }
}
