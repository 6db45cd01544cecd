//! Model files as text and YAML, with the line of every complaint.
//!
//! The YAML reader keeps no positions, so a line is found again by walking the file's text along
//! the path of names that leads to the value: good to the line for block-style files, to the item
//! otherwise.

use std::fmt;
use std::path::{Path, PathBuf};

use serde_norway::{Mapping, Value};

/// One thing that is wrong in a model, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub file: String,
    pub line: usize,
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.message)
    }
}

/// A model that cannot be served: every problem in it, the first on the first line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelError {
    pub problems: Vec<Problem>,
}

impl fmt::Display for ModelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.as_slice() {
            [] => write!(f, "the data model is not valid"),
            [only] => write!(f, "{only}"),
            [first, rest @ ..] => {
                write!(f, "{first} (and {} more)", rest.len())?;
                rest.iter().try_for_each(|problem| write!(f, "\n{problem}"))
            }
        }
    }
}

impl std::error::Error for ModelError {}

/// A model file: its path relative to the model's folder, and its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    pub name: String,
    pub text: String,
}

/// Reads every `.yml` and `.yaml` under `path` (or the one file it names), sorted by name.
pub(crate) fn read_files(path: &Path) -> Result<Vec<SourceFile>, ModelError> {
    let failed = |path: &Path, error: &dyn fmt::Display| ModelError {
        problems: vec![Problem {
            file: path.display().to_string(),
            line: 0,
            message: format!("cannot be read: {error}"),
        }],
    };
    let mut pending = vec![path.to_path_buf()];
    let mut found: Vec<PathBuf> = Vec::new();
    while let Some(next) = pending.pop() {
        if !next.is_dir() {
            found.push(next);
            continue;
        }
        for entry in std::fs::read_dir(&next).map_err(|e| failed(&next, &e))? {
            let entry = entry.map_err(|e| failed(&next, &e))?.path();
            let is_yaml = entry
                .extension()
                .is_some_and(|ext| ext == "yml" || ext == "yaml" || ext == "jinja");
            if entry.is_dir() || is_yaml {
                pending.push(entry);
            }
        }
    }
    found.sort();
    found
        .into_iter()
        .map(|file| {
            let text = std::fs::read_to_string(&file).map_err(|e| failed(&file, &e))?;
            let name = file.strip_prefix(path).unwrap_or(&file);
            let name = if name.as_os_str().is_empty() {
                &file
            } else {
                name
            };
            Ok(SourceFile {
                name: name.display().to_string(),
                text,
            })
        })
        .collect()
}

/// Collects problems while a model is read.
#[derive(Default)]
pub(crate) struct Problems(pub(crate) Vec<Problem>);

impl Problems {
    pub(crate) fn add(&mut self, place: &Place<'_>, message: impl Into<String>) {
        let message = message.into();
        self.0.push(Problem {
            file: place.file.name.clone(),
            line: place.line(),
            message,
        });
    }
}

/// A place in a file: the names on the way to it.
#[derive(Clone)]
pub(crate) struct Place<'a> {
    pub(crate) file: &'a SourceFile,
    path: Vec<String>,
}

impl<'a> Place<'a> {
    pub(crate) fn new(file: &'a SourceFile) -> Self {
        Self {
            file,
            path: Vec::new(),
        }
    }

    pub(crate) fn at(&self, name: &str) -> Self {
        let mut path = self.path.clone();
        path.push(name.to_owned());
        Self {
            file: self.file,
            path,
        }
    }

    /// The line (from 1) on which the last name of the path stands.
    pub(crate) fn line(&self) -> usize {
        let lines: Vec<&str> = self.file.text.lines().collect();
        let mut line = 0;
        for name in &self.path {
            let found = (line..lines.len()).find(|&at| holds_word(lines[at], name));
            line = found.unwrap_or(line);
        }
        line + 1
    }
}

