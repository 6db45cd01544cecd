//! How fast rows are made, without a database: `cargo run --release --example seed_rate 10000000`.

use std::{path::Path, time::Instant};

use ballpoint_seeds::{Parameters, SeedFiles, generate};

#[expect(
    clippy::print_stdout,
    reason = "printing the rate is what the example is for"
)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let rows: u64 = std::env::args()
        .nth(1)
        .map_or(Ok(1_000_000), |rows| rows.parse())?;
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
        let mut chunks = generate(&parameters, rows, 42, now);
        let bytes: usize = chunks.by_ref().map(|chunk| chunk.len()).sum();
        let seconds = started.elapsed().as_secs_f64();
        println!(
            "{source}: {} rows, {} MiB in {seconds:.2} s = {:.0} rows/s",
            chunks.rows_made(),
            bytes / (1024 * 1024),
            chunks.rows_made() as f64 / seconds,
        );
    }
    Ok(())
}
