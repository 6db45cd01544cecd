//! Requests in words against the shipped data model and syncs, on a real PostgreSQL.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::path::{Path, PathBuf};

use ballpoint_activation::{Proposer, Refusal};
use ballpoint_metrics::Service;
use ballpoint_postgres::testing::TestDatabase;
use ballpoint_reverse_etl::{Proposal, Sync};
use ballpoint_runtime::clock::Clock;
use jiff::tz::TimeZone;
use sqlx::AssertSqlSafe;

/// One unit an hour and component over 90 days, with a pattern that tells rows apart.
const MARTS: &str = include_str!("../../chat/tests/marts.sql");

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

struct Bench {
    database: TestDatabase,
    service: Service,
    syncs: Vec<Sync>,
    proposer: Proposer,
}

impl Bench {
    async fn new() -> Self {
        let database = TestDatabase::create().await;
        sqlx::raw_sql(MARTS).execute(database.pool()).await.unwrap();
        let clock = Clock::starting_at("2026-03-31T10:00:00Z".parse().unwrap());
        let model = repository().join("warehouse/metrics");
        let service = Service::open(&model, database.pool().clone(), clock.clone()).unwrap();
        Self {
            service: service.surveyed().await.unwrap(),
            syncs: Sync::load(
                &repository().join("warehouse/syncs"),
                ["refills", "bodies", "springs"],
            )
            .unwrap(),
            proposer: Proposer {
                clock,
                time_zone: TimeZone::UTC,
            },
            database,
        }
    }

    async fn ask(&self, request: &str) -> Result<Proposal, Refusal> {
        let asked = self.proposer.propose(&self.service, &self.syncs, request);
        asked.await.unwrap()
    }

    /// `batch/machine` of each proposed row.
    fn keys(proposal: &Proposal) -> Vec<String> {
        let rows = proposal.rows.iter();
        let mut keys: Vec<String> = rows
            .map(|row| format!("{}/{}", row.key["batch_id"], row.key["machine_id"]))
            .collect();
        keys.sort();
        keys
    }

    /// The same by plain SQL over the facts.
    async fn oracle(&self, component: &str, batches: &str) -> Vec<String> {
        let sql = format!(
            "select distinct batch_id || '/' || machine_id from marts.fct_production
             where component_type = '{component}' and batch_id in (
                 select batch_id from marts.fct_production
                 where component_type = '{component}' {batches})
             order by 1"
        );
        let mut keys: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_all(self.database.pool())
            .await
            .unwrap();
        keys.sort();
        keys
    }
}

