//! The tools that are measured beside Ballpoint; `tools/bench-peers` installs them.

use std::path::PathBuf;
use std::process::Command;

use crate::clusters::Clusters;

/// A tool, and how it loads the table.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    /// Where it lands, in the warehouse.
    pub(crate) lands: &'static str,
    /// As fast as the peer times this, at least, is asked of Ballpoint.
    pub(crate) bar: f64,
    pub(crate) runs: usize,
    pub(crate) command: fn(&Clusters, &str) -> Command,
}

pub(crate) const PEERS: [Peer; 3] = [
    Peer {
        name: "dlt 1.31 (connectorx, parquet)",
        lands: "dlt_raw",
        bar: 5.0,
        runs: 5,
        command: dlt,
    },
    Peer {
        name: "ingestr 0.15.9",
        lands: "ingestr_raw",
        bar: 4.5,
        runs: 5,
        command: ingestr,
    },
    Peer {
        name: "sling 1.4.11",
        lands: "sling_raw",
        bar: 6.0,
        runs: 5,
        command: sling,
    },
];

/// The folder that `tools/bench-peers` fills.
pub(crate) fn cache() -> PathBuf {
    let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("/root"), PathBuf::from);
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or(home.join(".cache"), PathBuf::from);
    cache.join("ballpoint/el-peers")
}

fn dlt(clusters: &Clusters, table: &str) -> Command {
    let mut command = Command::new(cache().join("dlt/bin/python"));
    command
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/bench/el/dlt_load.py"
        ))
        .args([&clusters.source_url(), &clusters.warehouse_url(), table])
        .current_dir(clusters.path())
        .env("RUNTIME__DLTHUB_TELEMETRY", "false")
        .env("DLT_DATA_DIR", clusters.path().join("dlt"));
    command
}

fn ingestr(clusters: &Clusters, table: &str) -> Command {
    let url = |url: String| url.replacen("postgres://", "postgresql://", 1);
    let mut command = Command::new(cache().join("ingestr/bin/ingestr"));
    command
        .args(["ingest", "--yes", "--full-refresh"])
        .args(["--source-uri", &url(clusters.source_url())])
        .args(["--source-table", &format!("public.{table}")])
        .args(["--dest-uri", &url(clusters.warehouse_url())])
        .args(["--dest-table", &format!("ingestr_raw.{table}")])
        .current_dir(clusters.path())
        .env("INGESTR_DISABLE_TELEMETRY", "true")
        .env("DISABLE_TELEMETRY", "true");
    command
}

fn sling(clusters: &Clusters, table: &str) -> Command {
    // Without the package's own launcher, which asks its publisher's server for another copy.
    let libraries = std::fs::read_dir(cache().join("sling/lib"));
    let python = libraries.into_iter().flatten().flatten().next();
    let python = python.map(|entry| entry.path()).unwrap_or_default();
    let program = python.join("site-packages/sling_linux_amd64/bin/sling-linux-amd64");
    let mut command = Command::new(program);
    command
        .args(["run", "--mode", "full-refresh"])
        .args([
            "--src-conn",
            &format!("{}?sslmode=disable", clusters.source_url()),
        ])
        .args(["--src-stream", &format!("public.{table}")])
        .args([
            "--tgt-conn",
            &format!("{}?sslmode=disable", clusters.warehouse_url()),
        ])
        .args(["--tgt-object", &format!("sling_raw.{table}")])
        .current_dir(clusters.path())
        .env("SLING_DISABLE_TELEMETRY", "TRUE");
    command
}
