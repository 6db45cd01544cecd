//! What can be said about a sync without a database: each complaint with the text by which its line
//! is found.

use std::collections::BTreeSet;

use ballpoint_postgres::ident;

use super::{Mode, Sync};

/// What PostgreSQL's `jsonb_build_object` takes, in pairs.
const FIELDS_MAX: usize = 50;

type Complaint = (String, String);

/// Everything that is wrong.
pub(super) fn check(sync: &Sync, sources: &[&str]) -> Vec<Complaint> {
    let mut found = Vec::new();
    let mut say = |needle: &str, message: String| found.push((needle.to_owned(), message));
    if !is_plain(&sync.name) {
        say(
            "name:",
            "a name is lower-case letters, digits, `_` and `-`".to_owned(),
        );
    }
    if !sources.contains(&sync.source.as_str()) {
        let known = sources.join(", ");
        say(
            "source:",
            format!("no source {}; there are {known}", sync.source),
        );
    }
    match (&sync.model, &sync.query) {
        (Some(model), None) if model.split('.').count() != 2 => say(
            "model:",
            format!("model {model} is not schema.name of a warehouse relation"),
        ),
        (Some(_), Some(_)) => say("query:", "give either `model` or `query`".to_owned()),
        (None, None) => say("name:", "`model` or `query` is missing".to_owned()),
        _ => {}
    }
    let (schema, name) = sync.target();
    for part in [schema, name] {
        if let Err(error) = ident::check(part) {
            say("table:", format!("table {}: {error}", sync.table));
        }
    }
    fields(sync, &mut say);
    limits(sync, &mut say);
    actions(sync, &mut say);
    found
}

fn fields(sync: &Sync, say: &mut impl FnMut(&str, String)) {
    if sync.key.is_empty() {
        say(
            "key:",
            "the key has no column: rows could not be told apart".to_owned(),
        );
    }
    if sync.columns.is_empty() {
        say("columns:", "there is no column to write".to_owned());
    }
    if sync.key.len().max(sync.columns.len()) > FIELDS_MAX {
        say(
            "columns:",
            format!("more than {FIELDS_MAX} columns cannot be written by one sync"),
        );
    }
    let mut seen = BTreeSet::new();
    for field in sync.fields() {
        if let Err(error) = ident::check(&field.column) {
            say("column:", error.to_string());
        }
        if !seen.insert(&field.column) {
            let needle = format!("column: {}", field.column);
            say(&needle, format!("column {} is named twice", field.column));
        }
    }
}

fn limits(sync: &Sync, say: &mut impl FnMut(&str, String)) {
    let limits = &sync.limits;
    if limits.max_rows < 0 || limits.max_removed < 0 {
        say("limits:", "a limit is not negative".to_owned());
    }
    if !(0.0..=100.0).contains(&limits.max_changed_percent) {
        say(
            "max_changed_percent:",
            "a percentage is from 0 to 100".to_owned(),
        );
    }
    if sync.mode == Mode::Update && sync.create_table {
        say(
            "create_table:",
            "mode update adds no rows, so there is no table to create".to_owned(),
        );
    }
}

fn actions(sync: &Sync, say: &mut impl FnMut(&str, String)) {
    for action in &sync.actions {
        if action.set.is_empty() {
            say("set:", format!("action {} sets nothing", action.name));
        }
        for (column, value) in &action.set {
            let text = value.text();
            match sync.column(column) {
                None => say(
                    &format!("{column}:"),
                    format!(
                        "action {} sets {column}, which is not a writable column",
                        action.name
                    ),
                ),
                Some(field) if !field.r#type.is_literal(&text) => say(
                    &format!("{column}:"),
                    format!("action {}: {text:?} is no {}", action.name, field.r#type),
                ),
                Some(_) => {}
            }
        }
        if sync.key.iter().any(|field| field.member.is_none()) {
            say(
                "key:",
                "a sync with actions needs a `member` for each column of its key".to_owned(),
            );
        }
    }
}

fn is_plain(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    !name.is_empty() && name.chars().all(allowed)
}
