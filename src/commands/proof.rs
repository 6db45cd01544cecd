//! `proof`: the evidence behind an answer, and what running it again gives.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use ballpoint_analyst::replay;
use serde_json::{Value, json};

use super::Context;
use super::questions::Answering;
use crate::output::{self, UserError};

/// Shows a proof; with `again` its query is run and compared. Exit code 1 when the rows differ.
pub(super) async fn run(context: &Context, id: &str, again: bool) -> anyhow::Result<ExitCode> {
    if id.is_empty() || !id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
        bail!(UserError(format!(
            "{id:?} is no proof's id; an answer carries one as proof_id"
        )));
    }
    let answering = Answering::open(context).await?;
    let found = found(&answering, id, again).await;
    answering.close().await?;
    let (proof, replayed) = found?;
    let same = replayed.as_ref().is_none_or(|it| it["same"] == true);
    if context.place.json {
        output::json(&replayed.unwrap_or(proof))?;
    } else {
        match &replayed {
            None => show(&proof),
            Some(replayed) => show_replay(replayed),
        }
    }
    Ok(if same {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    })
}

async fn found(
    answering: &Answering,
    id: &str,
    again: bool,
) -> anyhow::Result<(Value, Option<Value>)> {
    match answering {
        Answering::Running(remote) => {
            let proof = remote.get(&format!("/api/proofs/{id}")).await?;
            let replayed = match again {
                true => Some(
                    remote
                        .post(&format!("/api/proofs/{id}/replay"), &json!({}))
                        .await?,
                ),
                false => None,
            };
            Ok((proof, replayed))
        }
        Answering::Own { own, metrics, .. } => {
            let proof = own.store.proofs().get(id).await?;
            let proof = proof.ok_or_else(|| UserError(format!("no proof {id}")))?;
            let replayed = match again {
                true => {
                    let service = metrics.service().await?;
                    let replayed = replay::replay(&service, &proof).await?;
                    let none = || UserError(format!("proof {id} has no query to run again"));
                    Some(serde_json::to_value(replayed.ok_or_else(none)?).context("the replay")?)
                }
                false => None,
            };
            Ok((proof, replayed))
        }
    }
}

fn show(proof: &Value) {
    let text = |at: &str| proof[at].as_str().unwrap_or_default();
    match proof["question"].as_str() {
        Some(question) => output::line(format!("question    {question}")),
        None if proof["statement"].is_string() => {
            output::line(format!("statement   {}", text("statement")));
        }
        None => output::line(format!("load        {}", proof["request"])),
    }
    if let Some(at) = proof["at"].as_str() {
        output::line(format!("at          {at}"));
    }
    for definition in proof["definition"].as_array().into_iter().flatten() {
        let (member, hash) = (
            &definition["member"],
            definition["hash"].as_str().unwrap_or_default(),
        );
        output::line(format!(
            "definition  {} {}",
            plain(member),
            hash.get(..12).unwrap_or(hash)
        ));
    }
    output::line(format!("query       {}", proof["query"]));
    output::line(format!("sql         {}", text("sql")));
    for evidence in proof["evidence"].as_array().into_iter().flatten() {
        if let Some(rollup) = evidence["rollup"].as_str() {
            output::line(format!("rollup      {rollup}"));
        }
        if evidence["policy"]
            .as_array()
            .is_some_and(|it| !it.is_empty())
        {
            output::line(format!("policy      {}", evidence["policy"]));
        }
        for table in evidence["tables"].as_array().into_iter().flatten() {
            output::line(format!(
                "table       {} at event {}",
                plain(&table["table"]),
                table["version"]
            ));
        }
    }
    for model in proof["behind"]["models"].as_array().into_iter().flatten() {
        let tests = model["tests"].as_array().map_or(&[][..], Vec::as_slice);
        let passed = tests
            .iter()
            .filter(|test| test["status"] == "success")
            .count();
        output::line(format!(
            "model       {} ({passed} of {} tests passed)",
            plain(&model["id"]),
            tests.len()
        ));
    }
    for source in proof["behind"]["sources"].as_array().into_iter().flatten() {
        output::line(format!(
            "source      {}: {} at {}",
            plain(&source["source"]),
            plain(&source["table"]),
            source["position"]
        ));
    }
    output::line(format!(
        "rows        {} with checksum {}",
        proof["rows"],
        text("checksum")
    ));
}

fn show_replay(replayed: &Value) {
    let same = replayed["same"] == true;
    output::line(if same { "the same rows" } else { "other rows" });
    for change in replayed["changed"].as_array().into_iter().flatten() {
        output::line(format!("  - {}", plain(change)));
    }
}

fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}
