//! How fast rows are made, and with a URL how fast they arrive in (empty tables of) a database:
//! `cargo run --release -p ballpoint-seeds --example seed_rate -- 10000000 [postgres://…]`.

use std::{path::Path, time::Instant};

use ballpoint_seeds::{Parameters, SeedFiles, fill, generate};
use sqlx::{Connection as _, PgConnection};

#[expect(
    clippy::print_stdout,
    reason = "printing the rate is what the example is for"
)]
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let rows: u64 = arguments
        .next()
        .map_or(Ok(1_000_000), |rows| rows.parse())?;
    let url = arguments.next();
    let now = "2026-03-31T10:00:00Z".parse()?;
    for source in ["refills", "bodies", "springs"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
        let files = SeedFiles {
            directory: format!("seeds/{source}"),
            schema_sql: std::fs::read_to_string(folder.join("schema.sql"))?,
            generator_yml: std::fs::read_to_string(folder.join("generator.yml"))?,
        };
        let parameters = Parameters::parse(&files)?;
        let started = Instant::now();
        let bytes: usize = generate(&parameters, rows, 42, now)
            .map(|chunk| chunk.len())
            .sum();
        let seconds = started.elapsed().as_secs_f64();
        let rate = rows as f64 / seconds;
        let mebibytes = bytes / (1024 * 1024);
        println!(
            "{source}: {rows} rows, {mebibytes} MiB made in {seconds:.2} s = {rate:.0} rows/s"
        );
        if let Some(url) = &url {
            let mut connection = PgConnection::connect(url).await?;
            let started = Instant::now();
            fill(&mut connection, &files, rows, 42, now).await?;
            let seconds = started.elapsed().as_secs_f64();
            let rate = rows as f64 / seconds;
            println!("{source}: filled in {seconds:.2} s = {rate:.0} rows/s");
        }
    }
    Ok(())
}
