//! Runs the real binary on a data dir of its own, and asks it over HTTP as a user would.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]
#![allow(
    dead_code,
    reason = "shared by the tests and the benchmark, which use different parts"
)]

pub(crate) mod collector;
pub(crate) mod throttle;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::PgPool;

/// The benchmark's clock: the questions' dates are relative to it.
pub(crate) const NOW: &str = "2026-03-31T10:00:00Z";

/// How long a test waits for a state that will come: the machine may be busy with something else.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// A folder that everybody may walk through, gone at the end: PostgreSQL refuses root, so the
/// unprivileged user that runs it must reach its data.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("ballpoint-test-")
            .tempdir()
            .unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        Self(dir)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

/// The command under test, in `data_dir`, on this repository's project.
pub(crate) fn ballpoint(data_dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ballpoint"));
    command
        .arg("--data-dir")
        .arg(data_dir)
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    command.env_remove("OTEL_EXPORTER_OTLP_ENDPOINT");
    command
}

/// What a finished command said, with its exit code.
pub(crate) fn finish(command: &mut Command) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (status.code().unwrap_or(-1), text(&stdout), text(&stderr))
}

/// A running `ballpoint up`.
pub(crate) struct Stack {
    child: Child,
    folder: Option<Folder>,
    data_dir: PathBuf,
    /// Stopped with the stack, unless somebody else looks after it.
    cluster: Option<StopCluster>,
    pub(crate) base: String,
    pub(crate) token: String,
    http: reqwest::Client,
}

impl Stack {
    /// Starts on an empty data dir and waits until the first pass is through.
    pub(crate) async fn start() -> Self {
        let folder = Folder::new();
        let data_dir = folder.path().join("data");
        let mut stack = Self::launch(&data_dir, |_| {});
        stack.folder = Some(folder);
        stack.until_ready().await;
        stack
    }

    /// Starts on `data_dir`; `adjust` may add flags and variables. Returns once the address is
    /// printed, before the first pass is through.
    pub(crate) fn launch(data_dir: &Path, adjust: impl FnOnce(&mut Command)) -> Self {
        Self::launch_at(data_dir, NOW, adjust)
    }

    /// The same at another business time.
    pub(crate) fn launch_at(data_dir: &Path, now: &str, adjust: impl FnOnce(&mut Command)) -> Self {
        let mut command = ballpoint(data_dir);
        command.args(["up", "--listen", "127.0.0.1:0", "--now", now]);
        command.stdout(Stdio::piped()).stderr(Stdio::inherit());
        adjust(&mut command);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let url = lines.by_ref().map_while(Result::ok).find_map(|line| {
            line.split_whitespace()
                .find(|w| w.contains("/?token="))
                .map(str::to_owned)
        });
        // The pipe is read on, so that the child never blocks on a full one.
        std::thread::spawn(move || lines.for_each(drop));
        let Some(url) = url else {
            panic!(
                "ballpoint up printed no URL and ended with {:?}",
                child.wait().unwrap()
            );
        };
        let (base, token) = url.split_once("/?token=").unwrap();
        Self {
            child,
            folder: None,
            cluster: Some(StopCluster(data_dir.to_owned())),
            data_dir: data_dir.to_owned(),
            base: base.to_owned(),
            token: token.to_owned(),
            http: reqwest::Client::new(),
        }
    }

    /// Leaves the cluster to the next process on this data dir.
    pub(crate) fn leaving_its_cluster(mut self) -> Self {
        std::mem::forget(self.cluster.take());
        self
    }

