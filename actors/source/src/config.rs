//! What a PostgreSQL source is configured with, and which tables its patterns choose.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use ballpoint_postgres::pool::redact;
use ballpoint_runtime::segment::{SchemaPolicy, TableName, TableOptions};
use globset::{GlobBuilder, GlobMatcher};
use serde::de::IntoDeserializer;
use serde::{Deserialize, Serialize};

/// How a table is asked to be kept up to date; absent in the configuration means the best that the
/// source allows. Airbyte's longer names are understood too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The whole table each time it changed.
    #[serde(alias = "full_refresh_overwrite")]
    FullRefresh,
    /// The same, added to what earlier refreshes brought: each is a generation.
    FullRefreshAppend,
    /// The rows that changed, found through a cursor column, merged by primary key.
    #[serde(alias = "incremental_append_dedup")]
    Incremental,
    /// The same, each changed row added as a version.
    IncrementalAppend,
    /// Every committed change, from the source's log.
    Cdc,
}

impl Mode {
    /// Whether rows are only ever added.
    pub fn appends(self) -> bool {
        matches!(self, Self::FullRefreshAppend | Self::IncrementalAppend)
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let word = word.into_deserializer();
        Self::deserialize(word).map_err(|error: serde::de::value::Error| error.to_string())
    }
}

/// What is done when the log that was read last is no longer there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapPolicy {
    /// The tables are read whole again, once.
    #[default]
    Resnapshot,
    /// Nothing, until somebody has looked.
    Refuse,
}

/// Settings of one table; everything absent is the source's, or chosen from its catalog.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TableConfig {
    pub mode: Option<Mode>,
    pub cursor: Option<String>,
    pub primary_key: Vec<String>,
    /// Deleted rows are marked, not deleted.
    pub soft_delete: Option<bool>,
    pub on_schema_change: Option<SchemaPolicy>,
    /// Rows with a longer value are rejected.
    pub max_value_bytes: Option<u64>,
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
    /// Whether tables that name no mode are kept by their changes where the source allows it: that
    /// installs a publication and a slot there.
    pub follow_log: bool,
    pub soft_delete: bool,
    pub on_schema_change: SchemaPolicy,
    /// Rows with a longer value are rejected; PostgreSQL takes text up to 1 GiB, and so do its readers.
    pub max_value_bytes: u64,
    pub on_gap: GapPolicy,
    /// Log that the source may keep for us, in bytes; `None`: as much as it takes.
    pub max_slot_wal: Option<u64>,
    /// By `schema.table`.
    pub table: BTreeMap<String, TableConfig>,
    /// Up to this size, in 8 KiB pages, changed rows are found by testing each row's transaction;
    /// above it the index on the cursor narrows the read first. 32,768 pages (256 MiB) take about
    /// 0.2 s to test.
    pub sweep_pages_max: i64,
    /// A whole table of twice as many 8 KiB pages is read in ranges of about this many, side by side.
    /// 4,096 pages (32 MiB) take about 0.3 s to load.
    pub range_pages: u32,
    /// Connections that read the ranges of one table.
    pub readers: usize,
}

impl PostgresSourceConfig {
    /// Unless it is configured: 64 MiB.
    pub const MAX_VALUE_BYTES: u64 = 64 << 20;
    /// Unless it is configured: 50 GB. A busy database's log of some hours, which its disk has room for.
    pub const MAX_SLOT_WAL: u64 = 50_000_000_000;

    /// Every table of the database, in the best mode each allows.
    pub fn new(name: impl Into<String>, url: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            url: url.into(),
            tables: Vec::new(),
            mode: None,
            follow_log: true,
            soft_delete: false,
            on_schema_change: SchemaPolicy::Propagate,
            max_value_bytes: Self::MAX_VALUE_BYTES,
            on_gap: GapPolicy::Resnapshot,
            max_slot_wal: Some(Self::MAX_SLOT_WAL),
            table: BTreeMap::new(),
            sweep_pages_max: 32_768,
            range_pages: 4096,
            readers: 2,
        }
    }

    /// The settings of one table.
    pub(crate) fn of(&self, table: &TableName) -> TableConfig {
        self.table
            .get(&table.to_string())
            .cloned()
            .unwrap_or_default()
    }

    /// What is configured for a table beside its mode.
    pub(crate) fn options_of(&self, table: &TableConfig) -> TableOptions {
        TableOptions {
            append: table.mode.or(self.mode).is_some_and(Mode::appends),
            soft_delete: table.soft_delete.unwrap_or(self.soft_delete),
            on_schema_change: table.on_schema_change.unwrap_or(self.on_schema_change),
            max_value_bytes: Some(table.max_value_bytes.unwrap_or(self.max_value_bytes)),
        }
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
    fn a_mode_has_airbyte_s_names_too_and_an_unknown_one_is_refused_with_the_list() {
        for (word, mode) in [
            ("full_refresh", Mode::FullRefresh),
            ("full_refresh_overwrite", Mode::FullRefresh),
            ("full_refresh_append", Mode::FullRefreshAppend),
            ("incremental", Mode::Incremental),
            ("incremental_append_dedup", Mode::Incremental),
            ("incremental_append", Mode::IncrementalAppend),
            ("cdc", Mode::Cdc),
        ] {
            assert_eq!(word.parse(), Ok(mode), "{word}");
        }
        let error = "incremntal".parse::<Mode>().unwrap_err();
        assert!(
            error.contains("incremntal") && error.contains("`cdc`"),
            "{error}"
        );
    }

    #[test]
    fn an_unreadable_pattern_is_named() {
        let error = TablePatterns::compile(&["public.[a".to_owned()]).unwrap_err();
        assert!(error.contains("public.[a"), "{error}");
    }
}
