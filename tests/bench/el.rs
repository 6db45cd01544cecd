//! Extract and load, measured beside its peers in one run and printed: `make bench-el`.
//!
//! `cargo bench --bench el -- [load] [throttled] [drift]`; nothing named: all. Two PostgreSQL clusters on this
//! machine, fsync on. A run on a busy machine prints worse figures and fails nothing; wrong rows fail.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark prints and may stop"
)]

#[path = "el/clusters.rs"]
mod clusters;
#[path = "el/drift.rs"]
mod drift;
#[path = "el/load.rs"]
mod load;
#[path = "el/measure.rs"]
mod measure;
#[path = "el/peers.rs"]
mod peers;
#[path = "../support/mod.rs"]
mod support;
#[path = "el/throttled.rs"]
mod throttled;

use clusters::Clusters;

#[tokio::main]
async fn main() {
    // Cargo adds `--bench`.
    let asked: Vec<String> = std::env::args()
        .skip(1)
        .filter(|it| !it.starts_with("--"))
        .collect();
    let wanted = |name: &str| asked.is_empty() || asked.iter().any(|it| it == name);
    println!("{}", measure::load_of_this_machine());
    let clusters = Clusters::start().await;
    if wanted("load") {
        load::run_all(&clusters).await;
    }
    if wanted("throttled") {
        throttled::run_all(&clusters).await;
    }
    if wanted("drift") {
        drift::run_all(&clusters).await;
    }
    clusters.stop().await;
}
