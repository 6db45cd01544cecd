//! What a PostgreSQL source is configured with, and which tables its patterns choose.

use std::collections::BTreeMap;
use std::fmt;

use ballpoint_postgres::pool::redact;
use ballpoint_runtime::segment::TableName;
use globset::{GlobBuilder, GlobMatcher};
use serde::{Deserialize, Serialize};

/// How a table is asked to be kept up to date; absent in the configuration means the best that the
/// source allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The whole table each time it changed.
    FullRefresh,
    /// The rows that changed, found through a cursor column.
    Incremental,
}

/// Settings of one table; everything absent is chosen from the source's catalog.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableConfig {
    pub mode: Option<Mode>,
    pub cursor: Option<String>,
    #[serde(default)]
    pub primary_key: Vec<String>,
}

/// A PostgreSQL source. Its `Debug` form hides the URL's password.
#[derive(Clone)]
pub struct PostgresSourceConfig {
    /// The source's name in the configuration.
    pub name: String,
    pub url: String,
    /// `schema.table` with `*` and `?`; a leading `!` excludes. Empty: every table.
    pub tables: Vec<String>,
    /// The mode of tables that do not name their own.
    pub mode: Option<Mode>,
    /// By `schema.table`.
    pub table: BTreeMap<String, TableConfig>,
    /// Up to this size, in 8 KiB pages, changed rows are found by testing each row's transaction;
    /// above it the index on the cursor narrows the read first. 32,768 pages (256 MiB) take about
    /// 0.2 s to test.
    pub sweep_pages_max: i64,
}

impl PostgresSourceConfig {
    /// Every table of the database, in the best mode each allows.
    pub fn new(name: impl Into<String>, url: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            url: url.into(),
            tables: Vec::new(),
            mode: None,
            table: BTreeMap::new(),
            sweep_pages_max: 32_768,
        }
    }

    /// The settings of one table.
    pub(crate) fn of(&self, table: &TableName) -> TableConfig {
        self.table
            .get(&table.to_string())
            .cloned()
            .unwrap_or_default()
    }
}

impl fmt::Debug for PostgresSourceConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresSourceConfig")
            .field("name", &self.name)
            .field("url", &redact(&self.url))
            .field("tables", &self.tables)
            .finish_non_exhaustive()
    }
}

/// The configured patterns, compiled.
#[derive(Debug)]
pub struct TablePatterns {
    include: Vec<(String, GlobMatcher)>,
    exclude: Vec<GlobMatcher>,
}

impl TablePatterns {
    /// Compiles `patterns`; none at all means every table.
    ///
    /// # Errors
    /// The pattern that cannot be read, and why.
    pub fn compile(patterns: &[String]) -> Result<Self, String> {
        let mut compiled = Self {
            include: Vec::new(),
            exclude: Vec::new(),
        };
        for pattern in patterns {
            match pattern.strip_prefix('!') {
                Some(excluded) => compiled.exclude.push(glob(excluded)?),
                None => compiled.include.push((pattern.clone(), glob(pattern)?)),
            }
        }
        if compiled.include.is_empty() {
            compiled.include.push(("*.*".to_owned(), glob("*.*")?));
        }
        Ok(compiled)
    }

    /// Whether `table` is asked for.
    pub fn matches(&self, table: &TableName) -> bool {
        let name = table.to_string();
        self.include.iter().any(|(_, glob)| glob.is_match(&name))
            && !self.exclude.iter().any(|glob| glob.is_match(&name))
    }

    /// The patterns that are plain names: their absence in the source is an error.
    pub(crate) fn exact_names(&self) -> impl Iterator<Item = &str> {
        self.include
            .iter()
            .map(|(pattern, _)| pattern.as_str())
            .filter(|pattern| !pattern.contains(['*', '?', '[', '{']))
    }
}

fn glob(pattern: &str) -> Result<GlobMatcher, String> {
    let pattern = if pattern.contains('.') {
        pattern.to_owned()
    } else {
        format!("public.{pattern}")
    };
    GlobBuilder::new(&pattern)
        .build()
        .map(|glob| glob.compile_matcher())
        .map_err(|error| format!("table pattern {pattern:?} cannot be read: {}", error.kind()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn chosen(patterns: &[&str], table: &str) -> bool {
        let patterns: Vec<String> = patterns.iter().map(ToString::to_string).collect();
        let (schema, name) = table.split_once('.').unwrap();
        TablePatterns::compile(&patterns)
            .unwrap()
            .matches(&TableName::new(schema, name))
    }

    #[test]
    fn patterns_include_and_exclude() {
        assert!(chosen(&[], "sales.orders"));
        assert!(chosen(&["public.*"], "public.orders"));
        assert!(!chosen(&["public.*"], "sales.orders"));
        assert!(!chosen(&["public.*", "!public.tmp_*"], "public.tmp_orders"));
        assert!(chosen(&["!public.tmp_*"], "public.orders"));
        assert!(chosen(&["orders"], "public.orders"));
    }

    #[test]
    fn an_unreadable_pattern_is_named() {
        let error = TablePatterns::compile(&["public.[a".to_owned()]).unwrap_err();
        assert!(error.contains("public.[a"), "{error}");
    }
}
