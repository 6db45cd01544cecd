//! Texts for people and models, kept in files: sections (`## name`) of text with `{variables}`.

/// A section's text with its variables filled in; empty for a section that does not exist.
///
/// One pass: what a variable brings in, such as a person's own words, is never read as a variable
/// itself. A name in braces that is none of `variables` stays as it is.
pub fn say(file: &str, section: &str, variables: &[(&str, &str)]) -> String {
    let mut rest = file
        .split("\n## ")
        .skip(1)
        .find_map(|part| {
            let (title, body) = part.split_once('\n')?;
            (title.trim() == section).then_some(body.trim())
        })
        .unwrap_or_default();
    let mut out = String::new();
    while let Some(at) = rest.find('{') {
        out.push_str(&rest[..at]);
        let inside = &rest[at + 1..];
        let found = variables.iter().find_map(|(name, value)| {
            let after = inside.strip_prefix(name)?.strip_prefix('}')?;
            Some((value, after))
        });
        match found {
            Some((value, after)) => {
                out.push_str(value);
                rest = after;
            }
            None => {
                out.push('{');
                rest = inside;
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "What this is.\n\n## one\n\n{who} asks for {what}, {whom}.\n\n## two\nNo.\n";

    #[test]
    fn a_section_is_said_with_its_variables() {
        let said = say(FILE, "one", &[("who", "Ana"), ("what", "rows")]);
        assert_eq!(said, "Ana asks for rows, {whom}.");
        assert_eq!(say(FILE, "two", &[]), "No.");
        assert_eq!(say(FILE, "three", &[]), "");
    }

    #[test]
    fn what_a_variable_brings_in_is_no_variable() {
        let said = say(FILE, "one", &[("who", "{what} {who}"), ("what", "{whom}")]);
        assert_eq!(said, "{what} {who} asks for {whom}, {whom}.");
    }
}