#[tokio::test]
async fn a_request_becomes_the_rows_that_plain_sql_finds() {
    let bench = Bench::new().await;
    let share = |value: &str, sign: &str, percent: f64| {
        format!(
            "group by batch_id having 100.0 * count(*) filter (where {value}) / count(*) {sign} {percent}"
        )
    };
    let cases = [
        (
            "hold refill batches with more than 5 % ink leaks",
            "refills",
            "true",
            share("defect_type = 'ink_leak'", ">", 5.0),
        ),
        (
            "Please put all refill batches on hold where over 5% of units are ink leaks",
            "refills",
            "true",
            share("defect_type = 'ink_leak'", ">", 5.0),
        ),
        (
            "hold every refill batch that has at least 10 percent ink leaks or tip defects",
            "refills",
            "true",
            share("defect_type in ('ink_leak', 'tip_defect')", ">=", 10.0),
        ),
        (
            "quarantine body batches with a fail rate above 12 %",
            "bodies",
            "true",
            share("not is_passed", ">", 12.0),
        ),
        (
            "block spring lots whose pass rate is below 90 %",
            "springs",
            "true",
            share("is_passed", "<", 90.0),
        ),
        (
            "release refill batches with less than 5 % defects",
            "refills",
            "false",
            share("defect_type is not null", "<", 5.0),
        ),
        (
            "freeze body batches with at least 1 crack",
            "bodies",
            "true",
            "group by batch_id having count(*) filter (where defect_type = 'crack') >= 1"
                .to_owned(),
        ),
        (
            "freeze body batches with fewer than 1 crack",
            "bodies",
            "true",
            "group by batch_id having count(*) filter (where defect_type = 'crack') < 1".to_owned(),
        ),
        (
            "freeze body batches with at most 2 cracks",
            "bodies",
            "true",
            "group by batch_id having count(*) filter (where defect_type = 'crack') <= 2"
                .to_owned(),
        ),
        (
            "set aside spring batches made of music wire with more than 20 % failed units",
            "springs",
            "true",
            "and material = 'music_wire' ".to_owned() + &share("not is_passed", ">", 20.0),
        ),
        (
            "hold refill batches with ink leaks",
            "refills",
            "true",
            "and defect_type = 'ink_leak'".to_owned(),
        ),
    ];
    for (request, component, hold, having) in cases {
        let outcome = bench.ask(request).await;
        let proposal = outcome.unwrap_or_else(|refusal| panic!("{request}: {refusal:?}"));
        println!("{request}\n  {}", proposal.reason);
        assert_eq!(
            proposal.sync,
            format!("{component}_quality_feedback"),
            "{request}"
        );
        assert!(
            proposal.rows.iter().all(|row| row.set["hold"] == hold),
            "{request}"
        );
        let expected = bench.oracle(component, &having).await;
        assert!(!expected.is_empty(), "{request}: the case says something");
        assert_eq!(Bench::keys(&proposal), expected, "{request}");
    }
}

#[tokio::test]
async fn what_cannot_be_mapped_is_refused_with_its_words() {
    let bench = Bench::new().await;
    for (request, rule, word) in [
        (
            "hold refill batches with more than 5 % wobbly caps",
            "unknown",
            "wobbly",
        ),
        (
            "paint refill batches with more than 5 % ink leaks",
            "no_action",
            "",
        ),
        (
            "hold batches with more than 5 % ink leaks",
            "which_sync",
            "",
        ),
        ("hold all refill batches", "no_condition", ""),
        ("hold the worst refill batches", "unknown", "worst"),
        (
            "hold refill batches with more ink leaks than average",
            "unknown",
            "than",
        ),
        (
            "hold refill batches with more than 5 % ink leaks and a pass rate below 90 %",
            "two_figures",
            "pass rate",
        ),
        (
            "hold refill operators with more than 5 % ink leaks",
            "not_the_key",
            "operators",
        ),
        (
            "hold refill batches with ink leaks and delete them",
            "unknown",
            "delete",
        ),
        (
            "hold refill batches with more than 5 % and ignore the limits",
            "unknown",
            "ignore",
        ),
    ] {
        let refusal = bench.ask(request).await.expect_err(request);
        println!("{request}\n  {}", refusal.reason);
        assert_eq!(refusal.rule, rule, "{request}: {refusal:?}");
        assert!(refusal.reason.contains(word), "{request}: {refusal:?}");
        assert!(!refusal.reason.contains('{'), "{request}: {refusal:?}");
    }
}

#[tokio::test]
async fn a_period_narrows_what_is_judged() {
    let bench = Bench::new().await;
    let proposal = bench
        .ask("hold refill batches with more than 5 % ink leaks in the last 7 days")
        .await
        .unwrap();
    let all = bench
        .ask("hold refill batches with more than 5 % ink leaks")
        .await
        .unwrap();
    assert!(proposal.rows.len() < all.rows.len());
    assert!(
        proposal.reason.contains("from 2026-03-2"),
        "{}",
        proposal.reason
    );
    let queries = &proposal.evidence["found"]["queries"];
    assert!(
        queries[0]["query"]["timeDimensions"].is_array(),
        "{queries}"
    );
    assert_eq!(proposal.evidence["figure"]["threshold"], 5.0);
}
