//! How plans look in a shell.

use std::process::ExitCode;

use ballpoint_reverse_etl::{Plan, PlanRow, PlanState};
use serde_json::{Value, json};

use super::super::Context;
use crate::output;

/// Rows shown under a plan; `show` has the others.
pub(super) const SAMPLE: u32 = 5;

/// Where a plan stands, its first rows, and what can be done next.
pub(super) fn plan(plan: &Plan, sample: &[PlanRow]) {
    output::line(headline(plan));
    if !plan.reason.is_empty() {
        output::line(format!("  reason: {}", plan.reason));
    }
    match plan.state {
        PlanState::Planned | PlanState::Failed => {
            for statement in &plan.ddl {
                let line = statement.split_whitespace().collect::<Vec<_>>().join(" ");
                output::line(format!("  first: {line}"));
            }
            sample.iter().for_each(row);
            let rows = plan.counts.writes() + plan.counts.invalid;
            if rows > i64::from(SAMPLE) {
                output::line(format!(
                    "  … all {rows} with `ballpoint reverse-etl show {}`",
                    plan.id
                ));
            }
        }
        PlanState::Applied | PlanState::Undone => {
            let written = plan.written.unwrap_or_default();
            let same = plan.read_back.as_ref().map(|found| found["same"].clone());
            output::line(format!(
                "  {written} rows written, {} read back as planned",
                same.unwrap_or(json!(0))
            ));
        }
        _ => {}
    }
    if let Some(error) = &plan.error {
        output::note(format!("error: {error}"));
    }
    let (id, hash) = (plan.id, plan.hash.as_deref().unwrap_or_default());
    let short = hash.get(..12).unwrap_or(hash);
    match plan.state {
        PlanState::Planned => output::line(format!(
            "  approve: ballpoint reverse-etl approve {id} --hash {short}"
        )),
        PlanState::Approved => {
            output::line(format!("  apply: ballpoint reverse-etl apply {id}"));
        }
        PlanState::Applied => output::line(format!("  undo: ballpoint reverse-etl undo {id}")),
        _ => {}
    }
}

fn headline(plan: &Plan) -> String {
    let counts = &plan.counts;
    format!(
        "{} -> {}: {} is {}: {} added, {} changed, {} removed, {} unchanged, {} invalid",
        plan.sync,
        plan.source,
        plan.table,
        plan.state.name(),
        counts.added,
        counts.changed,
        counts.removed,
        counts.unchanged,
        counts.invalid
    )
}

/// A plan row by row.
pub(super) fn rows(context: &Context, plan: &Plan, rows: &[PlanRow]) -> anyhow::Result<ExitCode> {
    if context.place.json {
        output::json(&json!({ "plan": plan, "rows": rows }))?;
    } else {
        output::line(headline(plan));
        rows.iter().for_each(row);
    }
    Ok(ExitCode::SUCCESS)
}

/// `changed  id=7 part=1: hold false → true`
fn row(row: &PlanRow) {
    let key: Vec<String> = pairs(&row.key)
        .map(|(name, value)| format!("{name}={}", text(value)))
        .collect();
    let values = match (&row.old, &row.new) {
        (Some(old), Some(new)) => {
            let changed = pairs(new).filter(|(name, value)| old[*name] != **value);
            changed
                .map(|(name, value)| format!("{name} {} → {}", text(&old[name]), text(value)))
                .collect::<Vec<_>>()
        }
        (one, other) => {
            let values = other.as_ref().or(one.as_ref());
            values
                .into_iter()
                .flat_map(pairs)
                .map(|(name, value)| format!("{name} {}", text(value)))
                .collect()
        }
    };
    let problem = row.problem.as_deref().map(|why| format!(" ({why})"));
    output::line(format!(
        "  {:<8} {}: {}{}",
        row.kind,
        key.join(" "),
        values.join(", "),
        problem.unwrap_or_default()
    ));
}

fn pairs(object: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let fields = object.as_object().into_iter().flatten();
    fields.map(|(name, value)| (name.as_str(), value))
}

fn text(value: &Value) -> String {
    value.as_str().map_or("null".to_owned(), str::to_owned)
}

/// The latest plans, and who did what.
pub(super) fn history(context: &Context, history: &Value) -> anyhow::Result<ExitCode> {
    if context.place.json {
        output::json(history)?;
        return Ok(ExitCode::SUCCESS);
    }
    for plan in history["plans"].as_array().into_iter().flatten() {
        let plan: Plan = serde_json::from_value(plan.clone())?;
        output::line(format!(
            "{} {} {}",
            plan.created_at,
            plan.id,
            headline(&plan)
        ));
    }
    for deed in history["audit"].as_array().into_iter().flatten() {
        let word = |name: &str| deed[name].as_str().unwrap_or_default().to_owned();
        output::line(format!(
            "{} {}: {} {} {}",
            word("at"),
            word("who"),
            word("action"),
            word("sync"),
            word("plan_id")
        ));
    }
    Ok(ExitCode::SUCCESS)
}
