//! Statistics that are asked for by name, and what must be said of periods that are not over.

#![allow(clippy::unwrap_used)]

use ballpoint_planner::plan::{Derive, Note};
use ballpoint_planner::{DialogueState, Plan, Planner};

use crate::questions::{catalog, context};

fn answer(turns: &[&str]) -> ballpoint_planner::plan::QueryPlan {
    let planner = Planner::new(catalog());
    let mut state = DialogueState::default();
    let mut last = None;
    for turn in turns {
        match planner.plan(turn, &state, &context()) {
            Plan::Answer(plan) => {
                state = DialogueState {
                    last: Some(plan.frame.clone()),
                    ..DialogueState::default()
                };
                last = Some(*plan);
            }
            other => panic!("{turn}: {other:?}"),
        }
    }
    last.unwrap()
}

#[test]
fn a_statistic_is_worked_out_from_the_rows_that_it_needs() {
    let chart = answer(&["control chart of pass rate for springs"]);
    assert_eq!(
        chart.query.measures,
        ["Production.passRate", "Production.count"]
    );
    assert!(matches!(
        chart.derive,
        Some(Derive::ControlChart {
            counts: Some(_),
            ..
        })
    ));
    let chart = answer(&["is the cycle time of springs in statistical control"]);
    assert_eq!(chart.query.measures, ["Production.avgCycleTime"]);
    assert!(matches!(
        chart.derive,
        Some(Derive::ControlChart { counts: None, .. })
    ));
    let outliers = answer(&["which machines are outliers in cycle time"]);
    assert!(matches!(outliers.derive, Some(Derive::Outliers { .. })));
    let related = answer(&["correlation between temperature and scrap by machine"]);
    assert_eq!(related.query.dimensions, ["Production.machineId"]);
    assert!(related.query.time_dimensions.is_empty());
    for question in [
        "what drove the change in scrap last week",
        "why did scrap rise last week",
    ] {
        let drivers = answer(&[question]);
        assert!(
            matches!(drivers.derive, Some(Derive::Drivers { .. })),
            "{question}"
        );
        let time = &drivers.query.time_dimensions[0];
        assert_eq!(
            time.compare_date_range.as_ref().unwrap().len(),
            2,
            "{question}"
        );
        assert!(drivers.companion.is_some(), "{question}");
    }
    let drivers = answer(&["why did pass rate drop last week by machine"]);
    assert_eq!(drivers.query.dimensions, ["Production.machineId"]);
}

#[test]
fn a_statistic_without_what_it_needs_is_refused() {
    let planner = Planner::new(catalog());
    for question in [
        "Cpk of cost per unit",
        "correlation of scrap",
        "control chart of scrap and OEE",
        "what drove the change in scrap",
    ] {
        let plan = planner.plan(question, &DialogueState::default(), &context());
        assert!(matches!(plan, Plan::Refuse(_)), "{question}: {plan:?}");
    }
}

#[test]
fn a_period_that_goes_on_is_called_partial() {
    let notes = |question: &str| answer(&[question]).notes;
    assert_eq!(notes("scrap this month"), [Note::PeriodGoesOn]);
    assert_eq!(notes("scrap last month"), []);
    let weekly = notes("weekly scrap in the last 2 months");
    let partly = |it: &Note| {
        matches!(
            it,
            Note::PartialSteps {
                first: true,
                last: true,
                ..
            }
        )
    };
    assert!(weekly.iter().any(partly), "{weekly:?}");
}

#[test]
fn words_are_taken_for_the_part_that_they_play() {
    let json = |turns: &[&str]| serde_json::to_string(&answer(turns).query).unwrap();
    let split = json(&["break the pass rate down by component"]);
    assert!(!split.contains("granularity"), "{split}");
    let dropped = json(&["defects yesterday on nights", "drop the night filter"]);
    assert!(
        !dropped.contains("NIGHT") && !dropped.contains("granularity"),
        "{dropped}"
    );
    let left_out = json(&["pass rate for each component but refills"]);
    assert!(left_out.contains("notEquals"), "{left_out}");
    let added = json(&["defects by type", "only for nights", "and weekends"]);
    assert!(
        added.contains("NIGHT") && added.contains("isWeekend"),
        "{added}"
    );
    let before = json(&["OEE last month", "and the previous month"]);
    assert!(before.contains("2026-01-01"), "{before}");
    let compared = json(&["scrap last week", "is that more than the week before"]);
    assert!(compared.contains("compareDateRange"), "{compared}");
    let sorted = json(&["output and pass rate by component sorted by pass rate ascending"]);
    assert!(
        sorted.contains("\"order\":{\"Production.passRate\":\"asc\"}"),
        "{sorted}"
    );
    let inspected = json(&["how many units did we inspect in march 2026"]);
    assert!(inspected.contains("Production.count"), "{inspected}");
}
