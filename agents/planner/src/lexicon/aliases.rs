//! The ways in which people write a value that is a code.

use std::collections::BTreeSet;

use crate::normalise::words;

/// What people write for a value, from the value's own text: `SHIFT-NIGHT` → night, night shift;
/// `LINE-NORTH-002` → line 2, north line 2, north 2; `OP-017` → operator 17, op 17.
pub(super) fn value_aliases(value: &str, nouns: &BTreeSet<String>) -> Vec<Vec<String>> {
    let parts: Vec<String> = words(&value.replace('_', " "));
    let mut out = vec![parts.clone()];
    let nouns: Vec<String> = nouns.iter().flat_map(|noun| words(noun)).collect();
    let coded = value.contains('-') && parts.len() > 1;
    if parts.len() == 1 && parts[0].chars().all(|c| c.is_ascii_digit()) {
        // A bare number is a number; with its noun it is the value.
        return nouns
            .iter()
            .map(|noun| vec![noun.clone(), parts[0].clone()])
            .collect();
    }
    if !coded {
        if parts.len() == 1 && parts[0].chars().all(char::is_alphabetic) {
            for noun in &nouns {
                out.push(vec![parts[0].clone(), noun.clone()]);
            }
        }
        return out;
    }
    let numbered = parts
        .last()
        .is_some_and(|last| last.chars().all(|c| c.is_ascii_digit()));
    let (prefix, rest) = (&parts[0], &parts[1..]);
    let initial: String = prefix.chars().take(1).collect();
    if numbered {
        let number = rest.last().cloned().unwrap_or_default();
        let middle = &rest[..rest.len() - 1];
        for noun in nouns.iter().chain([prefix, &initial]) {
            out.push(vec![noun.clone(), number.clone()]);
            out.push(vec![noun.clone(), "number".into(), number.clone()]);
            if let [qualifier] = middle {
                out.push(vec![qualifier.clone(), noun.clone(), number.clone()]);
                out.push(vec![noun.clone(), qualifier.clone(), number.clone()]);
            }
        }
        if let [qualifier] = middle {
            out.push(vec![qualifier.clone(), number]);
        }
    } else {
        out.push(rest.to_vec());
        for noun in nouns.iter().chain([prefix]) {
            out.push(rest.iter().cloned().chain([noun.clone()]).collect());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_named_the_way_people_name_them() {
        let nouns = BTreeSet::from(["line".to_owned()]);
        let aliases = value_aliases("LINE-SPRINGS-002", &nouns);
        for alias in [
            "line 2",
            "springs line 2",
            "line springs 2",
            "springs 2",
            "LINE-SPRINGS-002",
        ] {
            assert!(aliases.contains(&words(alias)), "{alias}");
        }
        let shift = BTreeSet::from(["shift".to_owned()]);
        assert!(value_aliases("SHIFT-NIGHT", &shift).contains(&words("night shift")));
    }
}
