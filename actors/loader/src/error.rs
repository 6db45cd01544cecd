//! Why a table could not be loaded, and whether trying again can help.

use ballpoint_runtime::retry::{Directive, FailureClass};
use ballpoint_runtime::segment::{SourceError, TableName};
use ballpoint_runtime::store::StoreError;

use crate::proof::Proof;
use crate::report::SyncReport;

/// Why one table was not loaded. Nothing of it was committed.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The source could not be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Schema `ballpoint` could not be read or written.
    #[error("keeping the checkpoint failed")]
    Store(#[from] StoreError),
    /// A statement in the warehouse failed.
    #[error("{doing} failed: {source}")]
    Warehouse {
        doing: &'static str,
        #[source]
        source: sqlx::Error,
    },
    /// The source's columns and those of the table in the warehouse no longer fit together.
    #[error("{raw} cannot take the source's rows: {difference}; a full refresh replaces the table")]
    Drift { raw: TableName, difference: String },
    /// Something that hangs on the table cannot be made again on its new version.
    #[error("{dependent} depends on {raw} and does not fit its new columns: {reason}")]
    Dependent {
        raw: TableName,
        dependent: String,
        reason: String,
    },
    /// Rows were lost or doubled on their way; nothing was committed.
    #[error(
        "{table}: the source sent {sent} rows, but {landed} landed and {rejected} were rejected; \
         nothing of this load was kept"
    )]
    Counts {
        table: TableName,
        sent: u64,
        landed: u64,
        rejected: u64,
    },
    /// The comparison that was asked for found a difference. What was loaded is committed.
    #[error(
        "{raw} differs from {table}: {} rows in the source, {} in raw{}; a full refresh replaces the table",
        .proof.source.rows, .proof.raw.rows,
        if .proof.source.rows == .proof.raw.rows { ", their checksums differ" } else { "" }
    )]
    Differs {
        table: TableName,
        raw: TableName,
        proof: Box<Proof>,
    },
    /// So many rows were refused that the load makes no sense.
    #[error(
        "{table}: more than {limit} rows were refused, the first because {reason}; nothing was kept"
    )]
    Refused {
        table: TableName,
        limit: usize,
        reason: String,
    },
    /// The source's columns changed between the look at them and the read.
    #[error("{table} changed while it was read")]
    Moved { table: TableName },
    /// An interrupted copy has gone on, and the log does not bring its rows to one state.
    #[error(
        "{table}: a replayed change names a row that the ranges of its interrupted copy do not hold"
    )]
    Unmatched { table: TableName },
    /// A named crash point was told to fail (tests only).
    #[error("stopped at crash point {0}")]
    CrashPoint(&'static str),
}

impl LoadError {
    pub(crate) fn warehouse(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Warehouse { doing, source }
    }

    /// Whether a row is to blame: a value that the warehouse does not take, or a key that it has.
    pub(crate) fn is_of_a_row(&self) -> bool {
        let Self::Warehouse { source, .. } = self else {
            return false;
        };
        let code = source.as_database_error().and_then(|error| error.code());
        // 54000: a key that is longer than an index takes.
        code.is_some_and(|code| {
            code.starts_with("22") || code.starts_with("23") || code == "21000" || code == "54000"
        })
    }

    /// What kind of failure it is, which says whether the load is tried again.
    pub fn class(&self) -> FailureClass {
        match self {
            Self::Source(error) => class_of(error),
            Self::Drift { .. } | Self::Dependent { .. } => FailureClass::SourceChangedShape,
            Self::Store(_) | Self::Warehouse { .. } => FailureClass::WarehouseDown,
            Self::Refused { .. } => FailureClass::SourceChangedShape,
            Self::Moved { .. } | Self::Unmatched { .. } => FailureClass::Unexpected,
            Self::Differs { .. } => FailureClass::SourceChangedShape,
            Self::Counts { .. } | Self::CrashPoint(_) => FailureClass::Unexpected,
        }
    }
}

/// A table that was not loaded.
#[derive(Debug)]
pub struct TableFailure {
    pub table: TableName,
    pub error: LoadError,
}

/// Why a sync did not do all that it was asked.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The source could not say what it holds; nothing was loaded.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The warehouse could not be prepared; nothing was loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A table that the source does not have, or that its patterns leave out, was asked for.
    #[error("source {source_name} has no table {table} to sync; it has {known}")]
    UnknownTable {
        source_name: String,
        table: TableName,
        known: String,
    },
    /// Some tables failed; the others are loaded and committed.
    #[error("{}", describe(.failures))]
    Tables {
        failures: Vec<TableFailure>,
        report: SyncReport,
    },
}

impl SyncError {
    /// What kind of failure it is: of several tables', the one that is tried again before the others.
    pub fn class(&self) -> FailureClass {
        match self {
            Self::Source(error) => class_of(error),
            Self::Load(error) => error.class(),
            Self::UnknownTable { .. } => FailureClass::SourceRefuses,
            Self::Tables { failures, .. } => {
                let mut classes = failures.iter().map(|failure| failure.error.class());
                let first = classes.next().unwrap_or_default();
                std::iter::once(first)
                    .chain(classes)
                    .find(|class| class.directive() == Directive::Retry)
                    .unwrap_or(first)
            }
        }
    }
}

fn class_of(error: &SourceError) -> FailureClass {
    match error.is_transient() {
        true => FailureClass::SourceDown,
        false => FailureClass::SourceRefuses,
    }
}

fn describe(failures: &[TableFailure]) -> String {
    let each: Vec<String> = failures
        .iter()
        .map(|failure| format!("{}: {}", failure.table, failure.error))
        .collect();
    each.join("; ")
}

/// A durable step, at which tests stop or kill the program. Does nothing without the feature
/// `failpoints`.
pub(crate) fn crash_point(name: &'static str) -> Result<(), LoadError> {
    fail::fail_point!(name, |_| Err(LoadError::CrashPoint(name)));
    let _ = name;
    Ok(())
}
