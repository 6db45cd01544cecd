//! The words people use for what the registry offers: compiled from names, titles, synonyms and
//! the values found in the data, together with the structure words of the language.

mod aliases;
mod columns;
mod parts;
mod spelling;

use std::collections::{BTreeMap, BTreeSet};

use aho_corasick::{AhoCorasick, MatchKind};
use ballpoint_metrics::catalog::{Catalog, MemberInfo};
use serde_json::Value;

use self::aliases::value_aliases;
pub(crate) use self::parts::values_with;
use crate::frame::local;
use crate::normalise::words;
use crate::time::DayPart;
use crate::words::{PHRASES, Role};

/// What a phrase can stand for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Meaning {
    Measure(String),
    Dimension(String),
    Member {
        dimension: String,
        value: String,
    },
    Cube(String),
    /// The subject of a cube, which says nothing more: "the factory".
    Subject,
}

/// All readings of one phrase.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entry {
    pub(crate) meanings: Vec<Meaning>,
    pub(crate) role: Option<Role>,
}

/// Phrases and their meanings, matched in one pass.
pub(crate) struct Lexicon {
    automaton: AhoCorasick,
    entries: Vec<(Vec<String>, Entry)>,
    /// Words that a misspelt word may be corrected to.
    vocabulary: BTreeSet<String>,
    pub(crate) day_parts: Vec<DayPart>,
}

/// A phrase found: its first token, its length in tokens, its entry.
pub(crate) struct Found<'a> {
    pub(crate) at: usize,
    pub(crate) len: usize,
    pub(crate) entry: &'a Entry,
}

impl Lexicon {
    pub(crate) fn new(catalog: &Catalog) -> Self {
        let mut builder = Builder::default();
        for cube in &catalog.cubes {
            builder.cube(&cube.name, &cube.meta);
            for measure in &cube.measures {
                builder.measure(measure, &cube.measures, &cube.dimensions);
            }
            for dimension in &cube.dimensions {
                builder.dimension(dimension, &cube.measures);
            }
        }
        builder.nouns(catalog);
        builder.partial_titles(catalog);
        let mut vocabulary = builder.vocabulary();
        for (role, phrases) in PHRASES {
            phrases
                .iter()
                .for_each(|phrase| builder.role(*role, phrase));
        }
        builder.parts(catalog);
        vocabulary.extend(spelling::CORRECTABLE.iter().flat_map(|word| words(word)));
        let entries: Vec<_> = builder
            .entries
            .into_iter()
            .filter(|(key, _)| !key.is_empty())
            .collect();
        let patterns: Vec<String> = entries.iter().map(|(key, _)| encode(key)).collect();
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(patterns)
            .expect("phrases of a registry fit an automaton");
        Self {
            automaton,
            entries,
            vocabulary,
            day_parts: day_parts(catalog),
        }
    }

    /// The phrases in a run of words, leftmost and longest.
    pub(crate) fn find<'a>(&'a self, run: &[String]) -> Vec<Found<'a>> {
        let text = encode(run);
        let starts: BTreeMap<usize, usize> = run
            .iter()
            .scan(0, |at, word| {
                let start = *at;
                *at += word.len() + 2;
                Some(start)
            })
            .enumerate()
            .map(|(n, start)| (start, n))
            .collect();
        self.automaton
            .find_iter(&text)
            .filter_map(|found| {
                let (key, entry) = &self.entries[found.pattern().as_usize()];
                let at = *starts.get(&found.start())?;
                Some(Found {
                    at,
                    len: key.len(),
                    entry,
                })
            })
            .collect()
    }

    /// Whether a value's name goes on over the end of a sentence before `at`: "Dr. Weber".
    pub(crate) fn spans(&self, run: &[String], at: usize) -> bool {
        self.find(run).iter().any(|found| {
            let members = |it: &Meaning| matches!(it, Meaning::Member { .. });
            found.at < at && found.at + found.len > at && found.entry.meanings.iter().any(members)
        })
    }
}

fn encode(run: &[String]) -> String {
    run.iter().map(|word| format!("\u{1}{word}\u{2}")).collect()
}

#[derive(Default)]
struct Builder {
    entries: BTreeMap<Vec<String>, Entry>,
}

impl Builder {
    fn add(&mut self, phrase: &str, meaning: Meaning) {
        let key = words(phrase);
        // "made of" must not claim every "made".
        let cut_short = key.len() == 1 && phrase.split_whitespace().count() > 1;
        if !cut_short {
            self.add_words(key, meaning);
        }
    }

    fn add_words(&mut self, key: Vec<String>, meaning: Meaning) {
        if key.is_empty() {
            return;
        }
        let entry = self.entries.entry(key).or_default();
        if !entry.meanings.contains(&meaning) {
            entry.meanings.push(meaning);
        }
    }

