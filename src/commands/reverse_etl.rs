//! `reverse-etl`: plan, look, approve, apply, undo. The running system does it if there is one.

mod door;
mod show;

use std::process::ExitCode;

use anyhow::bail;
use ballpoint_reverse_etl::{Plan, PlanState};
use serde_json::json;
use uuid::Uuid;

use super::Context;
use crate::cli::ReverseEtlCommand;
use crate::databases::SEED_BY_DEFAULT;
use crate::output::{self, UserError};
use crate::session::Session;
use door::Door;

/// In whose name this shell acts, where no server knows who is asking.
const BY: &str = "command line";

/// Plans that one command applies.
const PLANS_MAX: u32 = 200;

/// Fewer digits of a hash say nothing.
const HASH_DIGITS_MIN: usize = 8;

/// Carries out one of the commands.
///
/// # Errors
/// Usage and configuration (exit code 2), or what the databases say.
pub(super) async fn run(context: &Context, command: ReverseEtlCommand) -> anyhow::Result<ExitCode> {
    let session = Session::open(context.project()?, context.clock(), SEED_BY_DEFAULT).await?;
    match session {
        Session::Running(remote) => {
            Box::pin(carry_out(context, &Door::Running(remote), command)).await
        }
        Session::Own(own) => {
            let outcome = match Door::of_own(&own).await {
                Ok(door) => Box::pin(carry_out(context, &door, command)).await,
                Err(error) => Err(error),
            };
            own.close().await?;
            outcome
        }
    }
}

async fn carry_out(
    context: &Context,
    door: &Door,
    command: ReverseEtlCommand,
) -> anyhow::Result<ExitCode> {
    use ReverseEtlCommand as C;
    let plans = match command {
        C::History { sync } => {
            let history = door.history(sync.as_deref()).await?;
            return show::history(context, &history);
        }
        C::Show { plan, kind, limit } => {
            let plan = find(door, &plan, &[]).await?;
            let rows = door.rows(plan.id, kind.as_deref(), limit).await?;
            return show::rows(context, &plan, &rows);
        }
        C::Propose { request } => vec![door.propose(&request).await?],
        C::Plan { sync } => {
            let names = match sync {
                Some(name) => vec![name],
                None => door.syncs().await?,
            };
            let mut plans = Vec::new();
            for name in names {
                plans.push(door.plan(&name).await?);
            }
            plans
        }
        C::Approve {
            plan,
            hash,
            comment,
        } => {
            let plan = find(door, &plan, &[PlanState::Planned]).await?;
            let hash = whole_hash(&plan, hash)?;
            vec![door.approve(plan.id, &hash, comment.as_deref()).await?]
        }
        C::Reject { plan, comment } => {
            let states = [PlanState::Planned, PlanState::Approved];
            let plan = find(door, &plan, &states).await?;
            vec![door.reject(plan.id, comment.as_deref()).await?]
        }
        C::Apply { plan: Some(plan) } => {
            let plan = find(door, &plan, &[PlanState::Approved, PlanState::Applied]).await?;
            vec![door.apply(plan.id).await?]
        }
        C::Apply { plan: None } => {
            let mut plans = Vec::new();
            // The oldest first: a later plan may rest on it.
            let approved = door.plans(None, &[PlanState::Approved], PLANS_MAX).await?;
            for plan in approved.into_iter().rev() {
                plans.push(door.apply(plan.id).await?);
            }
            plans
        }
        C::Undo { plan } => {
            let plan = find(door, &plan, &[PlanState::Applied]).await?;
            vec![door.undo(plan.id).await?]
        }
    };
    if context.place.json {
        output::json(&json!({ "plans": plans }))?;
    } else {
        for plan in &plans {
            let sample = door.rows(plan.id, None, show::SAMPLE).await?;
            show::plan(plan, &sample);
        }
        if plans.is_empty() {
            output::line("nothing to do");
        }
    }
    let failed = plans
        .iter()
        .any(|plan| plan.state == PlanState::Failed || plan.error.is_some());
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// The plan of that id, or the latest plan of the sync of that name in one of these states.
async fn find(door: &Door, name: &str, states: &[PlanState]) -> anyhow::Result<Plan> {
    if let Ok(id) = name.parse::<Uuid>() {
        return door.get(id).await;
    }
    if let Some(fitting) = door.plans(Some(name), states, 1).await?.pop() {
        return Ok(fitting);
    }
    if let Some(latest) = door.plans(Some(name), &[], 1).await?.pop() {
        bail!(UserError(format!(
            "the latest plan of {name} is {} ({}): make a new one with `ballpoint reverse-etl plan {name}`",
            latest.state.name(),
            latest.id
        )));
    }
    bail!(UserError(format!(
        "no plan of {name}; make one with `ballpoint reverse-etl plan {name}`"
    )))
}

/// The plan's hash where the given digits are its beginning, else what was given.
fn whole_hash(plan: &Plan, given: Option<String>) -> anyhow::Result<String> {
    let whole = plan.hash.clone().unwrap_or_default();
    match given {
        None => Ok(whole),
        Some(digits) if digits.len() < HASH_DIGITS_MIN => bail!(UserError(format!(
            "--hash needs {HASH_DIGITS_MIN} digits or more"
        ))),
        Some(digits) if whole.starts_with(&digits) => Ok(whole),
        Some(other) => Ok(other),
    }
}
