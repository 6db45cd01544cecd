#![allow(clippy::unwrap_used)]
//! The generator without a database: rows read back from the COPY text.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::parameters::SeedFiles;

const NOW: &str = "2026-03-31T10:00:00Z";

fn parameters(source: &str) -> Parameters {
    let generator_yml = match source {
        "refills" => include_str!("../../refills/generator.yml"),
        "bodies" => include_str!("../../bodies/generator.yml"),
        _ => include_str!("../../springs/generator.yml"),
    };
    let files = SeedFiles {
        directory: format!("seeds/{source}"),
        schema_sql: String::new(),
        generator_yml: generator_yml.to_owned(),
    };
    Parameters::parse(&files).unwrap()
}

fn text(source: &str, rows: u64, seed: u64, now: &str) -> String {
    let chunks = generate(&parameters(source), rows, seed, now.parse().unwrap());
    String::from_utf8(chunks.flatten().collect()).unwrap()
}

type Row = BTreeMap<String, String>;

fn rows(source: &str, count: u64, seed: u64) -> Vec<Row> {
    let parameters = parameters(source);
    let names: Vec<&str> = parameters.columns().collect();
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('\t').collect();
        assert_eq!(cells.len(), names.len());
        names
            .iter()
            .zip(cells)
            .map(|(name, cell)| ((*name).to_owned(), cell.to_owned()))
            .collect()
    };
    text(source, count, seed, NOW).lines().map(row).collect()
}

fn number(row: &Row, column: &str) -> f64 {
    row[column].parse().unwrap()
}

/// The share of rows for which `holds`, and its statistical bound at five standard deviations.
fn assert_share(rows: &[&Row], expected: f64, what: &str, holds: impl Fn(&Row) -> bool) {
    let n = rows.len() as f64;
    let share = rows.iter().filter(|row| holds(row)).count() as f64 / n;
    let bound = 5.0 * (expected * (1.0 - expected) / n).sqrt();
    assert!(
        (share - expected).abs() <= bound,
        "{what}: {share} is not {expected} ± {bound}"
    );
}

#[test]
fn one_row_an_hour_fills_the_window_up_to_now() {
    let rows = rows("bodies", 2160, 42);
    assert_eq!(rows.len(), 2160);
    assert_eq!(rows[0]["timestamp"], "2025-12-31 10:00:00+00");
    assert_eq!(rows[2159]["timestamp"], "2026-03-31 09:00:00+00");
    let hours: BTreeSet<&String> = rows.iter().map(|row| &row["timestamp"]).collect();
    assert_eq!(hours.len(), 2160);
}

#[test]
fn the_hour_under_way_has_no_rows() {
    assert_eq!(
        text("springs", 2160, 1, NOW),
        text("springs", 2160, 1, "2026-03-31T10:59:59Z")
    );
}

