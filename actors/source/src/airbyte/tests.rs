//! Small connectors of shell: what they do wrong is said, and what they did right is kept.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::time::Instant;

use ballpoint_runtime::records::FeedItem;
use futures_util::StreamExt;
use serde_json::json;

use super::position::StreamPosition;
use super::*;

/// Says what it discovers; what it does when it reads is the test's.
const PRELUDE: &str = r#"#!/bin/sh
record() { echo '{"type":"RECORD","record":{"stream":"users","data":{"id":'$1',"name":"n'$1'"},"emitted_at":1.5}}'; }
state() { echo '{"type":"STATE","state":{"type":"STREAM","stream":{"stream_descriptor":{"name":"users"},"stream_state":{"id":'$1'}},"sourceStats":{"recordCount":'$2'.0}}}'; }
status() { echo '{"type":"TRACE","trace":{"type":"STREAM_STATUS","emitted_at":1,"stream_status":{"stream_descriptor":{"name":"users"},"status":"'$1'"}}}'; }
case $1 in
spec) echo '{"type":"SPEC","spec":{"connectionSpecification":{}}}' ;;
check) grep -q wrong "$3" && echo '{"type":"CONNECTION_STATUS","connectionStatus":{"status":"FAILED","message":"the password s3cr3t is wrong"}}' \
  || echo '{"type":"CONNECTION_STATUS","connectionStatus":{"status":"SUCCEEDED"}}' ;;
discover) echo run >> discoveries; echo '{"type":"CATALOG","catalog":{"streams":[{"name":"users","json_schema":{"properties":{"id":{"type":"integer"},"name":{"type":"string"}}},"supported_sync_modes":["full_refresh","incremental"],"source_defined_cursor":true,"source_defined_primary_key":[["id"]]}]}}' ;;
read) "#;

pub(crate) struct Made {
    folder: tempfile::TempDir,
    pub(crate) source: AirbyteSource,
}

fn made(read: &str, adjust: impl FnOnce(&mut AirbyteConfig)) -> Made {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("source-test");
    fs::write(&path, format!("{PRELUDE}\n{read}\n;;\nesac\n")).unwrap();
    let mut config = AirbyteConfig {
        name: "api".to_owned(),
        connector: Connector::Command(vec!["sh".to_owned(), path.display().to_string()]),
        config: json!({ "password": "s3cr3t" }),
        config_file: None,
        secrets: vec!["s3cr3t".to_owned()],
        streams: Vec::new(),
        mode: None,
        stream: BTreeMap::new(),
        folder: folder.path().to_owned(),
        connectors_dir: folder.path().join("connectors"),
        stall_timeout: Duration::from_secs(120),
    };
    adjust(&mut config);
    Made {
        source: AirbyteSource::new(config),
        folder,
    }
}

/// Reads from `position`: the records' count and the states' texts, then how it ended.
async fn read(
    made: &Made,
    position: Option<Position>,
) -> (u64, Vec<Option<String>>, Result<(), String>) {
    let streams = match made.source.streams().await {
        Ok(streams) => streams,
        Err(error) => return (0, Vec::new(), Err(error.to_string())),
    };
    let reads = streams.into_iter().map(|stream| StreamRead {
        stream,
        position: position.clone(),
    });
    let mut feed = match made.source.read(reads.collect()).await {
        Ok(feed) => feed.unwrap(),
        Err(error) => return (0, Vec::new(), Err(error.to_string())),
    };
    let (mut rows, mut states) = (0, Vec::new());
    while let Some(item) = feed.next().await {
        match item {
            Ok(FeedItem::Lines { rows: more, .. }) => rows += more,
            Ok(FeedItem::State { positions }) => {
                states.push(StreamPosition::parse(&positions[0].1).unwrap().airbyte);
            }
            Ok(_) => {}
            Err(error) => return (rows, states, Err(error.to_string())),
        }
    }
    (rows, states, Ok(()))
}

/// What reading says is wrong, with so many records and states before it.
async fn error_of(script: &str, rows: u64, states: usize) -> String {
    let made = made(script, |_| {});
    let (read_rows, read_states, ended) = read(&made, None).await;
    let error = ended.expect_err(script);
    assert_eq!(
        (read_rows, read_states.len()),
        (rows, states),
        "{script}: {error}"
    );
    error
}

