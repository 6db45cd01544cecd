//! A feed by hand into a real warehouse: what is committed, when, and what is refused.
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use ballpoint_postgres::testing::TestDatabase;
use ballpoint_runtime::records::{FeedItem, RefusedRow};
use ballpoint_runtime::segment::{Column, Position, Segment, SourceReader, TableSpec};
use ballpoint_runtime::store::Store;
use ballpoint_runtime::trace::TraceContext;
use bytes::Bytes;
use futures_util::stream;
use serde_json::json;

use super::*;
use crate::sync::tests::{one, run};

mod crashes;

/// Plays its items, and keeps the positions that it was asked to go on from.
struct Script {
    streams: Vec<StreamSpec>,
    items: Mutex<Option<Vec<Result<FeedItem, SourceError>>>>,
    asked: Mutex<Vec<Option<Position>>>,
}

#[async_trait]
impl SourceReader for Script {
    fn name(&self) -> &str {
        "script"
    }

    async fn tables(&self) -> Result<Vec<TableSpec>, SourceError> {
        Ok(Vec::new())
    }

    async fn open(
        &self,
        _: &TableSpec,
        _: Option<&Position>,
    ) -> Result<Option<Segment>, SourceError> {
        Ok(None)
    }

    fn records(&self) -> Option<&dyn RecordReader> {
        Some(self)
    }
}

#[async_trait]
impl RecordReader for Script {
    async fn streams(&self) -> Result<Vec<StreamSpec>, SourceError> {
        Ok(self.streams.clone())
    }

    async fn read(&self, streams: Vec<StreamRead>) -> Result<Option<Feed>, SourceError> {
        *self.asked.lock().unwrap() = streams.into_iter().map(|it| it.position).collect();
        let items = self.items.lock().unwrap().take();
        Ok(items.map(|items| stream::iter(items).boxed()))
    }
}

fn stream_of(name: &str, write: StreamWrite, columns: &[(&str, &str)]) -> StreamSpec {
    let columns = columns.iter().map(|(name, sql_type)| Column {
        name: (*name).to_owned(),
        sql_type: (*sql_type).to_owned(),
        not_null: false,
    });
    StreamSpec {
        table: TableName::new("public", name),
        columns: columns.collect(),
        primary_key: vec!["id".to_owned()],
        cursor: Some("at".to_owned()),
        write,
    }
}

const COLUMNS: [(&str, &str); 3] = [("id", "bigint"), ("at", "bigint"), ("name", "text")];

fn lines(stream: usize, text: &str) -> Result<FeedItem, SourceError> {
    Ok(FeedItem::Lines {
        stream,
        lines: Bytes::copy_from_slice(text.as_bytes()),
        rows: text.lines().count() as u64,
    })
}

fn state(stream: usize, at: u64) -> Result<FeedItem, SourceError> {
    let position = Position(json!({ "at": at }));
    Ok(FeedItem::State {
        positions: vec![(stream, position)],
    })
}

fn completed(stream: usize) -> Result<FeedItem, SourceError> {
    Ok(FeedItem::Completed { stream })
}

fn broken() -> Result<FeedItem, SourceError> {
    Err(SourceError::Read {
        source_name: "script".to_owned(),
        table: TableName::new("public", "users"),
        reason: "it died".to_owned(),
    })
}

struct Warehouse {
    database: TestDatabase,
    loader: Loader,
}

impl Warehouse {
    async fn new() -> Self {
        let database = TestDatabase::create().await;
        let store = Store::open(database.pool().clone()).await.unwrap();
        Self {
            loader: Loader::new(store, "raw"),
            database,
        }
    }

    async fn play(
        &self,
        streams: &[StreamSpec],
        items: Vec<Result<FeedItem, SourceError>>,
    ) -> (Result<SyncReport, SyncError>, Vec<Option<Position>>) {
        self.play_so(streams, items, false).await
    }

