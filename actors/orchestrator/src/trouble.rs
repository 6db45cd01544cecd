//! What an event says of what does not work, and of the freshness of a source.

use std::borrow::Cow;

use ballpoint_runtime::event::Event;
use ballpoint_runtime::retry::FailureClass;
use ballpoint_runtime::segment::TableName;
use ballpoint_runtime::shape::Hold;
use ballpoint_runtime::store::{IncidentKind, LOG_GAP, Severity, Sign, Trouble};

/// The source does not answer, whoever found out.
const UNREACHABLE: &str = "unreachable";

/// A change of an incident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Begins(Trouble),
    /// A cause is gone, or all.
    Ends(IncidentKind, String, Option<Cow<'static, str>>),
}

/// What an event changes about incidents, if anything.
///
/// A source that does not answer is one incident, whether its watcher or a sync found out, and its
/// answer ends that. A sync that fails for another reason stays an incident until one succeeds.
/// An approved plan that could not be written, or taken back, stays one until it is, until it is
/// rejected, or until a later plan of that sync stands in the target.
pub(crate) fn turn_of(event: &Event) -> Option<Turn> {
    use IncidentKind::{Actor, Build, Metrics, Source, Table, WriteBack};
    let begins = |kind, subject: &str, cause: &str, error: String| {
        Some(Turn::Begins(Trouble {
            kind,
            subject: subject.to_owned(),
            cause: Cow::Owned(cause.to_owned()),
            severity: Severity::Error,
            error,
        }))
    };
    let ends = |kind, subject: &str, cause| Some(Turn::Ends(kind, subject.to_owned(), cause));
    match event {
        Event::SourceUnavailable { source, error, .. } => {
            begins(Source, source, UNREACHABLE, error.clone())
        }
        Event::SyncFailed {
            source,
            error,
            class,
        } => {
            let away = *class == FailureClass::SourceDown;
            let cause = if away { UNREACHABLE } else { "sync" };
            begins(Source, source, cause, error.clone())
        }
        Event::TableHeld {
            source,
            table,
            hold,
            reason,
        } => held(source, table, *hold, reason),
        Event::LogGap {
            source,
            reason,
            refused,
            ..
        } => Some(Turn::Begins(gap(source, reason, *refused))),
        Event::GapClosed { source } => ends(Source, source, Some(LOG_GAP.into())),
        Event::TableReleased { source, table } => ends(Table, &of_table(source, table), None),
        Event::SourceRecovered { source } => ends(Source, source, Some(UNREACHABLE.into())),
        Event::SyncFinished { source, .. } => ends(Source, source, None),
        Event::BuildFailed { failed, reason, .. } => {
            let said = Some(reason.clone()).filter(|reason| !reason.is_empty());
            begins(
                Build,
                "",
                "build",
                said.unwrap_or_else(|| failed.join(", ")),
            )
        }
        Event::BuildPublished { .. } => ends(Build, "", None),
        Event::MetricsRejected { error } => begins(Metrics, "", "model", error.clone()),
        Event::MetricsRefreshed { .. } => ends(Metrics, "", None),
        Event::ActorChanged {
            actor,
            state,
            error,
            ..
        } => match state.as_str() {
            "parked" => {
                let error = error
                    .clone()
                    .unwrap_or_else(|| "it failed too often".to_owned());
                begins(Actor, actor, "parked", error)
            }
            "running" => ends(Actor, actor, None),
            _ => None,
        },
        Event::PlanChanged {
            plan,
            sync,
            state,
            error,
            approved,
            ..
        } => match (state.as_str(), error) {
            ("rejected", _) | ("undone", None) => ends(WriteBack, sync, Some(plan.clone().into())),
            ("applied", None) => ends(WriteBack, sync, None),
            (_, Some(error)) if *approved => begins(WriteBack, sync, plan, error.clone()),
            _ => None,
        },
        Event::SourceChanged { .. }
        | Event::TableLoaded { .. }
        | Event::SchemaChanged { .. }
        | Event::RowsRejected { .. }
        | Event::SyncProgress { .. } => None,
    }
}

/// A gap that a new copy closes is passing; one that is refused waits for somebody.
fn gap(source: &str, reason: &str, refused: bool) -> Trouble {
    let (severity, follows) = match refused {
        true => (Severity::Error, "nothing is followed until it is asked for"),
        false => (Severity::Warning, "its tables are copied again"),
    };
    Trouble {
        kind: IncidentKind::Source,
        subject: source.to_owned(),
        cause: Cow::Borrowed(LOG_GAP),
        severity,
        error: format!("{reason}; changes may be missing: {follows}"),
    }
}

/// A table that waits is an incident of its own: its source's others go on, and their syncs end well.
fn held(source: &str, table: &TableName, hold: Hold, reason: &str) -> Option<Turn> {
    hold.is_trouble().then(|| {
        Turn::Begins(Trouble {
            kind: IncidentKind::Table,
            subject: of_table(source, table),
            cause: Cow::Borrowed("held"),
            severity: match hold {
                Hold::Quarantined => Severity::Error,
                Hold::Paused | Hold::Gone | Hold::Ignored => Severity::Warning,
            },
            error: format!("{}: {reason}", hold.as_str()),
        })
    })
}

fn of_table(source: &str, table: &TableName) -> String {
    format!("{source}: {table}")
}

