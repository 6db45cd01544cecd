//! The analyst as a library: a question and the dialogue so far become an answer, the dialogue's
//! next state, and a proof.

use std::sync::Arc;

use ballpoint_llm::{PlanBackend, PlanRequest, Planned, PlannerBackend};
use ballpoint_metrics::proof::Evidence;
use ballpoint_metrics::query::{DateRange, Query};
use ballpoint_metrics::{QueryError, QueryResult, SecurityContext, Service, Snapshot};
use ballpoint_planner::plan::{MetaPlan, QueryPlan};
use ballpoint_planner::{Context, Coverage, DialogueState, Plan};
use ballpoint_runtime::clock::Clock;
use ballpoint_runtime::store::{Store, StoreError};
use ballpoint_runtime::trace::TraceContext;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use tracing::Instrument;
use uuid::Uuid;

use crate::answer::{Answer, Behaviour, Companion, Freshness, Notice, Row};
use crate::asides::{clarify, refuse};
use crate::chart;
use crate::figures::label;
use crate::follow_up;
use crate::meta;
use crate::narrate::{Told, head};
use crate::progress::{Progress, Step, Turn};
use crate::verified::{VerifiedQuestion, VerifiedQuestions};
use crate::wording::{NOTICES, say};

/// Why a question got no answer at all.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// The registry did not answer, or refused the query.
    #[error("the query failed: {0}")]
    Query(#[from] QueryError),
    /// The proof could not be kept, so there is no answer to prove.
    #[error("the proof could not be kept")]
    Store(#[from] StoreError),
    /// A rule of the answer's text was broken.
    #[error("the text of the answer holds {number}, which no row accounts for")]
    StrayFigure { number: String },
}

/// Turns questions into answers.
#[derive(Clone)]
pub struct Answerer {
    /// Where proofs are kept; `None` keeps none.
    pub store: Option<Store>,
    pub clock: Clock,
    /// The zone in which people say "yesterday".
    pub time_zone: TimeZone,
    pub backend: Arc<dyn PlanBackend>,
    /// Questions whose queries people have checked.
    pub verified: Arc<VerifiedQuestions>,
    /// Words what can be asked next, whoever planned.
    pub local: Arc<PlannerBackend>,
}

/// A result with the statements that made it.
pub(crate) struct Ran {
    pub(crate) rows: Vec<Row>,
    pub(crate) results: Vec<QueryResult>,
}

impl Ran {
    pub(crate) fn sql(&self) -> Option<String> {
        let all: Vec<&str> = self.results.iter().map(|it| it.sql.as_str()).collect();
        (!all.is_empty()).then(|| all.join(";\n"))
    }

    /// What each result was made of.
    pub(crate) fn evidence(&self) -> Vec<Evidence> {
        self.results.iter().map(|it| it.evidence.clone()).collect()
    }
}

impl Answerer {
    /// Answers one question against one state of the registry.
    ///
    /// # Errors
    /// [`AnswerError`]; nothing is retried here.
    pub async fn answer(
        &self,
        service: &Service,
        question: &str,
        state: &DialogueState,
        turn: &Turn,
    ) -> Result<(Answer, DialogueState), AnswerError> {
        let progress = &turn.progress;
        let snapshot = Arc::clone(&service.snapshot);
        let context = self.context(&snapshot);
        let request = PlanRequest {
            question,
            state,
            context: &context,
            catalog: Arc::clone(&snapshot.catalog),
            check: &|query| valid(service, query),
            local_only: turn.local_only,
        };
        let span = tracing::info_span!(
            "plan",
            gen_ai.operation.name = "plan",
            gen_ai.provider.name = "ballpoint.local",
            backend = self.backend.name()
        );
        let step = progress.begin(Step::PLAN).await;
        let planner = self.local.planner(Arc::clone(&snapshot.catalog));
        let verified = self.verified.find(question).and_then(|it| {
            let planned = it.planned(&planner, &context)?;
            Some((it, planned))
        });
        let (verified, planned) = match verified {
            Some((it, planned)) => (Some(it), planned),
            None => (None, self.backend.plan(request).instrument(span).await),
        };
        step.done(&planned_label(&planned.plan)).await;
        let mut notices = self.notices(&planned);
        notices.extend(verified.map(checked_by));
        let (plan, backend) = (planned.plan, planned.backend);
        let base = Answer {
            backend: backend.to_owned(),
            notices,
            freshness: Some(freshness(&snapshot)),
            trace_id: TraceContext::current().trace_id().map(str::to_owned),
            ..Answer::default()
        };
        let offer = match &plan {
            Plan::Refuse(refusal) => refusal.offer.clone(),
            _ => Vec::new(),
        };
        let (mut answer, state) = match plan {
            Plan::Answer(plan) => {
                self.figures(service, question, *plan, base, progress)
                    .await?
            }
            Plan::Meta(plan) => self.meta(service, &context, plan, state, base).await?,
            Plan::Clarify(plan) => clarify(&snapshot.catalog, *plan, state, base),
            Plan::Refuse(plan) => (refuse(plan, base), state.clone()),
        };
        follow_up::add(&planner, &context, &state, &offer, &mut answer);
        Ok((answer, state))
    }

    /// What the reader is told of the model's part.
    fn notices(&self, planned: &Planned) -> Vec<Notice> {
        let model = self.backend.model().unwrap_or_default();
        let notice = |level: &str, code: &str, text: String| Notice {
            level: level.to_owned(),
            code: code.to_owned(),
            text,
        };
        if let Some(trouble) = &planned.trouble {
            let said = trouble.to_string();
            let variables = [("model", model), ("trouble", said.as_str())];
            let text = say(NOTICES, "planner_instead", &variables);
            return vec![notice("warning", trouble.code(), text)];
        }
        let read = planned.backend != PlannerBackend::NAME;
        if read && matches!(planned.plan, Plan::Answer(_)) {
            let text = say(NOTICES, "read_by_model", &[("model", model)]);
            return vec![notice("info", "read_by_model", text)];
        }
        Vec::new()
    }

    fn context(&self, snapshot: &Snapshot) -> Context {
        let now = self.clock.business_now().to_zoned(self.time_zone.clone());
        let local = |text: &str| -> Option<jiff::civil::DateTime> {
            let civil: jiff::civil::DateTime = text.trim_end_matches('Z').parse().ok()?;
            Some(
                civil
                    .to_zoned(TimeZone::UTC)
                    .ok()?
                    .with_time_zone(self.time_zone.clone())
                    .datetime(),
            )
        };
        let coverage = snapshot.coverage.iter().filter_map(|(name, (from, to))| {
            Some((
                name.clone(),
                Coverage {
                    from: local(from)?,
                    to: local(to)?,
                },
            ))
        });
        Context {
            now,
            coverage: coverage.collect(),
        }
    }

    async fn figures(
        &self,
        service: &Service,
        question: &str,
        mut plan: QueryPlan,
        base: Answer,
        progress: &Progress,
    ) -> Result<(Answer, DialogueState), AnswerError> {
        plan.query = self.zoned(plan.query);
        let companion = plan.companion.take();
        let (ran, companion) = self.look(service, &plan.query, companion, progress).await?;
        let step = progress.begin(Step::WORD).await;
        let catalog = &service.snapshot.catalog;
        let told = Told {
            catalog,
            plan: &plan,
            rows: &ran.rows,
            companion: companion.as_ref().map_or(&[], |it| it.rows.as_slice()),
        };
        let (text, stray) = told.text(question);
        if let Some(number) = stray {
            return Err(AnswerError::StrayFigure { number });
        }
        let chart = plan
            .chart
            .map(|kind| chart::spec(catalog, &plan.frame, kind, told.title()));
        let definition: Vec<Value> = plan
            .query
            .measures
            .iter()
            .filter_map(|it| service.definition(it))
            .collect();
        let proof_id = self
            .prove(service, question, &plan.query, &ran, &definition, &base)
            .await?;
        step.done("Checked every figure against the rows").await;
        let cells = told.references();
        let state = DialogueState {
            head: head(&plan.frame, &ran.rows),
            last: Some(plan.frame.clone()),
            ..DialogueState::default()
        };
        let answer = Answer {
            behaviour: Behaviour::Answer,
            answer: text,
            sql: ran.sql(),
            rows: ran.rows,
            cells,
            chart,
            proof_id,
            definition,
            reading: plan.reading,
            companion,
            query: Some(plan.query),
            ..base
        };
        Ok((answer, state))
    }

    /// Runs a plan's query and the one beside it.
    async fn look(
        &self,
        service: &Service,
        query: &Query,
        companion: Option<Query>,
        progress: &Progress,
    ) -> Result<(Ran, Option<Companion>), AnswerError> {
        let step = progress.begin(Step::RUN).await;
        let ran = match run(service, query).await {
            Ok(ran) => ran,
            Err(error) => {
                step.failed("The query failed").await;
                return Err(error.into());
            }
        };
        let companion = match companion {
            Some(beside) => {
                let query = self.zoned(beside);
                let rows = run(service, &query).await?.rows;
                Some(Companion { query, rows })
            }
            None => None,
        };
        step.done(&format!(
            "Ran the query, {}",
            counted(ran.rows.len(), "row")
        ))
        .await;
        Ok((ran, companion))
    }

    /// Queries carry the zone that their days are of.
    fn zoned(&self, query: Query) -> Query {
        let name = self.time_zone.iana_name().filter(|it| *it != "UTC");
        Query {
            timezone: name.map(str::to_owned),
            ..query
        }
    }

    async fn prove(
        &self,
        service: &Service,
        question: &str,
        query: &Query,
        ran: &Ran,
        definition: &[Value],
        base: &Answer,
    ) -> Result<Option<String>, AnswerError> {
        let Some(store) = &self.store else {
            return Ok(None);
        };
        let id = Uuid::now_v7().to_string();
        let statements: Vec<Value> = ran
            .results
            .iter()
            .map(|it| json!({ "sql": it.sql, "params": it.params, "checksum": it.checksum, "elapsed_ms": it.elapsed_ms, "started": it.started.to_string() }))
            .collect();
        let body = json!({
            "id": id,
            "question": question,
            "definition": definition,
            "query": query,
            "sql": ran.sql(),
            "statements": statements,
            "rows": ran.rows.len(),
            "checksum": ballpoint_metrics::service::checksum(&ran.rows),
            "evidence": ran.evidence(),
            "behind": service.behind(&ran.evidence()).await,
            "freshness": base.freshness,
            "data_version": service.snapshot.data_version,
            "backend": base.backend,
            "trace_id": base.trace_id,
        });
        store.proofs().put(&id, &body).await?;
        Ok(Some(id))
    }

    async fn meta(
        &self,
        service: &Service,
        context: &Context,
        plan: MetaPlan,
        state: &DialogueState,
        base: Answer,
    ) -> Result<(Answer, DialogueState), AnswerError> {
        let mut told = meta::tell(service, context, &plan.kind);
        if let Some(frame) = told.rerun.take() {
            let query = self.zoned(frame.query());
            let ran = run(service, &query).await?;
            told.answer.sql = ran.sql();
            if told.answer.answer_type.as_deref() == Some("export") {
                told.answer.export = Some(meta::csv(&ran.rows));
            }
            told.answer.rows = ran.rows;
            told.answer.query = Some(query);
        }
        let state = if told.forget {
            DialogueState::default()
        } else {
            state.clone()
        };
        let answer = Answer {
            backend: base.backend,
            freshness: base.freshness,
            trace_id: base.trace_id,
            notices: base.notices,
            reading: plan.reading,
            ..told.answer
        };
        Ok((answer, state))
    }
}

/// Runs a query; one that compares periods is run for each of them, the rows saying which.
pub(crate) async fn run(service: &Service, query: &Query) -> Result<Ran, QueryError> {
    let ranges = query
        .time_dimensions
        .first()
        .and_then(|it| it.compare_date_range.clone());
    let span = tracing::info_span!(
        "execute_tool query_metrics",
        gen_ai.operation.name = "execute_tool",
        gen_ai.tool.name = "query_metrics"
    );
    let Some(ranges) = ranges else {
        let result = service.query(query).instrument(span).await?;
        return Ok(Ran {
            rows: result.rows.clone(),
            results: vec![result],
        });
    };
    let mut ran = Ran {
        rows: Vec::new(),
        results: Vec::new(),
    };
    for range in ranges {
        let mut one = query.clone();
        if let Some(time) = one.time_dimensions.first_mut() {
            time.compare_date_range = None;
            time.date_range = Some(range.clone());
        }
        let result = service.query(&one).instrument(span.clone()).await?;
        for row in &result.rows {
            let mut row = row.clone();
            row.insert("compareDateRange".into(), Value::from(range_text(&range)));
            ran.rows.push(row);
        }
        ran.results.push(result);
    }
    Ok(ran)
}

/// Whether the registry would run a query.
fn valid(service: &Service, query: &Query) -> Result<(), String> {
    let request = json!({ "query": query });
    let reply = service.dry_run(&request, &SecurityContext::default());
    match reply.status {
        200 => Ok(()),
        _ => Err(label(reply.body.get("error"))),
    }
}

/// The badge of a verified question.
fn checked_by(verified: &VerifiedQuestion) -> Notice {
    Notice {
        level: "info".to_owned(),
        code: "verified".to_owned(),
        text: say(NOTICES, "verified", &[("by", &verified.verified_by)]),
    }
}

/// What the plan is, for the step that made it.
fn planned_label(plan: &Plan) -> String {
    match plan {
        Plan::Answer(plan) => format!(
            "Planned a query on {}",
            plan.frame.cube().unwrap_or("the metrics")
        ),
        Plan::Meta(_) => "Looked it up in the metrics".to_owned(),
        Plan::Clarify(_) => "Has to ask back".to_owned(),
        Plan::Refuse(_) => "Cannot answer this".to_owned(),
    }
}

fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

fn range_text(range: &DateRange) -> String {
    match range {
        DateRange::Phrase(text) => text.clone(),
        DateRange::Bounds(bounds) => bounds.join(" - "),
    }
}

fn freshness(snapshot: &Snapshot) -> Freshness {
    let main = meta::main_time(&snapshot.catalog).and_then(|it| snapshot.coverage.get(&it));
    Freshness {
        data_from: main.map(|(from, _)| from.clone()),
        data_to: main.map(|(_, to)| to.clone()),
        refreshed_at: snapshot.refreshed.map(|it| it.to_string()),
        data_version: snapshot.data_version,
    }
}