    async fn play_so(
        &self,
        streams: &[StreamSpec],
        items: Vec<Result<FeedItem, SourceError>>,
        full_refresh: bool,
    ) -> (Result<SyncReport, SyncError>, Vec<Option<Position>>) {
        let _loads = crate::sync::tests::CRASH_POINTS.read().await;
        let script = Arc::new(Script {
            streams: streams.to_vec(),
            items: Mutex::new(Some(items)),
            asked: Mutex::default(),
        });
        let trace = TraceContext::default();
        let synced = self
            .loader
            .sync(script.as_ref(), &[], full_refresh, &trace)
            .await;
        let asked = script.asked.lock().unwrap().clone();
        (synced, asked)
    }

    async fn text(&self, sql: &str) -> String {
        one::<Option<String>>(self.database.pool(), sql)
            .await
            .unwrap_or_default()
    }

    async fn users(&self) -> String {
        self.text("select string_agg(id || '=' || coalesce(name, '-'), ' ' order by id, name) from raw.users")
            .await
    }
}

#[tokio::test]
async fn what_a_state_covers_lands_with_it_and_what_comes_after_it_does_not() {
    let warehouse = Warehouse::new().await;
    let users = stream_of("users", StreamWrite::Append, &COLUMNS);
    let items = vec![
        lines(0, "0\t1\t1\ta\n0\t2\t1\t\\N\n"),
        state(0, 1),
        lines(0, "1\t3\t2\tc\n"),
        state(0, 2),
        lines(0, "2\t4\t3\tlost\n"),
        broken(),
    ];
    let (synced, asked) = warehouse.play(std::slice::from_ref(&users), items).await;
    let error = synced.unwrap_err();
    assert!(error.to_string().contains("it died"), "{error}");
    let SyncError::Tables { report, .. } = error else {
        panic!("the rows before the end are reported");
    };
    assert_eq!((report.tables[0].read, report.tables[0].inserted), (3, 3));
    assert_eq!(asked, [None]);
    assert_eq!(warehouse.users().await, "1=a 2=- 3=c");
    let items = vec![lines(0, "0\t4\t3\td\n"), state(0, 3), completed(0)];
    let (synced, asked) = warehouse.play(&[users], items).await;
    assert_eq!(synced.unwrap().changed(), 1);
    assert_eq!(asked, [Some(Position(json!({ "at": 2 })))]);
    assert_eq!(warehouse.users().await, "1=a 2=- 3=c 4=d");
}

#[tokio::test]
async fn of_rows_with_one_key_the_one_with_the_greatest_cursor_stays() {
    let warehouse = Warehouse::new().await;
    let users = stream_of("users", StreamWrite::Dedup, &COLUMNS);
    let items = vec![
        lines(0, "0\t1\t5\tnew\n0\t1\t4\told\n0\t2\t1\tb\n"),
        state(0, 1),
        completed(0),
    ];
    let (synced, _) = warehouse.play(std::slice::from_ref(&users), items).await;
    let table = &synced.unwrap().tables[0];
    assert_eq!((table.read, table.inserted, table.unchanged), (3, 2, 1));
    let items = vec![
        lines(0, "0\t1\t3\tolder\n0\t2\t1\tb\n0\t2\t2\tlater\n"),
        state(0, 2),
        completed(0),
    ];
    let (synced, _) = warehouse.play(&[users], items).await;
    let table = &synced.unwrap().tables[0];
    assert_eq!((table.inserted, table.updated), (0, 1));
    assert_eq!(warehouse.users().await, "1=new 2=later");
}

