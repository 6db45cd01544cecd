//! 10,000,000 rows into a warehouse behind a slow line: the source waits, memory stays as it is.

use crate::clusters::{Clusters, columns, fill, hash};
use crate::measure::run;
use crate::support::ballpoint;
use crate::support::throttle::Throttle;

const ROWS: u64 = 10_000_000;
const TABLE: &str = "production_10m";
/// About half of what the machine loads without the line.
const BYTES_PER_SECOND: u64 = 40 << 20;
/// MiB, of the whole process.
const PEAK_BAR: f64 = 128.0;

pub(crate) async fn run_all(clusters: &Clusters) {
    let (source, warehouse) = (clusters.source().await, clusters.warehouse().await);
    fill(&source, TABLE, ROWS).await;
    let names = columns(&source, TABLE).await;
    let url = clusters.warehouse_url();
    let line = Throttle::start(&url, BYTES_PER_SECOND).await;
    let project = clusters.project("throttled", TABLE, &line.url(&url));
    let data_dir = clusters.path().join("data-throttled");
    let mut command = ballpoint(&data_dir);
    command.args(["sync", "--json"]).current_dir(&project);
    let ran = tokio::task::block_in_place(|| run(&mut command)).unwrap();
    let expected = hash(&source, TABLE, &names).await;
    let found = hash(&warehouse, &format!("raw.{TABLE}"), &names).await;
    assert_eq!(found, expected);
    println!(
        "\n{ROWS} rows x 27 columns over a line of {} MiB/s: {:.0} s, {:.0} MiB/s through it, \
         peak {:.0} MiB (bar {PEAK_BAR} MiB), hash equal",
        BYTES_PER_SECOND >> 20,
        ran.seconds,
        line.bytes() as f64 / ran.seconds / f64::from(1 << 20),
        ran.peak
    );
}
