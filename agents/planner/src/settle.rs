//! Words whose part in the question depends on what stands around them, settled before the slots are
//! filled: "drop" as a verb, "but" that leaves out, "down" that only belongs to "break".

use crate::lexicon::Meaning;
use crate::reader::{Element, Kind};
use crate::words::Role;

/// Verbs that "down", "up" and "out" belong to.
const PARTICLED: [&str; 7] = ["break", "breaks", "broken", "split", "drill", "sum", "add"];

/// How far a verb stands from its particle: "break the rate of refills down".
const PARTICLE_DISTANCE: usize = 6;

/// Gives each word that can play several parts the one that it plays here.
pub(crate) fn settle(elements: Vec<Element>, goes_on: bool) -> Vec<Element> {
    let mut elements = merged(elements);
    for k in 0..elements.len() {
        if let Some(kind) = settled(&elements, k, goes_on) {
            elements[k].kind = kind;
        }
    }
    elements
}

fn settled(elements: &[Element], k: usize, goes_on: bool) -> Option<Kind> {
    let element = &elements[k];
    let words = element.words.to_lowercase();
    let next = elements.get(k + 1);
    if let Some(place) = place(&words).filter(|_| next.is_some_and(ranks)) {
        return Some(Kind::Place(place));
    }
    if element.role() == Some(Role::Seconds) && words == "second" && is_ordinal(elements, k) {
        return Some(Kind::Unknown);
    }
    let role = match (element.role()?, words.as_str()) {
        (Role::Movement, "down" | "up") if is_particle(elements, k) => Role::Filler,
        (Role::Movement, "drop") if goes_on && opens(elements, k) => Role::Drop,
        (Role::Filler, "but") if leaves_out(elements, k) => Role::Except,
        (Role::Define, it) if it.starts_with("what does") && !defines(elements, k) => Role::Filler,
        _ => return None,
    };
    let meanings = element.meanings().to_vec();
    Some(Kind::Phrase {
        meanings,
        role: Some(role),
    })
}

/// "The second line", not "a second" or "20 second".
fn is_ordinal(elements: &[Element], k: usize) -> bool {
    let before = k.checked_sub(1).map(|n| &elements[n]);
    let counted = before.is_some_and(|it| matches!(it.kind, Kind::Number(_)));
    let next = elements.get(k + 1);
    !counted && next.is_some_and(|it| !it.meanings().is_empty())
}

fn is_particle(elements: &[Element], k: usize) -> bool {
    let near = &elements[k.saturating_sub(PARTICLE_DISTANCE)..k];
    near.iter()
        .any(|it| PARTICLED.contains(&it.words.to_lowercase().as_str()))
}

/// Whether a verb opens the sentence and something that was said stands right behind it.
fn opens(elements: &[Element], k: usize) -> bool {
    let aside = |it: &Element| it.is_filler() || it.role() == Some(Role::And);
    let next = elements[k + 1..].iter().find(|it| !it.is_filler());
    elements[..k].iter().all(aside)
        && next.is_none_or(|it| !it.members().is_empty() || !it.dimensions().is_empty())
}

/// "Each component but refills", unless it says what is to be instead: "the same but refills".
fn leaves_out(elements: &[Element], k: usize) -> bool {
    let next = elements.get(k + 1);
    next.is_some_and(|it| !it.members().is_empty())
        && elements.iter().all(|it| it.role() != Some(Role::Same))
}

/// "What does it mean", not "what does it cost". Tokens level "mean" to "average".
fn defines(elements: &[Element], k: usize) -> bool {
    elements[k + 1..].iter().any(|it| {
        let words = it.words.to_lowercase();
        matches!(it.role(), Some(Role::Define | Role::Calculated))
            || it.role() == Some(Role::Average) && words.starts_with("mean")
    })
}

/// Parts of one name that were found one by one: "New York" of "New York City".
fn merged(elements: Vec<Element>) -> Vec<Element> {
    let only_members = |it: &Element| {
        let meanings = it.meanings();
        let member = |it: &Meaning| matches!(it, Meaning::Member { .. });
        !meanings.is_empty() && it.role().is_none() && meanings.iter().all(member)
    };
    let mut out: Vec<Element> = Vec::new();
    for element in elements {
        match out.last_mut() {
            Some(last)
                if !element.after_break
                    && only_members(last)
                    && only_members(&element)
                    && last.meanings() == element.meanings() =>
            {
                last.words.push(' ');
                last.words.push_str(&element.words);
            }
            _ => out.push(element),
        }
    }
    out
}

/// Whether an ordinal before it says which one of the order.
fn ranks(it: &Element) -> bool {
    matches!(
        it.role(),
        Some(Role::Highest | Role::Lowest | Role::Best | Role::Worst)
    )
}

/// The number in "second" and "3rd", from 2 on.
fn place(word: &str) -> Option<usize> {
    const ORDINALS: [&str; 9] = [
        "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth",
    ];
    if let Some(at) = ORDINALS.iter().position(|it| *it == word) {
        return Some(at + 2);
    }
    let digits = ["nd", "rd", "th"]
        .iter()
        .find_map(|end| word.strip_suffix(end))?;
    digits.parse().ok().filter(|it| (2..=100).contains(it))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinals_are_numbers_from_two_on() {
        assert_eq!(place("second"), Some(2));
        assert_eq!(place("3rd"), Some(3));
        assert_eq!(place("first"), None);
        assert_eq!(place("month"), None);
    }
}
