//! Transformation beside its peers, printed: `make bench-dbt`. dbt-core and psql run in the same
//! rounds as the release binary, on the same server; medians. psql sends the very statements that
//! the binary has sent, on as many connections. Nothing is asserted.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark prints and may stop"
)]

#[path = "dbt/floor.rs"]
mod floor;
#[path = "dbt/projects.rs"]
mod projects;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ballpoint_postgres::cluster::{Cluster, ClusterOptions};
use floor::Floor;

const ROUNDS: usize = 5;
const THREADS: usize = 4;

/// The programs, and where they build.
struct Bench {
    cluster: Cluster,
    dbt: PathBuf,
}

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().unwrap();
    let databases = ["pens_dbt", "pens", "views_dbt", "views", "rows_dbt", "rows"];
    let options = ClusterOptions::new(folder.path().join("server"), databases);
    let cluster = Cluster::open(&options).await.unwrap();
    let venv = std::env::var("BALLPOINT_DBT_VENV").expect(
        "BALLPOINT_DBT_VENV must name a virtual environment with dbt-core and dbt-postgres",
    );
    let dbt = Path::new(&venv).join("bin/dbt");
    let bench = Bench { cluster, dbt };
    println!(
        "medians of {ROUNDS} rounds, {THREADS} threads; load {}",
        load()
    );
    bench.shipped(folder.path()).await;
    bench.views(folder.path());
    bench.parse(folder.path());
    bench.rows(folder.path());
    println!("load at the end {}", load());
    bench.cluster.stop().await.unwrap();
}

fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(1).collect()
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64()
}

fn timed(work: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    work();
    begun.elapsed()
}

impl Bench {
    /// A copy of a project with a profile for each side.
    fn sides(&self, project: &Path, at: &Path, profile: &str, name: &str) -> [PathBuf; 2] {
        ["dbt", "ours"].map(|side| {
            let folder = at.join(format!("{name}_{side}"));
            projects::copy(project, &folder);
            let database = if side == "dbt" {
                format!("{name}_dbt")
            } else {
                name.to_owned()
            };
            let url = self.cluster.url(&database);
            projects::write_profile(&folder, profile, &url, THREADS);
            folder
        })
    }

    fn dbt(&self, folder: &Path, args: &[&str]) -> Duration {
        run(Command::new(&self.dbt).args(args), folder)
    }

    fn ours(&self, folder: &Path, args: &[&str]) -> Duration {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ballpoint"));
        run(command.arg("dbt").args(args), folder)
    }

    async fn shipped(&self, at: &Path) {
        for database in ["pens_dbt", "pens"] {
            projects::land_pens(&self.cluster.url(database)).await;
        }
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("warehouse");
        let [theirs, ours] = self.sides(&project, at, "pens", "pens");
        let vars = ["build", "--vars", "{business_now: '2026-03-31T10:00:00Z'}"];
        self.dbt(&theirs, &vars);
        // Twice: what the second sends can be sent again, the relations being there.
        self.ours(&ours, &vars);
        self.ours(&ours, &vars);
        let floor = Floor::of(&ours, &self.cluster.url("pens"), THREADS);
        let rounds = rounds(|| {
            (
                self.dbt(&theirs, &vars),
                self.ours(&ours, &vars),
                floor.run(),
            )
        });
        report(
            "shipped project, build",
            &rounds,
            "20 times dbt-core, 1.3 times psql",
        );
    }

