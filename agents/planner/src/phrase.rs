//! A frame back in words: the question that would be read as it. Only a question which the planner
//! does read as that frame is given, so what is suggested is always answered.

use ballpoint_metrics::catalog::{Catalog, MemberInfo};

use crate::Planner;
use crate::frame::{Condition, Direction, Frame, Window, local};
use crate::normalise::tokens;
use crate::plan::{Context, DialogueState, Plan};
use crate::time::{TimeReader, When};

/// Windows that have a name, the most usual first.
const NAMED: [&str; 14] = [
    "today",
    "yesterday",
    "this week",
    "last week",
    "the week before last",
    "this month",
    "last month",
    "last 7 days",
    "last 30 days",
    "this quarter",
    "last quarter",
    "this year",
    "last 24 hours",
    "last night",
];

impl Planner {
    /// A question that is read as this frame, whether it is asked first or in this dialogue.
    pub fn question(
        &self,
        frame: &Frame,
        state: &DialogueState,
        context: &Context,
    ) -> Option<String> {
        let query = frame.query();
        let anew = DialogueState::default();
        let reads = |text: &str, state: &DialogueState| match self.plan(text, state, context) {
            Plan::Answer(plan) => plan.query == query && plan.companion.is_none(),
            _ => false,
        };
        self.wordings(frame, context)
            .into_iter()
            .find(|text| reads(text, &anew) && (*state == anew || reads(text, state)))
    }

    /// A frame in words, for people to choose by.
    pub fn label(&self, frame: &Frame, context: &Context) -> String {
        let words = Words {
            catalog: self.catalog(),
        };
        let (measures, by) = (words.measures(frame, false), words.by(frame));
        match self.scope(&words, frame, context) {
            Some(scope) => format!("{measures}{by}{scope}"),
            None => serde_json::to_string(&frame.query()).unwrap_or(measures),
        }
    }

    fn wordings(&self, frame: &Frame, context: &Context) -> Vec<String> {
        let words = Words {
            catalog: self.catalog(),
        };
        let Some(scope) = self.scope(&words, frame, context) else {
            return Vec::new();
        };
        let (measures, exact) = (words.measures(frame, false), words.measures(frame, true));
        let by = words.by(frame);
        let plain = |measures: &str| format!("{measures}{by}{scope}");
        let mut out = words.ranked(frame, &scope);
        out.push(plain(&measures));
        out.push(plain(&exact));
        if let Some((_, Direction::Asc)) = frame.order.first() {
            out.push(format!("{} ascending", plain(&measures)));
        } else if !frame.order.is_empty() {
            out.push(format!("{} descending", plain(&measures)));
        }
        out
    }

    /// What follows the measures and the breakdown: conditions and windows.
    fn scope(&self, words: &Words<'_>, frame: &Frame, context: &Context) -> Option<String> {
        let mut scope = String::new();
        for condition in &frame.filters {
            scope.push_str(&words.condition(condition)?);
        }
        match (&frame.window, &frame.against) {
            (None, _) => {}
            (Some(only), None) => {
                scope.push(' ');
                scope.push_str(&self.window(only, context)?);
            }
            (Some(new), Some(old)) => {
                let (new, old) = (self.window(new, context)?, self.window(old, context)?);
                scope.push_str(&format!(" {new} vs {old}"));
            }
        }
        Some(scope)
    }

    fn window(&self, window: &Window, context: &Context) -> Option<String> {
        let named = NAMED.iter().find(|name| {
            let tokens = tokens(name);
            let reader = TimeReader {
                tokens: &tokens,
                now: &context.now,
                day_parts: &self.lexicon.day_parts,
                data_from: context.data_from(),
            };
            matches!(reader.at(0), Some((len, When::Window(it)))
                if len == tokens.len() && it.bounds() == window.bounds())
        });
        if let Some(name) = named {
            return Some((*name).to_owned());
        }
        let [from, to] = window.bounds();
        match (window.sub_day, from == to) {
            (true, _) => None,
            (false, true) => Some(format!("on {from}")),
            (false, false) => Some(format!("from {from} to {to}")),
        }
    }
}

struct Words<'a> {
    catalog: &'a Catalog,
}

impl Words<'_> {
    fn member(&self, name: &str) -> Option<&MemberInfo> {
        self.catalog.member(name)
    }

    fn title(&self, name: &str) -> String {
        self.member(name)
            .map_or_else(|| local(name).to_owned(), |it| it.short_title.clone())
    }

    fn measures(&self, frame: &Frame, exact: bool) -> String {
        let one = |name: &String| {
            if exact {
                name.replace('.', " ")
            } else {
                self.title(name)
            }
        };
        frame
            .measures
            .iter()
            .map(one)
            .collect::<Vec<_>>()
            .join(" and ")
    }

    fn by(&self, frame: &Frame) -> String {
        let names = frame
            .dimensions
            .iter()
            .map(|it| self.title(it).to_lowercase());
        let step = frame.granularity.map(|unit| unit.name().to_owned());
        let parts: Vec<String> = names.chain(step).collect();
        if parts.is_empty() {
            String::new()
        } else {
            format!(" by {}", parts.join(" and by "))
        }
    }

    /// "machine with the lowest Pass Rate", "top 5 machine by Total Units".
    fn ranked(&self, frame: &Frame, scope: &str) -> Vec<String> {
        let ([(by, direction)], [dimension], [measure]) = (
            frame.order.as_slice(),
            frame.dimensions.as_slice(),
            frame.measures.as_slice(),
        ) else {
            return Vec::new();
        };
        if by != measure || frame.granularity.is_some() {
            return Vec::new();
        }
        let (what, title) = (self.title(dimension).to_lowercase(), self.title(measure));
        let (extreme, end) = match direction {
            Direction::Desc => ("highest", "top"),
            Direction::Asc => ("lowest", "bottom"),
        };
        match frame.limit {
            Some(limit) => ["", "s"]
                .map(|plural| format!("{end} {limit} {what}{plural} by {title}{scope}"))
                .into_iter()
                .chain([format!("{limit} {what}s with the {extreme} {title}{scope}")])
                .collect(),
            None => vec![format!("which {what} has the {extreme} {title}{scope}")],
        }
    }

    fn condition(&self, condition: &Condition) -> Option<String> {
        let title = self.title(&condition.member);
        let boolean = self
            .member(&condition.member)
            .map(|it| it.member_type.as_str())
            == Some("boolean");
        let values = condition.values.join(" and ");
        let text = match condition.operator.as_str() {
            "equals" if boolean => match values.as_str() {
                "true" => format!(" on {title}"),
                _ => return None,
            },
            "equals" => format!(" for {values}"),
            "notEquals" => format!(" except {values}"),
            "notSet" => format!(" without {}", title.to_lowercase()),
            "gt" => format!(" with {title} over {values}"),
            "gte" => format!(" with {title} of at least {values}"),
            "lt" => format!(" with {title} under {values}"),
            "lte" => format!(" with {title} of at most {values}"),
            _ => return None,
        };
        Some(text)
    }
}
