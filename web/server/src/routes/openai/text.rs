//! What stands beside an answer's text where only text is read: its rows, its choices, its proof.

use std::fmt::Write;

use ballpoint_analyst::{Answer, Behaviour};
use serde_json::Value;

/// Rows that are written out; the proof holds all of them.
const ROWS_MAX: usize = 50;

/// Markdown to put behind the text.
pub(super) fn beside(answer: &Answer) -> String {
    let mut text = String::new();
    if answer.behaviour == Behaviour::Clarify {
        // The text names the choices; a client without buttons repeats one of them.
        return text;
    }
    if answer.rows.len() > 1 {
        table(&mut text, answer);
    }
    if let Some(proof) = &answer.proof_id {
        let _ = write!(text, "\n\nProof: `/api/proofs/{proof}`");
    }
    text
}

fn table(text: &mut String, answer: &Answer) {
    let Some(first) = answer.rows.first() else {
        return;
    };
    let keys: Vec<&String> = first.keys().collect();
    let line = |cells: Vec<String>| format!("\n| {} |", cells.join(" | "));
    let titles = keys.iter().map(|key| title(answer, key)).collect();
    let rule = keys.iter().map(|_| "---".to_owned()).collect();
    let _ = write!(text, "\n{}{}", line(titles), line(rule));
    for row in answer.rows.iter().take(ROWS_MAX) {
        let cells = keys.iter().map(|key| cell(row.get(*key))).collect();
        text.push_str(&line(cells));
    }
    if answer.rows.len() > ROWS_MAX {
        let _ = write!(text, "\n\n{} of {} rows.", ROWS_MAX, answer.rows.len());
    }
}

/// The key as the chart names it.
fn title(answer: &Answer, key: &str) -> String {
    let axes = answer.chart.iter().flat_map(|chart| {
        let named = chart.x.iter().chain(&chart.series);
        named.chain(&chart.y)
    });
    let mut titles = axes.filter(|axis| axis.key == key);
    let title = titles.next().map_or(key, |axis| axis.title.as_str());
    escaped(title)
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => escaped(text),
        Some(other) => other.to_string(),
    }
}

fn escaped(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_become_a_table_whose_cells_cannot_break_it() {
        let row = |name: &str, n: u32| {
            let row = json!({ "name": name, "n": n });
            row.as_object().cloned().unwrap_or_default()
        };
        let answer = Answer {
            behaviour: Behaviour::Answer,
            rows: vec![row("a|b", 1), row("c\nd", 2)],
            proof_id: Some("p".to_owned()),
            ..Answer::default()
        };
        let text = beside(&answer);
        assert!(text.contains("a\\|b"), "{text}");
        assert!(text.contains("c d"), "{text}");
        assert!(text.ends_with("Proof: `/api/proofs/p`"), "{text}");
    }
}
