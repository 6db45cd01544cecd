//! Prints how long the embedded cluster takes: first start with four databases, and second start.

#![expect(clippy::print_stdout, reason = "printing figures is what it is for")]

use std::time::Instant;

use ballpoint_postgres::cluster::{Cluster, ClusterError, ClusterOptions};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let options = ClusterOptions::new(dir.path(), ["a", "b", "c", "warehouse"]);
    for (bar, limit_ms) in [("cluster and four databases", 1500), ("second start", 500)] {
        let (cluster, elapsed_ms) = timed(&options).await?;
        println!(
            "{bar}: {elapsed_ms} ms (bar {limit_ms} ms), postgresql {}",
            cluster.version()
        );
        cluster.stop().await?;
    }
    Ok(())
}

async fn timed(options: &ClusterOptions) -> Result<(Cluster, u128), ClusterError> {
    let start = Instant::now();
    let cluster = Cluster::open(options).await?;
    Ok((cluster, start.elapsed().as_millis()))
}
