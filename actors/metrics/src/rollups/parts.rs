//! Rollups in partitions of time: which of them a change of the source has touched.
//!
//! PostgreSQL tells of each row by which transaction it was written (`xmin`). How many rows a partition
//! has and by which transactions these were written is another text once a row of it was added,
//! changed, moved or deleted, so that late rows are found wherever they land, and nobody has to say
//! how long the past may change.
//!
//! That is all there is to know only where the rows of a partition depend on the rows of one table in
//! that time: the statement reads this table once and computes nothing across rows.

use std::collections::BTreeMap;

use ballpoint_postgres::ident::quote_literal;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::planned::query_of;
use crate::model::{MemberId, Model, Part, PreAggregation, SecurityContext, Table, Template};
use crate::plan;
use crate::plan::rollup::contains;
use crate::words::Words;

/// Stands for the list of partitions in a statement; no model's text holds it.
const KEYS: char = '\u{e002}';

/// A rollup whose partitions are refreshed one by one.
#[derive(Debug)]
pub(super) struct Parted {
    /// `month`, say.
    unit: String,
    /// The table that decides which rows are in a partition, as the model names it.
    pub(super) table: String,
    /// The present signature of each partition.
    pub(super) signatures: String,
    /// The rollup's statement over some partitions.
    some: String,
}

/// The partitions of a rollup as it was built.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Signatures {
    /// Another one when the table is another, or has other columns.
    pub(super) table: String,
    /// By the partition's beginning; the empty one has the rows without a time.
    pub(super) parts: BTreeMap<String, String>,
}

impl Signatures {
    /// Partitions that were written since; `None` where nothing of them stands.
    pub(super) fn touched(&self, now: &Self) -> Option<Vec<String>> {
        if self.table != now.table {
            return None;
        }
        let keys = self.parts.keys().chain(now.parts.keys());
        let differs = |key: &&String| self.parts.get(*key) != now.parts.get(*key);
        let mut touched: Vec<String> = keys.filter(differs).cloned().collect();
        touched.sort_unstable();
        touched.dedup();
        Some(touched)
    }
}

impl Parted {
    /// Whether this is the table, by its name as PostgreSQL has it.
    pub(super) fn is_named(&self, name: &str) -> bool {
        let words = Words::of(&self.table).names;
        let own = words.first().map(|chain| chain.join("."));
        own.is_some_and(|own| own == name || name.ends_with(&format!(".{own}")))
    }

    /// The rows of these partitions.
    pub(super) fn rows_of(&self, keys: &[String]) -> String {
        self.some.replace(KEYS, &listed(keys))
    }

    /// A condition on the rollup's own rows.
    pub(super) fn among(&self, column: &str, keys: &[String]) -> String {
        let key = key_of(&self.unit, column);
        format!("{key} IN ({})", listed(keys))
    }
}

fn listed(keys: &[String]) -> String {
    let keys: Vec<String> = keys.iter().map(|key| quote_literal(key)).collect();
    keys.join(", ")
}

/// The partition of a local time.
fn key_of(unit: &str, local: &str) -> String {
    format!("coalesce(date_trunc('{unit}', {local})::text, '')")
}

/// How a rollup is refreshed in parts.
///
/// # Errors
/// Why it is built whole.
pub(super) fn parted(
    model: &Model,
    definition: &PreAggregation,
    segments: &std::collections::HashMap<MemberId, MemberId>,
    measures: &[MemberId],
    sql: &str,
    now: Timestamp,
) -> Result<Parted, String> {
    let unit = definition.partition.as_ref();
    let unit = unit.ok_or("it has no partition_granularity")?;
    let (time, granularity) = definition.times.first().ok_or("it has no time dimension")?;
    if !contains(unit, granularity) {
        return Err(format!("a {unit} is not made of whole {granularity}s"));
    }
    let Some(Table::Name(table)) = &model.cubes[time.cube].table else {
        return Err("the cube of its time has no sql_table".to_owned());
    };
    let over_rows = |id: &&MemberId| {
        let measure = model.member(**id).measure();
        measure.is_some_and(|it| it.rolling_window.is_some() || it.stage.is_some())
    };
    if let Some(id) = measures.iter().find(over_rows) {
        let name = &model.member(*id).full_name;
        return Err(format!("{name} is computed over more than a group"));
    }
    let words = Words::of(sql);
    let named = Words::of(table).names;
    let is_table = |name: &&Vec<String>| named.first() == Some(*name);
    if words.names.iter().filter(is_table).count() != 1 {
        return Err(format!("its statement reads {table} more than once"));
    }
    if words
        .bare
        .iter()
        .any(|word| word == "over" || word == "lateral")
    {
        return Err("its statement computes values across rows".to_owned());
    }
    let signatures = plan::signatures(model, *time, unit).map_err(|error| error.to_string())?;
    // The same statement, its rows limited by their time.
    let mut model = model.clone();
    let text = |text: &str| Part::Text(text.to_owned());
    let parts = vec![
        text(&format!("coalesce(date_trunc('{unit}', (")),
        Part::Member(*time),
        text(&format!(
            ")::timestamptz AT TIME ZONE 'UTC')::text, '') IN ({KEYS})"
        )),
    ];
    let limit = model.add_segment(
        time.cube,
        Template {
            parts,
            ..Template::default()
        },
    );
    let query = query_of(&model, definition, measures, segments, Some(limit), now);
    let query = query.map_err(|error| error.to_string())?;
    let plan = plan::plan(&model, &query, &SecurityContext::default());
    let some = plan.map_err(|error| error.to_string())?.statement.sql();
    Ok(Parted {
        unit: unit.clone(),
        table: table.clone(),
        signatures,
        some,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_changed_or_emptied_is_touched_and_another_table_is_all_of_it() {
        let of = |table: &str, parts: &[(&str, &str)]| Signatures {
            table: table.to_owned(),
            parts: parts
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
        };
        let before = of("1", &[("2026-01", "a"), ("2026-02", "b"), ("2026-03", "c")]);
        let now = of("1", &[("2026-01", "a"), ("2026-03", "d"), ("2026-04", "e")]);
        let touched = before.touched(&now).unwrap();
        assert_eq!(touched, ["2026-02", "2026-03", "2026-04"]);
        assert_eq!(before.touched(&before), Some(Vec::new()));
        assert_eq!(before.touched(&of("2", &[])), None);
    }
}