#[tokio::test]
async fn a_stream_is_read_with_its_states_and_goes_on_from_the_last_one() {
    let script =
        "echo starting up; status STARTED; record 1; record 2; state 2 2; record 3; state 3 1
        status COMPLETE; while [ $# -gt 0 ]; do [ $1 = --state ] && cp $2 given-state; shift; done";
    let made = made(script, |_| {});
    let (rows, states, ended) = read(&made, None).await;
    assert_eq!((rows, ended), (3, Ok(())));
    assert_eq!(
        states.len(),
        3,
        "the completion covers what is left: {states:?}"
    );
    assert!(!made.folder.path().join("given-state").exists());
    let position = StreamPosition {
        airbyte: states[1].clone(),
        order: 2,
        cursor: Vec::new(),
    };
    let (.., ended) = read(&made, Some(position.into_position())).await;
    assert_eq!(ended, Ok(()));
    let given = fs::read_to_string(made.folder.path().join("given-state")).unwrap();
    assert_eq!(
        given,
        format!("[{}]", states[1].as_ref().unwrap()),
        "verbatim"
    );
    let log = fs::read_to_string(made.source.log.path()).unwrap();
    assert!(log.contains("starting up"), "{log}");
    let discoveries = fs::read_to_string(made.folder.path().join("discoveries")).unwrap();
    assert_eq!(discoveries.lines().count(), 1, "the catalog is kept");
}

#[tokio::test]
async fn what_goes_wrong_is_said_and_what_a_state_covers_counts() {
    let error = error_of(
        "record 1; state 1 1; record 2; echo 'out of luck' >&2; exit 3",
        1,
        1,
    )
    .await;
    assert!(error.contains("before the stream was complete"), "{error}");
    assert!(
        error.contains("out of luck") && error.contains("connector.log"),
        "{error}"
    );
    let error = error_of("record 1; state 1 1; record 2; kill -9 $$", 1, 1).await;
    assert!(error.contains("signal: 9"), "{error}");
    let error = error_of("record 1; state 1 2; record 2", 0, 0).await;
    assert!(
        error.contains("sent 2 records before its state, and 1 arrived"),
        "{error}"
    );
    let incomplete = r#"record 1; state 1 1; status INCOMPLETE
        echo '{"type":"TRACE","trace":{"type":"ERROR","error":{"message":"HTTP 500 with s3cr3t"}}}'"#;
    let error = error_of(incomplete, 1, 1).await;
    assert!(error.contains("HTTP 500 with ***"), "{error}");
    let error = error_of("echo hello; echo '[1]'; echo '{\"a\": 1}'", 0, 0).await;
    assert!(
        error.contains("no message of the Airbyte protocol") && error.contains("hello"),
        "{error}"
    );
    let error = error_of("exit 0", 0, 0).await;
    assert!(error.contains("but nothing"), "{error}");
    let stray = r#"echo '{"type":"RECORD","record":{"stream":"teams","data":{}}}'"#;
    let error = error_of(stray, 0, 0).await;
    assert!(
        error.contains("teams, which it was not asked for"),
        "{error}"
    );
}

#[tokio::test]
async fn garbage_between_messages_is_passed_over() {
    let script = "echo 'Warning: {'; record 1; echo; printf '\\377\\n'; state 1 1; echo '{}'; status COMPLETE; printf 'no end'";
    let (rows, _, ended) = read(&made(script, |_| {}), None).await;
    assert_eq!((rows, ended), (1, Ok(())));
}

#[tokio::test]
async fn a_connector_that_stalls_or_never_ends_a_line_is_stopped_with_all_it_started() {
    let stall = |config: &mut AirbyteConfig| config.stall_timeout = Duration::from_secs(8);
    let script = "trap '' TERM; sh -c 'echo $$ > child; exec sleep 600' &
        while [ ! -s child ]; do sleep 0.1; done; record 1; state 1 1; sleep 600";
    let made = made(script, stall);
    let (rows, _, ended) = read(&made, None).await;
    let error = ended.unwrap_err();
    assert!(rows == 1 && error.contains("wrote nothing for"), "{error}");
    until_gone(&made.folder.path().join("child")).await;
    let endless = "tr '\\0' x < /dev/zero";
    let started = Instant::now();
    let (.., ended) = read(&self::made(endless, |_| {}), None).await;
    let error = ended.unwrap_err();
    assert!(
        error.contains("64 MiB without the end of a line"),
        "{error}"
    );
    assert!(started.elapsed() < Duration::from_secs(100));
}

#[tokio::test]
async fn a_connector_that_nobody_listens_to_any_more_is_killed() {
    let script = "echo $$ > pid; trap '' TERM; while :; do record 1; done";
    let made = made(script, |_| {});
    let streams = made.source.streams().await.unwrap();
    let reads = streams.into_iter().map(|stream| StreamRead {
        stream,
        position: None,
    });
    let mut feed = made.source.read(reads.collect()).await.unwrap().unwrap();
    feed.next().await.unwrap().unwrap();
    drop(feed);
    until_gone(&made.folder.path().join("pid")).await;
}

/// Waits for the end of the process that wrote its id there: it is gone, or nobody has asked about it.
async fn until_gone(pid: &std::path::Path) {
    let pid = fs::read_to_string(pid).unwrap();
    let stat = format!("/proc/{}/stat", pid.trim());
    let deadline = Instant::now() + Duration::from_secs(60);
    while fs::read_to_string(&stat).is_ok_and(|it| !it.contains(") Z ")) {
        assert!(Instant::now() < deadline, "it lives on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn records_without_a_state_land_where_they_cannot_be_doubled() {
    let script = "record 1; record 2; status COMPLETE";
    let whole = made(script, |config| config.mode = Some(Mode::FullRefresh));
    let (rows, states, ended) = read(&whole, None).await;
    assert_eq!((rows, states, ended), (2, vec![None], Ok(())));
    let (rows, states, ended) = read(&made(script, |_| {}), None).await;
    assert_eq!(
        (rows, states, ended),
        (2, vec![None], Ok(())),
        "by primary key"
    );
    let append = made(script, |config| config.mode = Some(Mode::IncrementalAppend));
    let (_, states, ended) = read(&append, None).await;
    let error = ended.unwrap_err();
    assert!(
        states.is_empty() && error.contains("without a state for its last 2 records"),
        "{error}"
    );
    // One that knows no statuses is believed its exit code.
    let old = "record 1; state 1 1";
    assert_eq!(read(&made(old, |_| {}), None).await.2, Ok(()));
    error_of("record 1; state 1 1; exit 1", 1, 1).await;
}

#[tokio::test]
async fn a_state_of_everything_is_given_back_and_a_new_stream_begins_anew() {
    let state = r#"echo '{"type":"STATE","state":{"type":"GLOBAL","global":{"shared_state":{"lsn":7},"stream_states":[{"stream_descriptor":{"name":"users"},"stream_state":{}}]}}}'"#;
    let script = format!(
        "record 1; {state}; status COMPLETE
         while [ $# -gt 0 ]; do [ $1 = --state ] && cp $2 given-state; shift; done"
    );
    let made = made(&script, |_| {});
    let (_, states, ended) = read(&made, None).await;
    assert_eq!(ended, Ok(()));
    let position = StreamPosition {
        airbyte: states[0].clone(),
        order: 1,
        cursor: Vec::new(),
    };
    let (.., ended) = read(&made, Some(position.into_position())).await;
    assert_eq!(ended, Ok(()));
    let given = fs::read_to_string(made.folder.path().join("given-state")).unwrap();
    assert_eq!(given, format!("[{}]", states[0].as_ref().unwrap()));
}

#[tokio::test]
async fn a_check_says_how_streams_are_kept_or_what_the_connector_finds_wrong() {
    let made = made("", |_| {});
    let choices = made.source.check().await.unwrap();
    assert_eq!(choices[0].table.to_string(), "public.users");
    assert_eq!(choices[0].way, "incremental");
    assert_eq!(made.source.known_tables().unwrap().len(), 1);
    let wrong = self::made("", |config| {
        config.config = json!({ "password": "wrong s3cr3t" })
    });
    let error = wrong.source.check().await.unwrap_err().to_string();
    assert!(error.contains("the password *** is wrong"), "{error}");
    assert!(wrong.source.known_tables().is_none());
    let missing = self::made("", |config| {
        config.connector = Connector::Command(vec!["/nowhere/source".to_owned()]);
    });
    let error = missing.source.check().await.unwrap_err().to_string();
    assert!(
        error.contains("/nowhere/source cannot be started"),
        "{error}"
    );
}

#[tokio::test]
async fn a_configuration_that_the_connector_changes_is_used_until_ours_changes() {
    let script = r#"echo '{"type":"CONTROL","control":{"type":"CONNECTOR_CONFIG","connectorConfig":{"config":{"token":"next"}}}}'; cp $3 given-config; status COMPLETE"#;
    let made = made(script, |_| {});
    let given = || fs::read_to_string(made.folder.path().join("given-config")).unwrap();
    read(&made, None).await.2.unwrap();
    assert!(given().contains("s3cr3t"));
    read(&made, None).await.2.unwrap();
    assert_eq!(given(), "{\"token\":\"next\"}");
    let mut config = made.source.config.clone();
    config.config = json!({ "password": "newer" });
    let source = AirbyteSource::new(config);
    assert_eq!(source.connector_config().unwrap()["password"], "newer");
}
