//! The wording kept in `prompts/reverse_etl/`: sections of text with `{variables}`.

const PROPOSALS: &str = include_str!("../../../prompts/reverse_etl/proposals.md");

/// A section's text with its variables filled in.
pub(crate) fn say(section: &str, variables: &[(&str, &str)]) -> String {
    ballpoint_runtime::wording::say(PROPOSALS, section, variables)
}

/// `"a", "b"`.
pub(crate) fn quoted<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<String> = words
        .into_iter()
        .map(|word| format!("\"{word}\""))
        .collect();
    words.join(", ")
}