    pub(crate) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) async fn until_ready(&self) {
        until(
            "every stage has finished its first pass",
            PATIENCE,
            || async {
                let reply = self
                    .http
                    .get(format!("{}/readyz", self.base))
                    .send()
                    .await
                    .ok()?;
                (reply.status() == 200).then_some(())
            },
        )
        .await;
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        self.send(self.http.get(format!("{}{path}", self.base)))
            .await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.send(self.http.post(format!("{}{path}", self.base)).json(body))
            .await
    }

    /// A reply as it comes, to be read piece by piece.
    pub(crate) async fn stream(&self, path: &str, body: &Value) -> reqwest::Response {
        let request = self.http.post(format!("{}{path}", self.base)).json(body);
        let reply = request.bearer_auth(&self.token).send().await.unwrap();
        assert_eq!(reply.status(), 200);
        reply
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> (u16, Value) {
        let reply = request
            .bearer_auth(&self.token)
            .timeout(PATIENCE)
            .send()
            .await
            .unwrap();
        (
            reply.status().as_u16(),
            reply.json().await.unwrap_or(Value::Null),
        )
    }

    /// The rows of a Cube query.
    pub(crate) async fn load(&self, query: Value) -> Vec<Value> {
        let (status, body) = self
            .post("/cubejs-api/v1/load", &json!({ "query": query }))
            .await;
        assert_eq!(status, 200, "{body}");
        body["data"].as_array().unwrap().clone()
    }

    pub(crate) async fn ask(&self, question: &str) -> Value {
        let (status, body) = self
            .post("/api/ask", &json!({ "question": question }))
            .await;
        assert_eq!(status, 200, "{question}: {body}");
        body
    }

    /// Database name → connection URL.
    pub(crate) async fn databases(&self) -> BTreeMap<String, String> {
        let (status, body) = self.get("/api/status").await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_value(body["databases"].clone()).unwrap()
    }

    pub(crate) async fn pool(&self, database: &str) -> PgPool {
        let url = self.databases().await[database].clone();
        sqlx::postgres::PgPoolOptions::new()
            .max_connections(4)
            .connect(&url)
            .await
            .unwrap()
    }

    /// Every actor of the tree, flat: (name, state, incarnation, restarts).
    pub(crate) async fn actors(&self) -> Vec<(String, String, u64, u64)> {
        fn walk(node: &Value, out: &mut Vec<(String, String, u64, u64)>) {
            let text = |key: &str| node[key].as_str().unwrap_or_default().to_owned();
            let number = |key: &str| node[key].as_u64().unwrap_or_default();
            out.push((
                text("name"),
                text("state"),
                number("incarnation"),
                number("restarts"),
            ));
            for child in node["children"].as_array().into_iter().flatten() {
                walk(child, out);
            }
        }
        let (status, body) = self.get("/api/actors").await;
        assert_eq!(status, 200, "{body}");
        let mut out = Vec::new();
        match &body {
            Value::Array(nodes) => nodes.iter().for_each(|node| walk(node, &mut out)),
            node => walk(node, &mut out),
        }
        out
    }

    /// kill -9: nothing of ours gets to run. The cluster goes on as an orphan.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Whether the process ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// SIGTERM, as an operator stops it; the exit code.
    pub(crate) fn stop(&mut self) -> i32 {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        self.child.wait().unwrap().code().unwrap_or(-1)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        self.kill();
        drop(self.cluster.take());
    }
}

/// Stops, when dropped, the cluster that a killed process left behind in this data dir.
pub(crate) struct StopCluster(pub(crate) PathBuf);

impl Drop for StopCluster {
    fn drop(&mut self) {
        stop_cluster(&self.0);
    }
}

fn stop_cluster(data_dir: &Path) {
    let pid = std::fs::read_to_string(data_dir.join("pg/postmaster.pid"))
        .ok()
        .and_then(|text| text.lines().next()?.parse().ok())
        .and_then(rustix::process::Pid::from_raw);
    let Some(pid) = pid else { return };
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
    let deadline = Instant::now() + PATIENCE;
    while data_dir.join("pg/postmaster.pid").exists() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Asks again until `check` gives something; fails naming `what` after `limit`.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    limit: Duration,
    check: impl Fn() -> F,
) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = check().await {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
