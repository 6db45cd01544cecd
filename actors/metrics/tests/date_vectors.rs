//! The ranges that Cube's own date parser gives, for four moments in three time zones.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use ballpoint_metrics::plan::dates::parse_phrase;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;

/// Where we read what is written and Cube does not: a range covers both its ends, a month alone is
/// the whole month.
const BETTER: [&str; 4] = [
    "from yesterday to today",
    "from last month to today",
    "july 2026",
    "2026",
];

#[test]
fn date_phrases_give_cubes_ranges_but_for_what_it_misreads() {
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/cube/date_vectors.json");
    let vectors: Vec<Value> =
        serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let (mut passed, mut wrong) = (0, Vec::new());
    for vector in &vectors {
        let input = vector["input"].as_str().unwrap();
        if BETTER.contains(&input.to_lowercase().as_str()) {
            continue;
        }
        let now: Timestamp = vector["now"].as_str().unwrap().parse().unwrap();
        let zone = TimeZone::get(vector["timezone"].as_str().unwrap()).unwrap();
        let ours = parse_phrase(input, now, &zone).map(|range| range.texts());
        let cubes: Option<[String; 2]> = serde_json::from_value(vector["range"].clone()).unwrap();
        if ours == cubes {
            passed += 1;
        } else {
            wrong.push(format!(
                "{input:?} at {now} in {zone:?}: {ours:?}, Cube {cubes:?}"
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{passed} agree, {} do not:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