#[tokio::test]
async fn values_that_do_not_fit_are_kept_with_their_reason_and_nothing_is_lost() {
    let warehouse = Warehouse::new().await;
    let users = stream_of("users", StreamWrite::Dedup, &COLUMNS);
    let bad = RefusedRow {
        key: Some("line 9".to_owned()),
        column: None,
        reason: "no record".to_owned(),
        row: "\0?".to_owned(),
    };
    let items = vec![
        lines(
            0,
            "0\t1\t1\ta\n0\tx\t1\tb\n0\t3\t1\tc\n0\t\\N\t1\td\n0\t5\t1\t\0\n",
        ),
        Ok(FeedItem::Refused {
            stream: 0,
            row: bad,
        }),
        state(0, 1),
        completed(0),
    ];
    let (synced, _) = warehouse.play(&[users], items).await;
    let table = &synced.unwrap().tables[0];
    assert_eq!((table.read, table.inserted, table.rejected), (6, 2, 4));
    assert_eq!(warehouse.users().await, "1=a 3=c");
    let rejected = warehouse
        .text(
            "select string_agg(concat_ws('|', source, \"table\", key, \"column\", \"row\"), E'\\n'
                    order by \"row\") from raw._rejected",
        )
        .await;
    for part in [
        "script|public.users|x|id|{\"id\":\"x\",\"at\":\"1\",\"name\":\"b\"}",
        "script|public.users|{\"id\":null,\"at\":\"1\",\"name\":\"d\"}",
        "\\u0000",
        "line 9",
    ] {
        assert!(rejected.contains(part), "{part} in {rejected}");
    }
}

#[tokio::test]
async fn a_table_that_is_overwritten_stays_until_its_stream_is_complete() {
    let warehouse = Warehouse::new().await;
    let users = stream_of("users", StreamWrite::Overwrite, &COLUMNS);
    let items = vec![
        lines(0, "0\t1\t1\ta\n0\t1\t1\ta\n"),
        state(0, 1),
        completed(0),
    ];
    warehouse
        .play(std::slice::from_ref(&users), items)
        .await
        .0
        .unwrap();
    run(
        warehouse.database.pool(),
        "create view raw.names as select name from raw.users",
    )
    .await;
    let half = vec![lines(0, "0\t7\t1\thalf\n"), state(0, 2), broken()];
    warehouse
        .play(std::slice::from_ref(&users), half)
        .await
        .0
        .unwrap_err();
    assert_eq!(warehouse.users().await, "1=a 1=a");
    let other = stream_of(
        "users",
        StreamWrite::Overwrite,
        &[("id", "text"), ("name", "text")],
    );
    let items = vec![lines(0, "0\tseven\tb\n"), state(0, 3), completed(0)];
    let report = warehouse.play(&[other], items).await.0.unwrap();
    assert!(report.tables[0].replaced);
    assert_eq!(warehouse.users().await, "seven=b");
    assert_eq!(warehouse.text("select name from raw.names").await, "b");
}

#[tokio::test]
async fn a_full_refresh_of_an_incremental_stream_begins_anew_and_replaces_it() {
    let warehouse = Warehouse::new().await;
    let users = stream_of("users", StreamWrite::Dedup, &COLUMNS);
    let items = vec![lines(0, "0\t1\t1\ta\n"), state(0, 1), completed(0)];
    warehouse
        .play(std::slice::from_ref(&users), items)
        .await
        .0
        .unwrap();
    let items = vec![
        lines(0, "0\t2\t1\tb\n"),
        state(0, 2),
        lines(0, "1\t2\t2\tb2\n"),
        state(0, 3),
        completed(0),
    ];
    let (synced, asked) = warehouse
        .play_so(std::slice::from_ref(&users), items, true)
        .await;
    assert_eq!((synced.unwrap().tables[0].read, asked), (2, vec![None]));
    assert_eq!(warehouse.users().await, "2=b2");
    let (_, asked) = warehouse.play(&[users], vec![completed(0)]).await;
    assert_eq!(asked, [Some(Position(json!({ "at": 3 })))]);
}

