//! One question put to the model: asked, checked, sent back with what is wrong, and held against
//! what the planner has read for certain.

use ballpoint_metrics::query::Query;
use ballpoint_planner::frame::{Condition, Frame, cube_of, local};
use ballpoint_planner::plan::{Choice, Clarification, Question, Reading as Trace};
use ballpoint_planner::understood::{Disagreement, NamedMember, Understood};
use ballpoint_planner::{Plan, Planner};
use serde_json::{Value, json};

use super::client::ModelClient;
use super::prompt::{self, say};
use super::reply::{Call, Reply};
use super::tools::{self, Asked};
use crate::PlanRequest;
use crate::settings::ModelSettings;
use crate::trouble::Trouble;

/// A question back has so many choices at most.
const CHOICES_MAX: usize = 4;

/// A problem told to the model is no longer than this.
const PROBLEM_CHARS_MAX: usize = 2000;

pub(super) struct Reading<'a> {
    pub(super) client: &'a ModelClient,
    pub(super) planner: &'a Planner,
    pub(super) request: &'a PlanRequest<'a>,
    pub(super) understood: &'a Understood,
    pub(super) settings: &'a ModelSettings,
}

/// Why a reply is not taken.
enum Fault {
    /// To be mended by the model.
    Mend(String, Trouble),
    /// Not to be asked again.
    End(Trouble),
}

impl Fault {
    fn invalid(problem: impl Into<String>) -> Self {
        Self::Mend(problem.into(), Trouble::Invalid)
    }
}

