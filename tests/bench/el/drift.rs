//! One table's time from the commit of a row until it stands in `raw`, alone and beside two others of
//! its source: one whose columns change at every step, and one that is quarantined. Once with the tables
//! kept by their log, once by syncs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ballpoint_loader::Loader;
use ballpoint_loader::changes::{Follower, Until};
use ballpoint_runtime::segment::{SourceReader, TableName};
use ballpoint_runtime::store::Store;
use ballpoint_runtime::trace::TraceContext;
use ballpoint_source::{Mode, PostgresSource, PostgresSourceConfig, TableConfig};
use sqlx::{AssertSqlSafe, PgPool};

use crate::clusters::Clusters;

const TRIES: usize = 51;
/// Between tries of a table that is followed: what was asked of its neighbours is under way then.
const PAUSE: Duration = Duration::from_millis(20);

const TABLES: &str = "
create table steady (id bigint generated always as identity primary key, a int,
  updated_at timestamptz not null default clock_timestamp());
create index on steady (updated_at);
create table drifting (id bigint generated always as identity primary key, a int);
create table stuck (id bigint generated always as identity primary key, a bigint);
insert into steady (a) select n from generate_series(1, 100000) n";

const WAYS: [&str; 2] = ["followed", "synced"];

pub(crate) async fn run_all(clusters: &Clusters) {
    let (source, warehouse) = (clusters.source().await, clusters.warehouse().await);
    for way in WAYS {
        let at =
            format!("create schema {way}; set search_path to {way}; {TABLES}; reset search_path");
        execute(&source, &at).await;
        let reader: Arc<dyn SourceReader> =
            Arc::new(PostgresSource::new(config(clusters, way)).unwrap());
        let store = Store::open(warehouse.clone()).await.unwrap();
        let pace = Pace {
            way,
            source: source.clone(),
            warehouse: warehouse.clone(),
            loader: Loader::new(store, way),
            reader,
        };
        pace.run().await;
    }
}

fn config(clusters: &Clusters, way: &str) -> PostgresSourceConfig {
    let mut config = PostgresSourceConfig::new(way, clusters.source_url());
    config.tables = vec![format!("{way}.*")];
    if way == "followed" {
        config.mode = Some(Mode::Cdc);
        return config;
    }
    config.mode = Some(Mode::FullRefresh);
    let steady = TableConfig {
        mode: Some(Mode::Incremental),
        ..TableConfig::default()
    };
    config.table = [(format!("{way}.steady"), steady)].into();
    config
}

/// The tables of one source, and how they are kept.
struct Pace {
    way: &'static str,
    source: PgPool,
    warehouse: PgPool,
    loader: Loader,
    reader: Arc<dyn SourceReader>,
}

impl Pace {
    async fn run(&self) {
        self.sync(&[]).await;
        let following = (self.way == "followed").then(|| {
            let changes = self.reader.changes().unwrap();
            let follower = Follower::new(self.loader.clone(), changes);
            tokio::spawn(async move { follower.follow(Until::Forever).await })
        });
        let alone = self.measure(false).await;
        let narrow = format!("alter table {}.stuck alter a type smallint", self.way);
        execute(&self.source, &narrow).await;
        match following {
            // A followed table's change is known with its next row.
            Some(_) => self.until_quarantined().await,
            None => self.sync(&[]).await,
        }
        let beside = self.measure(true).await;
        if let Some(following) = following {
            following.abort();
        }
        let landed: i64 = self
            .scalar(&format!("select count(*) from {}.steady", self.way))
            .await;
        let expected = 100_000 + 2 * TRIES as i64;
        assert_eq!(landed, expected, "each try landed its row");
        assert_eq!(self.quarantined().await, 1, "one table is quarantined");
        println!(
            "\none row of 100,000 until it stands in raw, {}, {TRIES} tries: alone p50 {:.1} ms, p95 {:.1} ms; \
             beside a drifting and a quarantined table p50 {:.1} ms, p95 {:.1} ms; ratio of the medians {:.2}",
            self.way,
            ms(alone, 50),
            ms(alone, 95),
            ms(beside, 50),
            ms(beside, 95),
            ms(beside, 50) / ms(alone, 50),
        );
    }

    async fn until_quarantined(&self) {
        while self.quarantined().await == 0 {
            let insert = format!("insert into {}.stuck (a) values (1)", self.way);
            execute(&self.source, &insert).await;
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn quarantined(&self) -> i64 {
        let sql = format!(
            "select count(*) from ballpoint.source_tables where source = '{}' and hold = 'quarantined'",
            self.way
        );
        self.scalar(&sql).await
    }

    /// The times of one row each, sorted. With `others` the neighbours change before each try; where
    /// they are synced, that happens after it, as their own announcements would have it.
    async fn measure(&self, others: bool) -> [Duration; TRIES] {
        let way = self.way;
        let steady = [TableName::new(way, "steady")];
        let neighbours = [
            TableName::new(way, "drifting"),
            TableName::new(way, "stuck"),
        ];
        let mut times = [Duration::ZERO; TRIES];
        for (at, time) in times.iter_mut().enumerate() {
            if others {
                let sql = format!(
                    "alter table {way}.drifting add column c{at} int;
                     insert into {way}.drifting (a) values ({at});
                     insert into {way}.stuck (a) values (1)"
                );
                execute(&self.source, &sql).await;
            }
            let begun = Instant::now();
            let insert = format!("insert into {way}.steady (a) values (0) returning id");
            let id: i64 = sqlx::query_scalar(AssertSqlSafe(insert))
                .fetch_one(&self.source)
                .await
                .unwrap();
            if way == "followed" {
                let look = format!("select count(*) from {way}.steady where id = {id}");
                while self.scalar(&look).await == 0 {}
                *time = begun.elapsed();
                tokio::time::sleep(PAUSE).await;
            } else {
                self.sync(&steady).await;
                *time = begun.elapsed();
                if others {
                    self.sync(&neighbours).await;
                }
            }
        }
        times.sort();
        times
    }

    async fn sync(&self, tables: &[TableName]) {
        self.loader
            .sync(
                self.reader.as_ref(),
                tables,
                false,
                &TraceContext::default(),
            )
            .await
            .unwrap();
    }

    async fn scalar(&self, sql: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
            .fetch_one(&self.warehouse)
            .await
            .unwrap()
    }
}

fn ms(times: [Duration; TRIES], percent: usize) -> f64 {
    times[(TRIES - 1) * percent / 100].as_secs_f64() * 1000.0
}

async fn execute(pool: &PgPool, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(pool)
        .await
        .unwrap();
}
