//! kill -9 of a process that follows a source's log, at named steps and at random moments, while the
//! source is written to: raw ends equal to the source, row by row, and was copied once.
//!
//! `cargo test` makes 10 seeded runs, `make soak` 200 (`BALLPOINT_SOAK_RUNS`). A run prints its seed,
//! and `BALLPOINT_SOAK_SEED` repeats it. The process that dies is this program itself, started again
//! with the databases in its environment. `BALLPOINT_SOAK_CONFIRM_EARLY` makes the mistake that the
//! harness is there to notice: the slot is confirmed before the commit.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test that cannot go on says where; its child reads the environment"
)]

#[path = "soak/child.rs"]
mod child;
#[path = "soak/pair.rs"]
mod pair;
#[path = "soak/writer.rs"]
mod writer;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use child::{Child, Death, Task};
use pair::Pair;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use writer::Writer;

const RUNS: u64 = 10;
const SEED: u64 = 20_261_123;
/// A child that is to die at a step gets there once something happens.
const PATIENCE: Duration = Duration::from_secs(20);
/// A child that is behind catches up within this, also on a busy machine.
const CATCH_UP: Duration = Duration::from_secs(120);

/// Durable steps while the first state is made.
const SNAPSHOT_STEPS: [&str; 9] = [
    "changes.after_slot",
    "changes.after_begin",
    "changes.before_snapshot",
    "loader.range.prepared",
    "loader.mid_copy",
    "loader.range.before_commit",
    "loader.range.after_commit",
    "changes.before_snapshot_commit",
    "changes.after_snapshot_commit",
];

/// Durable steps while changes flow.
const STREAM_STEPS: [&str; 8] = [
    "changes.before_apply",
    "changes.mid_apply",
    "changes.before_checkpoint",
    "changes.before_commit",
    "changes.after_commit",
    "changes.after_confirm",
    "changes.mid_transaction",
    "changes.after_gap",
];

/// Durable steps while the changes of tables that get new columns wait for a look at the source.
const DRIFT_STEPS: [&str; 3] = [
    "changes.after_postpone",
    "changes.before_resume",
    "changes.after_resume",
];

/// Durable steps while one table is copied beside the stream of the others.
const BESIDE_STEPS: [&str; 5] = [
    "changes.before_commit_ahead",
    "changes.after_commit_ahead",
    "loader.range.after_commit",
    "changes.before_rejoin",
    "changes.after_rejoin",
];

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    if let Some(order) = child::Order::received() {
        runtime.block_on(child::follow(order));
        return;
    }
    // `cargo test <filter>` starts this too.
    let filter = std::env::args().skip(1).find(|it| !it.starts_with('-'));
    if filter.is_some_and(|filter| !"soak".contains(&filter)) {
        return;
    }
    runtime.block_on(soak());
}

async fn soak() {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .map(|text| text.parse::<u64>().unwrap())
    };
    let (first, runs) = match number("BALLPOINT_SOAK_SEED") {
        Some(seed) => (seed, 1),
        None => (SEED, number("BALLPOINT_SOAK_RUNS").unwrap_or(RUNS)),
    };
    let begun = Instant::now();
    let mut deaths: BTreeMap<String, u32> = BTreeMap::new();
    let mut wrong = Vec::new();
    for at in 0..runs {
        let seed = first + at;
        let outcome = run(seed, &mut deaths).await;
        println!(
            "soak: run {} of {runs}, seed {seed}, {:.0} s: {}",
            at + 1,
            begun.elapsed().as_secs_f64(),
            outcome.as_ref().map_or_else(String::as_str, String::as_str),
        );
        wrong.extend(outcome.err().map(|text| format!("seed {seed}: {text}")));
    }
    for (step, count) in &deaths {
        println!("soak: died {count} times at {step}");
    }
    assert!(
        wrong.is_empty(),
        "{} of {runs} runs went wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    if runs >= RUNS {
        let steps = SNAPSHOT_STEPS.iter().chain(&STREAM_STEPS);
        let missed: Vec<_> = steps
            .chain(&DRIFT_STEPS)
            .chain(&BESIDE_STEPS)
            .filter(|step| !deaths.contains_key(**step))
            .collect();
        assert!(missed.is_empty(), "nobody died at {missed:?}");
    }
    println!("soak: {runs} runs, 0 rows lost, 0 doubled");
}

/// One run: several lives of the follower, each ended by force; then what raw has become.
async fn run(seed: u64, deaths: &mut BTreeMap<String, u32>) -> Result<String, String> {
    let mut random = StdRng::seed_from_u64(seed);
    let pair = Pair::create().await;
    let writer = Writer::start(pair.source.pool().clone(), random.random());
    // Runs one after the other have all steps in turn, and a seed always the same ones.
    let at = usize::try_from(seed).unwrap();
    let first = SNAPSHOT_STEPS[at % SNAPSHOT_STEPS.len()];
    let mut steps = vec![first];
    // Three runs and a bit have them all.
    steps.extend((0..3).map(|n| STREAM_STEPS[(at * 3 + n) % STREAM_STEPS.len()]));
    steps.push(DRIFT_STEPS[at % DRIFT_STEPS.len()]);
    let beside = steps.len();
    steps.push(BESIDE_STEPS[at % BESIDE_STEPS.len()]);
    let (mut gaps, mut lives) = (0, 0_u32);
    for (nth, step) in steps.into_iter().enumerate() {
        let task = match nth == beside {
            true => {
                let child = Child::start(&pair, None, Task::Follow);
                pair.until_all_are_followed(CATCH_UP).await?;
                child.kill_after(Duration::ZERO).await;
                // The one that nobody truncates: it always has several ranges.
                pair.forget("orders").await;
                Task::FollowSlowly
            }
            false => Task::Follow,
        };
        // A life without a step ends at any moment.
        for step in [Some(step), None] {
            if step == Some("changes.after_gap") && pair.drop_slot().await {
                gaps += 1;
            }
            lives += 1;
            let child = Child::start(&pair, step, task);
            let death = match step {
                Some("changes.mid_transaction") => {
                    let ended = child.until_aborted(PATIENCE);
                    tokio::join!(ended, writer::large_transaction(pair.source.pool())).0
                }
                Some(step) if DRIFT_STEPS.contains(&step) => tokio::select! {
                    death = child.until_aborted(PATIENCE) => death,
                    never = writer::new_columns(pair.source.pool(), lives) => match never {},
                },
                Some(_) => child.until_aborted(PATIENCE).await,
                None => {
                    child
                        .kill_after(Duration::from_millis(random.random_range(0..400)))
                        .await
                }
            };
            match (death, step) {
                (Death::Aborted, Some(step)) => *deaths.entry(step.to_owned()).or_default() += 1,
                (Death::Killed, None) => {
                    *deaths.entry("a random moment".to_owned()).or_default() += 1
                }
                // The first life may have been the one that made the slot.
                (Death::Killed, Some(_)) => {}
                (Death::Ended(how), _) => {
                    return Err(format!("the follower ended by itself: {how}"));
                }
                (Death::Aborted, None) => return Err("the follower aborted by itself".to_owned()),
            }
        }
    }
    let written = writer.finish().await;
    Child::start(&pair, None, Task::CatchUp)
        .until_done(CATCH_UP)
        .await?;
    pair.compare(gaps).await?;
    Ok(format!(
        "{written} transactions, {lives} lives, raw equals the source"
    ))
}
