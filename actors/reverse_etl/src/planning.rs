//! Making a plan: the target is only read, and everything stands in the warehouse in one
//! transaction, or nothing does.

use ballpoint_postgres::copy::{copy_in, copy_out};
use ballpoint_runtime::store::{Plan, PlanCounts, PlanState};
use futures_util::TryStreamExt;
use serde_json::json;
use sha2::{Digest, Sha256};
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use crate::definition::{Approval, Mode, Sync, Syncs};
use crate::diff;
use crate::error::{WriteBackError, copy_failed, crash_point};
use crate::library::WriteBacks;
use crate::target::{self, Target};
use crate::warehouse;

/// Who approves where the file lets plans through by itself.
const POLICY: &str = "policy";

/// What the difference came to.
struct Difference {
    counts: PlanCounts,
    /// Rows that the target has now.
    current: i64,
    hash: String,
    ddl: Vec<String>,
}

impl WriteBacks {
    /// Makes the plan that was asked for. A plan that repeats an open one, or has nothing to do, is
    /// only kept where somebody asked for it: `None` otherwise.
    pub(crate) async fn make(
        &self,
        plan: &Plan,
        only_if_new: bool,
    ) -> Result<Option<Plan>, WriteBackError> {
        let definitions = self.definitions()?;
        let Some(sync) = definitions.get(&plan.sync) else {
            return Err(WriteBackError::UnknownSync {
                name: plan.sync.clone(),
                known: "none of that name any more".to_owned(),
            });
        };
        let target = self.target(&sync.source, plan.id)?;
        let look = target.look(sync).await?;
        refuse(&definitions, sync, look.complaints)?;
        let mut transaction = self.begin("planning").await?;
        let difference = self
            .difference(
                &mut transaction,
                plan,
                (&definitions, sync),
                &target,
                look.exists,
            )
            .await?;
        let beyond = beyond_limits(sync, &difference);
        if only_if_new
            && self
                .is_known(&mut transaction, plan, &difference, beyond.is_some())
                .await?
        {
            return match beyond {
                // Refused again: the plan that shows it stands in the history.
                Some(beyond) => Err(WriteBackError::Limit(beyond)),
                None => Ok(None),
            };
        }
        self.keep(&mut transaction, plan, sync, &difference, beyond.as_deref())
            .await?;
        crash_point("reverse_etl.before_plan_commit")?;
        self.commit(transaction).await?;
        crash_point("reverse_etl.after_plan_commit")?;
        Ok(Some(self.announce(plan.id).await?))
    }

    async fn difference(
        &self,
        warehouse: &mut PgConnection,
        plan: &Plan,
        (definitions, sync): (&Syncs, &Sync),
        target: &Target,
        exists: bool,
    ) -> Result<Difference, WriteBackError> {
        run(
            warehouse,
            "preparing the plan",
            warehouse::SESSION.to_owned(),
        )
        .await?;
        let complaints = warehouse::complaints(warehouse, sync).await?;
        refuse(definitions, sync, complaints)?;
        run(warehouse, "reading the desired rows", diff::desired(sync)).await?;
        run(
            warehouse,
            "looking for duplicate keys",
            diff::mark_duplicates(sync),
        )
        .await?;
        run(warehouse, "preparing the plan", diff::create_current(sync)).await?;
        if exists {
            copy_current(warehouse, sync, target).await?;
        }
        crash_point("reverse_etl.mid_plan")?;
        self.put_proposals(warehouse, plan, sync).await?;
        let whole = plan.origin != "proposal";
        if sync.mode == Mode::Mirror && whole {
            run(warehouse, "looking for rows of ours", diff::owned(sync)).await?;
        }
        let analyze = format!("analyze {}; analyze {}", diff::DESIRED, diff::CURRENT);
        run(warehouse, "preparing the plan", analyze).await?;
        let forget = format!(
            "delete from ballpoint.plan_rows where plan_id = '{}'",
            plan.id
        );
        run(warehouse, "preparing the plan", forget).await?;
        let doing = "comparing the rows";
        run(warehouse, doing, diff::difference(sync, whole)).await?;
        run(warehouse, doing, diff::keep_difference(sync, plan.id)).await?;
        let (counts, current) = count(warehouse, sync).await?;
        let ddl = if exists {
            Vec::new()
        } else {
            target::create(sync)
        };
        let hash = hash(warehouse, plan.id, sync, &ddl).await?;
        Ok(Difference {
            counts,
            current,
            hash,
            ddl,
        })
    }

