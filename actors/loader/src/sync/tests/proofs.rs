//! Every sync ends with counts that add up; one that is asked to compares the tables with the source.

use std::sync::atomic::AtomicU64;

use ballpoint_runtime::segment::{Position, Segment};

use super::*;
use crate::error::LoadError;

async fn verified(pair: &Pair) -> Result<SyncReport, SyncError> {
    let loader = pair.loader.clone().proving();
    let trace = TraceContext::default();
    loader.sync(pair.reader.as_ref(), &[], false, &trace).await
}

/// The difference that the first failing table was reported with.
fn difference(outcome: Result<SyncReport, SyncError>) -> (crate::Proof, String) {
    let error = outcome.unwrap_err();
    let text = error.to_string();
    let SyncError::Tables { mut failures, .. } = error else {
        panic!("{text}");
    };
    match failures.remove(0).error {
        LoadError::Differs { proof, .. } => (*proof, text),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_table_that_equals_its_source_is_proved_before_and_after_a_change() {
    let pair = Pair::with(ORDERS).await;
    for round in 0..3 {
        let proof = verified(&pair).await.unwrap().tables[0].proof.clone();
        let proof = proof.expect("it was asked for");
        assert_eq!(
            (proof.source.rows, &proof.raw),
            (500 + round, &proof.source)
        );
        pair.in_source(
            "insert into orders (customer, amount, note) values ('späte\\Zeile,\"x\"', 'NaN', 'null');
             update orders set amount = -0.00, updated_at = clock_timestamp() where id = 7",
        )
        .await;
    }
}

#[tokio::test]
async fn a_tampered_raw_row_is_found_and_said_with_table_and_counts() {
    let pair = Pair::with(ORDERS).await;
    pair.sync().await;
    for (tampering, rows, words) in [
        (
            "update raw.orders set amount = 1.00 where id = 9",
            500,
            "checksums differ",
        ),
        ("delete from raw.orders where id = 9", 499, "499 in raw"),
        (
            "insert into raw.orders select (jsonb_populate_record(r, '{\"id\": -3}')).*
             from raw.orders r where id = 3",
            500,
            "500 in raw",
        ),
    ] {
        pair.in_warehouse(tampering).await;
        let (proof, text) = difference(verified(&pair).await);
        assert_eq!((proof.source.rows, proof.raw.rows), (500, rows), "{text}");
        assert!(
            text.contains("raw.orders") && text.contains(words),
            "{text}"
        );
    }
}

/// Sends the same rows as the source, and says that there was one more.
struct Miscounting(Arc<PostgresSource>);

#[async_trait::async_trait]
impl SourceReader for Miscounting {
    fn name(&self) -> &str {
        self.0.name()
    }

    async fn tables(&self) -> Result<Vec<TableSpec>, SourceError> {
        self.0.tables().await
    }

    async fn open(
        &self,
        spec: &TableSpec,
        position: Option<&Position>,
    ) -> Result<Option<Segment>, SourceError> {
        let segment = self.0.open(spec, position).await?;
        Ok(segment.map(|segment| Segment {
            sent: Some(Arc::new(AtomicU64::new(501))),
            ..segment
        }))
    }
}

#[tokio::test]
async fn a_load_whose_counts_do_not_add_up_keeps_nothing() {
    let pair = Pair::with(ORDERS).await;
    let reader = Miscounting(Arc::clone(&pair.reader));
    let trace = TraceContext::default();
    let outcome = pair.loader.sync(&reader, &[], false, &trace).await;
    let text = outcome.unwrap_err().to_string();
    for words in ["public.orders", "501 rows", "500 landed", "0 were rejected"] {
        assert!(text.contains(words), "{text}");
    }
    let there: Option<String> = one(
        pair.warehouse.pool(),
        "select to_regclass('raw.orders')::text",
    )
    .await;
    assert_eq!(there, None);
}

#[tokio::test]
async fn each_appended_refresh_is_a_generation_of_its_own() {
    let pair = Pair::configured(
        "create table t (id int); insert into t values (1), (2)",
        |config| {
            config.mode = Some(ballpoint_source::Mode::FullRefreshAppend);
        },
    )
    .await;
    pair.sync().await;
    pair.in_source("delete from t where id = 1; insert into t values (3)")
        .await;
    pair.sync().await;
    pair.in_source("insert into t values (4)").await;
    let report = verified(&pair).await.unwrap();
    assert_eq!(report.tables[0].inserted, 3);
    let generations: Vec<(i64, Vec<i32>)> = sqlx::query_as(
        "select _airbyte_generation_id, array_agg(id order by id) from raw.t group by 1 order by 1",
    )
    .fetch_all(pair.warehouse.pool())
    .await
    .unwrap();
    let expected = [(1, vec![1, 2]), (2, vec![2, 3]), (3, vec![2, 3, 4])];
    assert_eq!(generations, expected);
}
