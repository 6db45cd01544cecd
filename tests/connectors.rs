//! Sources that are no databases, as their users meet them: `check`, `sync`, `up`, and a kill -9.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use ballpoint_postgres::testing::TestDatabase;
use serde_json::Value;
use sqlx::AssertSqlSafe;

use crate::support::{Folder, PATIENCE, Stack, StopCluster, ballpoint, finish, until};

/// A project of one source that lands in a warehouse of its own.
struct Project {
    folder: Folder,
    warehouse: TestDatabase,
}

impl Project {
    async fn new(source: &str) -> Self {
        let project = Self {
            folder: Folder::new(),
            warehouse: TestDatabase::create().await,
        };
        let config = format!(
            "[project]\nname = \"shop\"\n[warehouse]\nurl = \"{}\"\n[sources.shop]\n{source}",
            project.warehouse.url()
        );
        project.write("ballpoint.toml", &config);
        project
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        self.run_with(arguments, &[])
    }

    fn run_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> (i32, String, String) {
        let mut command = ballpoint(&self.data_dir());
        command.envs(environment.iter().copied());
        finish(command.args(arguments).current_dir(self.folder.path()))
    }

    /// A path in the project's folder.
    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    async fn text(&self, sql: &str) -> Option<String> {
        let row = sqlx::query_scalar(AssertSqlSafe(sql.to_owned()));
        row.fetch_one(self.warehouse.pool()).await.ok().flatten()
    }
}

const FILES: &str = "kind = \"file\"\npath = \"in/*.csv\"\ninterval = \"100ms\"\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_checked_synced_and_noticed_when_they_change() {
    let project = Project::new(FILES).await;
    let (code, _, stderr) = project.run(&["check"]);
    assert_eq!(code, 1, "{stderr}");
    assert!(
        stderr.contains("source shop: ") && stderr.contains("/in: "),
        "{stderr}"
    );
    project.write("in/a.csv", "id,price\n1,1.50\n2,oops\n");
    let (code, stdout, stderr) = project.run(&["check"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(
        stdout.contains("shop: shop is made of 1 files: id bigint, price text"),
        "{stdout}"
    );
    let (code, stdout, stderr) = project.run(&["sync", "--json"]);
    assert_eq!(code, 0, "{stderr}");
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(report["rows_loaded"], 2, "{report}");
    assert_eq!(report["tables"][0]["raw"], "raw.shop");
    let mut stack = Stack::launch(&project.data_dir(), |command| {
        command.current_dir(project.folder.path());
    });
    stack.until_ready().await;
    project.write("in/b.csv", "id,price\n3,7\n");
    let ids = "select string_agg(id::text, ' ' order by id) from raw.shop";
    until("the new file has landed", PATIENCE, || async {
        (project.text(ids).await? == "1 2 3").then_some(())
    })
    .await;
    project.write("in/a.csv", "id,price\n9,1.50\n");
    until(
        "the changed file has taken its rows' place",
        PATIENCE,
        || async { (project.text(ids).await? == "3 9").then_some(()) },
    )
    .await;
    stack.stop();
}

/// Sends numbers with a state after every hundred, waits at 1,000 until it may go on, and fails its
/// check for a wrong key.
const NUMBERS: &str = r#"#!/usr/bin/env python3
import json, os, sys, time
args = dict(zip(sys.argv[2::2], sys.argv[3::2]))
say = lambda kind, **body: print(json.dumps({"type": kind, **body}), flush=True)
if "--config" in args:
    key = json.load(open(args["--config"]))["api_key"]
if sys.argv[1] == "spec":
    say("SPEC", spec={"connectionSpecification": {}})
if sys.argv[1] == "check":
    good = key != "wr0ng-key"
    say("CONNECTION_STATUS", connectionStatus={"status": "SUCCEEDED" if good else "FAILED", "message": "key %s refused" % key})
if sys.argv[1] == "discover":
    say("CATALOG", catalog={"streams": [{"name": "numbers", "json_schema": {"properties": {"n": {"type": "integer"}}}, "supported_sync_modes": ["full_refresh", "incremental"], "source_defined_cursor": True}]})
if sys.argv[1] == "read":
    print("using key", key, file=sys.stderr, flush=True)
    at = 0
    if "--state" in args:
        at = json.load(open(args["--state"]))[0]["stream"]["stream_state"]["n"]
    while at < 2000:
        for n in range(at, at + 100):
            say("RECORD", record={"stream": "numbers", "data": {"n": n}, "emitted_at": 1})
        at += 100
        say("STATE", state={"type": "STREAM", "stream": {"stream_descriptor": {"name": "numbers"}, "stream_state": {"n": at}}})
        while at == 1000 and not os.path.exists("go"):
            say("RECORD", record={"stream": "numbers", "data": {"n": -1}, "emitted_at": 1})
            time.sleep(0.2)
    say("TRACE", trace={"type": "STREAM_STATUS", "emitted_at": 1, "stream_status": {"stream_descriptor": {"name": "numbers"}, "status": "COMPLETE"}})
"#;

const CONNECTOR: &str = "kind = \"airbyte\"\ncommand = [\"python3\", \"numbers.py\"]\n\
                         config = { api_key = \"${NUMBERS_KEY}\" }\n";

/// The table has no key, so what comes twice shows, and what no state covers must never show.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connector_s_read_survives_a_kill_of_the_program() {
    let project = Project::new(CONNECTOR).await;
    project.write("numbers.py", NUMBERS);
    let (code, _, stderr) = project.run(&["check"]);
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("NUMBERS_KEY is not set"), "{stderr}");
    project.write(".env", "NUMBERS_KEY=wr0ng-key\n");
    let (code, _, stderr) = project.run(&["check"]);
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("key *** refused"), "{stderr}");
    project.write(".env", "NUMBERS_KEY=right-key\n");
    let (code, stdout, stderr) = project.run(&["check"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(
        stdout.contains("public.numbers is kept by incremental"),
        "{stdout}"
    );
    let mut syncing = ballpoint(&project.data_dir());
    syncing.arg("sync").current_dir(project.folder.path());
    let mut syncing = syncing.stdout(Stdio::null()).spawn().unwrap();
    let counted = "select count(*)::text from raw.numbers";
    until("what is covered is committed", PATIENCE, || async {
        (project.text(counted).await? == "1000").then_some(())
    })
    .await;
    syncing.kill().unwrap();
    syncing.wait().unwrap();
    let _cluster = StopCluster(project.data_dir());
    project.write("go", "");
    let (code, _, stderr) = project.run(&["sync"]);
    assert_eq!(code, 0, "{stderr}");
    let sum = "select count(*) || ' ' || count(distinct n) || ' ' || sum(n) from raw.numbers";
    assert_eq!(project.text(sum).await.unwrap(), "2000 2000 1999000");
    let log = project.data_dir().join("connectors/shop/connector.log");
    let log = fs::read_to_string(log).unwrap();
    assert!(
        log.contains("using key ***") && !log.contains("right-key"),
        "{log}"
    );
}

/// Makes a wheel of the connector as a packager would: its module, its program's entry, its metadata.
const PACKAGE: &str = r#"
import sys, textwrap, zipfile
code = open("numbers.py").read().split("\n", 1)[1]
info = "airbyte_source_numbers-1.2.dist-info/"
with zipfile.ZipFile("wheels/airbyte_source_numbers-1.2-py3-none-any.whl", "w") as wheel:
    wheel.writestr("source_numbers.py", "def main():\n" + textwrap.indent(code, "    "))
    wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\nName: airbyte-source-numbers\nVersion: 1.2\n")
    wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    wheel.writestr(info + "entry_points.txt", "[console_scripts]\nsource-numbers = source_numbers:main\n")
    wheel.writestr(info + "RECORD", "")
"#;

/// `pip` itself, with a folder in the place of the index.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_python_package_is_installed_once_and_read() {
    let project = Project::new(
        "kind = \"airbyte\"\npackage = \"airbyte-source-numbers\"\nversion = \"1.2\"\n\
         config = { api_key = \"k\" }\n",
    )
    .await;
    for (name, text) in [("numbers.py", NUMBERS), ("package.py", PACKAGE), ("go", "")] {
        project.write(name, text);
    }
    fs::create_dir_all(project.path("wheels")).unwrap();
    let mut packing = Command::new("python3");
    let packed = packing.arg("package.py").current_dir(project.folder.path());
    assert!(packed.status().unwrap().success());
    let wheels = project.path("wheels");
    let index = [("PIP_NO_INDEX", "1"), ("PIP_FIND_LINKS", wheels.as_str())];
    let (code, _, stderr) = project.run_with(&["sync"], &index);
    assert_eq!(code, 0, "{stderr}");
    let counted = "select count(*)::text from raw.numbers";
    assert_eq!(project.text(counted).await.unwrap(), "2000");
    // What is installed asks no index again.
    fs::remove_dir_all(wheels.as_str()).unwrap();
    let (code, _, stderr) = project.run_with(&["check"], &index);
    assert_eq!(code, 0, "{stderr}");
    // Another version is not there any more.
    let config = fs::read_to_string(project.path("ballpoint.toml")).unwrap();
    project.write("ballpoint.toml", &config.replace("\"1.2\"", "\"1.3\""));
    let (code, _, stderr) = project.run_with(&["check"], &index);
    assert_eq!(code, 1, "{stderr}");
    assert!(
        stderr.contains("airbyte-source-numbers==1.3 cannot be installed"),
        "{stderr}"
    );
}

