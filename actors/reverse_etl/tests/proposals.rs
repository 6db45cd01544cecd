//! Rows that somebody proposes: no further than their sync, and kept until they are undone.

use std::collections::BTreeMap;

use ballpoint_reverse_etl::{PlanState, Proposal, ProposedRow, WriteBackError};
use serde_json::json;

use crate::support::{Bench, SYNC};

fn row(id: &str, part: &str, set: &[(&str, &str)]) -> ProposedRow {
    let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        let pairs = pairs.iter();
        pairs
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    };
    ProposedRow {
        key: map(&[("id", id), ("part", part)]),
        set: map(set),
    }
}

fn proposal(rows: Vec<ProposedRow>) -> Proposal {
    Proposal {
        sync: "scores".to_owned(),
        reason: "they look bad".to_owned(),
        evidence: json!({"threshold": 5}),
        rows,
    }
}

#[tokio::test]
async fn a_proposal_sets_its_columns_in_its_rows_and_later_plans_leave_them_so() {
    let bench = Bench::new().await;
    bench.applied().await;
    bench
        .warehouse_sql("update marts.scores set score = 60 where id = 'b'")
        .await;
    let held = proposal(vec![
        row("a", "1", &[("held", "true")]),
        row("b", "1", &[("held", "true")]),
        row("q", "7", &[("held", "true")]),
    ]);
    let plan = bench.library.propose(&held, "agent").await.unwrap();
    assert_eq!((plan.counts.changed, plan.counts.invalid), (2, 1));
    assert_eq!(
        (plan.origin.as_str(), plan.reason.as_str()),
        ("proposal", "they look bad")
    );
    let rows = bench.changed(plan.id).await;
    assert_eq!(
        rows[1].new,
        Some(json!({"score": "50.00", "held": "true", "note": ""})),
        "only what is proposed"
    );
    bench.approve(&plan).await;
    bench.library.apply(plan.id, "bo").await.unwrap();
    let next = bench.plan().await;
    assert_eq!(
        next.counts.changed, 1,
        "the warehouse's score, not its hold"
    );
    let rows = bench.changed(next.id).await;
    assert_eq!(
        rows[0].new,
        Some(json!({"score": "60.00", "held": "true", "note": ""}))
    );
    bench.library.undo(plan.id, "bo").await.unwrap();
    let after = bench.plan().await;
    let rows = bench.changed(after.id).await;
    assert_eq!(
        rows[0].new,
        Some(json!({"score": "60.00", "held": "false", "note": ""})),
        "what is undone holds no more"
    );
}

#[tokio::test]
async fn a_proposal_for_a_mirror_removes_nothing() {
    let bench = Bench::new().await;
    bench.write(&SYNC.replace("upsert", "mirror"));
    bench.applied().await;
    let held = proposal(vec![row("a", "1", &[("held", "true")])]);
    let plan = bench.library.propose(&held, "agent").await.unwrap();
    assert_eq!(plan.state, PlanState::Planned, "{:?}", plan.error);
    assert_eq!((plan.counts.changed, plan.counts.removed), (1, 0));
}

#[tokio::test]
async fn a_proposal_cannot_reach_beyond_its_sync() {
    let bench = Bench::new().await;
    for (rows, why) in [
        (vec![], "names no rows"),
        (
            vec![row("a", "1", &[("secret", "1")])],
            "secret is not a writable column of sync scores",
        ),
        (
            vec![row("a", "1", &[("id", "b")])],
            "id is not a writable column",
        ),
        (
            vec![row("a", "1", &[("held", "maybe")])],
            "\"maybe\" is no boolean",
        ),
        (
            vec![row("a", "one", &[("held", "true")])],
            "\"one\" is no integer",
        ),
        (vec![row("a", "1", &[])], "nothing is set"),
        (
            vec![
                row("a", "1", &[("held", "true")]),
                row("a", "1", &[("held", "false")]),
            ],
            "named twice",
        ),
    ] {
        let error = bench
            .library
            .propose(&proposal(rows), "agent")
            .await
            .unwrap_err();
        assert!(
            matches!(error, WriteBackError::Proposal(_)) && error.to_string().contains(why),
            "{error}"
        );
    }
    let mut other = proposal(vec![row("a", "1", &[("held", "true")])]);
    other.sync = "elsewhere".to_owned();
    let error = bench.library.propose(&other, "agent").await.unwrap_err();
    assert_eq!(error.to_string(), "no sync elsewhere; there are scores");
    assert!(bench.library.list(None, 10).await.unwrap().is_empty());
}
