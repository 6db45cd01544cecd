//! The words of a request: the action it asks for, the comparison it makes, and whether every other
//! word is accounted for.

use ballpoint_planner::understood::Understood;
use ballpoint_reverse_etl::{Action, Sync};

/// Said around a request without changing it. Nothing that excludes, ranks or weighs is among them.
const FILLERS: &[&str] = &[
    "a", "all", "an", "and", "any", "are", "at", "be", "been", "by", "can", "could", "do", "each",
    "every", "for", "from", "had", "has", "have", "having", "i", "id", "in", "is", "it", "its",
    "lets", "made", "me", "must", "need", "needs", "now", "of", "on", "or", "our", "out", "please",
    "put", "s", "share", "should", "show", "showing", "that", "the", "their", "there", "these",
    "they", "this", "those", "to", "us", "want", "was", "we", "were", "where", "which", "who",
    "whose", "will", "with", "would", "you",
];

/// Words of a period; accepted where the planner read one.
const PERIOD: &[&str] = &[
    "ago",
    "day",
    "days",
    "during",
    "hour",
    "hours",
    "last",
    "month",
    "months",
    "past",
    "previous",
    "quarter",
    "since",
    "today",
    "until",
    "week",
    "weeks",
    "within",
    "year",
    "years",
    "yesterday",
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
    "between",
];

const COMPARATORS: &[(&str, Comparison)] = &[
    ("no more than", Comparison::AtMost),
    ("not more than", Comparison::AtMost),
    ("no less than", Comparison::AtLeast),
    ("not less than", Comparison::AtLeast),
    ("at least", Comparison::AtLeast),
    ("at most", Comparison::AtMost),
    ("more than", Comparison::Above),
    ("greater than", Comparison::Above),
    ("higher than", Comparison::Above),
    ("less than", Comparison::Below),
    ("fewer than", Comparison::Below),
    ("lower than", Comparison::Below),
    ("exceeding", Comparison::Above),
    ("exceeds", Comparison::Above),
    ("above", Comparison::Above),
    ("over", Comparison::Above),
    ("below", Comparison::Below),
    ("under", Comparison::Below),
    (">=", Comparison::AtLeast),
    ("<=", Comparison::AtMost),
    (">", Comparison::Above),
    ("<", Comparison::Below),
];

/// How a figure is held against a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Above,
    AtLeast,
    Below,
    AtMost,
}

impl Comparison {
    pub(crate) fn holds(self, figure: f64, bound: f64) -> bool {
        match self {
            Self::Above => figure > bound,
            Self::AtLeast => figure >= bound,
            Self::Below => figure < bound,
            Self::AtMost => figure <= bound,
        }
    }

    pub(crate) fn sign(self) -> &'static str {
        match self {
            Self::Above => ">",
            Self::AtLeast => ">=",
            Self::Below => "<",
            Self::AtMost => "<=",
        }
    }
}

/// "more than 5 %", with its place among the words.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bound {
    pub(crate) comparison: Comparison,
    pub(crate) number: f64,
    pub(crate) percent: bool,
    from: usize,
    to: usize,
}

/// A request cut into lower-case words; signs of comparison and percent stand alone.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) words: Vec<String>,
}

impl Request {
    pub(crate) fn new(text: &str) -> Self {
        let mut words: Vec<String> = Vec::new();
        let mut word = String::new();
        for character in text.to_lowercase().chars() {
            let joins = character.is_alphanumeric() || matches!(character, '-' | '_' | '.');
            if joins {
                word.push(character);
                continue;
            }
            push(&mut words, &mut word);
            match (character, words.last_mut()) {
                ('=', Some(last)) if last == ">" || last == "<" => last.push('='),
                ('%' | '<' | '>' | '=', _) => words.push(character.to_string()),
                _ => {}
            }
        }
        push(&mut words, &mut word);
        Self { words }
    }

    /// Where `phrase` first stands.
    fn find(&self, phrase: &str) -> Option<(usize, usize)> {
        let parts: Vec<String> = Self::new(phrase).words;
        if parts.is_empty() {
            return None;
        }
        let at = self.words.windows(parts.len()).position(|it| it == parts)?;
        Some((at, at + parts.len()))
    }

