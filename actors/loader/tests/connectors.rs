//! Connectors and files into a real warehouse, through the library that every command uses.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ballpoint_loader::{Loader, SyncError, SyncReport};
use ballpoint_postgres::testing::TestDatabase;
use ballpoint_runtime::segment::SourceReader;
use ballpoint_runtime::store::Store;
use ballpoint_runtime::trace::TraceContext;
use ballpoint_source::config::Mode;
use ballpoint_source::{AirbyteConfig, AirbyteSource, Connector, FileConfig, FileSource};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

const PATIENCE: Duration = Duration::from_secs(180);

struct Warehouse {
    database: TestDatabase,
    loader: Loader,
    folder: tempfile::TempDir,
}

impl Warehouse {
    async fn new() -> Self {
        let database = TestDatabase::create().await;
        let store = Store::open(database.pool().clone()).await.unwrap();
        Self {
            loader: Loader::new(store, "raw"),
            database,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    async fn try_sync(&self, source: &dyn SourceReader) -> Result<SyncReport, SyncError> {
        let trace = TraceContext::default();
        self.loader.sync(source, &[], false, &trace).await
    }

    async fn sync(&self, source: &dyn SourceReader) -> SyncReport {
        self.try_sync(source).await.unwrap()
    }

    async fn text(&self, sql: &str) -> String {
        let text: Option<String> = sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
            .fetch_one(self.database.pool())
            .await
            .unwrap();
        text.unwrap_or_default()
    }

    async fn count(&self, table: &str) -> u64 {
        let there = format!("select to_regclass('{table}')::text");
        if self.text(&there).await.is_empty() {
            return 0;
        }
        let count = format!("select count(*)::text from {table}");
        self.text(&count).await.parse().unwrap()
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn files(&self, path: &str, adjust: impl FnOnce(&mut FileConfig)) -> FileSource {
        let mut config = FileConfig {
            name: "sales".to_owned(),
            path: path.to_owned(),
            folder: self.folder.path().to_owned(),
            table: None,
            format: None,
            delimiter: None,
            quote: b'"',
            header: true,
            null_values: vec![String::new()],
            mode: None,
            primary_key: Vec::new(),
            cursor: None,
            state_dir: self.folder.path().join("state"),
        };
        adjust(&mut config);
        FileSource::new(config)
    }

    fn connector(&self, command: Vec<String>, config: Value, streams: &[&str]) -> AirbyteSource {
        AirbyteSource::new(AirbyteConfig {
            name: "api".to_owned(),
            connector: Connector::Command(command),
            config,
            config_file: None,
            secrets: Vec::new(),
            streams: streams.iter().map(|it| (*it).to_owned()).collect(),
            mode: None,
            stream: BTreeMap::new(),
            folder: self.folder.path().to_owned(),
            connectors_dir: self.folder.path().join("connectors"),
            stall_timeout: PATIENCE,
        })
    }
}

#[tokio::test]
async fn files_of_both_formats_land_with_types_of_their_values() {
    let warehouse = Warehouse::new().await;
    warehouse.write(
        "in/1.csv",
        "\u{feff}id,code,price,day,at,note,id\n\
         1,007,1.50,2026-01-02,2026-01-02T03:04:05Z,\"a \"\"b\"\",\nc\",x\n\
         2,010,,2026-01-03,2026-01-02 03:04:05.123456+02,,y\n",
    );
    let csv = warehouse.files("in/*.csv", |_| {});
    let report = warehouse.sync(&csv).await;
    assert_eq!((report.tables[0].read, report.tables[0].inserted), (2, 2));
    let columns = "select string_agg(attname || ' ' || format_type(atttypid, -1), ', ' order by attnum)
                   from pg_attribute where attrelid = 'raw.sales'::regclass and attnum between 1 and 9";
    assert_eq!(
        warehouse.text(columns).await,
        "id bigint, code text, price numeric, day date, at timestamp with time zone, note text, \
         id_2 text, _ab_source_file_url text, _ab_source_file_last_modified timestamp with time zone"
    );
    let rows =
        "select string_agg(concat_ws('|', id, code, price, day, at at time zone 'UTC', note, id_2,
                  _ab_source_file_url), E'\\n' order by id) from raw.sales";
    assert_eq!(
        warehouse.text(rows).await,
        "1|007|1.50|2026-01-02|2026-01-02 03:04:05|a \"b\",\nc|x|in/1.csv\n\
         2|010|2026-01-03|2026-01-02 01:04:05.123456|y|in/1.csv"
    );
    warehouse.write(
        "in/a.ndjson",
        "{\"id\": 1, \"big\": 12345678901234567890.12, \"tags\": [1, {\"k\": null}]}\n\n\
         {\"id\": 2.5, \"tags\": null, \"text\": \"tab\\there\"}\n",
    );
    let ndjson = warehouse.files("in/a.ndjson", |config| {
        config.table = Some("docs".to_owned())
    });
    warehouse.sync(&ndjson).await;
    let rows =
        "select string_agg(concat_ws('|', id, big, tags, text), E'\\n' order by id) from raw.docs";
    assert_eq!(
        warehouse.text(rows).await,
        "1|12345678901234567890.12|[1, {\"k\": null}]\n2.5|tab\there"
    );
}

/// One member of a compressed file: several, one after another, are one file too.
fn compressed(text: &str) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn compressed_files_are_read_as_what_they_hold() {
    let warehouse = Warehouse::new().await;
    let parts = [compressed("id,name\n1,one\n"), compressed("2,two\n")];
    warehouse.write("in/a.csv.gz", parts.concat());
    warehouse.write("in/b.csv", "id,name\n3,three\n");
    let csv = warehouse.files("in/*.csv*", |_| {});
    let report = warehouse.sync(&csv).await;
    assert_eq!((report.tables[0].read, report.tables[0].inserted), (3, 3));
    let rows = "select string_agg(concat_ws('|', id, name, _ab_source_file_url), ' ' order by id)
                from raw.sales";
    let loaded = "1|one|in/a.csv.gz 2|two|in/a.csv.gz 3|three|in/b.csv";
    assert_eq!(warehouse.text(rows).await, loaded);
    assert_eq!(warehouse.sync(&csv).await.changed(), 0);
    let lines = warehouse.files("in/c.NDJSON.GZ", |config| {
        config.table = Some("lines".to_owned());
    });
    let text = "{\"id\": 4, \"tags\": [1]}\n";
    warehouse.write("in/c.NDJSON.GZ", compressed(text));
    warehouse.sync(&lines).await;
    let landed = warehouse
        .text("select concat(id + 1, tags) from raw.lines")
        .await;
    assert_eq!(landed, "5[1]");
    // Cut off: the rows that it held stay until it can be read whole.
    let cut = &parts.concat()[..parts[0].len() + 12];
    warehouse.write("in/a.csv.gz", cut);
    let error = format!("{:?}", warehouse.try_sync(&csv).await.unwrap_err());
    assert!(error.contains("in/a.csv.gz"), "{error}");
    assert_eq!(warehouse.text(rows).await, loaded);
}

#[tokio::test]
async fn each_file_is_loaded_once_and_one_that_changes_takes_the_place_of_its_rows() {
    let warehouse = Warehouse::new().await;
    warehouse.write("in/a.csv", "id,name\n1,a\n2,b\n");
    warehouse.write("in/b.csv", "id,name\n3,c\n");
    let source = warehouse.files("in/*.csv", |_| {});
    assert_eq!(warehouse.sync(&source).await.changed(), 3);
    assert_eq!(warehouse.sync(&source).await.tables[0].read, 0);
    warehouse.write("in/c.csv", "id,name,more\n4,d,true\n");
    assert_eq!(warehouse.sync(&source).await.changed(), 1);
    // Longer, of another type, with a value less; touched and otherwise the same.
    warehouse.write("in/a.csv", "id,name\nx1,a\n");
    warehouse.write("in/b.csv", "id,name\n3,c\n");
    let report = warehouse.sync(&source).await;
    assert_eq!(
        (report.tables[0].read, report.tables[0].replaced),
        (1, true)
    );
    let rows =
        "select string_agg(id || name || coalesce(more::text, ''), ' ' order by id) from raw.sales";
    assert_eq!(warehouse.text(rows).await, "3c 4dtrue x1a");
    std::fs::remove_file(warehouse.folder.path().join("in/a.csv")).unwrap();
    assert_eq!(warehouse.sync(&source).await.tables[0].read, 0);
    assert_eq!(warehouse.count("raw.sales").await, 3);
    let whole = warehouse.files("in/*.csv", |config| config.mode = Some(Mode::FullRefresh));
    assert!(warehouse.sync(&whole).await.tables[0].replaced);
    assert_eq!(
        warehouse.count("raw.sales").await,
        2,
        "what is gone is gone"
    );
    assert_eq!(warehouse.sync(&whole).await.tables[0].read, 0);
    let keyed = warehouse.files("in/*.csv", |config| {
        config.primary_key = vec!["id".to_owned()]
    });
    warehouse.sync(&keyed).await;
    warehouse.write("in/d.csv", "id,name\n4,later\n");
    let report = warehouse.sync(&keyed).await;
    assert_eq!(
        (report.tables[0].inserted, report.tables[0].updated),
        (0, 1)
    );
}

#[tokio::test]
async fn lines_that_are_no_rows_are_kept_with_their_number() {
    let warehouse = Warehouse::new().await;
    let mut csv = b"id;name\n1;a\n2\n3;b;c\n4;\xff\n".to_vec();
    csv.extend_from_slice(b"5;e\n");
    warehouse.write("in/a.csv", csv);
    let source = warehouse.files("in/a.csv", |config| config.delimiter = Some(b';'));
    let report = warehouse.sync(&source).await;
    let table = &report.tables[0];
    assert_eq!((table.read, table.inserted, table.rejected), (5, 2, 3));
    let rejected =
        "select string_agg(key || ' ' || reason, E'\\n' order by key) from raw._rejected";
    assert_eq!(
        warehouse.text(rejected).await,
        "in/a.csv:3 the row has 1 fields, and the file 2 columns\n\
         in/a.csv:4 the row has 3 fields, and the file 2 columns\n\
         in/a.csv:5 field 2 \"name\" is not UTF-8"
    );
    warehouse.write(
        "in/b.jsonl",
        "{\"id\": 1}\n[2]\n{\"id\": \n{\"id\": 4}\n{\"id\": \"\\u0000\"}\n",
    );
    let source = warehouse.files("in/b.jsonl", |config| {
        config.table = Some("docs".to_owned())
    });
    let table = warehouse.sync(&source).await.tables.remove(0);
    assert_eq!((table.read, table.inserted, table.rejected), (5, 2, 3));
    let error = warehouse.files("in/*.xml", |_| {});
    let error = warehouse.try_sync(&error).await.unwrap_err().to_string();
    assert!(error.contains("no file matches in/*.xml"), "{error}");
}

/// Rows by the hundred, states in between, and a pause at which it is killed.
const NUMBERS: &str = r#"
import json, os, sys, time
args = dict(zip(sys.argv[2::2], sys.argv[3::2]))
say = lambda kind, **body: print(json.dumps({"type": kind, **body}), flush=True)
status = lambda s: say("TRACE", trace={"type": "STREAM_STATUS", "emitted_at": 1, "stream_status": {"stream_descriptor": {"name": "numbers"}, "status": s}})
if sys.argv[1] == "discover":
    say("CATALOG", catalog={"streams": [{"name": "numbers", "json_schema": {"properties": {"n": {"type": "integer"}, "text": {"type": ["null", "string"]}}}, "supported_sync_modes": ["full_refresh", "incremental"], "source_defined_cursor": True}]})
if sys.argv[1] == "read":
    at = 0
    if "--state" in args:
        at = json.load(open(args["--state"]))[0]["stream"]["stream_state"]["n"]
    status("STARTED")
    while at < 3000:
        for n in range(at, at + 100):
            say("RECORD", record={"stream": "numbers", "data": {"n": n, "text": "x" * (n % 50)}, "emitted_at": 1})
        at += 100
        say("STATE", state={"type": "STREAM", "stream": {"stream_descriptor": {"name": "numbers"}, "stream_state": {"n": at}}, "sourceStats": {"recordCount": 100.0}})
        if at == int(json.load(open(args["--config"]))["pause_at"]) and not os.path.exists("paused"):
            open("paused", "w").close()
            say("RECORD", record={"stream": "numbers", "data": {"n": at}, "emitted_at": 1})
            time.sleep(600)
    status("COMPLETE")
"#;

/// Stopped in the middle, the sync goes on from the last state: no number is lost, none is doubled,
/// though the table has no key.
#[tokio::test]
async fn a_read_that_is_stopped_goes_on_from_its_last_state() {
    let warehouse = Warehouse::new().await;
    warehouse.write("numbers.py", NUMBERS);
    let script = warehouse.folder.path().join("numbers.py");
    let command = vec!["python3".to_owned(), script.display().to_string()];
    let source = Arc::new(warehouse.connector(command, json!({ "pause_at": 1700 }), &[]));
    let first = tokio::spawn({
        let (loader, source) = (warehouse.loader.clone(), Arc::clone(&source));
        async move {
            let trace = TraceContext::default();
            loader.sync(source.as_ref(), &[], false, &trace).await
        }
    });
    let deadline = Instant::now() + PATIENCE;
    // What a state has covered is committed while the connector works on.
    while warehouse.count("raw.numbers").await < 1700 {
        assert!(
            Instant::now() < deadline,
            "the covered rows are not committed"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    first.abort();
    let _ = first.await;
    assert_eq!(warehouse.count("raw.numbers").await, 1700);
    let report = warehouse.sync(source.as_ref()).await;
    assert_eq!(report.tables[0].read, 1300);
    let sum =
        "select count(*) || ' ' || count(distinct n) || ' ' || sum(n) || ' ' || sum(length(text))
               from raw.numbers";
    let letters: u64 = (0..3000_u64).map(|n| n % 50).sum();
    assert_eq!(
        warehouse.text(sum).await,
        format!("3000 3000 4498500 {letters}")
    );
}

/// The virtual environment that `tools/setup test` fills.
fn environment() -> PathBuf {
    let cache = || std::env::var("XDG_CACHE_HOME").ok().map(PathBuf::from);
    let home = || std::env::var("HOME").map(|home| Path::new(&home).join(".cache"));
    let path = match std::env::var("BALLPOINT_CONNECTORS_VENV") {
        Ok(path) => PathBuf::from(path),
        Err(_) => cache()
            .unwrap_or_else(|| home().unwrap())
            .join("ballpoint/connectors-venv"),
    };
    assert!(
        path.join("bin/source-faker").is_file(),
        "{} has no source-faker: run tools/setup test",
        path.display()
    );
    path
}

/// A real connector: its users land with the right count, stopped half-way and started again from the
/// last state. `BALLPOINT_FAKER_USERS` says how many; the figures are of 100,000.
///
/// With a state in hand this connector either sends all of its users again, as newer versions, or, told
/// not to, none: it never goes on in the middle. Both must leave each user once.
#[tokio::test]
async fn airbyte_s_faker_lands_every_user_and_goes_on_from_its_last_state() {
    let users: u64 =
        std::env::var("BALLPOINT_FAKER_USERS").map_or(4000, |users| users.parse().unwrap());
    let warehouse = Warehouse::new().await;
    let source = |always_updated: bool| {
        let program = environment().join("bin/source-faker");
        let config = json!({ "count": users, "seed": 7, "records_per_slice": 500, "parallelism": 2,
                             "always_updated": always_updated });
        let command = vec![program.display().to_string()];
        Arc::new(warehouse.connector(command, config, &["users", "products"]))
    };
    let choices = source(true).check().await.unwrap();
    assert_eq!(choices.len(), 2, "{choices:?}");
    let started = Instant::now();
    let first = tokio::spawn({
        let (loader, source) = (warehouse.loader.clone(), source(true));
        async move {
            let trace = TraceContext::default();
            loader.sync(source.as_ref(), &[], false, &trace).await
        }
    });
    let landed = "select count(*)::text from ballpoint.checkpoints where table_name = 'users'";
    while warehouse.text(landed).await == "0" && !first.is_finished() {
        assert!(
            started.elapsed() < PATIENCE,
            "no state of users is committed"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    first.abort();
    let _ = first.await;
    let before = warehouse.count("raw.users").await;
    assert!(before > 0 && before <= users, "{before}");
    let resumed = Instant::now();
    let report = warehouse.sync(source(true).as_ref()).await;
    let table = report.tables.iter().find(|it| it.table.name == "users");
    let table = table.unwrap();
    println!(
        "{users} users: {before} landed before the stop; after it {} read, {} of them new, in {:.1} s",
        table.read,
        table.inserted,
        resumed.elapsed().as_secs_f64()
    );
    assert_eq!((table.read, table.inserted), (users, users - before));
    let given = warehouse
        .folder
        .path()
        .join("connectors/api/given/state.json");
    let given = std::fs::read_to_string(given).unwrap();
    assert!(
        given.contains("loop_offset"),
        "the last state was handed back: {given}"
    );
    let counts = "select count(*) || ' ' || count(distinct id) || ' ' || min(id) || ' ' || max(id)
                  from raw.users where email is not null and created_at is not null";
    let whole = format!("{users} {users} 1 {users}");
    assert_eq!(warehouse.text(counts).await, whole);
    assert_eq!(warehouse.count("raw.products").await, 100);
    let again = warehouse.sync(source(false).as_ref()).await;
    assert_eq!(again.changed(), 0, "{again:?}");
    assert_eq!(warehouse.text(counts).await, whole);
}