fn holds_word(line: &str, word: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

/// A YAML mapping with its place; keys are compared in snake_case, as Cube takes both spellings.
#[derive(Clone)]
pub(crate) struct Node<'a> {
    pub(crate) place: Place<'a>,
    entries: Vec<(String, &'a Value)>,
}

impl<'a> Node<'a> {
    pub(crate) fn new(place: Place<'a>, mapping: &'a Mapping) -> Self {
        let entries = mapping
            .iter()
            .map(|(key, value)| (snake(&scalar(key).unwrap_or_default()), value))
            .collect();
        Self { place, entries }
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = (&str, &'a Value)> {
        self.entries
            .iter()
            .map(|(key, value)| (key.as_str(), *value))
    }

    pub(crate) fn get(&self, key: &str) -> Option<&'a Value> {
        self.entries
            .iter()
            .find(|(k, v)| k == key && !v.is_null())
            .map(|(_, value)| *value)
    }

    /// Complains of every key that is not in `known`, with the nearest one.
    pub(crate) fn allow(&self, known: &[&str], what: &str, problems: &mut Problems) {
        for (key, _) in &self.entries {
            if !known.contains(&key.as_str()) {
                let hint = hint(key, known.iter().copied());
                problems.add(
                    &self.place.at(key),
                    format!("unknown key \"{key}\" in {what}{hint}"),
                );
            }
        }
    }

    /// A scalar as text.
    pub(crate) fn text(&self, key: &str, problems: &mut Problems) -> Option<String> {
        let value = self.get(key)?;
        let text = scalar(value);
        if text.is_none() {
            problems.add(&self.place.at(key), format!("\"{key}\" must be a text"));
        }
        text
    }

    pub(crate) fn flag(&self, key: &str, problems: &mut Problems) -> Option<bool> {
        match self.get(key)? {
            Value::Bool(flag) => Some(*flag),
            _ => {
                problems.add(
                    &self.place.at(key),
                    format!("\"{key}\" must be true or false"),
                );
                None
            }
        }
    }

    /// The mappings of a list; `key: {name: {…}}` is read as a list of named mappings, as Cube does.
    pub(crate) fn nodes(&self, key: &str, problems: &mut Problems) -> Vec<Node<'a>> {
        let Some(value) = self.get(key) else {
            return Vec::new();
        };
        let place = self.place.at(key);
        let Value::Sequence(items) = value else {
            problems.add(&place, format!("\"{key}\" must be a list"));
            return Vec::new();
        };
        let mut nodes = Vec::new();
        for item in items {
            let Value::Mapping(mapping) = item else {
                problems.add(&place, format!("\"{key}\" must be a list of mappings"));
                continue;
            };
            let name = mapping.get("name").and_then(scalar);
            let place = name.map_or_else(|| place.clone(), |name| place.at(&name));
            nodes.push(Node::new(place, mapping));
        }
        nodes
    }

    pub(crate) fn node(&self, key: &str, problems: &mut Problems) -> Option<Node<'a>> {
        match self.get(key)? {
            Value::Mapping(mapping) => Some(Node::new(self.place.at(key), mapping)),
            _ => {
                problems.add(&self.place.at(key), format!("\"{key}\" must be a mapping"));
                None
            }
        }
    }

    /// A list of scalars, or one scalar.
    pub(crate) fn texts(&self, key: &str, problems: &mut Problems) -> Vec<String> {
        let items = match self.get(key) {
            None => return Vec::new(),
            Some(Value::Sequence(items)) => items.iter().map(scalar).collect::<Option<Vec<_>>>(),
            Some(value) => scalar(value).map(|text| vec![text]),
        };
        items.unwrap_or_else(|| {
            problems.add(
                &self.place.at(key),
                format!("\"{key}\" must be a list of texts"),
            );
            Vec::new()
        })
    }

    /// `name`, which every item needs.
    pub(crate) fn name(&self, what: &str, problems: &mut Problems) -> Option<String> {
        let name = self.text("name", problems);
        let Some(name) = name else {
            problems.add(&self.place, format!("{what} needs a name"));
            return None;
        };
        let legal = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !legal {
            problems.add(
                &self.place.at(&name),
                format!("\"{name}\" is not a legal name: letters, digits and _ only"),
            );
            return None;
        }
        Some(name)
    }
}

/// A scalar's text, as YAML wrote it down.
pub(crate) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// YAML as JSON, for `meta` and other free-form values.
pub(crate) fn to_json(value: &Value) -> serde_json::Value {
    serde_json::to_value(value).unwrap_or(serde_json::Value::Null)
}

fn snake(key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    for c in key.chars() {
        if c.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// `, did you mean "x"?` when something is near enough, else nothing.
pub(crate) fn hint<'n>(wanted: &str, names: impl IntoIterator<Item = &'n str>) -> String {
    nearest(wanted, names, 1)
        .first()
        .map_or_else(String::new, |name| format!(", did you mean \"{name}\"?"))
}

/// The names nearest to `wanted`, best first.
pub fn nearest<'n>(
    wanted: &str,
    names: impl IntoIterator<Item = &'n str>,
    count: usize,
) -> Vec<&'n str> {
    let wanted_lower = wanted.to_lowercase();
    let mut scored: Vec<(f64, &str)> = names
        .into_iter()
        .map(|name| {
            (
                strsim::jaro_winkler(&wanted_lower, &name.to_lowercase()),
                name,
            )
        })
        .filter(|(score, _)| *score > 0.7)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    scored
        .into_iter()
        .take(count)
        .map(|(_, name)| name)
        .collect()
}