/// What an event says of the freshness of a source, if anything.
pub(crate) fn sign_of(event: &Event) -> Option<(&str, Sign)> {
    match event {
        Event::SourceChanged { source, .. } | Event::SyncFailed { source, .. } => {
            Some((source, Sign::Changed))
        }
        Event::SyncFinished { source, .. } => Some((source, Sign::Landed)),
        Event::SourceUnavailable { source, .. } => Some((source, Sign::Unanswered)),
        Event::SourceRecovered { source } => Some((source, Sign::Answered)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(class: FailureClass) -> Event {
        Event::SyncFailed {
            source: "orders".into(),
            error: "refused".into(),
            class,
        }
    }

    fn cause(event: &Event) -> Cow<'static, str> {
        match turn_of(event) {
            Some(Turn::Begins(trouble)) => trouble.cause,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_source_that_is_away_is_one_cause_whoever_found_out() {
        let away = Event::SourceUnavailable {
            source: "orders".into(),
            error: "refused".into(),
            retry_in_ms: 1,
        };
        assert_eq!(cause(&away), cause(&failed(FailureClass::SourceDown)));
        assert_ne!(
            cause(&away),
            cause(&failed(FailureClass::SourceChangedShape))
        );
        let back = Event::SourceRecovered {
            source: "orders".into(),
        };
        let turn = Turn::Ends(
            IncidentKind::Source,
            "orders".into(),
            Some(UNREACHABLE.into()),
        );
        assert_eq!(turn_of(&back), Some(turn));
    }

    #[test]
    fn a_gap_in_the_log_is_an_incident_until_every_table_was_copied_again() {
        let gap = |refused| Event::LogGap {
            source: "orders".into(),
            slot: "ballpoint_orders".into(),
            reason: "slot ballpoint_orders is missing".into(),
            tables: vec![TableName::new("public", "items")],
            refused,
        };
        for (refused, severity, words) in [
            (false, Severity::Warning, "copied again"),
            (true, Severity::Error, "until it is asked for"),
        ] {
            match turn_of(&gap(refused)) {
                Some(Turn::Begins(trouble)) => {
                    assert_eq!(
                        (trouble.subject.as_str(), trouble.severity),
                        ("orders", severity)
                    );
                    assert!(trouble.error.contains("slot ballpoint_orders is missing"));
                    assert!(trouble.error.contains(words), "{}", trouble.error);
                }
                other => panic!("{other:?}"),
            }
        }
        let closed = Event::GapClosed {
            source: "orders".into(),
        };
        let ended = Turn::Ends(
            IncidentKind::Source,
            "orders".into(),
            Some(cause(&gap(false))),
        );
        assert_eq!(turn_of(&closed), Some(ended));
    }

    #[test]
    fn a_held_table_is_an_incident_until_it_is_released_and_a_left_out_one_is_none() {
        let table = TableName::new("public", "items");
        let held = |hold| Event::TableHeld {
            source: "orders".into(),
            table: table.clone(),
            hold,
            reason: "narrower".into(),
        };
        match turn_of(&held(Hold::Quarantined)) {
            Some(Turn::Begins(trouble)) => {
                assert_eq!(trouble.subject, "orders: public.items");
                assert_eq!(trouble.severity, Severity::Error);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(turn_of(&held(Hold::Ignored)), None);
        let released = Event::TableReleased {
            source: "orders".into(),
            table: table.clone(),
        };
        let ends = Turn::Ends(IncidentKind::Table, "orders: public.items".into(), None);
        assert_eq!(turn_of(&released), Some(ends));
        // Its source's syncs end well meanwhile, and do not end it.
        let finished = Event::SyncFinished {
            source: "orders".into(),
            rows: 1,
        };
        assert_ne!(turn_of(&finished), turn_of(&released));
    }

    #[test]
    fn a_parked_actor_is_an_incident_until_it_runs_again() {
        let changed = |state: &str| Event::ActorChanged {
            actor: "loader.orders".into(),
            state: state.into(),
            incarnation: 6,
            error: Some("boom".into()),
        };
        assert_eq!(cause(&changed("parked")), "parked");
        assert_eq!(turn_of(&changed("backoff")), None);
        let turn = Turn::Ends(IncidentKind::Actor, "loader.orders".into(), None);
        assert_eq!(turn_of(&changed("running")), Some(turn));
    }

    #[test]
    fn a_write_back_that_fails_is_an_incident_until_it_is_settled() {
        let changed = |state: &str, error: Option<&str>, approved| Event::PlanChanged {
            plan: "7".into(),
            sync: "scores".into(),
            state: state.into(),
            rows: 1,
            error: error.map(str::to_owned),
            approved,
        };
        // A conflict, a target that is away, an undo that failed.
        for state in ["failed", "approved", "applied"] {
            assert_eq!(
                cause(&changed(state, Some("conflict"), true)),
                "7",
                "{state}"
            );
        }
        // Nobody approved it: who planned it has seen why.
        assert_eq!(turn_of(&changed("failed", Some("limit"), false)), None);
        assert_eq!(turn_of(&changed("planned", None, false)), None);
        let ends = |cause: Option<&'static str>| {
            let kind = IncidentKind::WriteBack;
            Some(Turn::Ends(kind, "scores".into(), cause.map(Cow::Borrowed)))
        };
        assert_eq!(turn_of(&changed("applied", None, true)), ends(None));
        assert_eq!(turn_of(&changed("undone", None, true)), ends(Some("7")));
        let rejected = changed("rejected", Some("conflict"), true);
        assert_eq!(turn_of(&rejected), ends(Some("7")));
    }
}