    /// A proposal's own values for its rows; for a whole sync those of applied proposals, which the
    /// warehouse knows nothing of.
    async fn put_proposals(
        &self,
        warehouse: &mut PgConnection,
        plan: &Plan,
        sync: &Sync,
    ) -> Result<(), WriteBackError> {
        let own = (plan.origin == "proposal").then_some(plan.id);
        run(
            warehouse,
            "reading proposed values",
            diff::proposed(sync, own),
        )
        .await?;
        if own.is_some() {
            run(
                warehouse,
                "narrowing the plan",
                diff::narrow_to_proposed(sync),
            )
            .await?;
        }
        run(
            warehouse,
            "putting proposed values",
            diff::put_proposed(sync),
        )
        .await
    }

    /// Whether there is nothing to do, or an open plan, or one that was refused, says the same.
    async fn is_known(
        &self,
        warehouse: &mut PgConnection,
        plan: &Plan,
        difference: &Difference,
        is_beyond: bool,
    ) -> Result<bool, WriteBackError> {
        if difference.counts.writes() == 0 && difference.ddl.is_empty() {
            return Ok(true);
        }
        sqlx::query_scalar(
            "select exists (
                 select from ballpoint.plans
                 where sync = $1 and hash = $2 and added = $3 and changed = $4 and removed = $5
                   and (state in ('planned', 'approved')
                        or (state = 'failed' and approved_at is null and $6)))",
        )
        .bind(&plan.sync)
        .bind(&difference.hash)
        .bind(difference.counts.added)
        .bind(difference.counts.changed)
        .bind(difference.counts.removed)
        .bind(is_beyond)
        .fetch_one(warehouse)
        .await
        .map_err(WriteBackError::warehouse("comparing with open plans"))
    }

    async fn keep(
        &self,
        warehouse: &mut PgConnection,
        plan: &Plan,
        sync: &Sync,
        difference: &Difference,
        beyond: Option<&str>,
    ) -> Result<(), WriteBackError> {
        let by_policy = sync.approval == Approval::Automatic && plan.origin == "sync";
        let state = match (beyond, by_policy) {
            (Some(_), _) => PlanState::Failed,
            (None, true) => PlanState::Approved,
            (None, false) => PlanState::Planned,
        };
        let counts = &difference.counts;
        let definition = serde_json::to_string(sync).unwrap_or_default();
        sqlx::query(
            "update ballpoint.plans
             set state = $2, request = null, definition = $3::text::jsonb, hash = $4, ddl = $5,
                 added = $6, changed = $7, removed = $8, unchanged = $9, invalid = $10, skipped = $11,
                 error = $12, approved_by = case when $2 = 'approved' then $13 end,
                 approved_at = case when $2 = 'approved' then clock_timestamp() end
             where id = $1",
        )
        .bind(plan.id)
        .bind(state.name())
        .bind(definition)
        .bind(&difference.hash)
        .bind(&difference.ddl)
        .bind(counts.added)
        .bind(counts.changed)
        .bind(counts.removed)
        .bind(counts.unchanged)
        .bind(counts.invalid)
        .bind(counts.skipped)
        .bind(beyond)
        .bind(POLICY)
        .execute(&mut *warehouse)
        .await
        .map_err(WriteBackError::warehouse("keeping the plan"))?;
        // Whoever decides has one plan of a sync in front of them, the latest.
        sqlx::query(
            "update ballpoint.plans set state = 'rejected', comment = 'superseded by ' || $1::text
             where sync = $2 and origin = 'sync' and $3 = 'sync' and state = 'planned' and id <> $1
               and request is null",
        )
        .bind(plan.id)
        .bind(&plan.sync)
        .bind(&plan.origin)
        .execute(&mut *warehouse)
        .await
        .map_err(WriteBackError::warehouse("keeping the plan"))?;
        let detail = json!({ "hash": difference.hash, "counts": counts, "refused": beyond });
        self.note(warehouse, &plan.requested_by, "plan", plan, &detail)
            .await?;
        if state == PlanState::Approved {
            let detail = json!({ "hash": difference.hash, "counts": counts });
            self.note(warehouse, POLICY, "approve", plan, &detail)
                .await?;
        }
        Ok(())
    }
}

fn refuse(
    definitions: &Syncs,
    sync: &Sync,
    complaints: Vec<(String, String)>,
) -> Result<(), WriteBackError> {
    if complaints.is_empty() {
        return Ok(());
    }
    let problems = complaints
        .into_iter()
        .map(|(needle, message)| definitions.problem(sync, &needle, message))
        .collect();
    Err(WriteBackError::Definition(crate::DefinitionError {
        problems,
    }))
}

