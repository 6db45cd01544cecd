//! Hides secrets in texts that leave the program: alerts, incidents, messages of others' errors.

use std::fmt;
use std::sync::Arc;

const HIDDEN: &str = "***";

/// Shorter values are no secrets, and hiding them would make texts unreadable.
const CHARS_MIN: usize = 4;

/// What must not be shown. Cheap to clone.
#[derive(Clone, Default)]
pub struct Secrets(Arc<Vec<String>>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} secrets", self.0.len())
    }
}

impl Secrets {
    /// These values, the longest first: one may hold another.
    pub fn new<S: Into<String>>(values: impl IntoIterator<Item = S>) -> Self {
        let mut values: Vec<String> = values
            .into_iter()
            .map(Into::into)
            .filter(|value| value.chars().count() >= CHARS_MIN)
            .collect();
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        values.dedup();
        Self(Arc::new(values))
    }

    /// `text` without these values, and without the password of any URL.
    pub fn hide(&self, text: &str) -> String {
        let known = self.0.iter().fold(text.to_owned(), |text, secret| {
            text.replace(secret.as_str(), HIDDEN)
        });
        hide_url_passwords(&known)
    }
}

/// The password between `scheme://user:` and the last `@` before a space. It may hold anything else.
fn hide_url_passwords(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end = after.find(char::is_whitespace).unwrap_or(after.len());
        let (url, behind) = after.split_at(end);
        match url
            .rsplit_once('@')
            .map(|(user, host)| (user.split_once(':'), host))
        {
            Some((Some((user, _password)), host)) => {
                out.push_str(&format!("{user}:{HIDDEN}@{host}"));
            }
            _ => out.push_str(url),
        }
        rest = behind;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values_and_passwords_of_urls_are_hidden_and_nothing_else() {
        let secrets = Secrets::new(["abcd", "abcdefgh", "x"]);
        assert_eq!(secrets.hide("key abcdefgh, abcd, x"), "key ***, ***, x");
        assert_eq!(
            secrets.hide("at postgres://u:p@ss/w@db:5432/x and http://h/p?q=a:b done"),
            "at postgres://u:***@db:5432/x and http://h/p?q=a:b done"
        );
        assert_eq!(format!("{secrets:?}"), "2 secrets");
    }
}
