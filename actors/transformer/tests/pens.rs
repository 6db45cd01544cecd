//! The shipped project, published: complete, fast on a delta, and closed to wrong data.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use ballpoint_postgres::testing::TestDatabase;
use ballpoint_runtime::segment::TableName;
use ballpoint_seeds::corruptions::Corruptions;
use ballpoint_transformer::publish::{BuildOutcome, BuildStatus, Changed, PublishOptions, publish};
use ballpoint_transformer::{LoadOptions, Project, Target};
use sqlx::AssertSqlSafe;

use crate::support;

struct Plant {
    database: TestDatabase,
    project: Arc<Project>,
}

impl Plant {
    async fn new(rows: u64) -> Self {
        let database = TestDatabase::create().await;
        support::land_pens(&database, rows).await;
        let target = Target::from_url(database.url(), "public").unwrap();
        let options = LoadOptions::new(support::warehouse(), target);
        Self {
            database,
            project: Arc::new(Project::load(&options).unwrap()),
        }
    }

    async fn build(&self, changed: Changed) -> BuildOutcome {
        let mut options = PublishOptions::new(changed);
        options
            .vars
            .insert("business_now".to_owned(), support::NOW.into());
        publish(&self.project, self.database.pool(), &options)
            .await
            .unwrap()
    }

    async fn sql(&self, sql: &str) {
        let sql = AssertSqlSafe(sql.to_owned());
        sqlx::raw_sql(sql)
            .execute(self.database.pool())
            .await
            .unwrap();
    }

    async fn text(&self, sql: &str) -> String {
        let sql = AssertSqlSafe(format!("select ({sql})::text"));
        sqlx::query_scalar(sql)
            .fetch_one(self.database.pool())
            .await
            .unwrap()
    }

    /// Runs a statement written for a source on its landed table, as a sync would land it.
    async fn land(&self, source: &str, statement: &str) {
        let table = format!("raw.{source}_production");
        let newest = self
            .text(&format!("select max(updated_at) from {table}"))
            .await;
        let statement = statement
            .replace("{{table}}", &table)
            .replace(&format!("public.{source}_production"), &table);
        self.sql(&statement).await;
        self.sql(&format!(
            "update {table} set _airbyte_extracted_at = clock_timestamp() where updated_at > '{newest}'"
        ))
        .await;
    }
}

fn changed(source: &str) -> Changed {
    Changed::Tables(vec![TableName::new("raw", format!("{source}_production"))])
}

const TOTALS: &str = "select (select count(*) from marts.fct_production) || ' ' || \
    (select md5(string_agg(t::text, '' order by t::text)) from marts.fact_production_quality t)";

#[tokio::test]
async fn the_shipped_project_is_published_whole_and_a_delta_equals_a_full_build() {
    let plant = Plant::new(2160).await;
    let first = plant.build(Changed::Everything).await;
    assert_eq!(first.status, BuildStatus::Published, "{:?}", first.failed);
    assert!(first.tests_passed >= 53, "{} tests", first.tests_passed);
    plant
        .land(
            "refills",
            "insert into {{table}} select (r).* from (select jsonb_populate_record(t, \
        jsonb_build_object('id', t.id + 100000, 'timestamp', t.timestamp + interval '1 second', \
        'updated_at', now())) as r from {{table}} t where id between 300 and 305) x",
        )
        .await;
    let delta = plant.build(changed("refills")).await;
    assert_eq!(delta.status, BuildStatus::Published, "{:?}", delta.failed);
    let incremental = plant.text(TOTALS).await;
    let mut full = PublishOptions::new(Changed::Everything);
    full.full_refresh = true;
    full.vars
        .insert("business_now".to_owned(), support::NOW.into());
    publish(&plant.project, plant.database.pool(), &full)
        .await
        .unwrap();
    assert_eq!(plant.text(TOTALS).await, incremental);
    // How long each takes is measured by `make bench`: a busy machine says nothing about it.
    eprintln!("full {:?}, delta {:?}", first.elapsed, delta.elapsed);
}

#[tokio::test]
async fn every_planted_corruption_fails_its_tests_and_the_last_good_numbers_stay() {
    let plant = Plant::new(2160).await;
    assert_eq!(
        plant.build(Changed::Everything).await.status,
        BuildStatus::Published
    );
    let path = support::warehouse().join("../seeds/corruptions.yml");
    let corruptions = Corruptions::parse(&std::fs::read_to_string(path).unwrap()).unwrap();
    for corruption in &corruptions.corruptions {
        let good = plant.text(TOTALS).await;
        plant.land(&corruption.source, &corruption.plant).await;
        let outcome = plant.build(changed(&corruption.source)).await;
        let failed: Vec<&str> = outcome
            .failed
            .iter()
            .map(|failed| failed.name.as_str())
            .collect();
        assert_eq!(outcome.status, BuildStatus::Failed, "{}", corruption.name);
        for expected in &corruption.fails {
            assert!(
                failed.contains(&expected.as_str()),
                "{}: {failed:?}",
                corruption.name
            );
        }
        assert!(
            outcome.skipped.iter().any(|id| id.starts_with("model.")),
            "{}",
            corruption.name
        );
        assert_eq!(plant.text(TOTALS).await, good, "{}", corruption.name);
        plant.land(&corruption.source, &corruption.repair).await;
        let mended = plant.build(changed(&corruption.source)).await;
        assert_eq!(
            mended.status,
            BuildStatus::Published,
            "{}: {:?}",
            corruption.name,
            mended.failed
        );
    }
}
