//! The wording kept in `prompts/reverse_etl/`: sections of text with `{variables}`.

const PROPOSALS: &str = include_str!("../../../prompts/reverse_etl/proposals.md");

/// A section's text with its variables filled in.
pub(crate) fn say(section: &str, variables: &[(&str, &str)]) -> String {
    let body = PROPOSALS
        .split("\n## ")
        .skip(1)
        .find_map(|part| {
            let (title, body) = part.split_once('\n')?;
            (title.trim() == section).then_some(body.trim())
        })
        .unwrap_or_default();
    variables
        .iter()
        .fold(body.to_owned(), |text, (name, value)| {
            text.replace(&format!("{{{name}}}"), value)
        })
}

/// `"a", "b"`.
pub(crate) fn quoted<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<String> = words
        .into_iter()
        .map(|word| format!("\"{word}\""))
        .collect();
    words.join(", ")
}
