//! Parts of names: "weber" for "Dr. Anna Weber", where no other value has that word.

use std::collections::{BTreeMap, BTreeSet};

use ballpoint_metrics::catalog::{Catalog, MemberInfo};

use crate::normalise::words;

/// Shorter words are initials and titles.
const LETTERS_MIN: usize = 3;

/// A word, and the members whose value alone has it: dimension and value.
pub(super) type Part = (String, Vec<(String, String)>);

/// The words that one value of all in the catalogue has, with the dimensions that hold the value.
pub(super) fn unique_parts(catalog: &Catalog) -> Vec<Part> {
    let mut owners: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    let mut holders: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for member in catalog.cubes.iter().flat_map(|cube| &cube.dimensions) {
        for value in &member.values {
            holders.entry(value).or_default().push(member.name.clone());
            for word in words(value) {
                owners.entry(word).or_default().insert(value);
            }
        }
    }
    let single = owners.into_iter().filter_map(|(word, values)| {
        let [value] = <[&str; 1]>::try_from(values.into_iter().collect::<Vec<_>>()).ok()?;
        let long = word.chars().count() >= LETTERS_MIN && word.chars().all(char::is_alphabetic);
        let members = holders.get(value).into_iter().flatten();
        let members = members.map(|it| (it.clone(), value.to_owned())).collect();
        (long && is_name(value)).then_some((word, members))
    });
    single.collect()
}

/// Values of the catalogue that have a word among others, for one that several of them have.
pub(crate) fn values_with(dimensions: &[&MemberInfo], word: &str) -> Vec<String> {
    let asked = words(word);
    let mut out: Vec<String> = Vec::new();
    for value in dimensions.iter().flat_map(|it| &it.values) {
        let has = words(value).iter().any(|it| asked.contains(it));
        if has && !out.contains(value) {
            out.push(value.clone());
        }
    }
    out.truncate(6);
    out
}

/// Several words, each with a capital: what people and places are called, unlike codes and states.
fn is_name(value: &str) -> bool {
    let parts: Vec<&str> = value.split_whitespace().collect();
    let capital = |it: &&str| it.chars().next().is_some_and(char::is_uppercase);
    parts.len() > 1 && parts.iter().all(capital)
}
