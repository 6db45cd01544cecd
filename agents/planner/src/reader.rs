//! The question as a row of elements: time expressions first, then the longest phrases of the
//! lexicon, then numbers; what is left is unknown, and stays visible as such.

use crate::frame::local;
use crate::lexicon::{Lexicon, Meaning};
use crate::normalise::Token;
use crate::plan::{Context, Note};
use crate::time::{TimeReader, When, number_word};
use crate::words::Role;

/// A stretch of the question and what it may be.
#[derive(Clone, Debug)]
pub(crate) struct Element {
    pub(crate) kind: Kind,
    /// As written, or as corrected.
    pub(crate) words: String,
    /// A comma, colon or full stop stands before it.
    pub(crate) after_break: bool,
    /// Index of the first token.
    pub(crate) at: usize,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    When(When),
    Number(f64),
    /// A place in an order: "second" before "highest".
    Place(usize),
    Phrase {
        meanings: Vec<Meaning>,
        role: Option<Role>,
    },
    Unknown,
}

impl Element {
    pub(crate) fn role(&self) -> Option<Role> {
        match &self.kind {
            Kind::Phrase { role, .. } => *role,
            _ => None,
        }
    }

    pub(crate) fn meanings(&self) -> &[Meaning] {
        match &self.kind {
            Kind::Phrase { meanings, .. } => meanings,
            _ => &[],
        }
    }

    /// Says nothing by itself.
    pub(crate) fn is_filler(&self) -> bool {
        self.role() == Some(Role::Filler)
            && self.meanings().iter().all(|it| *it == Meaning::Subject)
            || self.meanings() == [Meaning::Subject] && self.role().is_none()
    }

    /// Measures it may stand for; a noun that names what is told apart does not mean its count.
    pub(crate) fn measures(&self) -> Vec<String> {
        let entity = self
            .meanings()
            .iter()
            .any(|it| matches!(it, Meaning::Dimension(_)));
        let name = |it: &Meaning| match it {
            Meaning::Measure(name) if !(entity && name.to_lowercase().ends_with("count")) => {
                Some(name.clone())
            }
            _ => None,
        };
        self.meanings().iter().filter_map(name).collect()
    }

    /// The measures that count the rows of the cube which the words name: "orders".
    pub(crate) fn row_counts(&self) -> Vec<String> {
        let name = |it: &Meaning| match it {
            Meaning::Measure(name) if local(name) == "count" => Some(name.clone()),
            _ => None,
        };
        self.meanings().iter().filter_map(name).collect()
    }

    pub(crate) fn dimensions(&self) -> Vec<String> {
        let name = |it: &Meaning| match it {
            Meaning::Dimension(name) => Some(name.clone()),
            _ => None,
        };
        self.meanings().iter().filter_map(name).collect()
    }

    pub(crate) fn members(&self) -> Vec<(String, String)> {
        let name = |it: &Meaning| match it {
            Meaning::Member { dimension, value } => Some((dimension.clone(), value.clone())),
            _ => None,
        };
        self.meanings().iter().filter_map(name).collect()
    }
}

/// Reads tokens into elements; corrects misspelt words on a second pass.
pub(crate) fn read(
    tokens: &[Token],
    lexicon: &Lexicon,
    context: &Context,
) -> (Vec<Element>, Vec<Note>) {
    let elements = pass(tokens, lexicon, context);
    let mut corrected = tokens.to_vec();
    let mut notes = Vec::new();
    for element in elements
        .iter()
        .filter(|it| matches!(it.kind, Kind::Unknown))
    {
        let token = &mut corrected[element.at];
        let better = lexicon
            .correct(&token.text)
            .or_else(|| lexicon.derived(&token.text));
        if let Some(better) = better.filter(|it| *it != token.text) {
            notes.push(Note::Spelling {
                word: token.raw.clone(),
                read_as: better.clone(),
            });
            token.text = better;
        }
    }
    if notes.is_empty() {
        (elements, notes)
    } else {
        (pass(&corrected, lexicon, context), notes)
    }
}

fn pass(tokens: &[Token], lexicon: &Lexicon, context: &Context) -> Vec<Element> {
    let reader = TimeReader {
        tokens,
        now: &context.now,
        day_parts: &lexicon.day_parts,
        data_from: context.data_from(),
    };
    let mut elements = Vec::new();
    let mut run_start = 0;
    let mut at = 0;
    while at < tokens.len() {
        let sentence_starts = at > run_start && tokens[at].sentence != tokens[at - 1].sentence;
        if sentence_starts && !goes_on(tokens, at, lexicon) {
            phrases(tokens, run_start..at, lexicon, &mut elements);
            run_start = at;
        }
        match reader.at(at) {
            Some((len, when)) => {
                phrases(tokens, run_start..at, lexicon, &mut elements);
                elements.push(element(tokens, at, len, Kind::When(when)));
                at += len;
                run_start = at;
            }
            None => at += 1,
        }
    }
    phrases(tokens, run_start..at, lexicon, &mut elements);
    elements
}

/// Whether a name with a full stop in it stands over the end of a sentence.
fn goes_on(tokens: &[Token], at: usize, lexicon: &Lexicon) -> bool {
    const NAME_MAX: usize = 6;
    let from = at.saturating_sub(NAME_MAX);
    let near = &tokens[from..tokens.len().min(at + NAME_MAX)];
    let run: Vec<String> = near.iter().map(|token| token.text.clone()).collect();
    lexicon.spans(&run, at - from)
}

fn phrases(
    tokens: &[Token],
    run: std::ops::Range<usize>,
    lexicon: &Lexicon,
    elements: &mut Vec<Element>,
) {
    let words: Vec<String> = tokens[run.clone()]
        .iter()
        .map(|token| token.text.clone())
        .collect();
    let mut next = 0;
    for found in lexicon.find(&words) {
        leftovers(tokens, run.start + next..run.start + found.at, elements);
        let kind = Kind::Phrase {
            meanings: found.entry.meanings.clone(),
            role: found.entry.role,
        };
        elements.push(element(tokens, run.start + found.at, found.len, kind));
        next = found.at + found.len;
    }
    leftovers(tokens, run.start + next..run.end, elements);
}

fn leftovers(tokens: &[Token], range: std::ops::Range<usize>, elements: &mut Vec<Element>) {
    for at in range {
        let number = tokens[at].number.or_else(|| number_word(&tokens[at].text));
        let kind = number.map_or(Kind::Unknown, Kind::Number);
        elements.push(element(tokens, at, 1, kind));
    }
}

fn element(tokens: &[Token], at: usize, len: usize, kind: Kind) -> Element {
    let words: Vec<&str> = tokens[at..at + len]
        .iter()
        .map(|token| token.raw.as_str())
        .collect();
    Element {
        kind,
        words: words.join(" "),
        after_break: tokens[at].after_break,
        at,
    }
}