impl Reading<'_> {
    /// The plan that the model makes; `None` when it says that there is none.
    pub(super) async fn take(&self) -> Result<Option<Plan>, Trouble> {
        let cubes = prompt::scope(&self.request.catalog, self.understood);
        let tools = tools::schema(&cubes);
        let PlanRequest {
            question,
            state,
            context,
            ..
        } = self.request;
        let mut messages = prompt::messages(question, state, context, &cubes, self.understood);
        let mut repairs = 0;
        loop {
            let reply = self.client.complete(&messages, &tools).await?;
            match self.judge(&reply) {
                Ok(plan) => return Ok(plan),
                Err(Fault::End(trouble)) => return Err(trouble),
                Err(Fault::Mend(_, trouble)) if repairs == self.settings.limits.repairs_max => {
                    return Err(trouble);
                }
                Err(Fault::Mend(problem, _)) => {
                    tracing::debug!(repairs, problem, "the model's reply does not hold");
                    messages.push(reply.message());
                    messages.extend(told(&reply, &problem));
                    repairs += 1;
                }
            }
        }
    }

    fn judge(&self, reply: &Reply) -> Result<Option<Plan>, Fault> {
        let mut calls = reply.calls();
        // The same call twice is one call.
        calls.dedup_by(|a, b| a.name == b.name && a.arguments == b.arguments);
        let filtered = reply.finish_reason.as_deref() == Some("content_filter");
        match calls.as_slice() {
            [call] => self.asked(call),
            [] if !reply.refusal.is_empty() || filtered => Ok(None),
            [] if reply.text.trim().is_empty() => Err(Fault::End(Trouble::Empty)),
            [] => Err(Fault::Mend(say("no_tool", &[]), Trouble::Unreadable)),
            _ => Err(Fault::invalid(say("several", &[]))),
        }
    }

    fn asked(&self, call: &Call) -> Result<Option<Plan>, Fault> {
        let asked = tools::read(call).map_err(|problem| {
            let readable = serde_json::from_str::<Value>(&call.arguments).is_ok();
            let trouble = if readable {
                Trouble::Invalid
            } else {
                Trouble::Unreadable
            };
            Fault::Mend(say("repair", &[("problem", &problem)]), trouble)
        })?;
        match asked {
            Asked::Refuse => Ok(None),
            Asked::Query(query) => self.query(&query).map(Some),
            Asked::Clarify(options) => self.clarify(&options).map(Some),
        }
    }

    /// The frame of a query that the registry would run.
    fn frame(&self, query: &Query) -> Result<Frame, Fault> {
        let repair = |problem: &str| {
            let problem: String = problem.chars().take(PROBLEM_CHARS_MAX).collect();
            Fault::invalid(say("repair", &[("problem", &problem)]))
        };
        let frame = self
            .planner
            .frame_of(query, self.request.context)
            .map_err(|fault| repair(&fault.0))?;
        (self.request.check)(&frame.query()).map_err(|error| repair(&error))?;
        Ok(frame)
    }

    fn disagreement(&self, frame: &Frame) -> Option<Disagreement> {
        self.planner.disagreement(self.understood, frame)
    }

    fn query(&self, query: &Query) -> Result<Plan, Fault> {
        let frame = self.frame(query)?;
        match self.disagreement(&frame) {
            None => Ok(self.plan(frame)),
            Some(Disagreement::Time { said }) => {
                let mut windows = said;
                windows.sort_by_key(|it| std::cmp::Reverse(it.from));
                let as_said = Frame {
                    window: windows.first().copied(),
                    against: windows.get(1).copied(),
                    time: frame.time.clone().or_else(|| self.time(&frame)),
                    ..frame.clone()
                };
                self.which("time", as_said, frame)
            }
            Some(Disagreement::Member(named)) => {
                let noun = named.candidates.first().map(|it| local(&it.0).to_owned());
                match self.with_member(&frame, &named) {
                    Some(as_said) => self.which(&noun.unwrap_or_default(), as_said, frame),
                    None => Err(Fault::End(Trouble::Contradicts)),
                }
            }
            Some(Disagreement::Lost { words }) => {
                let problem = format!("the question says {words:?}, which is not in the query");
                Err(Fault::Mend(
                    say("repair", &[("problem", &problem)]),
                    Trouble::Contradicts,
                ))
            }
        }
    }

    fn plan(&self, frame: Frame) -> Plan {
        let mut plan = self.planner.plan_of(frame, self.request.context);
        if let Plan::Answer(plan) = &mut plan {
            plan.reading = vec![Trace {
                words: self.request.question.to_owned(),
                taken_for: format!("as the model {} read it", self.settings.model),
            }];
        }
        plan
    }

    fn time(&self, frame: &Frame) -> Option<String> {
        let cube = self.request.catalog.cube(frame.cube()?)?;
        let mut times = cube.dimensions.iter().filter(|it| it.member_type == "time");
        times.next().map(|it| it.name.clone())
    }

    /// The frame with the member that was said, where that is a single one in the frame's cube.
    fn with_member(&self, frame: &Frame, named: &NamedMember) -> Option<Frame> {
        let cube = frame.cube()?;
        let mut own = named.candidates.iter().filter(|it| cube_of(&it.0) == cube);
        let ((member, value), None) = (own.next()?, own.next()) else {
            return None;
        };
        let operator = if named.negated { "notEquals" } else { "equals" };
        let mut frame = frame.clone();
        frame.set_filter(Condition {
            member: member.clone(),
            operator: operator.to_owned(),
            values: vec![value.clone()],
        });
        Some(frame)
    }

    /// The planner's reading and the model's, for the asker to choose.
    fn which(&self, about: &str, as_said: Frame, as_read: Frame) -> Result<Plan, Fault> {
        (self.request.check)(&as_said.query()).map_err(|_| Fault::End(Trouble::Contradicts))?;
        // What is offered as the planner's reading must be one.
        if self.disagreement(&as_said).is_some() {
            return Err(Fault::End(Trouble::Contradicts));
        }
        self.offer(about, vec![as_said, as_read])
    }

    fn clarify(&self, options: &[Query]) -> Result<Plan, Fault> {
        let frames = options
            .iter()
            .take(CHOICES_MAX)
            .map(|it| self.frame(it))
            .collect::<Result<Vec<_>, _>>()?;
        let frames: Vec<Frame> = frames
            .into_iter()
            .filter(|it| self.disagreement(it).is_none())
            .collect();
        self.offer("metric", frames)
    }

    fn offer(&self, about: &str, frames: Vec<Frame>) -> Result<Plan, Fault> {
        let mut options: Vec<Choice> = Vec::new();
        for frame in frames {
            let label = self.planner.label(&frame, self.request.context);
            let query = frame.query();
            if options
                .iter()
                .all(|it| it.query != query && it.label != label)
            {
                options.push(Choice {
                    label,
                    query,
                    frame,
                });
            }
        }
        let Some(first) = options.first().filter(|_| options.len() > 1) else {
            return Err(Fault::Mend(
                say(
                    "repair",
                    &[("problem", "clarify needs two different options that hold")],
                ),
                Trouble::Contradicts,
            ));
        };
        Ok(Plan::Clarify(Box::new(Clarification {
            about: vec![about.to_owned()],
            question: Question::WhichReading,
            frame: first.frame.clone(),
            options,
            reading: Vec::new(),
        })))
    }
}

/// The messages that tell the model what is wrong: a result for each of its calls, or a remark.
fn told(reply: &Reply, problem: &str) -> Vec<Value> {
    if reply.calls.is_empty() {
        return vec![json!({ "role": "user", "content": problem })];
    }
    reply
        .calls
        .iter()
        .map(|it| json!({ "role": "tool", "tool_call_id": it.id, "content": problem }))
        .collect()
}
