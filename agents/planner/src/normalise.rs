//! Text to tokens: lower case, no accents, singular, American spelling, shorthand written out.
//! The lexicon is built with the same function, so both sides always agree.

use jiff::civil::Date;

/// One word, number, date or sign of the question.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token {
    /// The normal form.
    pub(crate) text: String,
    /// As it was written.
    pub(crate) raw: String,
    pub(crate) number: Option<f64>,
    pub(crate) date: Option<WrittenDate>,
    /// Counts the sentences of the question.
    pub(crate) sentence: usize,
    /// A comma, colon, dash or full stop stands before it.
    pub(crate) after_break: bool,
}

/// A date in figures; the year may be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WrittenDate {
    pub(crate) year: Option<i16>,
    pub(crate) month: i8,
    pub(crate) day: i8,
}

/// The tokens of a text, articles and "of" left out.
pub(crate) fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let mut scan = Scan {
        out: Vec::new(),
        sentence: 0,
        breaks: false,
    };
    let mut at = 0;
    while at < chars.len() {
        at = scan.step(&chars, at);
    }
    scan.out
}

/// A phrase in normal form, one entry a token.
pub(crate) fn words(text: &str) -> Vec<String> {
    tokens(text).into_iter().map(|token| token.text).collect()
}

struct Scan {
    out: Vec<Token>,
    sentence: usize,
    breaks: bool,
}

impl Scan {
    fn step(&mut self, chars: &[char], at: usize) -> usize {
        let c = chars[at];
        if c.is_ascii_digit() {
            return self.figure(chars, at);
        }
        if c.is_alphabetic() {
            return self.word(chars, at);
        }
        let next_is_gap = chars.get(at + 1).is_none_or(|next| next.is_whitespace());
        match c {
            '.' | '?' | '!' | ';' | '\n' if next_is_gap || c != '.' => {
                self.sentence += 1;
                self.breaks = true;
            }
            ',' | ':' | '–' | '—' | '(' | ')' => self.breaks = true,
            '-' if next_is_gap => self.breaks = true,
            '>' | '<' | '=' => {
                let double = chars.get(at + 1) == Some(&'=');
                let sign: String = if double {
                    [c, '='].iter().collect()
                } else {
                    c.to_string()
                };
                self.push(sign.clone(), sign, None, None);
                return at + 1 + usize::from(double);
            }
            '≥' => self.push(">=".into(), c.to_string(), None, None),
            '≤' => self.push("<=".into(), c.to_string(), None, None),
            '%' => self.push("percent".into(), c.to_string(), None, None),
            '&' | '+' => self.push("and".into(), c.to_string(), None, None),
            _ => {}
        }
        at + 1
    }

    fn figure(&mut self, chars: &[char], at: usize) -> usize {
        if let Some((end, date)) = written_date(chars, at) {
            let raw: String = chars[at..end].iter().collect();
            self.push(raw.clone(), raw, None, Some(date));
            return end;
        }
        let mut end = at;
        let mut digits = String::new();
        while end < chars.len() {
            let c = chars[end];
            let digit_follows = chars.get(end + 1).is_some_and(char::is_ascii_digit);
            let thousands = c == ','
                && chars[end + 1..]
                    .iter()
                    .take_while(|it| it.is_ascii_digit())
                    .count()
                    == 3;
            if c.is_ascii_digit() || (c == '.' && digit_follows && !digits.contains('.')) {
                digits.push(c);
            } else if !thousands {
                break;
            }
            end += 1;
        }
        let trimmed = digits.trim_start_matches('0');
        let text = if trimmed.is_empty() || trimmed.starts_with('.') {
            format!("0{trimmed}")
        } else {
            trimmed.to_owned()
        };
        let suffix: String = chars[end..]
            .iter()
            .take(2)
            .collect::<String>()
            .to_lowercase();
        let word_ends = chars.get(end + 2).is_none_or(|c| !c.is_alphanumeric());
        let ordinal = word_ends && matches!(suffix.as_str(), "st" | "nd" | "rd" | "th");
        let end = if ordinal { end + 2 } else { end };
        let raw = chars[at..end].iter().collect();
        self.push(text, raw, digits.parse().ok(), None);
        // "48h" is two words.
        let hours = chars.get(end).is_some_and(|c| matches!(c, 'h' | 'H'));
        if hours && chars.get(end + 1).is_none_or(|c| !c.is_alphanumeric()) {
            self.push("hour".into(), "h".into(), None, None);
            return end + 1;
        }
        end
    }