    /// Where something is called "orders", "orders by month" sorts nothing.
    fn role(&mut self, role: Role, phrase: &str) {
        let key = words(phrase);
        let opens_with_noun = key.last().is_some_and(|it| it == "by")
            && key.len() > 1
            && self
                .entries
                .get(&key[..1])
                .is_some_and(|entry| entry.role.is_none() && !entry.meanings.is_empty());
        // What is measured or told apart may be called a driver.
        let is_named = self.entries.contains_key(&key) && role.is_analysis();
        if key.is_empty() || opens_with_noun || is_named {
            return;
        }
        self.entries
            .entry(key)
            .or_default()
            .role
            .get_or_insert(role);
    }

    fn cube(&mut self, name: &str, meta: &Value) {
        if camel_words(name).len() > 1 {
            self.add(name, Meaning::Cube(name.to_owned()));
        }
        for synonym in texts(meta, "synonyms").filter(|it| words(it).len() == 1) {
            self.add(synonym, Meaning::Subject);
        }
    }

    fn names(&mut self, member: &MemberInfo, meaning: &Meaning) {
        self.add(&member.name.replace('.', " "), meaning.clone());
        self.add(local(&member.name), meaning.clone());
        self.add(&camel_words(local(&member.name)).join(" "), meaning.clone());
        self.add(&member.title, meaning.clone());
        self.add(&member.short_title, meaning.clone());
        for synonym in texts(&member.meta, "synonyms") {
            self.add(synonym, meaning.clone());
            // "pass rate" is also written "passrate".
            let key = words(synonym);
            if key.len() > 1 {
                self.add_words(vec![key.concat()], meaning.clone());
            }
        }
    }

    /// "Average X" is also said as "X", unless that is what another measure is called.
    fn measure(&mut self, member: &MemberInfo, siblings: &[MemberInfo], dimensions: &[MemberInfo]) {
        let meaning = Meaning::Measure(member.name.clone());
        self.names(member, &meaning);
        let claimed = |phrase: &str| {
            let said = words(phrase);
            siblings
                .iter()
                .filter(|it| it.name != member.name)
                .any(|it| texts(&it.meta, "synonyms").any(|synonym| words(synonym) == said))
        };
        for title in [&member.title, &member.short_title] {
            let title = title.to_lowercase();
            let openings = columns::openings(member, siblings, dimensions);
            let rest = openings.iter().find_map(|it| title.strip_prefix(it));
            if let Some(rest) = rest.filter(|it| !claimed(it)) {
                self.add(rest, meaning.clone());
            }
        }
    }

    fn dimension(&mut self, member: &MemberInfo, measures: &[MemberInfo]) {
        let is_key = member.primary_key && member.values.is_empty();
        if member.member_type == "time" || is_key || columns::is_measured(member, measures) {
            return;
        }
        self.names(member, &Meaning::Dimension(member.name.clone()));
        let noun = noun(&member.name);
        let nouns: BTreeSet<String> = texts(&member.meta, "synonyms")
            .map(str::to_owned)
            .chain([noun])
            .filter(|it| words(it).len() == 1)
            .collect();
        // What is called returning is the true value, where the model gives the values no names.
        if member.member_type == "boolean" && member.meta.get("value_synonyms").is_none() {
            let (dimension, value) = (member.name.clone(), "true".to_owned());
            self.add(
                &self::noun(&member.name),
                Meaning::Member { dimension, value },
            );
        }
        for value in &member.values {
            let meaning = Meaning::Member {
                dimension: member.name.clone(),
                value: value.clone(),
            };
            for alias in value_aliases(value, &nouns) {
                self.add_words(alias, meaning.clone());
            }
            if let Some(synonyms) = member.meta.get("value_synonyms") {
                texts(synonyms, value).for_each(|synonym| self.add(synonym, meaning.clone()));
            }
        }
    }

    /// The entities that dimensions tell apart, where no name says that already.
    fn nouns(&mut self, catalog: &Catalog) {
        let mut nouns: BTreeMap<Vec<String>, Vec<Meaning>> = BTreeMap::new();
        for cube in &catalog.cubes {
            let told = |it: &&MemberInfo| {
                let is_key = it.primary_key && it.values.is_empty();
                it.member_type != "time" && !is_key && !columns::is_measured(it, &cube.measures)
            };
            for member in cube.dimensions.iter().filter(told) {
                let meaning = Meaning::Dimension(member.name.clone());
                nouns
                    .entry(words(&noun(&member.name)))
                    .or_default()
                    .push(meaning);
            }
            if let Some(count) = columns::rows(cube) {
                nouns.entry(words(&cube.name)).or_default().push(count);
            }
        }
        for (key, meanings) in nouns {
            if !self.entries.contains_key(&key) {
                for meaning in meanings {
                    self.add_words(key.clone(), meaning);
                }
            }
        }
    }

