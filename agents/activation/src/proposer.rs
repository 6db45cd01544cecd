//! The agent as a library: a request in words, the syncs and one state of the metric registry become
//! a proposal or a refusal.

use std::sync::Arc;

use ballpoint_metrics::{QueryError, Service};
use ballpoint_planner::understood::Understood;
use ballpoint_planner::{Context, Planner};
use ballpoint_reverse_etl::{Action, Plan, Proposal, ProposedRow, Sync};
use ballpoint_runtime::clock::Clock;
use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::{Value, json};

use crate::condition::{Choice, Reader};
use crate::evidence::{self, Evidence, EvidenceError, ROWS_MAX};
use crate::request::Request;
use crate::wording::{quoted, say};

/// A longer request is no request.
const CHARS_MAX: usize = 500;

/// What became of a request: `{"plan": …}`, or `{"refusal": "…", "words": […]}`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Outcome {
    /// A plan that waits for approval, or failed with its reason.
    Plan { plan: Box<Plan> },
    /// Why nothing is proposed.
    Refusal(Refusal),
}

/// Why nothing is proposed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// In words, for whoever asked.
    #[serde(rename = "refusal")]
    pub reason: String,
    /// Which rule refused: a section of `prompts/reverse_etl/proposals.md`.
    pub rule: String,
    /// What of the request it is about.
    pub words: Vec<String>,
}

impl Refusal {
    pub(crate) fn new(rule: &str, words: &[&str], variables: &[(&str, &str)]) -> Self {
        Self {
            reason: say(rule, variables),
            rule: rule.to_owned(),
            words: words.iter().map(|it| (*it).to_owned()).collect(),
        }
    }
}

/// Reads requests.
#[derive(Clone, Debug)]
pub struct Proposer {
    pub clock: Clock,
    /// The zone in which people say "yesterday".
    pub time_zone: TimeZone,
}

impl Proposer {
    /// What a request asks for, with the figures behind it; nothing is planned yet.
    ///
    /// # Errors
    /// When the registry cannot be asked.
    pub async fn propose(
        &self,
        service: &Service,
        syncs: &[Sync],
        request: &str,
    ) -> Result<Result<Proposal, Refusal>, QueryError> {
        let catalog = Arc::clone(&service.snapshot.catalog);
        let planner = Planner::new(Arc::clone(&catalog));
        let found = match self.reading(&planner, syncs, request) {
            Ok(found) => found,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let Reading {
            sync,
            action,
            words,
            read,
        } = found;
        let reader = Reader {
            catalog: &catalog,
            request: &words,
            read: &read,
            sync,
            action: &action.name,
        };
        let choice = match reader.choice() {
            Ok(choice) => choice,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let key: Vec<String> = sync.key.iter().filter_map(|it| it.member.clone()).collect();
        let found = match evidence::collect(service, &choice, &key).await {
            Ok(found) => found,
            Err(EvidenceError::TooMany) => {
                let rows = ROWS_MAX.to_string();
                return Ok(Err(Refusal::new("too_many", &[], &[("rows", &rows)])));
            }
            Err(EvidenceError::Query(error)) => return Err(error),
        };
        let told = Told {
            planner: &planner,
            action,
            sync,
            choice: &choice,
        };
        Ok(told.proposal(request, found))
    }

    /// The one sync whose action and rows the request names.
    fn reading<'a>(
        &self,
        planner: &Planner,
        syncs: &'a [Sync],
        request: &str,
    ) -> Result<Reading<'a>, Refusal> {
        let context = Context {
            now: self.clock.business_now().to_zoned(self.time_zone.clone()),
            coverage: Default::default(),
        };
        if request.chars().count() > CHARS_MAX {
            let words = format!("a request of more than {CHARS_MAX} characters");
            return Err(Refusal::new("unknown", &[&words], &[("words", &words)]));
        }
        let mut candidates = Vec::new();
        for sync in syncs {
            let mut words = Request::new(request);
            let Some(action) = words.take_action(sync) else {
                continue;
            };
            let bounds = words.bounds();
            let text = words.text_without(bounds.first());
            let read = planner.understood(&text, &context);
            candidates.push(Reading {
                sync,
                action,
                words,
                read,
            });
        }
        if candidates.is_empty() {
            let actions = syncs.iter().flat_map(|sync| &sync.actions);
            let mut names: Vec<&str> = actions.map(|it| it.name.as_str()).collect();
            names.sort_unstable();
            names.dedup();
            let known = quoted(names);
            return Err(Refusal::new("no_action", &[], &[("known", &known)]));
        }
        let names: Vec<String> = candidates.iter().map(Reading::scope).collect();
        candidates.retain(Reading::is_named);
        match candidates.len() {
            1 => Ok(candidates.remove(0)),
            _ => {
                let known = quoted(names.iter().map(String::as_str));
                Err(Refusal::new("which_sync", &[], &[("known", &known)]))
            }
        }
    }
}

