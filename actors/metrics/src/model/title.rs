//! Titles that Cube gives to members which have none: `line_id` becomes "Line ID", `rolling_7d`
//! becomes "Rolling7 D". The odd ones are odd on purpose: dashboards built on Cube show these words.

const LOWER_CASE_WORDS: [&str; 23] = [
    "and", "or", "nor", "a", "an", "the", "so", "but", "to", "of", "at", "by", "from", "into",
    "on", "onto", "off", "out", "in", "over", "with", "for", "via",
];

/// The title of a cube or member name.
pub fn titleize(name: &str) -> String {
    let mut title = String::new();
    for word in underscore(name).split('_').filter(|word| !word.is_empty()) {
        if title.is_empty() {
            title.push_str(&capitalize(word));
            continue;
        }
        title.push(' ');
        if LOWER_CASE_WORDS.contains(&word) {
            title.push_str(word);
        } else {
            title.push_str(&capitalize(word));
        }
    }
    title
}

/// The name as Cube writes it in SQL aliases: `productionDate` becomes `production_date`.
pub fn underscore(name: &str) -> String {
    let camel = camelize(name);
    let mut out = String::with_capacity(camel.len() + 4);
    for c in camel.chars() {
        if c.is_uppercase() {
            if !out.is_empty() {
                out.push('_');
            }
            out.extend(c.to_lowercase());
        } else {
            out.push(c);
        }
    }
    out
}

fn capitalize(word: &str) -> String {
    if word == "id" {
        return "ID".to_owned();
    }
    let mut chars = word.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(chars).collect()
    })
}

/// PascalCase; a letter right after a digit starts a word.
fn camelize(name: &str) -> String {
    let chars: Vec<char> = name.chars().collect();
    let mut words: Vec<String> = vec![String::new()];
    for (i, &c) in chars.iter().enumerate() {
        let previous = i.checked_sub(1).map(|p| chars[p]);
        let next = chars.get(i + 1).copied();
        let starts_word = c.is_uppercase()
            && (previous.is_some_and(|p| p.is_lowercase() || p.is_numeric())
                || (previous.is_some_and(char::is_uppercase)
                    && next.is_some_and(char::is_lowercase)));
        if matches!(c, '_' | '.' | '-' | ' ') || starts_word {
            words.push(String::new());
        }
        if !matches!(c, '_' | '.' | '-' | ' ')
            && let Some(word) = words.last_mut()
        {
            word.extend(c.to_lowercase());
        }
    }
    let mut out = String::new();
    for word in words.iter().filter(|word| !word.is_empty()) {
        let mut after_digit = false;
        for (i, c) in word.chars().enumerate() {
            if c.is_alphabetic() && (i == 0 || after_digit) {
                out.extend(c.to_uppercase());
            } else {
                out.push(c);
            }
            after_digit = c.is_numeric();
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_the_ones_cube_gives() {
        for (name, title) in [
            ("line_id", "Line ID"),
            ("produced_at", "Produced at"),
            ("rolling_7d_failed", "Rolling7 D Failed"),
            ("shift8h", "Shift8 H"),
            ("p95_cycle_time", "P95 Cycle Time"),
            ("ProductionQuality", "Production Quality"),
            ("totalUnits", "Total Units"),
            ("is_automated", "Is Automated"),
            ("avgOee", "Avg Oee"),
        ] {
            assert_eq!(titleize(name), title, "{name}");
        }
        assert_eq!(underscore("productionDate"), "production_date");
    }
}