    /// A word that only one measure of a cube has in its title stands for that measure.
    fn partial_titles(&mut self, catalog: &Catalog) {
        const PLAIN: [&str; 14] = [
            "rate", "cost", "count", "time", "unit", "average", "ratio", "score", "total",
            "number", "per", "pass", "first", "material",
        ];
        let structural: BTreeSet<Vec<String>> = PHRASES
            .iter()
            .flat_map(|(_, phrases)| phrases.iter().map(|it| words(it)))
            .collect();
        for cube in &catalog.cubes {
            let mut owners: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
            for measure in &cube.measures {
                for word in words(&measure.short_title) {
                    owners.entry(word).or_default().insert(&measure.name);
                }
            }
            for (word, names) in owners {
                let key = vec![word];
                let free = !self.entries.contains_key(&key) && !structural.contains(&key);
                if let (Some(name), 1, true) = (names.first(), names.len(), free)
                    && key[0].len() > 3
                    && !PLAIN.contains(&key[0].as_str())
                {
                    self.add_words(key, Meaning::Measure((*name).to_owned()));
                }
            }
        }
    }

    /// A word that one name alone has stands for it, unless it says something else already.
    fn parts(&mut self, catalog: &Catalog) {
        for (word, members) in parts::unique_parts(catalog) {
            let key = vec![word];
            if self.entries.contains_key(&key) {
                continue;
            }
            for (dimension, value) in members {
                self.add_words(key.clone(), Meaning::Member { dimension, value });
            }
        }
    }

    fn vocabulary(&self) -> BTreeSet<String> {
        let known = self.entries.keys().flatten();
        known
            .filter(|word| word.chars().all(char::is_alphabetic))
            .cloned()
            .collect()
    }
}

/// The entity that a dimension tells apart: `shiftId` → `shift`, `componentType` → `component`.
pub(crate) fn noun(member: &str) -> String {
    let parts = camel_words(local(member));
    let kept =
        match parts.last().map(String::as_str) {
            Some(
                "id" | "type" | "name" | "code" | "key" | "no" | "number" | "color" | "colour",
            ) if parts.len() > 1 => &parts[..parts.len() - 1],
            _ => &parts[..],
        };
    let kept = if kept.len() > 1 && kept[0] == "is" {
        &kept[1..]
    } else {
        kept
    };
    kept.join(" ")
}

/// `firstPassYield` → `first pass yield`, in words.
pub(crate) fn camel_words(name: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for c in name.chars() {
        if c == '_' {
            out.push(String::new());
        } else if c.is_uppercase() || out.is_empty() {
            out.push(c.to_lowercase().collect());
        } else if let Some(last) = out.last_mut() {
            last.push(c);
        }
    }
    out.retain(|word| !word.is_empty());
    out
}

/// The windows that a dimension's `meta.windows` gives its values, named by the values' words.
fn day_parts(catalog: &Catalog) -> Vec<DayPart> {
    let mut out: Vec<DayPart> = Vec::new();
    for member in catalog.cubes.iter().flat_map(|cube| &cube.dimensions) {
        let nouns = BTreeSet::from([noun(&member.name)]);
        let Some(windows) = member.meta.get("windows").and_then(Value::as_object) else {
            continue;
        };
        for (value, window) in windows {
            let bounds = window.as_str().and_then(|text| text.split_once('-'));
            let Some((Ok(from), Ok(to))) =
                bounds.map(|(a, b)| (a.trim().parse(), b.trim().parse()))
            else {
                continue;
            };
            let synonyms = member.meta.get("value_synonyms").into_iter();
            let names = synonyms
                .flat_map(|it| texts(it, value).map(words).collect::<Vec<_>>())
                .chain(value_aliases(value, &nouns))
                .filter_map(|alias| <[String; 1]>::try_from(alias).ok().map(|[word]| word));
            out.push(DayPart {
                words: names.collect(),
                from,
                to,
            });
        }
    }
    out
}

/// The texts of a list in a meta object.
pub(crate) fn texts<'a>(meta: &'a Value, key: &str) -> impl Iterator<Item = &'a str> {
    meta.get(key)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nouns_drop_what_only_says_that_it_is_a_key() {
        assert_eq!(noun("C.shiftId"), "shift");
        assert_eq!(noun("C.isWeekend"), "weekend");
        assert_eq!(camel_words("firstPassYield"), ["first", "pass", "yield"]);
    }
}
