//! Carrying out what plans are asked for, across kills: each request stands in its plan until its
//! end is written, and is taken up again from wherever it got to.

use ballpoint_runtime::failure::in_one_line;
use ballpoint_runtime::store::{Plan, PlanRequest, PlanState, Plans, RunStatus, StepStatus};
use ballpoint_runtime::trace::TraceContext;
use ballpoint_runtime::work::Trigger;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::definition::Sync;
use crate::error::{WriteBackError, crash_point};
use crate::library::WriteBacks;
use crate::planning;
use crate::settle::Became;
use crate::target::Target;
use crate::warehouse;
use crate::writing::{self, Writing};

impl WriteBacks {
    /// Carries out everything that is asked for, oldest first: what a kill left behind, and what was
    /// asked of a running system. Each one's failure is its plan's. What cannot end now waits, and
    /// keeps only its own source waiting, where a later plan may rest on it.
    ///
    /// # Errors
    /// When schema `ballpoint` cannot be read; or, after everything else is done, why something that
    /// is asked for stays so: a target cannot tell what became of a transaction.
    pub async fn resume(&self) -> Result<u64, WriteBackError> {
        let plans = self.store.plans();
        let (mut done, mut waits) = (0, None);
        let (mut stuck, mut sources) = (Vec::new(), Vec::new());
        while let Some((id, request)) = plans.next_requested(&stuck, &sources).await? {
            match self.carry_out(id, request).await {
                Ok(_) => done += 1,
                Err(error @ (WriteBackError::Store(_) | WriteBackError::CrashPoint(_))) => {
                    return Err(error);
                }
                Err(error) => {
                    tracing::warn!(plan = %id, error = %in_one_line(&error), "a write-back failed");
                    let plan = plans.get(id).await?;
                    match plan.filter(|it| it.under_way.as_deref() == Some(request.name())) {
                        None => done += 1,
                        Some(plan) => {
                            stuck.push(id);
                            sources.push(plan.source);
                            waits.get_or_insert(error);
                        }
                    }
                }
            }
        }
        waits.map_or(Ok(done), Err)
    }

    /// Carries out one request, as a run with one step, and records its end at the plan.
    pub(crate) async fn carry_out(
        &self,
        id: Uuid,
        request: PlanRequest,
    ) -> Result<Plan, WriteBackError> {
        let _working = self.working.lock().await;
        let plan = self.get(id).await?;
        if plan.under_way.as_deref() != Some(request.name()) {
            // Somebody else carried it out meanwhile.
            return Ok(plan);
        }
        let trace = TraceContext::current();
        let (runs, manual) = (self.store.runs(), Trigger::Manual.as_str());
        let run = runs
            .start_for("write_back", &plan.sync, manual, &trace)
            .await?;
        let step = run.step(request.name()).await?;
        let outcome = match request {
            PlanRequest::Plan => Box::pin(self.plan_or_fail(&plan)).await,
            PlanRequest::Apply | PlanRequest::Undo => {
                Box::pin(self.write_or_settle(&plan, request)).await
            }
        };
        let error = outcome.as_ref().err().map(|error| in_one_line(error));
        let rows = outcome.as_ref().ok().map(|plan| {
            let rows = plan.written.unwrap_or_else(|| plan.counts.writes());
            u64::try_from(rows).unwrap_or_default()
        });
        let (step_status, status) = match &error {
            Some(_) => (StepStatus::Failed, RunStatus::Failed),
            None => (StepStatus::Success, RunStatus::Success),
        };
        step.finish(step_status, rows, error.as_deref()).await?;
        run.finish(status, error.as_deref()).await?;
        outcome
    }

    async fn plan_or_fail(&self, plan: &Plan) -> Result<Plan, WriteBackError> {
        match self.make(plan, false).await {
            Ok(Some(made)) => match (&made.state, &made.error) {
                (PlanState::Failed, Some(beyond)) => Err(WriteBackError::Limit(beyond.clone())),
                _ => Ok(made),
            },
            Ok(None) => self.get(plan.id).await,
            Err(error @ WriteBackError::CrashPoint(_)) => Err(error),
            Err(error) => {
                self.record_failure(plan, PlanRequest::Plan, &error).await?;
                Err(error)
            }
        }
    }

