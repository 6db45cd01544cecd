//! An answer's chart as the original backend sends it: Chart.js data for bars and lines, plain rows
//! for tables, and nothing for a single figure, which its front end cannot draw.

use ballpoint_analyst::Answer;
use ballpoint_analyst::answer::{Axis, ChartSpec, Row};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// The original's colours, in its order.
const COLOURS: [&str; 5] = [
    "rgba(54, 162, 235, 0.6)",
    "rgba(255, 99, 132, 0.6)",
    "rgba(255, 206, 86, 0.6)",
    "rgba(75, 192, 192, 0.6)",
    "rgba(153, 102, 255, 0.6)",
];

#[derive(Serialize)]
pub(super) struct ChartData {
    /// `bar`, `line` or `table`.
    chart_type: &'static str,
    /// `{labels, datasets}`; for tables the rows.
    data: Value,
    x_axis: Option<String>,
    y_axis: Option<String>,
    title: Option<String>,
}

pub(super) fn draw(answer: &Answer) -> Option<ChartData> {
    let spec = answer.chart.as_ref().filter(|_| !answer.rows.is_empty())?;
    let chart_type = match spec.kind.as_str() {
        "line" => "line",
        "bar" | "grouped_bar" | "pareto" => "bar",
        "table" => "table",
        _ => return None,
    };
    let data = match (chart_type, &spec.x) {
        ("table", _) | (_, None) => Value::Array(named(&answer.rows, spec)),
        (_, Some(x)) => chart_js(&answer.rows, x, spec),
    };
    Some(ChartData {
        chart_type: if data.is_array() { "table" } else { chart_type },
        data,
        x_axis: spec.x.as_ref().map(|axis| axis.title.clone()),
        y_axis: spec.y.first().map(|axis| axis.title.clone()),
        title: Some(spec.title.clone()),
    })
}

/// Rows under the titles that people know.
fn named(rows: &[Row], spec: &ChartSpec) -> Vec<Value> {
    let axes: Vec<&Axis> = spec.x.iter().chain(&spec.series).chain(&spec.y).collect();
    rows.iter()
        .map(|row| {
            let cell = |axis: &&Axis| {
                let value = row.get(&axis.key).cloned();
                (axis.title.clone(), value.unwrap_or(Value::Null))
            };
            Value::Object(axes.iter().map(cell).collect::<Map<_, _>>())
        })
        .collect()
}

/// A dataset for each series and measure, with a value or null at each label.
fn chart_js(rows: &[Row], x: &Axis, spec: &ChartSpec) -> Value {
    let label = |row: &Row| text(row.get(&x.key));
    let mut labels: Vec<String> = Vec::new();
    for row in rows {
        let label = label(row);
        if !labels.contains(&label) {
            labels.push(label);
        }
    }
    let series = |row: &Row| spec.series.as_ref().map(|axis| text(row.get(&axis.key)));
    let mut names: Vec<Option<String>> = Vec::new();
    for row in rows {
        let name = series(row);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let mut datasets = Vec::new();
    for name in &names {
        for y in &spec.y {
            let at = |wanted: &String| {
                let found = rows
                    .iter()
                    .find(|row| label(row) == *wanted && series(row) == *name);
                found.map_or(Value::Null, |row| number(row.get(&y.key)))
            };
            let data: Vec<Value> = labels.iter().map(at).collect();
            let label = match (name, spec.y.len()) {
                (None, _) => y.title.clone(),
                (Some(name), 1) => name.clone(),
                (Some(name), _) => format!("{name}: {}", y.title),
            };
            let colour = COLOURS[datasets.len() % COLOURS.len()];
            datasets.push(json!({
                "label": label,
                "data": data,
                "backgroundColor": colour,
                "borderColor": colour.replace("0.6", "1"),
                "borderWidth": 1,
            }));
        }
    }
    json!({ "labels": labels, "datasets": datasets })
}

fn text(cell: Option<&Value>) -> String {
    match cell {
        Some(Value::String(text)) => text.clone(),
        None | Some(Value::Null) => "–".to_owned(),
        Some(other) => other.to_string(),
    }
}

/// PostgreSQL's exact numbers come as text; Chart.js draws numbers.
fn number(cell: Option<&Value>) -> Value {
    match cell {
        Some(Value::String(text)) => text.parse::<f64>().map_or(Value::Null, Value::from),
        Some(Value::Number(number)) => Value::Number(number.clone()),
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(key: &str) -> Axis {
        Axis {
            key: key.to_owned(),
            title: key.to_uppercase(),
            unit: None,
        }
    }

    fn answer(kind: &str, series: Option<&str>, rows: Value) -> Answer {
        Answer {
            rows: serde_json::from_value(rows).unwrap(),
            chart: Some(ChartSpec {
                kind: kind.to_owned(),
                title: "T".to_owned(),
                x: Some(axis("x")),
                series: series.map(axis),
                y: vec![axis("y")],
            }),
            ..Answer::default()
        }
    }

    #[test]
    fn bars_and_lines_are_chart_js_data_and_tables_are_rows() {
        let rows = json!([{ "x": "a", "y": "1.5" }, { "x": "b", "y": null }]);
        let bar = json!(draw(&answer("bar", None, rows.clone())).unwrap());
        assert_eq!(bar["chart_type"], "bar");
        assert_eq!(bar["data"]["labels"], json!(["a", "b"]));
        assert_eq!(bar["data"]["datasets"][0]["data"], json!([1.5, null]));
        assert_eq!(bar["data"]["datasets"][0]["label"], "Y");
        let table = json!(draw(&answer("table", None, rows.clone())).unwrap());
        assert_eq!(table["data"][0], json!({ "X": "a", "Y": "1.5" }));
        assert!(draw(&answer("kpi", None, rows)).is_none());
    }

    #[test]
    fn each_series_is_a_dataset_with_a_place_for_every_label() {
        let rows = json!([
            { "x": "jan", "s": "old", "y": "1" }, { "x": "feb", "s": "old", "y": "2" },
            { "x": "feb", "s": "new", "y": "3" }]);
        let line = json!(draw(&answer("line", Some("s"), rows)).unwrap());
        let datasets = line["data"]["datasets"].as_array().unwrap();
        assert_eq!(datasets.len(), 2);
        assert_eq!(datasets[1]["label"], "new");
        assert_eq!(datasets[1]["data"], json!([null, 3.0]));
    }
}
