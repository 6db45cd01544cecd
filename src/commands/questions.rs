//! `query`, `ask`, `eval`: the metrics and the agents from the shell. While `up` runs it answers;
//! otherwise this process does, with the part of the tree that answering needs.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use ballpoint_analyst::Answer;
use ballpoint_analyst::answer::Row;
use ballpoint_analyst::eval::{self, Summary};
use ballpoint_chat::ChatHandle;
use ballpoint_metrics::query::Query;
use ballpoint_metrics::{ApiReply, MetricRegistryHandle, SecurityContext};
use ballpoint_runtime::supervision::{Scope, TreeHandle};
use serde_json::{Value, json};

use super::Context;
use crate::cli::{AskArgs, BackendName};
use crate::databases::SEED_BY_DEFAULT;
use crate::output::{self, UserError};
use crate::remote::Remote;
use crate::session::{Own, Session};
use crate::stack;

const SHUTDOWN_MAX: Duration = Duration::from_secs(5);

/// Whoever answers.
pub(super) enum Answering {
    Running(Remote),
    Own {
        own: Box<Own>,
        tree: TreeHandle,
        chat: ChatHandle,
        metrics: MetricRegistryHandle,
    },
}

impl Answering {
    pub(super) async fn open(context: &Context) -> anyhow::Result<Self> {
        let project = context.project()?;
        if project.config.metrics.is_none() {
            bail!(UserError(
                "the project has no [metrics] section: nothing can be asked".to_owned()
            ));
        }
        match Session::open(project, context.clock(), SEED_BY_DEFAULT).await? {
            Session::Running(remote) => Ok(Self::Running(remote)),
            Session::Own(own) => {
                let scope = Scope::unique();
                let root = stack::answering(&own, own.queries().await?, &scope);
                let tree = stack::start(&own, scope.clone(), root).await?;
                let (chat, metrics) = (ChatHandle::new(&scope), MetricRegistryHandle::new(&scope));
                Ok(Self::Own {
                    own,
                    tree,
                    chat,
                    metrics,
                })
            }
        }
    }

    pub(super) async fn close(self) -> anyhow::Result<()> {
        if let Self::Own { own, tree, .. } = self {
            tree.stop(SHUTDOWN_MAX).await;
            own.close().await?;
        }
        Ok(())
    }

    /// Cube's reply to a query, and the id of its proof.
    pub(super) async fn load(&self, query: &Value) -> anyhow::Result<(ApiReply, Option<String>)> {
        let request = json!({ "query": query });
        match self {
            Self::Running(remote) => loop {
                let path = "/cubejs-api/v1/load";
                let (status, body, proof) = remote.load(path, &request).await?;
                // A result that is being made; one with a stage waits for the first pass.
                if body["error"] != "Continue wait" || body.get("stage").is_some() {
                    return Ok((ApiReply { status, body }, proof));
                }
            },
            Self::Own { own, metrics, .. } => {
                let (raw, nobody) = (request.to_string(), SecurityContext::default());
                let served = metrics.load_served(&raw, || Ok(request), &nobody).await;
                let proof = served.proof.as_deref().map(String::from_utf8_lossy);
                let proof = proof.map(Cow::into_owned);
                if let Some(id) = &proof {
                    // With this process all ends that could tell of it later.
                    let body = metrics.service().await?.proof_of(id).await;
                    own.store
                        .proofs()
                        .put(id, &body.unwrap_or_default())
                        .await?;
                }
                let (status, body) = (served.status, serde_json::from_slice(&served.body)?);
                Ok((ApiReply { status, body }, proof))
            }
        }
    }

    async fn ask(
        &self,
        question: String,
        conversation: Option<String>,
        backend: Option<BackendName>,
    ) -> anyhow::Result<Answer> {
        let local = backend == Some(BackendName::Planner);
        match self {
            Self::Running(remote) => {
                let mut body = json!({ "question": question, "conversation_id": conversation });
                if local {
                    body["backend"] = json!("planner");
                }
                Ok(serde_json::from_value(
                    remote.post("/api/ask", &body).await?,
                )?)
            }
            Self::Own { chat, .. } if local => Ok(chat.ask_locally(question, conversation).await?),
            Self::Own { chat, .. } => Ok(chat.ask(question, conversation).await?),
        }
    }
}

/// `--backend llm` needs a model.
fn check_backend(context: &Context, backend: Option<BackendName>) -> anyhow::Result<()> {
    if backend == Some(BackendName::Llm) && context.project()?.config.llm.is_none() {
        bail!(UserError(
            "--backend llm: the project has no [llm] section; give it base_url, model and api_key"
                .to_owned(),
        ));
    }
    Ok(())
}

