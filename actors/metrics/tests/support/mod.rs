//! A shop on a real PostgreSQL with a registry that serves it, as tests of what is kept need it.

#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

pub mod dice;
pub mod rows;

use std::time::Duration;

use ballpoint_metrics::registry::NAME;
use ballpoint_metrics::{MetricRegistry, MetricRegistryArgs, MetricRegistryHandle, Service};
use ballpoint_postgres::testing::TestDatabase;
use ballpoint_runtime::clock::Clock;
use ballpoint_runtime::event::Event;
use ballpoint_runtime::segment::TableName;
use ballpoint_runtime::store::Store;
use ballpoint_runtime::supervision::{
    ActorSpec, Scope, Strategy, SupervisorSpec, Tree, TreeHandle,
};
use ballpoint_runtime::trace::TraceContext;
use ballpoint_runtime::work::WorkKind;
use tempfile::TempDir;

/// Looks of 25 ms each: a minute and more, for a machine that is busy with something else.
pub const PATIENCE_LOOKS: usize = 2400;

pub const TABLES: &str = "
    CREATE SCHEMA marts;
    CREATE TABLE public.foreign_table (kind text);
    CREATE TABLE marts.customers (id int PRIMARY KEY, city text, vip boolean);
    CREATE TABLE marts.orders (id int PRIMARY KEY, customer_id int, status text, amount numeric(12, 2),
                               units int, weight float8, placed_at timestamptz);
    CREATE TABLE marts.lines (id int PRIMARY KEY, order_id int, product text, quantity int);
    INSERT INTO marts.customers
        SELECT i, (ARRAY['Pune', 'Chennai', 'Lyon', NULL])[1 + i % 4], i % 3 = 0 FROM generate_series(1, 40) i;
    INSERT INTO marts.orders
        SELECT i, 1 + (i * 7) % 44, (ARRAY['open', 'paid', 'sent'])[1 + i % 3],
               CASE WHEN i % 11 > 0 THEN (i % 97) * 1.25 END, i % 9, (i % 13) / 4.0,
               CASE WHEN i % 29 > 0 THEN timestamptz '2025-11-20 00:00Z' + (i * 97) * interval '13 minutes' END
        FROM generate_series(1, 600) i;
    INSERT INTO marts.lines
        SELECT i, 1 + (i * 5) % 620, (ARRAY['pen', 'cap', 'ink'])[1 + i % 3], 1 + i % 4
        FROM generate_series(1, 1500) i;";

pub const MODEL: &str = r#"
cubes:
  - name: Customers
    sql_table: marts.customers
    dimensions:
      - {name: id, sql: id, type: number, primary_key: true, public: true}
      - {name: city, sql: city, type: string}
      - {name: vip, sql: vip, type: boolean}
    measures:
      - {name: count, type: count}
  - name: Orders
    sql_table: marts.orders
    joins:
      - {name: Customers, relationship: many_to_one, sql: "{CUBE}.customer_id = {Customers}.id"}
      - {name: Lines, relationship: one_to_many, sql: "{CUBE}.id = {Lines}.order_id"}
    dimensions:
      - {name: id, sql: id, type: number, primary_key: true, public: true}
      - {name: status, sql: status, type: string}
      - {name: placedAt, sql: placed_at, type: time}
    segments:
      - {name: heavy, sql: "{CUBE}.weight > 1"}
    measures:
      - {name: count, type: count}
      - {name: total, type: sum, sql: amount}
      - {name: units, type: sum, sql: units}
      - {name: least, type: min, sql: amount}
      - {name: most, type: max, sql: amount}
      - {name: mean, type: avg, sql: amount}
      - {name: kinds, type: count_distinct, sql: units}
      - {name: paid, type: count, filters: [{sql: "{CUBE}.status = 'paid'"}]}
      - {name: paidShare, type: number, sql: "100.0 * {paid} / nullif({count}, 0)"}
      - {name: perUnit, type: number, sql: "{total} / nullif({units}, 0)"}
      - {name: halves, type: number, sql: "{units} / 2"}
    pre_aggregations:
      - name: byDay
        measures: [count, total, units, least, most, paid]
        dimensions: [status, Customers.city]
        segments: [heavy]
        time_dimension: placedAt
        granularity: day
        partition_granularity: month
        indexes: [{name: by_city, columns: [Customers.city]}]
      - name: exact
        measures: [mean, kinds, paidShare]
        dimensions: [status]
        time_dimension: placedAt
        granularity: month
      - name: withLines
        measures: [count, total, Lines.quantity]
        dimensions: [status, Lines.product]
  - name: Lines
    sql_table: marts.lines
    dimensions:
      - {name: id, sql: id, type: number, primary_key: true, public: true}
      - {name: product, sql: product, type: string}
    measures:
      - {name: count, type: count}
      - {name: quantity, type: sum, sql: quantity}