    fn views(&self, at: &Path) {
        let project = at.join("views");
        projects::write_views(&project, 500);
        let [theirs, ours] = self.sides(&project, at, "views", "views");
        let urls = [self.cluster.url("views_dbt"), self.cluster.url("views")];
        // Every round is a first run: dbt's threads lock each other out when they drop views that
        // hang on views.
        let empty = |url: &String| floor::psql(url, projects::EMPTY_SCHEMA);
        self.dbt(&theirs, &["parse"]);
        self.ours(&ours, &["run"]);
        let floor = Floor::of(&ours, &urls[1], THREADS);
        let runs = rounds(|| {
            urls.iter().for_each(empty);
            let took = (self.dbt(&theirs, &["run"]), self.ours(&ours, &["run"]));
            empty(&urls[1]);
            (took.0, took.1, floor.run())
        });
        report("500 views, run", &runs, "20 times dbt-core");
        let parse = rounds(|| {
            for folder in [&theirs, &ours] {
                let _ = std::fs::remove_dir_all(folder.join("target"));
            }
            let cold = (self.dbt(&theirs, &["parse"]), self.ours(&ours, &["parse"]));
            (cold.0, cold.1, self.ours(&ours, &["parse"]))
        });
        let [dbt, cold, warm] = parse;
        println!(
            "500 views, parse: {:.0} ms (bar 100 ms), again {:.0} ms (bar 20 ms); dbt-core {dbt:.2} s",
            cold * 1e3,
            warm * 1e3
        );
    }

    fn parse(&self, at: &Path) {
        let project = at.join("many");
        projects::write_views(&project, 5_000);
        projects::write_profile(&project, "views", &self.cluster.url("views"), THREADS);
        let times = (0..ROUNDS).map(|_| {
            let _ = std::fs::remove_dir_all(project.join("target"));
            self.ours(&project, &["parse"])
        });
        let cold = median(times.collect());
        println!("5,000 views, parse: {cold:.2} s (bar 1 s)");
    }

    fn rows(&self, at: &Path) {
        let project = at.join("rows");
        projects::write_rows(&project);
        let [theirs, ours] = self.sides(&project, at, "rows", "rows");
        let urls = [self.cluster.url("rows_dbt"), self.cluster.url("rows")];
        for url in &urls {
            floor::psql(url, projects::ROWS_SOURCE);
        }
        self.dbt(&theirs, &["run"]);
        self.ours(&ours, &["run"]);
        let all = rounds(|| {
            let with_new_rows = |url: &String, work: &dyn Fn() -> Duration| {
                floor::psql(url, projects::ROWS_NEW);
                work()
            };
            (
                with_new_rows(&urls[0], &|| self.dbt(&theirs, &["run"])),
                with_new_rows(&urls[1], &|| self.ours(&ours, &["run"])),
                with_new_rows(&urls[1], &|| {
                    timed(|| floor::psql(&urls[1], projects::ROWS_BARE))
                }),
            )
        });
        report(
            "1,000,000-row incremental, 1,000 new rows",
            &all,
            "1.2 times the bare SQL",
        );
    }
}

/// Medians of what a round takes each side.
fn rounds(mut round: impl FnMut() -> (Duration, Duration, Duration)) -> [f64; 3] {
    let mut times: [Vec<Duration>; 3] = Default::default();
    for _ in 0..ROUNDS {
        let (theirs, ours, floor) = round();
        for (list, time) in times.iter_mut().zip([theirs, ours, floor]) {
            list.push(time);
        }
    }
    times.map(median)
}

fn report(what: &str, [dbt, ours, floor]: &[f64; 3], bar: &str) {
    println!(
        "{what}: {ours:.3} s; dbt-core {dbt:.2} s, {:.1} times as long; psql {floor:.3} s, we take {:.2} \
         of it (bar: {bar})",
        dbt / ours,
        ours / floor
    );
}

/// Runs a command that must succeed, in a folder that holds its profile.
fn run(command: &mut Command, folder: &Path) -> Duration {
    command
        .args(["--project-dir", ".", "--profiles-dir", "."])
        .current_dir(folder)
        .env("DBT_SEND_ANONYMOUS_USAGE_STATS", "false")
        .stdin(Stdio::null());
    let begun = Instant::now();
    let output = command.output().unwrap();
    let took = begun.elapsed();
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    took
}