    async fn write_or_settle(
        &self,
        plan: &Plan,
        request: PlanRequest,
    ) -> Result<Plan, WriteBackError> {
        let (sync, target) = self.prepared(plan, request).await?;
        let writing = Writing {
            plan,
            sync: &sync,
            target: &target,
            request,
        };
        // A request that is taken up again may have been carried out already.
        if self.settled(&writing).await? == Some(Became::Committed) {
            return self.record_success(&writing, plan.counts.writes()).await;
        }
        let outcome = match self.is_as_approved(plan, &sync, request).await {
            Ok(()) => self.write(&writing).await,
            Err(error) => Err(error),
        };
        let error = match outcome {
            Ok(written) => return self.record_success(&writing, written).await,
            Err(error @ WriteBackError::CrashPoint(_)) => return Err(error),
            Err(error) => error,
        };
        // A commit whose answer was lost may have happened all the same.
        if self.settled(&writing).await? == Some(Became::Committed) {
            return self.record_success(&writing, plan.counts.writes()).await;
        }
        self.record_failure(plan, request, &error).await?;
        Err(error)
    }

    /// What a plan is carried out with. Without it the request is over.
    async fn prepared(
        &self,
        plan: &Plan,
        request: PlanRequest,
    ) -> Result<(Sync, Target), WriteBackError> {
        let sync = self.planned_sync(plan).await;
        let target = self.target(&plan.source, plan.id);
        let error = match (sync, target) {
            (Ok(sync), Ok(target)) => return Ok((sync, target)),
            (Err(error @ WriteBackError::Store(_)), _) => return Err(error),
            (Err(error), _) | (_, Err(error)) => error,
        };
        // An earlier attempt may have been committed, and nobody is left to ask.
        let error = match self.store.plans().intent(plan.id).await? {
            Some(_) => WriteBackError::Unknown {
                id: plan.id,
                source_name: plan.source.clone(),
            },
            None => error,
        };
        self.record_failure(plan, request, &error).await?;
        Err(error)
    }

    /// How the transaction that was intended for this request ended; `None` when there was none.
    async fn settled(&self, writing: &Writing<'_>) -> Result<Option<Became>, WriteBackError> {
        let plan = writing.plan;
        let Some(intent) = self.store.plans().intent(plan.id).await? else {
            return Ok(None);
        };
        match self.what_became(writing, &intent).await {
            Ok(Became::Committed) => Ok(Some(Became::Committed)),
            Ok(Became::Nothing) => {
                self.store.plans().forget_intent(plan.id).await?;
                Ok(Some(Became::Nothing))
            }
            Err(error @ WriteBackError::Unknown { .. }) => {
                self.record_failure(plan, writing.request, &error).await?;
                Err(error)
            }
            // Until the target can be asked, nothing may be written again.
            Err(error) => {
                tracing::warn!(plan = %plan.id, error = %in_one_line(&error), "the target cannot be asked");
                Err(WriteBackError::UnderWay {
                    id: plan.id,
                    source_name: writing.target.name.clone(),
                })
            }
        }
    }

    /// The sync as it stood when the plan was made.
    async fn planned_sync(&self, plan: &Plan) -> Result<Sync, WriteBackError> {
        let (definition, _) = self.store.plans().made_from(plan.id).await?;
        serde_json::from_value(definition).map_err(|_| WriteBackError::Tampered {
            id: plan.id,
            what: "its sync is stored in a form that this version cannot read",
        })
    }

    /// Whether rows, statements and sync are still what the approval was given for.
    async fn is_as_approved(
        &self,
        plan: &Plan,
        sync: &Sync,
        request: PlanRequest,
    ) -> Result<(), WriteBackError> {
        let tampered = |what| WriteBackError::Tampered { id: plan.id, what };
        // The file is the allow-list. What is taken back needs no leave.
        if request == PlanRequest::Apply && self.definitions()?.get(&plan.sync) != Some(sync) {
            return Err(tampered("the file of its sync was edited"));
        }
        let mut warehouse = self
            .store
            .pool()
            .acquire()
            .await
            .map_err(WriteBackError::warehouse("hashing the plan"))?;
        let hash = planning::hash(&mut warehouse, plan.id, sync, &plan.ddl).await?;
        if plan.hash.as_deref() != Some(&hash) {
            return Err(tampered("its rows or statements differ"));
        }
        Ok(())
    }