/// Prints Cube's load response, or its rows as a table.
pub(super) async fn query(context: &Context, text: &str) -> anyhow::Result<ExitCode> {
    let query: Value = serde_json::from_str(text)
        .map_err(|error| UserError(format!("the query is not valid JSON: {error}")))?;
    let answering = Answering::open(context).await?;
    let reply = answering.load(&query).await;
    answering.close().await?;
    let (ApiReply { status, body }, proof) = reply?;
    // What Cube says, with 200, for "ask again": the first pass of the running ballpoint.
    if body["error"] == "Continue wait" {
        let stage = body["stage"].as_str().unwrap_or("the result is being made");
        bail!("{stage}; ask again in a moment");
    }
    if status != 200 {
        let message = body["error"]
            .as_str()
            .unwrap_or("the query failed")
            .to_owned();
        if status < 500 {
            bail!(UserError(message));
        }
        bail!(message);
    }
    if context.place.json {
        output::json(&body)?;
    } else {
        print_rows(
            body["data"]
                .as_array()
                .map(Vec::as_slice)
                .unwrap_or_default(),
        );
        if let Some(proof) = proof {
            output::note(format!("proof {proof}"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the answer object, or its text with its rows.
pub(super) async fn ask(context: &Context, args: AskArgs) -> anyhow::Result<ExitCode> {
    check_backend(context, args.backend)?;
    let answering = Answering::open(context).await?;
    let answer = answering
        .ask(args.question, args.conversation, args.backend)
        .await;
    answering.close().await?;
    let answer = answer?;
    if context.place.json {
        output::json(&answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    for notice in &answer.notices {
        output::note(&notice.text);
    }
    output::line(&answer.answer);
    for option in &answer.options {
        output::line(format!("  - {}", option.label));
    }
    if answer.rows.len() > 1 {
        output::line("");
        print_rows(
            &answer
                .rows
                .iter()
                .cloned()
                .map(Value::Object)
                .collect::<Vec<_>>(),
        );
    }
    output::line(format!("\nconversation {}", answer.conversation_id));
    Ok(ExitCode::SUCCESS)
}

/// A line a case and a summary; exit code 1 when an answer is wrong, or was right in the baseline
/// and is not now.
pub(super) async fn eval(
    context: &Context,
    file: &Path,
    backend: Option<BackendName>,
    baseline: Option<&Path>,
) -> anyhow::Result<ExitCode> {
    check_backend(context, backend)?;
    let before = baseline.map(right_before).transpose()?.unwrap_or_default();
    let text = std::fs::read_to_string(file)
        .map_err(|error| UserError(format!("{}: {error}", file.display())))?;
    let cases = eval::read_cases(&text)
        .map_err(|error| UserError(format!("{}: {error}", file.display())))?;
    let answering = Answering::open(context).await?;
    let ask = async |question: String, conversation: Option<String>| {
        answering
            .ask(question, conversation, backend)
            .await
            .map_err(|error| format!("{error:#}"))
    };
    let run = async |query: Query| {
        rows_of(&answering, &query)
            .await
            .map_err(|error| format!("{error:#}"))
    };
    let mut reports = Vec::new();
    for case in &cases {
        let report = Box::pin(eval::evaluate(case, &ask, &run)).await;
        if context.place.json {
            output::json(&report)?;
        } else {
            let outcome = serde_json::to_value(report.outcome)?;
            let outcome = outcome.as_str().unwrap_or_default().to_owned();
            output::line(format!("{:<5} {outcome:<9} {}", report.id, report.question));
        }
        reports.push(report);
    }
    answering.close().await?;
    let summary = Summary::of(&reports);
    let lost: Vec<&str> = reports
        .iter()
        .filter(|it| it.points < 1 && before.contains(&it.id))
        .map(|it| it.id.as_str())
        .collect();
    if context.place.json {
        output::json(&json!({ "summary": summary, "regressions": lost }))?;
    } else {
        output::line(format!(
            "{} of {} right, {} wrong, {} asked back needlessly",
            summary.right, summary.cases, summary.wrong, summary.needless
        ));
        if !lost.is_empty() {
            output::line(format!("right before, and not now: {}", lost.join(", ")));
        }
    }
    Ok(if summary.wrong == 0 && lost.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The ids of the cases that were right in an earlier run, by the lines that it printed.
fn right_before(file: &Path) -> anyhow::Result<BTreeSet<String>> {
    let unreadable = |error: &dyn std::fmt::Display| {
        UserError(format!("--baseline {}: {error}", file.display()))
    };
    let text = std::fs::read_to_string(file).map_err(|error| unreadable(&error))?;
    let mut right = BTreeSet::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).map_err(|error| unreadable(&error))?;
        if let (Some(id), Some(1)) = (line["id"].as_str(), line["points"].as_i64()) {
            right.insert(id.to_owned());
        }
    }
    Ok(right)
}

async fn rows_of(answering: &Answering, query: &Query) -> anyhow::Result<Vec<Row>> {
    let (reply, _) = answering.load(&serde_json::to_value(query)?).await?;
    let body = reply.body;
    if let Some(error) = body["error"].as_str() {
        bail!("{error}");
    }
    let rows = body["data"].as_array().context("the reply holds no rows")?;
    Ok(rows
        .iter()
        .filter_map(|row| row.as_object().cloned())
        .collect())
}

/// Columns wide enough for what they hold, names without their cube.
fn print_rows(rows: &[Value]) {
    let Some(first) = rows.first().and_then(Value::as_object) else {
        output::line("no rows");
        return;
    };
    let keys: Vec<&String> = first.keys().collect();
    let cell = |row: &Value, key: &str| match &row[key] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let name = |key: &str| {
        key.split_once('.')
            .map_or(key, |(_, member)| member)
            .to_owned()
    };
    let widths: Vec<usize> = keys
        .iter()
        .map(|key| {
            let cells = rows.iter().map(|row| cell(row, key).chars().count());
            cells
                .chain([name(key).chars().count()])
                .max()
                .unwrap_or_default()
        })
        .collect();
    let print = |cells: Vec<String>| {
        let padded = cells
            .iter()
            .zip(&widths)
            .map(|(text, width)| format!("{text:<width$}"));
        output::line(padded.collect::<Vec<_>>().join("  ").trim_end());
    };
    print(keys.iter().map(|key| name(key)).collect());
    for row in rows {
        print(keys.iter().map(|key| cell(row, key)).collect());
    }
}
