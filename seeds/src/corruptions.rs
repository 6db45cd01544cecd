//! `corruptions.yml`: faults a source can hold, how to plant each and how to repair it.
//!
//! `{{table}}` is replaced by the source's table, `public.<source>_production`; `{{touched}}` by the
//! expression of that name.

use serde::Deserialize;

/// Why a `corruptions.yml` cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("corruptions.yml:{line}: {message}")]
pub struct CorruptionsError {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong there.
    pub message: String,
}

/// All corruptions.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Corruptions {
    /// SQL for a moment after all others in the cursor column.
    touched: String,
    /// In the order of the file.
    pub corruptions: Vec<Corruption>,
}

/// One fault.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Corruption {
    /// Its name.
    pub name: String,
    /// The source it is planted in.
    pub source: String,
    /// What is wrong then, in words.
    pub fault: String,
    /// Statements that plant it and move the cursor; the source accepts them.
    pub plant: String,
    /// Statements after which the source is sound again and a reader by cursor sees it.
    pub repair: String,
    /// Names of the dbt tests that must fail.
    pub fails: Vec<String>,
}

impl Corruptions {
    /// Reads `corruptions.yml`.
    ///
    /// # Errors
    /// When it is not YAML, or holds an unknown key or a name twice.
    pub fn parse(text: &str) -> Result<Self, CorruptionsError> {
        let mut parsed: Self = serde_norway::from_str(text).map_err(|error| CorruptionsError {
            line: error.location().map_or(1, |location| location.line()),
            message: error.to_string(),
        })?;
        let all = &parsed.corruptions;
        for (at, corruption) in all.iter().enumerate() {
            if all[..at].iter().any(|other| other.name == corruption.name) {
                let needle = format!("name: {}", corruption.name);
                let named = text.lines().enumerate();
                let line = named
                    .filter(|(_, line)| line.trim_end().ends_with(&needle))
                    .last();
                return Err(CorruptionsError {
                    line: line.map_or(1, |(line, _)| line + 1),
                    message: format!("`{}` is listed twice", corruption.name),
                });
            }
        }
        for corruption in &mut parsed.corruptions {
            let table = format!("public.{}_production", corruption.source);
            for sql in [&mut corruption.plant, &mut corruption.repair] {
                let whole = sql.replace("{{touched}}", &parsed.touched);
                *sql = whole.replace("{{table}}", &table);
            }
        }
        Ok(parsed)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_name_listed_twice_is_refused_with_its_line() {
        let one = "  - name: same\n    source: a\n    fault: b\n    plant: c\n    repair: d\n    fails: []\n";
        let error =
            Corruptions::parse(&format!("touched: now()\ncorruptions:\n{one}{one}")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "corruptions.yml:9: `same` is listed twice"
        );
    }
}