/// A request as one sync understands it.
struct Reading<'a> {
    sync: &'a Sync,
    action: &'a Action,
    words: Request,
    read: Understood,
}

impl Reading<'_> {
    /// Whether the request names this sync's part of the data, and no other one.
    fn is_named(&self) -> bool {
        self.sync.metric_filters.iter().all(|(member, value)| {
            let mut of_member = self.read.members.iter().filter_map(|named| {
                let own = named.candidates.iter().find(|(it, _)| it == member);
                own.map(|(_, said)| !named.negated && said == value)
            });
            let first = of_member.next();
            first == Some(true) && of_member.all(|same| same)
        })
    }

    /// What to say to mean this sync.
    fn scope(&self) -> String {
        let values: Vec<&str> = self
            .sync
            .metric_filters
            .values()
            .map(String::as_str)
            .collect();
        if values.is_empty() {
            self.sync.name.clone()
        } else {
            values.join(" ")
        }
    }
}

/// A choice on its way to words and rows.
struct Told<'a> {
    planner: &'a Planner,
    action: &'a Action,
    sync: &'a Sync,
    choice: &'a Choice,
}

impl Told<'_> {
    fn proposal(&self, request: &str, found: Evidence) -> Result<Proposal, Refusal> {
        let (condition, things) = (self.condition(), self.things());
        if found.keys.is_empty() {
            return Err(Refusal::new(
                "nothing",
                &[],
                &[
                    ("action", &self.action.name),
                    ("things", &things),
                    ("condition", &condition),
                ],
            ));
        }
        let reason = say(
            "reason",
            &[
                ("action", &self.action.name),
                ("keys", &found.judged.to_string()),
                ("things", &things),
                ("condition", &condition),
                ("rows", &found.keys.len().to_string()),
                ("table", &self.sync.target_name()),
            ],
        );
        let set = self.action.set.iter();
        let set: std::collections::BTreeMap<String, String> = set
            .map(|(column, value)| (column.clone(), value.text()))
            .collect();
        let rows = found.keys.into_iter().map(|key| ProposedRow {
            key: self
                .sync
                .key
                .iter()
                .filter_map(|field| {
                    let value = key.get(field.member.as_ref()?)?;
                    Some((field.column.clone(), value.clone()))
                })
                .collect(),
            set: set.clone(),
        });
        Ok(Proposal {
            sync: self.sync.name.clone(),
            reason,
            evidence: self.evidence(request, &condition, found.shown),
            rows: rows.collect(),
        })
    }

    fn evidence(&self, request: &str, condition: &str, found: Value) -> Value {
        json!({
            "request": request,
            "action": self.action.name,
            "condition": condition,
            "figure": self.choice.figure.as_ref().map(|figure| json!({
                "measure": figure.measure,
                "part": figure.part,
                "share_of": figure.whole,
                "operator": figure.bound.comparison.sign(),
                "threshold": figure.number,
            })),
            "level": self.choice.level,
            "filters": self.choice.filters,
            "found": found,
        })
    }

    /// "the share of Status = returned among Orders > 5 % and Country = NL".
    fn condition(&self) -> String {
        let mut parts: Vec<String> = Vec::new();
        if let Some(figure) = &self.choice.figure {
            let measure = self.title(&figure.measure);
            let what = match (&figure.part, &figure.whole) {
                (Some(part), Some(_)) => {
                    format!("the share of {} among {measure}", self.told(part))
                }
                (Some(part), None) => format!("{measure} with {}", self.told(part)),
                (None, Some(whole)) => format!("{measure} as a share of {}", self.title(whole)),
                (None, None) => measure,
            };
            let unit = if figure.bound.percent { " %" } else { "" };
            let (sign, number) = (figure.bound.comparison.sign(), figure.bound.number);
            parts.push(format!("{what} {sign} {number}{unit}"));
        }
        parts.extend(self.choice.filters.iter().map(|it| self.told(it)));
        if let Some(window) = &self.choice.window {
            parts.push(format!("from {}", window.bounds().join(" to ")));
        }
        parts.join(" and ")
    }

    fn told(&self, condition: &ballpoint_planner::frame::Condition) -> String {
        let sign = if condition.operator == "notEquals" {
            "is not"
        } else {
            "="
        };
        let values = condition.values.join(" or ");
        format!("{} {sign} {values}", self.title(&condition.member))
    }

    fn things(&self) -> String {
        let titles = self
            .choice
            .level
            .iter()
            .map(|it| self.title(it).to_lowercase());
        titles.collect::<Vec<_>>().join(" and ")
    }

    fn title(&self, member: &str) -> String {
        let found = self.planner.catalog().member(member);
        found.map_or(member.to_owned(), |it| it.short_title.clone())
    }
}
