//! A command's time and the most memory that it and its children held.

use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Between two looks at a process' memory.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// What one run of a command took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) seconds: f64,
    /// MiB.
    pub(crate) peak: f64,
}

/// Runs the command to its end.
pub(crate) fn run(command: &mut Command) -> Result<Run, String> {
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let begun = Instant::now();
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    // Read beside: a full pipe would stop the child.
    let mut errors = child.stderr.take().unwrap();
    let said = std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = std::io::Read::read_to_end(&mut errors, &mut text);
        String::from_utf8_lossy(&text).into_owned()
    });
    let (watched, ended) = mpsc::channel::<()>();
    let root = child.id();
    let watching = std::thread::spawn(move || watch(root, &ended));
    let status = child.wait().unwrap();
    let seconds = begun.elapsed().as_secs_f64();
    drop(watched);
    let peak = watching.join().unwrap();
    let said = said.join().unwrap();
    if !status.success() {
        let end = said.chars().rev().take(600).collect::<Vec<_>>();
        return Err(end.into_iter().rev().collect());
    }
    Ok(Run { seconds, peak })
}

/// Until the end is told; the peak is `VmHWM` of a single process, else the greatest sum over the tree.
fn watch(root: u32, ended: &mpsc::Receiver<()>) -> f64 {
    let mut peak = 0.0_f64;
    while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(LOOK_INTERVAL) {
        peak = peak.max(of_tree(root));
    }
    peak
}

fn of_tree(root: u32) -> f64 {
    let mut tree = vec![root];
    let mut at = 0;
    while at < tree.len() {
        tree.extend(children(tree[at]));
        at += 1;
    }
    let kind = if tree.len() == 1 { "VmHWM:" } else { "VmRSS:" };
    let kib: f64 = tree.into_iter().filter_map(|pid| field(pid, kind)).sum();
    kib / 1024.0
}

/// Of all its threads; none when it has ended.
fn children(pid: u32) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task"));
    let threads = threads.into_iter().flatten().flatten();
    threads
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|pids| {
            let pids: Vec<u32> = pids
                .split_whitespace()
                .filter_map(|it| it.parse().ok())
                .collect();
            pids
        })
        .collect()
}

fn field(pid: u32, name: &str) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

pub(crate) fn median(runs: &[Run]) -> Run {
    let middle = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Run {
        seconds: middle(runs.iter().map(|it| it.seconds).collect()),
        // Of memory the worst run counts.
        peak: runs.iter().map(|it| it.peak).fold(0.0, f64::max),
    }
}

/// What else the machine does, as a line.
pub(crate) fn load_of_this_machine() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "{cores} cores; load before the run: {}",
        load.split_whitespace()
            .take(3)
            .collect::<Vec<_>>()
            .join(" ")
    )
}
