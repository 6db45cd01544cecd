//! One table's time from the commit of a row until it stands in `raw`, alone and beside two others of
//! its source: one whose columns change at every step, and one that is quarantined.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ballpoint_loader::Loader;
use ballpoint_runtime::segment::{SourceReader, TableName};
use ballpoint_runtime::store::Store;
use ballpoint_runtime::trace::TraceContext;
use ballpoint_source::{PostgresSource, PostgresSourceConfig};
use sqlx::{AssertSqlSafe, PgPool};

use crate::clusters::Clusters;

const TRIES: usize = 51;

const TABLES: &str = "
create schema pace;
create table pace.steady (id bigint generated always as identity primary key, a int,
  updated_at timestamptz not null default clock_timestamp());
create index on pace.steady (updated_at);
create table pace.drifting (id bigint generated always as identity primary key, a int);
create table pace.stuck (id bigint generated always as identity primary key, a bigint);
insert into pace.steady (a) select n from generate_series(1, 100000) n";

pub(crate) async fn run_all(clusters: &Clusters) {
    let (source, warehouse) = (clusters.source().await, clusters.warehouse().await);
    execute(&source, TABLES).await;
    let mut config = PostgresSourceConfig::new("pace", clusters.source_url());
    config.tables = vec!["pace.*".to_owned()];
    let reader: Arc<dyn SourceReader> = Arc::new(PostgresSource::new(config).unwrap());
    let store = Store::open(warehouse.clone()).await.unwrap();
    let loader = Loader::new(store, "pace");
    sync(&loader, reader.as_ref(), &[]).await;

    let alone = measure(&source, &loader, reader.as_ref(), false).await;
    execute(&source, "alter table pace.stuck alter a type smallint").await;
    sync(&loader, reader.as_ref(), &[]).await;
    let beside = measure(&source, &loader, reader.as_ref(), true).await;
    let landed: i64 = sqlx::query_scalar("select count(*) from pace.steady")
        .fetch_one(&warehouse)
        .await
        .unwrap();
    assert_eq!(
        landed,
        100_000 + 2 * TRIES as i64,
        "each try landed its row"
    );
    let held: i64 = sqlx::query_scalar(
        "select count(*) from ballpoint.source_tables where source = 'pace' and hold = 'quarantined'",
    )
    .fetch_one(&warehouse)
    .await
    .unwrap();
    assert_eq!(held, 1, "one table is quarantined");
    println!(
        "\none row of 100,000 until it stands in raw, {TRIES} tries: alone p50 {:.1} ms, p95 {:.1} ms; beside a \
         drifting and a quarantined table p50 {:.1} ms, p95 {:.1} ms; ratio of the medians {:.2}",
        ms(alone, 50),
        ms(alone, 95),
        ms(beside, 50),
        ms(beside, 95),
        ms(beside, 50) / ms(alone, 50),
    );
}

/// The times of one row each, sorted. With `others` the neighbours change before each try, and are
/// synced after it, as their own announcements would have it.
async fn measure(
    source: &PgPool,
    loader: &Loader,
    reader: &dyn SourceReader,
    others: bool,
) -> [Duration; TRIES] {
    let steady = [TableName::new("pace", "steady")];
    let neighbours = [
        TableName::new("pace", "drifting"),
        TableName::new("pace", "stuck"),
    ];
    let mut times = [Duration::ZERO; TRIES];
    for (at, time) in times.iter_mut().enumerate() {
        if others {
            let sql = format!(
                "alter table pace.drifting add column c{at} int;
                 insert into pace.drifting (a) values ({at});
                 insert into pace.stuck (a) values (1)"
            );
            execute(source, &sql).await;
        }
        let begun = Instant::now();
        execute(source, "insert into pace.steady (a) values (0)").await;
        sync(loader, reader, &steady).await;
        *time = begun.elapsed();
        if others {
            sync(loader, reader, &neighbours).await;
        }
    }
    times.sort();
    times
}

fn ms(times: [Duration; TRIES], percent: usize) -> f64 {
    times[(TRIES - 1) * percent / 100].as_secs_f64() * 1000.0
}

async fn sync(loader: &Loader, reader: &dyn SourceReader, tables: &[TableName]) {
    loader
        .sync(reader, tables, false, &TraceContext::default())
        .await
        .unwrap();
}

async fn execute(pool: &PgPool, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(pool)
        .await
        .unwrap();
}