/// Answers as the engine's command does: the image's program sees the mounted folder.
const ENGINE: &str = r#"#!/usr/bin/env python3
import os, sys
if sys.argv[1] == "version":
    sys.exit(0)
assert sys.argv[1:5] == ["run", "--rm", "--init", "-i"], sys.argv
at = sys.argv.index("-v")
here, there, how = sys.argv[at + 1].split(":")
assert (there, how, sys.argv[at + 2]) == ("/ballpoint", "ro", "example/source-numbers:1.2"), sys.argv
given = [here + it[len(there):] if it.startswith(there + "/") else it for it in sys.argv[at + 3:]]
os.execvp("python3", ["python3", "numbers.py"] + given)
"#;

/// The engine is the port here: no machine of ours has one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_is_run_by_the_engine_that_answers() {
    let image = "kind = \"airbyte\"\nimage = \"example/source-numbers:1.2\"\n\
                 config = { api_key = \"k\" }\n";
    let project = Project::new(image).await;
    let (code, _, stderr) = project.run_with(&["check"], &[("PATH", "/nowhere")]);
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("needs Docker or Podman"), "{stderr}");
    for (name, text) in [("numbers.py", NUMBERS), ("bin/docker", ENGINE), ("go", "")] {
        project.write(name, text);
    }
    fs::set_permissions(
        project.path("bin/docker"),
        fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    let usual = std::env::var_os("PATH").unwrap().into_string().unwrap();
    let path = format!("{}:{usual}", project.path("bin"));
    let (code, _, stderr) = project.run_with(&["sync"], &[("PATH", &path)]);
    assert_eq!(code, 0, "{stderr}");
    let counted = "select count(*)::text from raw.numbers";
    assert_eq!(project.text(counted).await.unwrap(), "2000");
}