/// The target's rows, as text, into the warehouse: bytes that nobody looks at on the way.
async fn copy_current(
    warehouse: &mut PgConnection,
    sync: &Sync,
    target: &Target,
) -> Result<(), WriteBackError> {
    let doing = "reading the current rows";
    let mut source = target.pool.acquire().await.map_err(target.failed(doing))?;
    sqlx::raw_sql(target::SESSION)
        .execute(&mut *source)
        .await
        .map_err(target.failed(doing))?;
    let rows = copy_out(source, diff::read_current(sync));
    let into = format!("copy {} from stdin", diff::CURRENT);
    copy_in(warehouse, &into, rows)
        .await
        .map_err(copy_failed(&target.name, doing, false))?;
    Ok(())
}

async fn run(
    connection: &mut PgConnection,
    doing: &'static str,
    sql: String,
) -> Result<(), WriteBackError> {
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(connection)
        .await
        .map_err(WriteBackError::warehouse(doing))?;
    Ok(())
}

async fn count(
    warehouse: &mut PgConnection,
    sync: &Sync,
) -> Result<(PlanCounts, i64), WriteBackError> {
    let doing = "counting the differences";
    let (added, changed, removed, invalid): (i64, i64, i64, i64) =
        sqlx::query_as(AssertSqlSafe(diff::kinds()))
            .persistent(false)
            .fetch_one(&mut *warehouse)
            .await
            .map_err(WriteBackError::warehouse(doing))?;
    let (valid, lacking, current): (i64, i64, i64) =
        sqlx::query_as(AssertSqlSafe(diff::totals(sync)))
            .persistent(false)
            .fetch_one(warehouse)
            .await
            .map_err(WriteBackError::warehouse(doing))?;
    let counts = PlanCounts {
        added,
        changed,
        removed,
        unchanged: valid - lacking - changed,
        invalid,
        skipped: lacking - added,
    };
    Ok((counts, current))
}

/// SHA-256 over everything that the plan will do. Reads the rows as a stream.
pub(crate) async fn hash(
    warehouse: &mut PgConnection,
    id: Uuid,
    sync: &Sync,
    ddl: &[String],
) -> Result<String, WriteBackError> {
    let doing = "hashing the plan";
    let mut hasher = Sha256::new();
    hasher.update(serde_json::to_string(sync).unwrap_or_default());
    for statement in ddl {
        hasher.update("\n");
        hasher.update(statement);
    }
    hasher.update("\n");
    let sql = format!(
        "copy (select kind, key, old, new from ballpoint.plan_rows
               where plan_id = '{id}' and kind <> 'invalid' order by seq) to stdout"
    );
    let mut rows = warehouse
        .copy_out_raw(&sql)
        .await
        .map_err(WriteBackError::warehouse(doing))?;
    while let Some(chunk) = rows
        .try_next()
        .await
        .map_err(WriteBackError::warehouse(doing))?
    {
        hasher.update(&chunk);
    }
    let digest = hasher.finalize();
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Why the plan is more than its sync lets through.
fn beyond_limits(sync: &Sync, difference: &Difference) -> Option<String> {
    let (limits, counts) = (&sync.limits, &difference.counts);
    let name = &sync.name;
    if counts.writes() > limits.max_rows {
        return Some(format!(
            "the plan writes {} rows, sync {name} allows {} (limits.max_rows)",
            counts.writes(),
            limits.max_rows
        ));
    }
    if counts.removed > limits.max_removed {
        return Some(format!(
            "the plan removes {} rows, sync {name} allows {} (limits.max_removed)",
            counts.removed, limits.max_removed
        ));
    }
    // An extract that went wrong must not empty a table.
    if counts.removed > 0 && counts.removed == difference.current {
        return Some(format!(
            "the plan would remove every row of {}: the warehouse has none of them",
            sync.target_name()
        ));
    }
    let touched = counts.changed + counts.removed;
    #[expect(clippy::cast_precision_loss, reason = "a percentage of row counts")]
    let percent = 100.0 * touched as f64 / (difference.current.max(1)) as f64;
    (touched > 0 && percent > limits.max_changed_percent).then(|| {
        format!(
            "the plan changes {percent:.1} % of the {} rows of {}, sync {name} allows {} % \
             (limits.max_changed_percent)",
            difference.current,
            sync.target_name(),
            limits.max_changed_percent
        )
    })
}