"#;

pub struct Shop {
    pub store: Store,
    pub handle: MetricRegistryHandle,
    pub database: TestDatabase,
    tree: TreeHandle,
    _model: TempDir,
}

impl Shop {
    /// With tables that a build is said to have written.
    pub async fn open() -> Self {
        Self::with(MODEL).await
    }

    pub async fn with(model: &str) -> Self {
        let database = TestDatabase::create().await;
        sqlx::raw_sql(TABLES)
            .execute(database.pool())
            .await
            .unwrap();
        let store = Store::open(database.pool().clone()).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("shop.yml"), model).unwrap();
        let scope = Scope::unique();
        let args = MetricRegistryArgs::new(
            folder.path(),
            database.pool().clone(),
            Some(store.clone()),
            Clock::system(),
        );
        let root = SupervisorSpec::new("root", Strategy::OneForOne).child(ActorSpec::new(
            NAME,
            MetricRegistry,
            move || args.clone(),
        ));
        let tree = Tree::start(scope.clone(), root, None).await.unwrap();
        let shop = Self {
            handle: MetricRegistryHandle::new(&scope),
            store,
            database,
            tree,
            _model: folder,
        };
        shop.written(&["customers", "orders", "lines"]).await;
        shop
    }

    /// Says, as a build does, that these tables have new rows.
    pub async fn written(&self, tables: &[&str]) {
        let relations = tables.iter().map(|name| TableName::new("marts", *name));
        let event = Event::BuildPublished {
            run_id: "a run".to_owned(),
            relations: relations.collect(),
            tests_passed: 0,
            absent: Vec::new(),
        };
        let events = self.store.events();
        events
            .publish(event, TraceContext::default())
            .await
            .unwrap();
    }

    /// Lets the registry look at the data.
    pub async fn refreshed(&self) {
        let (kind, trace) = (WorkKind::RefreshMetrics, TraceContext::default());
        self.store.work().enqueue(&kind, &trace).await.unwrap();
    }

    pub async fn execute(&self, sql: &'static str) {
        sqlx::raw_sql(sql)
            .execute(self.database.pool())
            .await
            .unwrap();
    }

    pub async fn service(&self) -> Service {
        self.handle.service().await.unwrap()
    }

    /// Waits until `wanted` holds of the service.
    pub async fn until(&self, what: &str, wanted: impl Fn(&Service) -> bool) -> Service {
        for _ in 0..PATIENCE_LOOKS {
            let service = self.service().await;
            if wanted(&service) {
                return service;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("not in time: {what}");
    }

    /// Waits until each of these rollups is usable.
    pub async fn rolled_up(&self, names: &[&str]) -> Service {
        let usable = |service: &Service| {
            let model = &service.snapshot.model.hash;
            let (usable, _) = service.rollups.usable(model, &service.results.versions);
            names
                .iter()
                .all(|name| usable.iter().any(|it| it.name == *name))
        };
        self.until("rollups", usable).await
    }

    pub async fn close(self) {
        self.tree.stop(Duration::from_secs(10)).await;
    }
}
