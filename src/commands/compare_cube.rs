//! `compare cube URL`: the same queries to a Cube server and to us, and where the answers differ.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::Context;
use super::questions::Answering;
use crate::output::{self, UserError};

/// Cube's clients ask again as long as a result is being made.
const TRIES_MAX: usize = 60;
const REPLY_MAX: Duration = Duration::from_secs(60);
/// Digits after the point that two servers have to agree in.
const DIGITS: i32 = 9;

/// A Cube server.
struct Cube {
    base: String,
    token: String,
    http: reqwest::Client,
}

impl Cube {
    fn new(url: &str, token: Option<&str>) -> anyhow::Result<Self> {
        let base = url.trim_end_matches('/').trim_end_matches("/v1").to_owned();
        if !base.starts_with("http://") && !base.starts_with("https://") {
            bail!(UserError(format!(
                "\"{url}\" is not an address such as http://127.0.0.1:4000/cubejs-api"
            )));
        }
        Ok(Self {
            base,
            token: token.unwrap_or_default().to_owned(),
            http: reqwest::Client::builder().timeout(REPLY_MAX).build()?,
        })
    }

    async fn ask(&self, path: &str, body: Option<&Value>) -> anyhow::Result<(u16, Value)> {
        let url = format!("{}/v1/{path}", self.base);
        for _ in 0..TRIES_MAX {
            let request = match body {
                Some(body) => self.http.post(&url).json(body),
                None => self.http.get(&url),
            };
            let reply = request.header("authorization", &self.token).send().await;
            let reply = reply.with_context(|| format!("{} does not answer", self.base))?;
            let status = reply.status().as_u16();
            let body: Value = reply.json().await.unwrap_or(Value::Null);
            if body["error"] != "Continue wait" {
                return Ok((status, body));
            }
        }
        bail!("{url} still makes its result")
    }
}