    /// Takes the longest action of a sync out of the words.
    pub(crate) fn take_action<'a>(&mut self, sync: &'a Sync) -> Option<&'a Action> {
        let mut found: Option<(&Action, (usize, usize))> = None;
        for action in &sync.actions {
            for phrase in action.words.iter().chain([&action.name]) {
                let Some(place) = self.find(phrase) else {
                    continue;
                };
                let length = |(from, to): (usize, usize)| to - from;
                if found.is_none_or(|(_, other)| length(place) > length(other)) {
                    found = Some((action, place));
                }
            }
        }
        let (action, (from, to)) = found?;
        self.words.drain(from..to);
        Some(action)
    }

    /// The comparisons, in order.
    pub(crate) fn bounds(&self) -> Vec<Bound> {
        let mut found: Vec<Bound> = Vec::new();
        let mut at = 0;
        while at < self.words.len() {
            match self.bound_at(at) {
                Some(bound) => {
                    at = bound.to;
                    found.push(bound);
                }
                None => at += 1,
            }
        }
        found
    }

    fn bound_at(&self, at: usize) -> Option<Bound> {
        let rest = &self.words[at..];
        let (length, comparison) = COMPARATORS.iter().find_map(|(phrase, comparison)| {
            let parts: Vec<&str> = phrase.split(' ').collect();
            rest.starts_with(&parts.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>())
                .then_some((parts.len(), *comparison))
        })?;
        let number: f64 = rest.get(length)?.parse().ok()?;
        let mut to = at + length + 1;
        let mut percent = false;
        if let Some(next) = self.words.get(to)
            && ["%", "percent", "pct"].contains(&next.as_str())
        {
            percent = true;
            to += 1;
        }
        Some(Bound {
            comparison,
            number,
            percent,
            from: at,
            to,
        })
    }

    /// The words without a comparison, as a text that the planner reads.
    pub(crate) fn text_without(&self, bound: Option<&Bound>) -> String {
        let kept = self
            .words
            .iter()
            .enumerate()
            .filter(|(at, _)| bound.is_none_or(|bound| *at < bound.from || *at >= bound.to));
        kept.map(|(_, word)| word.as_str())
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// How far a phrase is from a comparison: what follows it is nearer than what precedes it, since
    /// "more than 5 % leaks" is said more often than "leaks above 5 %".
    pub(crate) fn distance(&self, phrase: &str, bound: &Bound) -> usize {
        match self.find(phrase) {
            Some((from, _)) if from >= bound.to => 2 * (from - bound.to),
            Some((_, to)) if to <= bound.from => 2 * (bound.from - to) + 1,
            _ => usize::MAX,
        }
    }

    /// Words that nothing accounts for: not the planner, not the comparison, not the fillers.
    pub(crate) fn unaccounted(&self, read: &Understood, bound: Option<&Bound>) -> Vec<String> {
        let named = read.members.iter().map(|it| &it.words).chain(
            read.measures
                .iter()
                .chain(&read.dimensions)
                .map(|it| &it.words),
        );
        let known: Vec<String> = named.flat_map(|words| Self::new(words).words).collect();
        let unknown = read.unknown.iter().filter(|words| {
            let words = Self::new(words).words;
            !words.iter().all(|word| FILLERS.contains(&word.as_str()))
        });
        let mut left: Vec<String> = unknown.cloned().collect();
        for (at, word) in self.words.iter().enumerate() {
            let in_bound = bound.is_some_and(|bound| (bound.from..bound.to).contains(&at));
            let in_period = !read.windows.is_empty()
                && (PERIOD.contains(&word.as_str()) || word.chars().any(|c| c.is_ascii_digit()));
            if in_bound
                || in_period
                || known.contains(word)
                || FILLERS.contains(&word.as_str())
                || left.iter().any(|it| Self::new(it).words.contains(word))
            {
                continue;
            }
            left.push(word.clone());
        }
        left
    }
}

fn push(words: &mut Vec<String>, word: &mut String) {
    let whole = word.trim_matches(['.', '-']);
    if !whole.is_empty() {
        words.push(whole.to_owned());
    }
    word.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(text: &str) -> Vec<(&'static str, f64, bool)> {
        let bounds = Request::new(text).bounds().into_iter();
        bounds
            .map(|bound| (bound.comparison.sign(), bound.number, bound.percent))
            .collect()
    }

    #[test]
    fn comparisons_are_found_in_many_spellings() {
        assert_eq!(bounds("lots with more than 5 % leaks"), [(">", 5.0, true)]);
        assert_eq!(bounds("lots with >=2.5% leaks"), [(">=", 2.5, true)]);
        assert_eq!(bounds("yield below 90 percent."), [("<", 90.0, true)]);
        assert_eq!(bounds("no more than 3 faults"), [("<=", 3.0, false)]);
        assert_eq!(bounds("lots over the moon"), []);
    }

    #[test]
    fn what_follows_a_comparison_is_what_it_is_about() {
        let request = Request::new("lots of the night with more than 5 % leaks");
        let bound = request.bounds()[0];
        assert!(request.distance("leaks", &bound) < request.distance("night", &bound));
        let request = Request::new("lots of the night with a scrap rate above 5 %");
        let bound = request.bounds()[0];
        assert!(request.distance("scrap rate", &bound) < request.distance("night", &bound));
    }
}
