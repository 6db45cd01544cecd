//! Why a write-back could not be planned, decided on or carried out.

use ballpoint_postgres::copy::CopyError;
use ballpoint_postgres::pool::ConnectError;
use ballpoint_runtime::store::{PlanState, StoreError};
use uuid::Uuid;

use crate::definition::DefinitionError;

/// An error of the write-backs. Nothing was written to the target, unless it says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum WriteBackError {
    /// A sync's file is wrong, by itself or against the databases.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    #[error("no sync {name}; there are {known}")]
    UnknownSync { name: String, known: String },
    #[error("no plan {0}; `ballpoint reverse-etl history` lists them")]
    UnknownPlan(String),
    /// A step that the plan's state does not allow.
    #[error("plan {id} is {}: it cannot be {wanted}", .state.name())]
    State {
        id: Uuid,
        state: PlanState,
        wanted: &'static str,
    },
    /// The approval is for something else than what would be done.
    #[error(
        "plan {id} changed: what would be done has hash {hash}, not {given}; look at it again before it is approved"
    )]
    OtherHash {
        id: Uuid,
        hash: String,
        given: String,
    },
    /// What stands in the plan is not what was approved, or its sync's file is another by now.
    #[error("plan {id} is not what was approved any more ({what}): make a new one")]
    Tampered { id: Uuid, what: &'static str },
    /// A plan whose source left the configuration.
    #[error(
        "source {source_name} of plan {id} is not configured any more: configure it again, or reject the plan"
    )]
    NoSource { id: Uuid, source_name: String },
    /// Its end could not be recorded: its state is another than when it was begun.
    #[error("plan {id} became {} while it was carried out; look at its rows in the source", .state.name())]
    Overtaken { id: Uuid, state: PlanState },
    /// More than the sync's limits let through.
    #[error("{0}")]
    Limit(String),
    /// The proposal asks for what its sync does not allow.
    #[error("the proposal cannot be planned: {0}")]
    Proposal(String),
    /// The target is not what the plan found any more.
    #[error("{} changed since the plan, nothing was written: {}", rows(*.count), .keys.join(", "))]
    Conflict {
        count: i64,
        /// The first of them.
        keys: Vec<String>,
    },
    /// The target took the rows but holds something else: a trigger or rule of its own.
    #[error(
        "{table} does not hold what was written to it ({difference}), nothing was kept: a trigger or rule of the table changes it"
    )]
    Altered { table: String, difference: String },
    /// It cannot be known whether the rows were written.
    #[error(
        "it is not known whether plan {id} was carried out: source {source_name} cannot tell, and its rows are neither as before nor as planned; look at them and make a new plan"
    )]
    Unknown { id: Uuid, source_name: String },
    /// A transaction that was begun is not over.
    #[error("source {source_name} is still at work on plan {id}; try again")]
    UnderWay { id: Uuid, source_name: String },
    #[error("{doing} failed in source {source_name}")]
    Target {
        source_name: String,
        doing: &'static str,
        #[source]
        source: sqlx::Error,
    },
    #[error("source {source_name} cannot be reached")]
    Unreachable {
        source_name: String,
        #[source]
        source: ConnectError,
    },
    #[error("{doing} failed in the warehouse")]
    Warehouse {
        doing: &'static str,
        #[source]
        source: sqlx::Error,
    },
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nobody has done what was asked for in time; it stays asked for.
    #[error("plan {0} is still under way; `ballpoint reverse-etl history` shows how it ends")]
    NotYet(Uuid),
    /// The program ends.
    #[error("the program stops; what was asked for is carried out after its next start")]
    Stopping,
    /// A named crash point was told to fail (tests only).
    #[error("stopped at crash point {0}")]
    CrashPoint(&'static str),
}

fn rows(count: i64) -> String {
    match count {
        1 => "1 row".to_owned(),
        n => format!("{n} rows"),
    }
}

impl WriteBackError {
    pub(crate) fn warehouse(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Warehouse { doing, source }
    }

    /// Whether it is for the user to mend: configuration, usage, or a step that is not allowed.
    pub fn is_users(&self) -> bool {
        matches!(
            self,
            Self::Definition(_)
                | Self::UnknownSync { .. }
                | Self::UnknownPlan(_)
                | Self::State { .. }
                | Self::OtherHash { .. }
                | Self::Proposal(_)
                | Self::NoSource { .. }
        )
    }
}

/// A copy between warehouse and target: either side may be at fault.
pub(crate) fn copy_failed(
    source_name: &str,
    doing: &'static str,
    to_target: bool,
) -> impl FnOnce(CopyError<sqlx::Error>) -> WriteBackError {
    let source_name = source_name.to_owned();
    move |error| {
        let (at_target, source) = match error {
            CopyError::Source(source) => (!to_target, source),
            CopyError::Database(source) => (to_target, source),
        };
        if at_target {
            WriteBackError::Target {
                source_name,
                doing,
                source,
            }
        } else {
            WriteBackError::Warehouse { doing, source }
        }
    }
}

/// A durable step, at which tests stop or kill the program. Does nothing without the feature
/// `failpoints`.
pub(crate) fn crash_point(name: &'static str) -> Result<(), WriteBackError> {
    fail::fail_point!(name, |_| Err(WriteBackError::CrashPoint(name)));
    let _ = name;
    Ok(())
}