    fn word(&mut self, chars: &[char], at: usize) -> usize {
        let mut end = at;
        while end < chars.len() && chars[end].is_alphabetic() {
            end += 1;
        }
        let mut raw: String = chars[at..end].iter().collect();
        if let Some('\'' | '’') = chars.get(end) {
            let tail: String = chars[end + 1..]
                .iter()
                .take_while(|c| c.is_alphabetic())
                .collect();
            match tail.to_lowercase().as_str() {
                "s" | "re" | "ve" | "d" | "ll" | "m" if !raw.is_empty() => end += 1 + tail.len(),
                "t" => {
                    raw.push('t');
                    end += 2;
                }
                _ => {}
            }
        }
        let text = normal_word(&raw);
        // "How much of it" asks for a share, "how much" for an amount.
        let of_it = text == "of" && self.out.last().is_some_and(|it| it.text == "much");
        let text = if of_it { "share".to_owned() } else { text };
        let article = matches!(text.as_str(), "the" | "a" | "an" | "of");
        if !article || raw == "A" && at > 0 {
            let text = if article { "letter_a".to_owned() } else { text };
            self.push(text, raw, None, None);
        }
        end
    }

    fn push(&mut self, text: String, raw: String, number: Option<f64>, date: Option<WrittenDate>) {
        let after_break = std::mem::take(&mut self.breaks);
        self.out.push(Token {
            text,
            raw,
            number,
            date,
            sentence: self.sentence,
            after_break,
        });
    }
}

/// `2026-03-14`, `14/03`, `14/3/2026`, `14.03.2026`: day first, as most of the world writes it.
fn written_date(chars: &[char], at: usize) -> Option<(usize, WrittenDate)> {
    let digits = |from: usize| {
        chars[from..]
            .iter()
            .take_while(|c| c.is_ascii_digit())
            .count()
    };
    let value = |from: usize, len: usize| -> Option<i16> {
        chars[from..from + len]
            .iter()
            .collect::<String>()
            .parse()
            .ok()
    };
    let first = digits(at);
    let separator = *chars.get(at + first)?;
    if !matches!(separator, '/' | '-' | '.') || first > 4 || first == 3 {
        return None;
    }
    let second_at = at + first + 1;
    let second = digits(second_at.min(chars.len()));
    if second == 0 || second > 2 {
        return None;
    }
    let second_end = second_at + second;
    let third = if chars.get(second_end) == Some(&separator) {
        digits((second_end + 1).min(chars.len()))
    } else {
        0
    };
    let end = if third > 0 {
        second_end + 1 + third
    } else {
        second_end
    };
    let (year, month, day) = match (first, third) {
        (4, 1..=2) => (
            value(at, 4),
            value(second_at, second)?,
            value(second_end + 1, third)?,
        ),
        (1..=2, 2 | 4) => {
            let year = value(second_end + 1, third)?;
            let year = if year < 100 { year + 2000 } else { year };
            (Some(year), value(second_at, second)?, value(at, first)?)
        }
        (1..=2, 0) if separator == '/' => (None, value(second_at, second)?, value(at, first)?),
        _ => return None,
    };
    let (month, day) = (i8::try_from(month).ok()?, i8::try_from(day).ok()?);
    Date::new(year.unwrap_or(2024), month, day).ok()?;
    Some((end, WrittenDate { year, month, day }))
}

