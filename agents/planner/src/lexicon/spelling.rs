//! Words that are known in another form: misspelt ones, other forms of one stem, near ones.

use std::collections::BTreeSet;

use super::Lexicon;
use crate::normalise::stem;

impl Lexicon {
    /// The one known word that a misspelt word is near to. Two equally near words are no answer.
    pub(crate) fn correct(&self, word: &str) -> Option<String> {
        if word.chars().count() <= 3 {
            return None;
        }
        let mut near: Vec<(usize, &String)> = self
            .vocabulary
            .iter()
            .filter(|known| known.len() >= 4 && known.chars().next() == word.chars().next())
            .map(|known| (strsim::damerau_levenshtein(word, known), known))
            .filter(|(distance, known)| is_slip(word, known, *distance))
            .collect();
        near.sort();
        match near.as_slice() {
            [(_, only)] => Some((*only).clone()),
            [(first, best), (second, _), ..] if first < second => Some((*best).clone()),
            _ => None,
        }
    }

    /// The one known word of which an unknown one is another form: "durability" for "durable".
    pub(crate) fn derived(&self, word: &str) -> Option<String> {
        const STEM_MIN: usize = 5;
        let said = stem(word);
        if said.len() < STEM_MIN {
            return None;
        }
        let named = self.entries.iter().filter_map(|(key, entry)| {
            let [known] = key.as_slice() else {
                return None;
            };
            let is_named = !entry.meanings.is_empty() && entry.role.is_none();
            (is_named && stem(known) == said).then_some(known)
        });
        let found: BTreeSet<&String> = named.collect();
        let [only] = <[&String; 1]>::try_from(found.into_iter().collect::<Vec<_>>()).ok()?;
        Some(only.clone())
    }

    /// Known words that an unknown one resembles, nearest first.
    pub(crate) fn near(&self, word: &str) -> Vec<String> {
        let mut near: Vec<(u64, &String)> = self
            .vocabulary
            .iter()
            .map(|known| ((1000.0 * strsim::jaro_winkler(word, known)) as u64, known))
            .filter(|(score, known)| *score >= 880 && known.len() > 3)
            .collect();
        near.sort_by(|a, b| b.cmp(a));
        near.into_iter()
            .take(3)
            .map(|(_, known)| known.clone())
            .collect()
    }
}

/// Structure words worth correcting; the rest of the language is left as it is written.
pub(super) const CORRECTABLE: &[&str] = &[
    "compare",
    "yesterday",
    "monthly",
    "weekly",
    "hourly",
    "average",
    "highest",
    "lowest",
    "between",
    "except",
    "february",
    "january",
    "september",
    "october",
    "november",
    "december",
    "trend",
    "today",
    "quarter",
    "excluding",
    "percent",
    "slowest",
    "fastest",
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "saturday",
    "machine",
];

/// Whether a difference is a slip of the finger rather than another word ("speed" is not "spend"):
/// short words lose, double or swap letters, or confuse vowels; long ones may differ twice after a
/// common beginning.
fn is_slip(word: &str, known: &str, distance: usize) -> bool {
    let lengths = (word.chars().count(), known.chars().count());
    let vowel = |c: &char| matches!(c, 'a' | 'e' | 'i' | 'o' | 'u' | 'y');
    match distance {
        1 if lengths.0 == 4 => lengths.1 > 4,
        1 if lengths.0 <= 6 && lengths.0 == lengths.1 => {
            let different: Vec<_> = word
                .chars()
                .zip(known.chars())
                .filter(|(a, b)| a != b)
                .collect();
            different.len() == 2 || different.iter().all(|(a, b)| vowel(a) && vowel(b))
        }
        1 => true,
        2 if lengths.0 >= 7 => {
            word.chars()
                .zip(known.chars())
                .take_while(|(a, b)| a == b)
                .count()
                >= 4
        }
        _ => false,
    }
}
