//! Which command follows which event.

use ballpoint_runtime::event::Event;
use ballpoint_runtime::work::WorkKind;

/// Which stages there are besides the sources: without a stage, nobody is asked for its work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stages {
    pub transform: bool,
    pub metrics: bool,
    pub write_backs: bool,
}

/// The command that an event asks for, if any. Where nothing transforms, the metrics are those of
/// the raw tables and follow each load.
///
/// A build follows each table that was loaded, not the end of a sync: it then knows what changed,
/// and a table that is loaded early does not wait for a slow one. What is loaded while a build runs
/// coalesces into the next.
pub fn work_for(event: &Event, stages: Stages) -> Option<WorkKind> {
    match event {
        Event::SourceChanged { source, tables } => Some(WorkKind::Sync {
            source: source.clone(),
            tables: tables.clone(),
            full_refresh: false,
        }),
        Event::TableLoaded { raw, .. } if stages.transform => Some(WorkKind::Build {
            changed: vec![raw.clone()],
        }),
        Event::TableLoaded { .. } | Event::BuildPublished { .. } if stages.metrics => {
            Some(WorkKind::RefreshMetrics)
        }
        Event::TableLoaded { .. }
        | Event::BuildPublished { .. }
        | Event::SchemaChanged { .. }
        | Event::TableHeld { .. }
        | Event::TableReleased { .. }
        | Event::RowsRejected { .. }
        | Event::LogGap { .. }
        | Event::GapClosed { .. }
        | Event::SyncFinished { .. }
        | Event::SourceUnavailable { .. }
        | Event::SourceRecovered { .. }
        | Event::SyncFailed { .. }
        | Event::BuildFailed { .. }
        | Event::MetricsRefreshed { .. }
        | Event::MetricsRejected { .. }
        | Event::PlanChanged { .. }
        | Event::SyncProgress { .. }
        | Event::ActorChanged { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use ballpoint_runtime::retry::FailureClass;
    use ballpoint_runtime::segment::TableName;

    use super::*;

    const ALL: Stages = Stages {
        transform: true,
        metrics: true,
        write_backs: true,
    };

    #[test]
    fn nobody_is_asked_for_the_work_of_a_stage_that_is_not_there() {
        let raw = TableName::new("raw", "orders");
        let loaded = Event::TableLoaded {
            source: "orders".into(),
            table: TableName::new("public", "orders"),
            raw: raw.clone(),
            rows: 1,
        };
        let build = WorkKind::Build { changed: vec![raw] };
        for (transform, metrics, work) in [
            (true, false, Some(build)),
            (false, true, Some(WorkKind::RefreshMetrics)),
            (false, false, None),
        ] {
            let stages = Stages {
                transform,
                metrics,
                ..Stages::default()
            };
            assert_eq!(work_for(&loaded, stages), work);
        }
        let published = Event::BuildPublished {
            run_id: "1".into(),
            relations: vec![],
            tests_passed: 1,
            absent: vec![],
        };
        let only_builds = Stages {
            transform: true,
            ..Stages::default()
        };
        assert_eq!(work_for(&published, only_builds), None);
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn each_event_asks_for_the_next_stage_or_for_nothing() {
        let source = || "orders".to_owned();
        let table = || TableName::new("public", "orders");
        let raw = || TableName::new("raw", "orders");
        let error = || "down".to_owned();
        let run_id = || "1".to_owned();
        let sync = WorkKind::Sync {
            source: source(),
            tables: vec![table()],
            full_refresh: false,
        };
        let build = WorkKind::Build {
            changed: vec![raw()],
        };
        for (event, work) in [
            (
                Event::SourceChanged {
                    source: source(),
                    tables: vec![table()],
                },
                Some(sync),
            ),
            (
                Event::TableLoaded {
                    source: source(),
                    table: table(),
                    raw: raw(),
                    rows: 0,
                },
                Some(build),
            ),
            (
                Event::BuildPublished {
                    run_id: run_id(),
                    relations: vec![],
                    tests_passed: 1,
                    absent: vec![],
                },
                Some(WorkKind::RefreshMetrics),
            ),
            (
                Event::SyncFinished {
                    source: source(),
                    rows: 5,
                },
                None,
            ),
            (
                Event::SyncFailed {
                    source: source(),
                    error: error(),
                    class: FailureClass::SourceDown,
                },
                None,
            ),
            (
                Event::SourceUnavailable {
                    source: source(),
                    error: error(),
                    retry_in_ms: 1,
                },
                None,
            ),
            (Event::SourceRecovered { source: source() }, None),
            (
                Event::BuildFailed {
                    run_id: run_id(),
                    failed: vec![],
                    skipped: vec![],
                    reason: error(),
                },
                None,
            ),
            (Event::MetricsRefreshed { cubes: 4 }, None),
            (Event::MetricsRejected { error: error() }, None),
            (
                Event::ActorChanged {
                    actor: "loader.orders".into(),
                    state: "parked".into(),
                    incarnation: 1,
                    error: None,
                },
                None,
            ),
        ] {
            assert_eq!(work_for(&event, ALL), work, "{event:?}");
        }
    }
}
