//! Real dbt and this crate on one project in two databases, by the library behind `ballpoint
//! compare dbt`: relations row by row, verdicts, names, parents, compiled SQL. Needs dbt-core 1.11
//! with dbt-postgres; `BALLPOINT_DBT_VENV` says where.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::path::{Path, PathBuf};

use ballpoint_postgres::testing::TestDatabase;
use ballpoint_transformer::Target;
use ballpoint_transformer::compare::{CompareOptions, Pair};
use sqlx::AssertSqlSafe;

use crate::support;

fn dbt() -> PathBuf {
    let venv = std::env::var("BALLPOINT_DBT_VENV").expect(
        "BALLPOINT_DBT_VENV must name a virtual environment with dbt-core 1.11 and dbt-postgres",
    );
    let dbt = Path::new(&venv).join("bin/dbt");
    assert!(dbt.is_file(), "there is no dbt at {}", dbt.display());
    dbt
}

/// A project on both sides, with a database each.
struct Bench {
    databases: [TestDatabase; 2],
    pair: Pair,
}

impl Bench {
    async fn new(project: &Path, schema: &str, flags: &[&str]) -> Self {
        let databases = [TestDatabase::create().await, TestDatabase::create().await];
        let target = |database: &TestDatabase| {
            let target = Target::from_url(database.url(), schema).unwrap();
            Target {
                threads: 2,
                ..target
            }
        };
        let pair = Pair::new(&CompareOptions {
            project_dir: project.to_owned(),
            theirs: target(&databases[0]),
            ours: target(&databases[1]),
            dbt: dbt(),
            program: None,
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            env: support::lent(project),
            ignored: ["raw.*", "analytics.run_log"].map(str::to_owned).to_vec(),
        });
        Self {
            databases,
            pair: pair.unwrap(),
        }
    }

    async fn sql(&self, sql: &str) {
        for database in &self.databases {
            let sql = AssertSqlSafe(sql.to_owned());
            sqlx::raw_sql(sql).execute(database.pool()).await.unwrap();
        }
    }

    async fn same(&mut self, command: &str) {
        self.pair.step(command).await.unwrap();
        let found = self.pair.found();
        assert!(found.differences.is_empty(), "{:#?}", found.differences);
        assert!(found.steps.last().unwrap().nodes > 0, "{found:?}");
    }
}

#[tokio::test]
async fn dbt_and_we_leave_the_same_shop() {
    let shop = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/projects/shop");
    let mut bench = Bench::new(&shop, "analytics", &[]).await;
    bench.sql(support::ORDERS).await;
    bench.same("build").await;
    bench
        .sql(
            "insert into raw.orders values (4, 'fr', 100, '2026-01-02 10:00', '2026-01-03 00:00+00');
             update raw.orders set cents = 5, loaded_at = '2026-01-04 00:00+00' where id = 3",
        )
        .await;
    bench.same("build").await;
    bench
        .sql("insert into raw.orders values (5, 'xx', 100, '2026-01-02 10:00', '2026-01-05 00:00+00')")
        .await;
    bench.same("build").await;
}

#[tokio::test]
async fn dbt_and_we_leave_the_same_pens() {
    let vars = format!("{{business_now: '{}'}}", support::NOW);
    let mut bench = Bench::new(&support::warehouse(), "public", &["--vars", &vars]).await;
    for database in &bench.databases {
        support::land_pens(database, 300).await;
    }
    bench.same("build").await;
    bench
        .sql(
            "insert into raw.refills_production
             select (r).* from (select jsonb_populate_record(t, jsonb_build_object(
                 'id', t.id + 100000, '_airbyte_extracted_at', '2026-03-31 09:30+00')) as r
             from raw.refills_production t where id between 20 and 24) x",
        )
        .await;
    bench.same("build").await;
}

#[tokio::test]
async fn dbt_and_we_keep_the_same_history() {
    let history = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/projects/history");
    let mut bench = Bench::new(&history, "analytics", &[]).await;
    bench.same("build").await;
    bench.same("build --vars {\"day\":2}").await;
    bench.same("build --vars {\"day\":3} --full-refresh").await;
}

#[tokio::test]
async fn dbt_and_we_leave_the_same_packages_and_versions() {
    let shop = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/projects/shop");
    let mut bench = Bench::new(&shop, "analytics", &[]).await;
    bench.pair.install().await.unwrap();
    bench.same("build").await;
    bench.same("build --exclude version:old").await;
}

#[tokio::test]
async fn dbt_and_we_leave_the_same_kiosk() {
    let kiosk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/projects/kiosk");
    let mut bench = Bench::new(&kiosk, "analytics", &[]).await;
    bench.pair.install().await.unwrap();
    bench.same("build").await;
}

#[tokio::test]
async fn a_difference_is_found_and_named() {
    let shop = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/projects/shop");
    let mut bench = Bench::new(&shop, "analytics", &[]).await;
    bench.sql(support::ORDERS).await;
    // Only our side has other rows to read.
    let theirs = "update raw.orders set cents = cents + 1 where id = 1";
    sqlx::raw_sql(theirs)
        .execute(bench.databases[1].pool())
        .await
        .unwrap();
    bench.pair.step("run --select stg_orders").await.unwrap();
    let found = &bench.pair.found().differences;
    let of: Vec<(&str, &str)> = found
        .iter()
        .map(|one| (one.what, one.of.as_str()))
        .collect();
    assert_eq!(
        of,
        [("rows", "1 run --select stg_orders: staging.stg_orders")]
    );
    assert!(found[0].dbt.contains("10.50"), "{found:?}");
    assert!(found[0].ballpoint.contains("10.51"), "{found:?}");
}