/// Asks both, says what differs; exit code 1 when anything does.
pub(super) async fn run(
    context: &Context,
    url: &str,
    token: Option<&str>,
    queries: Option<&Path>,
) -> anyhow::Result<ExitCode> {
    let cube = Cube::new(url, token)?;
    let (status, meta) = cube.ask("meta", None).await?;
    if status != 200 {
        let error = meta["error"].as_str().unwrap_or("no reason was given");
        bail!("{url} answers {status} to /v1/meta: {error}");
    }
    let queries = match queries {
        Some(file) => read(file)?,
        None => queries_of(&meta),
    };
    let answering = Answering::open(context).await?;
    let mut differences = Vec::new();
    for query in &queries {
        let (ours, _) = answering.load(query).await?;
        let theirs = cube.ask("load", Some(&json!({ "query": query }))).await?;
        if let Some(why) = difference(query, (ours.status, &ours.body), (theirs.0, &theirs.1)) {
            if !context.place.json {
                output::line(format!("{query}\n  {why}"));
            }
            differences.push(json!({ "query": query, "difference": why }));
        }
    }
    answering.close().await?;
    let (asked, differ) = (queries.len(), differences.len());
    if context.place.json {
        output::json(&json!({ "queries": asked, "differences": differences }))?;
    } else {
        output::line(format!("{asked} queries, {differ} with different answers"));
    }
    Ok(if differ == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// A query a line.
fn read(file: &Path) -> anyhow::Result<Vec<Value>> {
    let shown = file.display();
    let text =
        std::fs::read_to_string(file).map_err(|error| UserError(format!("{shown}: {error}")))?;
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    let queries = lines.map(|(at, line)| {
        serde_json::from_str(line)
            .map_err(|error| UserError(format!("{shown}:{}: {error}", at + 1)).into())
    });
    queries.collect()
}

/// Each measure alone, by each plain dimension of its cube, and by month.
fn queries_of(meta: &Value) -> Vec<Value> {
    let mut queries = Vec::new();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    for cube in list(&meta["cubes"]) {
        let visible = |member: &&Value| member["isVisible"] != false;
        let dimensions = list(&cube["dimensions"]);
        let of_type = |types: &[&str]| -> Vec<Value> {
            let fits = |d: &&Value| types.contains(&d["type"].as_str().unwrap_or_default());
            let found = dimensions.iter().filter(visible).filter(fits);
            found.map(|d| d["name"].clone()).collect()
        };
        let (plain, times) = (of_type(&["string", "boolean"]), of_type(&["time"]));
        for measure in list(&cube["measures"]).iter().filter(visible) {
            let name = &measure["name"];
            queries.push(json!({ "measures": [name] }));
            for dimension in &plain {
                let order = json!([[dimension, "asc"]]);
                queries.push(json!({
                    "measures": [name], "dimensions": [dimension], "order": order,
                }));
            }
            // A window over time needs a range, which the data alone does not say.
            if let Some(time) = times.first().filter(|_| measure["cumulative"] != true) {
                let time = json!({ "dimension": time, "granularity": "month" });
                queries.push(json!({ "measures": [name], "timeDimensions": [time] }));
            }
        }
    }
    queries
}

/// In words, where two answers to a query differ.
fn difference(query: &Value, ours: (u16, &Value), theirs: (u16, &Value)) -> Option<String> {
    let (mine, other) = (ours.0 == 200, theirs.0 == 200);
    if !mine && !other {
        return None;
    }
    if mine != other {
        let error = |(status, body): (u16, &Value)| match body["error"].as_str() {
            Some(error) => format!("{status} {error}"),
            None => status.to_string(),
        };
        return Some(format!("ours: {}; Cube: {}", error(ours), error(theirs)));
    }
    let is_ordered = query["order"]
        .as_array()
        .is_some_and(|order| !order.is_empty());
    let rows = |body: &Value| {
        let mut rows: Vec<String> = body["data"]
            .as_array()
            .into_iter()
            .flatten()
            .map(comparable)
            .collect();
        if !is_ordered {
            rows.sort();
        }
        rows
    };
    let (mine, other) = (rows(ours.1), rows(theirs.1));
    if mine == other {
        return None;
    }
    let first = mine.iter().zip(&other).find(|(a, b)| a != b);
    let first = first.map_or_else(String::new, |(a, b)| format!("; ours {a}, Cube {b}"));
    Some(format!("{} rows, Cube {}{first}", mine.len(), other.len()))
}

/// A row as text, its numbers rounded.
fn comparable(row: &Value) -> String {
    let cells = row.as_object().into_iter().flatten();
    let mut cells: Vec<String> = cells
        .map(|(key, value)| {
            let number = match value {
                Value::String(text) => text.parse::<f64>().ok(),
                other => other.as_f64(),
            };
            let text = number.map_or_else(
                || value.to_string(),
                |number| {
                    let scale = 10_f64.powi(DIGITS);
                    ((number * scale).round() / scale).to_string()
                },
            );
            format!("{key}={text}")
        })
        .collect();
    cells.sort();
    cells.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_equal_by_value_and_not_by_spelling() {
        let query = json!({ "measures": ["A.n"] });
        let body = |value: Value| json!({ "data": [{ "A.n": value }] });
        let (text, number) = (body(json!("1.50")), body(json!(1.5)));
        assert_eq!(difference(&query, (200, &text), (200, &number)), None);
        let other = body(json!("2"));
        let said = difference(&query, (200, &text), (200, &other));
        assert!(said.is_some_and(|said| said.contains("A.n=1.5") && said.contains("A.n=2")));
        let refused = json!({ "error": "no such member" });
        let said = difference(&query, (400, &refused), (200, &other));
        assert!(said.is_some_and(|said| said.contains("no such member")));
    }

    #[test]
    fn every_measure_is_asked_for_alone_and_by_what_its_cube_has() {
        let meta = json!({ "cubes": [{
            "measures": [{ "name": "A.n" }, { "name": "A.hidden", "isVisible": false }],
            "dimensions": [{ "name": "A.d", "type": "string" }, { "name": "A.t", "type": "time" }],
        }] });
        assert_eq!(queries_of(&meta).len(), 3);
    }
}
