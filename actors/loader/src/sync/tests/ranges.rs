//! A large table lands in ranges: all rows once, whatever is killed and whatever changes meanwhile.

use ballpoint_runtime::segment::{Position, Rows, Segment};

use super::*;

/// About 120 pages; `id` and `v` in a few rows a page.
const WIDE: &str = "
create table wide (id int, v int not null default 0, filler text not null);
insert into wide select n, n % 7, repeat('x', 300) from generate_series(1, 3000) n;
analyze wide";

const RANGE_STEPS: [&str; 3] = [
    "loader.range.prepared",
    "loader.range.before_commit",
    "loader.range.after_commit",
];

fn in_ranges(config: &mut PostgresSourceConfig) {
    config.range_pages = 16;
}

/// What an interrupted load has left: the rows in landed ranges, or none without a shadow.
async fn landed(pair: &Pair) -> i64 {
    one(
        pair.warehouse.pool(),
        "select coalesce(sum(row_count), 0)::bigint from ballpoint.landed_ranges r
         join pg_class c on c.oid = r.shadow",
    )
    .await
}

/// No shadow and no note of one is left, and what was swapped in is a table like any other.
async fn assert_nothing_is_left(pair: &Pair) {
    let left: i64 = one(
        pair.warehouse.pool(),
        "select (select count(*) from ballpoint.landed_ranges)
              + (select count(*) from pg_class where relname like '\\_ballpoint%' and relkind = 'r')
              + (select count(*) from pg_class where relnamespace = to_regnamespace('raw')
                  and (reloptions is not null or obj_description(oid) is not null))",
    )
    .await;
    assert_eq!(left, 0);
}

