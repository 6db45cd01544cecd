//! The least that a run can take: psql sends the same statements, each when what it reads is done.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Statements by level: those of one level wait only for lower ones.
pub(crate) struct Floor {
    levels: Vec<Vec<String>>,
    url: String,
    threads: usize,
}

/// Runs statements with psql and waits.
pub(crate) fn psql(url: &str, sql: &str) {
    let mut child = start(url);
    child
        .stdin
        .take()
        .unwrap()
        .write_all(sql.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "psql failed");
}

fn start(url: &str) -> Child {
    Command::new("psql")
        .args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-d", url])
        .env("PGOPTIONS", "-c client_min_messages=warning")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("psql is installed")
}

impl Floor {
    /// The statements that the latest run of a project has sent, from its artifacts.
    pub(crate) fn of(folder: &Path, url: &str, threads: usize) -> Self {
        let read = |name: &str| -> Value {
            let text = std::fs::read_to_string(folder.join("target").join(name)).unwrap();
            serde_json::from_str(&text).unwrap()
        };
        let (manifest, results) = (read("manifest.json"), read("run_results.json"));
        let mut level_of: BTreeMap<String, usize> = BTreeMap::new();
        let mut levels: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        for result in results["results"].as_array().unwrap() {
            let id = result["unique_id"].as_str().unwrap();
            let level = level(id, &manifest, &mut level_of);
            if let Some(sql) = sent(folder, &manifest["nodes"][id]) {
                levels.entry(level).or_default().push(sql);
            }
        }
        Self {
            levels: levels.into_values().collect(),
            url: url.to_owned(),
            threads,
        }
    }

    /// Sends everything; connecting is part of it, as it is of every run.
    pub(crate) fn run(&self) -> Duration {
        let begun = Instant::now();
        let (done, ended) = mpsc::channel();
        let mut writers = Vec::new();
        let mut children = Vec::new();
        for number in 0..self.threads {
            let mut child = start(&self.url);
            writers.push(child.stdin.take().unwrap());
            let lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let done = done.clone();
            std::thread::spawn(move || {
                for line in lines
                    .map_while(Result::ok)
                    .filter(|line| line == "node-is-done")
                {
                    assert_eq!(line, "node-is-done");
                    if done.send(Some(number)).is_err() {
                        break;
                    }
                }
                // The end of its output; too early if anybody still waits for it.
                let _ = done.send(None);
            });
            children.push(child);
        }
        for level in &self.levels {
            let mut open = level.iter();
            let mut busy = 0;
            let mut send = |number: usize, sql: &String| {
                let text = format!("{sql};\n\\echo node-is-done\n");
                writers[number].write_all(text.as_bytes()).unwrap();
                writers[number].flush().unwrap();
            };
            for number in 0..self.threads {
                if let Some(sql) = open.next() {
                    send(number, sql);
                    busy += 1;
                }
            }
            while busy > 0 {
                let number = ended.recv().unwrap().expect("psql goes on until the end");
                match open.next() {
                    Some(sql) => send(number, sql),
                    None => busy -= 1,
                }
            }
        }
        drop(writers);
        for mut child in children {
            assert!(child.wait().unwrap().success(), "psql failed");
        }
        begun.elapsed()
    }
}

/// A model is two levels above what it reads, its tests one above it: models wait for tests.
fn level(id: &str, manifest: &Value, known: &mut BTreeMap<String, usize>) -> usize {
    if let Some(level) = known.get(id) {
        return *level;
    }
    let parents = manifest["parent_map"][id]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let highest = parents
        .iter()
        .filter_map(Value::as_str)
        .map(|parent| level(parent, manifest, known))
        .max();
    let step = if id.starts_with("test.") { 1 } else { 2 };
    let level = highest.map_or(0, |highest| highest + step);
    known.insert(id.to_owned(), level);
    level
}

/// What was sent for a node, from `target/run`.
fn sent(folder: &Path, node: &Value) -> Option<String> {
    let package = node["package_name"].as_str()?;
    let mut file = folder
        .join("target/run")
        .join(package)
        .join(node["original_file_path"].as_str()?);
    if node["test_metadata"].is_object() {
        file = file.join(node["path"].as_str()?);
    }
    std::fs::read_to_string(file).ok()
}