#[test]
fn ids_go_up_with_time_and_any_count_is_met() {
    for count in [0, 1, 350, 2161, 9_999] {
        let rows = rows("refills", count, 3);
        assert_eq!(rows.len() as u64, count);
        let ids: Vec<u64> = rows.iter().map(|row| row["id"].parse().unwrap()).collect();
        assert!(ids.iter().copied().eq(1..=count));
        assert!(rows.is_sorted_by(|a, b| a["timestamp"] <= b["timestamp"]));
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
    for source in ["refills", "bodies", "springs"] {
        assert_eq!(text(source, 2160, 42, NOW), text(source, 2160, 42, NOW));
        assert_ne!(text(source, 2160, 42, NOW), text(source, 2160, 43, NOW));
    }
}

#[test]
fn a_larger_count_only_adds_units() {
    let without_id = |mut row: Row| {
        row.remove("id");
        row
    };
    let many: BTreeSet<Row> = rows("springs", 8640, 7)
        .into_iter()
        .map(without_id)
        .collect();
    for row in rows("springs", 2160, 7) {
        assert!(many.contains(&without_id(row)));
    }
}

#[test]
fn an_hour_keeps_its_units_when_now_moves_on() {
    let now = text("bodies", 2160, 7, NOW);
    let later = text("bodies", 2160, 7, "2026-03-31T15:00:00Z");
    let tails = |text: &str, range: std::ops::Range<usize>| -> Vec<String> {
        let lines = text.lines().skip(range.start).take(range.len());
        lines
            .map(|line| line.split_once('\t').unwrap().1.to_owned())
            .collect()
    };
    assert_eq!(tails(&now, 5..2160), tails(&later, 0..2155));
}

#[test]
fn chunks_are_whole_lines_of_about_64_kib() {
    let chunks: Vec<Bytes> =
        generate(&parameters("refills"), 2160, 1, NOW.parse().unwrap()).collect();
    assert!(chunks.len() > 3);
    assert!(chunks.iter().all(|chunk| chunk.ends_with(b"\n")));
    assert!(chunks.iter().all(|chunk| chunk.len() < CHUNK_BYTES + 1024));
    assert!(
        chunks[..chunks.len() - 1]
            .iter()
            .all(|chunk| chunk.len() >= CHUNK_BYTES)
    );
}

#[test]
fn failure_rates_are_those_of_the_parameters() {
    let rates = [
        ("refills", 0.03, 0.02),
        ("bodies", 0.04, 0.02),
        ("springs", 0.02, 0.01),
    ];
    for (source, rate, weekend) in rates {
        let rows = rows(source, 21_600, 11);
        let quiet: Vec<&Row> = rows.iter().filter(|row| !in_planted_week(row)).collect();
        for (is_weekend, night) in [(false, false), (false, true), (true, false), (true, true)] {
            let group: Vec<&Row> = quiet
                .iter()
                .filter(|row| self::is_weekend(row) == is_weekend)
                .filter(|row| (row["shift_id"] == "SHIFT-NIGHT") == night)
                .copied()
                .collect();
            let expected =
                rate + if is_weekend { weekend } else { 0.0 } + if night { 0.01 } else { 0.0 };
            assert_share(&group, expected, source, |row| {
                row["quality_status"] == "error"
            });
        }
    }
}

#[test]
fn flags_and_shares_are_those_of_the_parameters() {
    let rates = [
        ("refills", 0.93, 0.05),
        ("bodies", 0.92, 0.06),
        ("springs", 0.96, 0.03),
    ];
    for (source, first_pass, rework) in rates {
        let rows = rows(source, 21_600, 5);
        let quiet: Vec<&Row> = rows.iter().filter(|row| !in_planted_week(row)).collect();
        assert_share(&quiet, first_pass, "first pass", |row| {
            row["first_pass_yield"] == "t"
        });
        assert_share(&quiet, rework, "rework", |row| {
            row["rework_required"] == "t"
        });
        for row in &rows {
            assert!(row["quality_status"] == "ok" || row["first_pass_yield"] == "f");
            assert!(row["rework_required"] == "f" || row["first_pass_yield"] == "f");
        }
    }
    let bodies = rows("bodies", 21_600, 5);
    let bodies: Vec<&Row> = bodies.iter().collect();
    for (material, share) in [("plastic", 0.35), ("bamboo", 0.40), ("metal", 0.25)] {
        assert_share(&bodies, share, material, |row| row["material"] == material);
    }
}

#[test]
fn failed_units_show_where_their_defect_says() {
    let outside = [
        (
            "refills",
            "viscosity_out_of_spec",
            "ink_viscosity_pas",
            1.10,
            1.45,
        ),
        ("refills", "tip_defect", "tip_diameter_mm", 0.65, 0.80),
        (
            "refills",
            "flow_inconsistent",
            "flow_consistency",
            0.90,
            1.00,
        ),
        ("bodies", "color_mismatch", "color_match_rating", 0.90, 1.00),
        ("bodies", "dimensional", "length_mm", 148.5, 151.5),
        ("springs", "coil_spacing", "diameter_mm", 0.95, 1.10),
        (
            "springs",
            "compression_failure",
            "compression_ratio",
            0.90,
            1.00,
        ),
        (
            "springs",
            "tensile_failure",
            "tensile_strength_mpa",
            980.0,
            1030.0,
        ),
    ];
    for source in ["refills", "bodies", "springs"] {
        for row in rows(source, 21_600, 9) {
            assert_eq!(
                row["quality_status"] == "error",
                row["defect_type"] != "\\N"
            );
            for (_, defect, column, low, high) in outside.iter().filter(|of| of.0 == source) {
                let good = (*low..=*high).contains(&number(&row, column));
                if row["defect_type"] == *defect {
                    assert!(!good, "{defect} with {column} {}", row[*column]);
                } else if row["quality_status"] == "ok" {
                    assert!(good, "{column} {} on a good unit", row[*column]);
                }
            }
        }
    }
}

#[test]
fn the_last_daily_means_of_worn_wire_rise_under_every_seed() {
    for seed in 0..12 {
        let mut days: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for row in rows("springs", 2160, seed) {
            let day = &row["timestamp"][..10];
            if row["material"] == "music_wire" && ("2026-03-24".."2026-03-31").contains(&day) {
                let diameters = days.entry(day.to_owned()).or_default();
                diameters.push(number(&row, "diameter_mm"));
            }
        }
        let means = days
            .values()
            .map(|all| all.iter().sum::<f64>() / all.len() as f64);
        let means: Vec<f64> = means.collect();
        assert!(means.len() >= 6, "seed {seed}: {means:?}");
        assert!(means.is_sorted_by(|a, b| a < b), "seed {seed}: {means:?}");
    }
}

#[test]
fn every_material_and_machine_comes_up_on_every_day() {
    for seed in [1, 7, 42] {
        let mut days: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for row in rows("springs", 2160, seed) {
            let day = row["timestamp"][..10].to_owned();
            days.entry(day)
                .or_default()
                .insert(row["machine_id"].clone());
        }
        assert!(days.values().all(|machines| machines.len() == 5));
    }
}

fn is_weekend(row: &Row) -> bool {
    use jiff::civil::{Date, Weekday};
    let date: Date = row["timestamp"][..10].parse().unwrap();
    matches!(date.weekday(), Weekday::Saturday | Weekday::Sunday)
}

/// The bad day and the excellent week, of refills.
fn in_planted_week(row: &Row) -> bool {
    let day = &row["timestamp"][..10];
    day == "2026-02-14" || ("2026-02-25".."2026-03-04").contains(&day)
}
