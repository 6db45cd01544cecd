//! A full load of 1,000,000 rows of 27 columns between two clusters.

use std::process::Command;

use ballpoint_postgres::cluster::installation;
use sqlx::{AssertSqlSafe, PgPool};

use crate::clusters::{Clusters, columns, fill, hash};
use crate::measure::{Run, median, run};
use crate::peers::{PEERS, Peer};
use crate::support::ballpoint;

const ROWS: u64 = 1_000_000;
const RUNS: usize = 7;
const TABLE: &str = "production";
/// MiB, of the whole process.
const PEAK_BAR: f64 = 32.0;

pub(crate) async fn run_all(clusters: &Clusters) {
    let (source, warehouse) = (clusters.source().await, clusters.warehouse().await);
    fill(&source, TABLE, ROWS).await;
    let names = columns(&source, TABLE).await;
    let expected = hash(&source, TABLE, &names).await;
    println!(
        "\nfull load of {ROWS} rows x 27 columns, durably committed; each a process of its own"
    );
    println!("source: {expected}");
    // Alternately, so that both see the same machine.
    let (mut ours, mut pipe) = (Vec::new(), Vec::new());
    for turn in 0..=RUNS {
        let piped = by_pipe(clusters, &warehouse).await;
        let loaded = by_ballpoint(clusters, &warehouse).await;
        // The first turn warms the caches.
        if turn > 0 {
            pipe.push(piped);
            ours.push(loaded);
        }
    }
    assert_eq!(
        hash(&warehouse, &format!("raw.{TABLE}"), &names).await,
        expected
    );
    assert_eq!(hash(&warehouse, "piped", &names).await, expected);
    let (ours, pipe) = (median(&ours), median(&pipe));
    println!(
        "{:<34} {:6.2} s, peak {:6.0} MiB (bar {PEAK_BAR} MiB), hash equal, medians of {RUNS}",
        "ballpoint sync", ours.seconds, ours.peak
    );
    println!(
        "{:<34} {:6.2} s, peak {:6.0} MiB; ballpoint takes {:.2} x of it (bar 1.0 x)",
        "psql COPY | psql COPY, binary",
        pipe.seconds,
        pipe.peak,
        ours.seconds / pipe.seconds
    );
    for peer in &PEERS {
        beside(clusters, &warehouse, peer, &expected, &names).await;
    }
    reset(&warehouse, "drop table piped").await;
}

/// The process from its start to its end: configuration, checkpoint, statistics and swap included.
async fn by_ballpoint(clusters: &Clusters, warehouse: &PgPool) -> Run {
    let sql = "drop schema if exists raw cascade;
               do $$ begin if to_regclass('ballpoint.checkpoints') is not null then
                 delete from ballpoint.checkpoints; end if; end $$";
    reset(warehouse, sql).await;
    let project = clusters.project("bench", TABLE, &clusters.warehouse_url());
    let data_dir = clusters.path().join("data");
    let mut command = ballpoint(&data_dir);
    command.args(["sync", "--json"]).current_dir(&project);
    run(&mut command).unwrap()
}

async fn by_pipe(clusters: &Clusters, warehouse: &PgPool) -> Run {
    reset(warehouse, "drop table if exists piped").await;
    let definition: String = sqlx::query_scalar(
        "select 'create table piped (' || string_agg(quote_ident(attname) || ' ' ||
           format_type(atttypid, atttypmod) || case when attnotnull then ' not null' else '' end,
           ', ' order by attnum) || ')'
         from pg_attribute where attrelid = $1::regclass and attnum > 0",
    )
    .bind(TABLE)
    .fetch_one(&clusters.source().await)
    .await
    .unwrap();
    reset(warehouse, &definition).await;
    let psql = installation().unwrap().path.with_file_name("psql");
    let psql = psql.display();
    let mut command = Command::new("bash");
    command.args([
        "-o",
        "pipefail",
        "-c",
        &format!(
            "{psql} -qX '{}' -c 'copy {TABLE} to stdout (format binary)' \
             | {psql} -qX '{}' -c 'copy piped from stdin (format binary)'",
            clusters.source_url(),
            clusters.warehouse_url(),
        ),
    ]);
    run(&mut command).unwrap()
}

async fn beside(clusters: &Clusters, warehouse: &PgPool, peer: &Peer, expected: &str, names: &str) {
    // Alternately again: a machine's pace changes within minutes.
    let (mut runs, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..peer.runs {
        ours.push(by_ballpoint(clusters, warehouse).await);
        let drop = format!(
            "drop schema if exists {0} cascade; create schema {0}",
            peer.lands
        );
        reset(warehouse, &drop).await;
        match run(&mut (peer.command)(clusters, TABLE)) {
            Ok(ran) => runs.push(ran),
            Err(error) => {
                println!("{:<34} did not run: {error}", peer.name);
                return;
            }
        }
    }
    let (theirs, ours) = (median(&runs), median(&ours));
    let landed = format!("{}.{TABLE}", peer.lands);
    let same = match hash(warehouse, &landed, names).await == expected {
        true => "hash equal",
        false => "values changed on the way",
    };
    println!(
        "{:<34} {:6.2} s, peak {:6.0} MiB, {same}, median of {}; ballpoint {:.2} s: {:.1} x as fast (bar {} x)",
        peer.name,
        theirs.seconds,
        theirs.peak,
        runs.len(),
        ours.seconds,
        theirs.seconds / ours.seconds,
        peer.bar
    );
    reset(warehouse, &format!("drop schema {} cascade", peer.lands)).await;
}

async fn reset(warehouse: &PgPool, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(warehouse)
        .await
        .unwrap();
    sqlx::raw_sql("checkpoint")
        .execute(warehouse)
        .await
        .unwrap();
}