/// Lower case, plain letters, shorthand written out, singular, `-or` for `-our`.
fn normal_word(raw: &str) -> String {
    let lower: String = raw.to_lowercase().chars().map(plain_letter).collect();
    let long = match lower.as_str() {
        "nite" => "night",
        "nites" => "night",
        "avg" | "mean" => "average",
        "pct" | "percentage" | "percents" => "percent",
        "wk" | "wks" => "week",
        "mth" | "mths" => "month",
        "qtr" => "quarter",
        "hr" | "hrs" => "hour",
        "min" | "mins" => "minute",
        "sec" | "secs" => "second",
        "yday" => "yesterday",
        "whats" => "what",
        "hows" => "how",
        "versus" | "v" => "vs",
        "pls" | "plz" => "please",
        "num" => "number",
        "prev" => "previous",
        "vice" => "vice",
        other => other,
    };
    singular(long)
}

fn singular(word: &str) -> String {
    let mut word = word.to_owned();
    if word.len() >= 5 && word.contains("our") && !word.starts_with("hour") {
        word = word.replacen("our", "or", 1);
    }
    if word.len() <= 3 || word.ends_with("ss") || word.ends_with("us") || word.ends_with("is") {
        return word;
    }
    if let Some(stem) = word.strip_suffix("ies").filter(|stem| stem.len() > 1) {
        return format!("{stem}y");
    }
    if let Some(stem) = word.strip_suffix("es")
        && ["x", "ch", "sh", "ss", "zz"]
            .iter()
            .any(|end| stem.ends_with(end))
    {
        return stem.to_owned();
    }
    word.strip_suffix('s').unwrap_or(&word).to_owned()
}

/// What is left of a word without the endings that make verbs, nouns and adjectives of one another:
/// "inspected" and "inspection", "durable" and "durability".
pub(crate) fn stem(word: &str) -> String {
    const ENDINGS: [(&str, &str); 9] = [
        ("ability", "abl"),
        ("able", "abl"),
        ("ness", ""),
        ("ity", ""),
        ("ion", ""),
        ("ive", ""),
        ("ing", ""),
        ("ed", ""),
        ("e", ""),
    ];
    let ending = ENDINGS.iter().find_map(|(ending, instead)| {
        let stem = word.strip_suffix(ending)?;
        (stem.len() + instead.len() >= 3).then(|| format!("{stem}{instead}"))
    });
    ending.unwrap_or_else(|| word.to_owned())
}

fn plain_letter(c: char) -> char {
    match c {
        'á' | 'à' | 'â' | 'ä' | 'ã' | 'å' => 'a',
        'é' | 'è' | 'ê' | 'ë' => 'e',
        'í' | 'ì' | 'î' | 'ï' => 'i',
        'ó' | 'ò' | 'ô' | 'ö' | 'õ' => 'o',
        'ú' | 'ù' | 'û' | 'ü' => 'u',
        'ñ' => 'n',
        'ç' => 'c',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plural_spelling_and_zeros_do_not_matter() {
        assert_eq!(
            words("bodies, ink colours & OP-017"),
            ["body", "ink", "color", "and", "op", "17"]
        );
        assert_eq!(words("M03 nites"), ["m", "3", "night"]);
    }

    #[test]
    fn dates_in_figures_are_day_first() {
        let date = |text: &str| tokens(text)[0].date.map(|it| (it.year, it.month, it.day));
        assert_eq!(date("14/03"), Some((None, 3, 14)));
        assert_eq!(date("2026-03-14"), Some((Some(2026), 3, 14)));
        assert_eq!(date("14.03.26"), Some((Some(2026), 3, 14)));
        assert_eq!(date("99.9"), None);
    }

    #[test]
    fn sentences_are_counted() {
        let all = tokens("forget that. how many?");
        assert_eq!((all[0].sentence, all[2].sentence), (0, 1));
    }
}