#[tokio::test]
async fn columns_are_added_and_widened_under_views_and_old_rows_of_a_part_are_replaced() {
    let warehouse = Warehouse::new().await;
    let users = stream_of("users", StreamWrite::Append, &COLUMNS);
    let items = vec![
        lines(0, "0\t1\t1\tone\n0\t2\t1\ttwo\n0\t3\t1\tone\n"),
        state(0, 1),
        completed(0),
    ];
    warehouse.play(&[users], items).await.0.unwrap();
    run(
        warehouse.database.pool(),
        "create view raw.ids as select id from raw.users",
    )
    .await;
    let wider = [
        ("id", "bigint"),
        ("at", "bigint"),
        ("name", "text"),
        ("more", "jsonb"),
    ];
    let users = stream_of("users", StreamWrite::Append, &wider);
    let replaces = |value: &str| {
        Ok(FeedItem::Replaces {
            stream: 0,
            column: "name".to_owned(),
            value: value.to_owned(),
        })
    };
    let items = vec![
        replaces("one"),
        lines(0, "0\t4\t1\tone\t{\"a\": [1]}\n"),
        Ok(FeedItem::Widened {
            stream: 0,
            column: "id".to_owned(),
            sql_type: "numeric".to_owned(),
        }),
        lines(0, "0\t9223372036854775808\t1\tone\t\\N\n"),
        state(0, 2),
        replaces("two"),
        completed(0),
    ];
    let (synced, _) = warehouse.play(&[users], items).await;
    let report = synced.unwrap();
    assert!(report.tables[0].replaced, "rows of a part were replaced");
    assert_eq!(
        warehouse.users().await,
        "2=two 4=one 9223372036854775808=one"
    );
    let more = "select string_agg(id || coalesce(more::text, ''), ' ' order by id) from raw.users";
    assert_eq!(
        warehouse.text(more).await,
        "2 4{\"a\": [1]} 9223372036854775808"
    );
    assert_eq!(
        warehouse.text("select count(*)::text from raw.ids").await,
        "3"
    );
}

#[tokio::test]
async fn streams_that_take_turns_are_committed_apart_and_a_state_of_all_together() {
    let warehouse = Warehouse::new().await;
    let streams = [
        stream_of("users", StreamWrite::Append, &COLUMNS),
        stream_of("teams", StreamWrite::Append, &COLUMNS),
    ];
    let both = Position(json!({ "global": 1 }));
    let items = vec![
        lines(0, "0\t1\t1\ta\n"),
        lines(1, "0\t1\t1\tred\n"),
        Ok(FeedItem::State {
            positions: vec![(0, both.clone()), (1, both.clone())],
        }),
        lines(0, "1\t2\t1\tb\n"),
        lines(1, "1\t2\t1\tblue\n"),
        state(0, 2),
        completed(0),
        broken(),
    ];
    let (synced, _) = warehouse.play(&streams, items).await;
    synced.unwrap_err();
    assert_eq!(warehouse.users().await, "1=a 2=b");
    let teams = "select string_agg(name, ' ') from raw.teams";
    assert_eq!(warehouse.text(teams).await, "red");
    let (_, asked) = warehouse
        .play(&streams, vec![completed(0), completed(1)])
        .await;
    assert_eq!(asked, [Some(Position(json!({ "at": 2 }))), Some(both)]);
}

#[tokio::test]
async fn rows_marked_as_deleted_go_and_a_table_that_was_dropped_is_read_anew() {
    let warehouse = Warehouse::new().await;
    let columns = [
        ("id", "bigint"),
        ("at", "bigint"),
        ("name", "text"),
        ("_ab_cdc_deleted_at", "timestamp with time zone"),
    ];
    let users = stream_of("users", StreamWrite::Dedup, &columns);
    let items = vec![
        lines(0, "0\t1\t1\ta\t\\N\n0\t2\t1\tb\t\\N\n"),
        state(0, 1),
        completed(0),
    ];
    warehouse
        .play(std::slice::from_ref(&users), items)
        .await
        .0
        .unwrap();
    let items = vec![
        lines(0, "0\t1\t2\t\\N\t2026-01-01T00:00:00Z\n"),
        state(0, 2),
        completed(0),
    ];
    warehouse
        .play(std::slice::from_ref(&users), items)
        .await
        .0
        .unwrap();
    assert_eq!(warehouse.users().await, "2=b");
    run(warehouse.database.pool(), "drop table raw.users").await;
    let (_, asked) = warehouse.play(&[users], vec![completed(0)]).await;
    assert_eq!(asked, [None]);
}