/// Fails at the `nth` passage of a step.
async fn stopped_at(pair: &Pair, step: &str, nth: u32) {
    let action = match nth {
        0 => "1*return".to_owned(),
        n => format!("{n}*off->1*return"),
    };
    fail::cfg(step, &action).unwrap();
    let stopped = pair.try_sync(false).await;
    fail::remove(step);
    assert!(stopped.is_err(), "{step} was not reached");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_table_lands_in_ranges_and_is_swapped_in_as_a_whole() {
    let pair = Pair::configured(WIDE, in_ranges).await;
    let spec = pair.reader.tables().await.unwrap().remove(0);
    let segment = pair.reader.open(&spec, None).await.unwrap().unwrap();
    assert!(matches!(&segment.rows, Rows::Ranges(ranges) if ranges.readers.len() == 2));
    drop(segment);
    let report = pair.sync().await;
    assert_eq!((report.read, report.inserted, report.kept), (3000, 3000, 0));
    pair.assert_equal("wide").await;
    assert_nothing_is_left(&pair).await;
    pair.in_warehouse("create view reader as select count(*) from raw.wide")
        .await;
    pair.in_source("delete from wide where id % 10 = 0").await;
    let again = pair.try_sync(true).await.unwrap();
    assert_eq!(again.tables[0].read, 2700);
    pair.assert_equal("wide").await;
    let seen: i64 = one(pair.warehouse.pool(), "select * from reader").await;
    assert_eq!(seen, 2700);
    assert_eq!(pair.sync().await.read, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_load_goes_on_with_the_ranges_that_are_missing() {
    let _alone = CRASH_POINTS.write().await;
    let pair = Pair::unguarded(WIDE, in_ranges).await;
    stopped_at(&pair, "loader.range.after_commit", 2).await;
    let before = landed(&pair).await;
    assert!(before > 0 && before < 3000, "{before}");
    let nobody: Option<String> = one(
        pair.warehouse.pool(),
        "select to_regclass('raw.wide')::text",
    )
    .await;
    assert_eq!(nobody, None);
    stopped_at(&pair, "loader.before_commit", 0).await;
    let report = pair.sync().await;
    assert_eq!((report.read, report.kept), (3000, 3000));
    pair.assert_equal("wide").await;
    assert_nothing_is_left(&pair).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges_that_no_longer_hold_are_read_again() {
    let _alone = CRASH_POINTS.write().await;
    let changes = [
        "update wide set v = 100 where id = 1",
        "delete from wide where id = 2",
        "delete from wide where id <= 20; vacuum wide; insert into wide values (1, 1, 'late')",
        "vacuum full wide",
        "alter table wide add column added int default 5",
    ];
    let pair = Pair::unguarded(WIDE, in_ranges).await;
    for change in changes {
        for step in RANGE_STEPS {
            let nth = if step == "loader.range.prepared" {
                0
            } else {
                3
            };
            pair.in_warehouse("delete from ballpoint.checkpoints").await;
            stopped_at(&pair, step, nth).await;
        }
        for statement in change.split(';') {
            pair.in_source(statement).await;
        }
        let report = pair.sync().await;
        assert_eq!(report.kept, 0, "{change}");
        pair.assert_equal("wide").await;
        assert_nothing_is_left(&pair).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_smaller_load_takes_away_what_a_larger_one_left() {
    let _alone = CRASH_POINTS.write().await;
    let pair = Pair::unguarded(WIDE, in_ranges).await;
    stopped_at(&pair, "loader.range.after_commit", 0).await;
    pair.in_source("delete from wide where id > 10").await;
    pair.in_source("vacuum full wide").await;
    assert_eq!(pair.sync().await.read, 10);
    pair.assert_equal("wide").await;
    assert_nothing_is_left(&pair).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_at_random_moments_a_load_in_ranges_ends_equal_to_its_source() {
    let pair = Pair::configured(WIDE, in_ranges).await;
    let started = Instant::now();
    pair.sync().await;
    let whole = started.elapsed();
    for step in 0..10_u32 {
        pair.in_source(&format!(
            "update wide set v = {step} where id % 97 = {step}; delete from wide where id = {step};
             insert into wide values (5000 + {step}, 1, 'new')"
        ))
        .await;
        let _ = tokio::time::timeout(whole * step / 10, pair.try_sync(true)).await;
        if step % 3 == 0 {
            pair.sync().await;
            pair.assert_equal("wide").await;
        }
    }
    pair.sync().await;
    pair.assert_equal("wide").await;
    assert_nothing_is_left(&pair).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges_of_two_snapshots_hold_each_key_once_where_changes_are_replayed() {
    let _alone = CRASH_POINTS.write().await;
    let keyed = "create table wide (id int primary key, v int, filler text not null,
                   updated_at timestamptz not null default now());
                 create index on wide (updated_at);
                 insert into wide select n, 0, repeat('x', 300) from generate_series(1, 3000) n";
    let pair = Pair::unguarded(keyed, in_ranges).await;
    let reader: &dyn SourceReader = &Replayed(Arc::clone(&pair.reader), pair.source.pool().clone());
    let sync = || pair.loader.sync(reader, &[], false, &NO_TRACE);
    fail::cfg("loader.range.after_commit", "4*off->1*return").unwrap();
    sync().await.unwrap_err();
    fail::remove("loader.range.after_commit");
    let kept = landed(&pair).await;
    assert!(kept > 0);
    // Each new version goes to the table's end, into a range that has not landed.
    pair.in_source("update wide set v = 1").await;
    let report = sync().await.unwrap().tables.remove(0);
    assert_eq!(i64::try_from(report.kept), Ok(kept));
    let ids: (i64, i64) = sqlx::query_as("select count(*), count(distinct id) from raw.wide")
        .fetch_one(pair.warehouse.pool())
        .await
        .unwrap();
    assert_eq!(ids, (3000, 3000));
    assert_nothing_is_left(&pair).await;
}

static NO_TRACE: std::sync::LazyLock<TraceContext> =
    std::sync::LazyLock::new(TraceContext::default);

/// A source whose later changes are replayed from one place of its log.
struct Replayed(Arc<PostgresSource>, PgPool);

#[async_trait::async_trait]
impl SourceReader for Replayed {
    fn name(&self) -> &str {
        self.0.name()
    }

    async fn tables(&self) -> Result<Vec<TableSpec>, SourceError> {
        self.0.tables().await
    }

    async fn open(
        &self,
        spec: &TableSpec,
        _position: Option<&Position>,
    ) -> Result<Option<Segment>, SourceError> {
        let mut exporting = self.1.begin().await.unwrap();
        let snapshot: String = sqlx::query_scalar("select pg_export_snapshot()")
            .fetch_one(&mut *exporting)
            .await
            .unwrap();
        let opened = self.0.open_at(spec, &snapshot, "0/1").await;
        exporting.rollback().await.unwrap();
        opened.map(Some)
    }
}