    /// Looks once more at what the target holds now, and writes the request's end.
    async fn record_success(
        &self,
        writing: &Writing<'_>,
        written: i64,
    ) -> Result<Plan, WriteBackError> {
        let plan = writing.plan;
        let read_back = self.read_back(writing).await;
        crash_point("reverse_etl.after_read_back")?;
        let (from, to) = match writing.request {
            PlanRequest::Undo => (PlanState::Applied, PlanState::Undone),
            _ => (PlanState::Approved, PlanState::Applied),
        };
        let mut transaction = self.begin("recording a write-back").await?;
        if !Plans::settle_in(&mut transaction, plan.id, from, to, None).await? {
            drop(transaction);
            return Err(self.overtaken(plan, writing.request).await?);
        }
        sqlx::query(
            "update ballpoint.plans set written = $2, read_back = $3::text::jsonb where id = $1",
        )
        .bind(plan.id)
        .bind(written)
        .bind(read_back.to_string())
        .execute(&mut *transaction)
        .await
        .map_err(WriteBackError::warehouse("recording a write-back"))?;
        let detail = json!({
            "hash": plan.hash, "written": written, "counts": plan.counts, "read_back": read_back,
        });
        let by = &plan.requested_by;
        self.note(&mut transaction, by, writing.request.name(), plan, &detail)
            .await?;
        crash_point("reverse_etl.before_record")?;
        self.commit(transaction).await?;
        crash_point("reverse_etl.after_record")?;
        self.announce(plan.id).await
    }

    /// Ends a request whose plan is in another state than when it was begun, and says so in it.
    async fn overtaken(
        &self,
        plan: &Plan,
        request: PlanRequest,
    ) -> Result<WriteBackError, WriteBackError> {
        let (id, state) = (plan.id, self.get(plan.id).await?.state);
        let error = WriteBackError::Overtaken { id, state };
        let text = error.to_string();
        let mut transaction = self.begin("recording a failure").await?;
        Plans::settle_in(&mut transaction, id, state, state, Some(&text)).await?;
        let action = format!("{} failed", request.name());
        let detail = json!({ "hash": plan.hash, "error": text });
        self.note(&mut transaction, &plan.requested_by, &action, plan, &detail)
            .await?;
        self.commit(transaction).await?;
        self.announce(id).await?;
        Ok(error)
    }

    /// What the target holds of the plan's rows after the commit, in a transaction of its own.
    async fn read_back(&self, writing: &Writing<'_>) -> Value {
        match self.compare(writing).await {
            Ok((different, keys)) => json!({
                "same": writing.plan.counts.writes() - different,
                "different": different,
                "keys": keys,
            }),
            Err(error) => json!({ "error": in_one_line(&error) }),
        }
    }

    async fn compare(&self, writing: &Writing<'_>) -> Result<(i64, Vec<String>), WriteBackError> {
        let (target, sync) = (writing.target, writing.sync);
        let doing = "reading back";
        let mut looking = target.pool.begin().await.map_err(target.failed(doing))?;
        if !writing::table_exists(&mut looking, target, sync).await? {
            // Undoing the plan that made the table took it away again.
            let gone = writing.request == PlanRequest::Undo;
            return Ok((
                if gone {
                    0
                } else {
                    writing.plan.counts.writes()
                },
                Vec::new(),
            ));
        }
        sqlx::raw_sql(warehouse::SESSION)
            .execute(&mut *looking)
            .await
            .map_err(target.failed(doing))?;
        self.load(&mut looking, writing).await?;
        writing::differences(&mut looking, target, sync).await
    }

    /// Writes why a request was not carried out. What cannot become right by asking again ends the
    /// plan; otherwise it stands as before and may be asked again.
    async fn record_failure(
        &self,
        plan: &Plan,
        request: PlanRequest,
        error: &WriteBackError,
    ) -> Result<(), WriteBackError> {
        let stale = matches!(
            error,
            WriteBackError::Conflict { .. }
                | WriteBackError::Tampered { .. }
                | WriteBackError::Altered { .. }
                | WriteBackError::Unknown { .. }
        );
        let (from, to) = match (request, stale) {
            (PlanRequest::Plan, _) => (PlanState::Planning, PlanState::Failed),
            (PlanRequest::Apply, true) => (PlanState::Approved, PlanState::Failed),
            (PlanRequest::Apply, false) => (PlanState::Approved, PlanState::Approved),
            (PlanRequest::Undo, _) => (PlanState::Applied, PlanState::Applied),
        };
        let text = in_one_line(error);
        let mut transaction = self.begin("recording a failure").await?;
        if !Plans::settle_in(&mut transaction, plan.id, from, to, Some(&text)).await? {
            drop(transaction);
            return Err(self.overtaken(plan, request).await?);
        }
        let action = format!("{} failed", request.name());
        let detail = json!({ "hash": plan.hash, "error": text });
        self.note(&mut transaction, &plan.requested_by, &action, plan, &detail)
            .await?;
        self.commit(transaction).await?;
        self.announce(plan.id).await?;
        Ok(())
    }
}
