//! A warehouse, a target and a syncs folder for one test.
#![allow(dead_code, reason = "shared by tests that use different parts")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use ballpoint_postgres::testing::TestDatabase;
use ballpoint_reverse_etl::{
    Plan, PlanRow, PlanState, WriteBackError, WriteBacks, WriteBacksConfig,
};
use ballpoint_runtime::store::Store;
use sqlx::AssertSqlSafe;
use tempfile::TempDir;
use uuid::Uuid;

/// One sync on `marts.scores`; the tests replace lines of it.
pub(crate) const SYNC: &str = "\
syncs:
  - name: scores
    description: Scores, it's said
    model: marts.scores
    source: shop
    table: public.feedback
    create_table: true
    mode: upsert
    key:
      - {column: id, type: varchar(10)}
      - {column: part, type: integer}
    columns:
      - {column: score, type: 'numeric(5,2)'}
      - {column: held, from: hold, type: boolean}
      - {column: note, type: text}
    limits: {max_rows: 1000, max_changed_percent: 100, max_removed: 100}
";

pub(crate) struct Bench {
    pub(crate) warehouse: TestDatabase,
    pub(crate) target: TestDatabase,
    pub(crate) library: WriteBacks,
    folder: TempDir,
}

impl Bench {
    /// Five rows are desired, the target has no table yet.
    pub(crate) async fn new() -> Self {
        let (warehouse, target) = (TestDatabase::create().await, TestDatabase::create().await);
        let folder = tempfile::tempdir().unwrap();
        let bench = Self {
            library: open(&warehouse, &target, folder.path().to_owned()).await,
            warehouse,
            target,
            folder,
        };
        bench.write(SYNC);
        bench
            .warehouse_sql(
                "create schema marts;
                 create table marts.scores (id text, part bigint, score numeric, hold boolean, note text);
                 insert into marts.scores values
                   ('a', 1, 99.5, false, 'fine'), ('a', 2, 12.345, true, null), ('b', 1, 50, false, ''),
                   ('c', 1, 0, true, E'tab\\there, \\\\N and \"quotes\"'), ('d', 9, 7, null, 'ü')",
            )
            .await;
        bench
    }

    /// The same databases as a process that starts after a kill sees them.
    pub(crate) async fn reopened(&self) -> WriteBacks {
        open(&self.warehouse, &self.target, self.folder.path().to_owned()).await
    }

    /// The same warehouse and files with these sources.
    pub(crate) async fn with_sources(&self, sources: &[(&str, &TestDatabase)]) -> WriteBacks {
        let store = Store::open(self.warehouse.pool().clone()).await.unwrap();
        let each = sources.iter();
        let sources = each.map(|(name, at)| ((*name).to_owned(), at.url().to_owned()));
        let config = WriteBacksConfig {
            folder: self.folder.path().to_owned(),
            sources: sources.collect(),
        };
        WriteBacks::new(store, config)
    }

    pub(crate) fn write(&self, text: &str) {
        std::fs::write(self.folder.path().join("scores.yml"), text).unwrap();
    }

    pub(crate) async fn warehouse_sql(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .execute(self.warehouse.pool())
            .await
            .unwrap();
    }

    pub(crate) async fn target_sql(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .execute(self.target.pool())
            .await
            .unwrap();
    }

    /// Every row of the target's table as text, in key order; `None` when there is no table.
    pub(crate) async fn rows(&self) -> Option<String> {
        let exists: bool = sqlx::query_scalar("select to_regclass('public.feedback') is not null")
            .fetch_one(self.target.pool())
            .await
            .unwrap();
        if !exists {
            return None;
        }
        sqlx::query_scalar(
            "select coalesce(string_agg(f::text, ' ' order by f::text), '') from public.feedback f",
        )
        .persistent(false)
        .fetch_one(self.target.pool())
        .await
        .unwrap()
    }

    pub(crate) async fn plan(&self) -> Plan {
        self.library.plan("scores", "ana").await.unwrap()
    }

    /// Approves a plan as it stands.
    pub(crate) async fn approve(&self, plan: &Plan) -> Plan {
        let hash = plan.hash.as_deref().unwrap();
        let approved = self.library.approve(plan.id, hash, "bo", None).await;
        approved.unwrap()
    }

    /// Plans and approves.
    pub(crate) async fn approved(&self) -> Plan {
        let plan = self.plan().await;
        self.approve(&plan).await
    }

    /// Plans, approves and applies.
    pub(crate) async fn applied(&self) -> Plan {
        let plan = self.approved().await;
        let applied = self.library.apply(plan.id, "bo").await.unwrap();
        assert_eq!(applied.state, PlanState::Applied, "{:?}", applied.error);
        applied
    }

    /// The first rows that a plan changes.
    pub(crate) async fn changed(&self, plan: Uuid) -> Vec<PlanRow> {
        let rows = self.library.rows(plan, Some("changed"), 0, 10).await;
        rows.unwrap()
    }

    /// Why the sync cannot be planned.
    pub(crate) async fn refusal(&self) -> WriteBackError {
        self.library.plan("scores", "ana").await.unwrap_err()
    }
}

async fn open(warehouse: &TestDatabase, target: &TestDatabase, folder: PathBuf) -> WriteBacks {
    let store = Store::open(warehouse.pool().clone()).await.unwrap();
    let sources = BTreeMap::from([("shop".to_owned(), target.url().to_owned())]);
    WriteBacks::new(store, WriteBacksConfig { folder, sources })
}

/// The five rows as the target shows them.
pub(crate) const WRITTEN: &str = "(a,1,99.50,f,fine) (a,2,12.35,t,) (b,1,50.00,f,\"\") \
    (c,1,0.00,t,\"tab\there, \\\\N and \"\"quotes\"\"\") (d,9,7.00,,ü)";
