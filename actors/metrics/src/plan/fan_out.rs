//! Measures that cannot be aggregated beside each other: each kind gets a sub-query, and the parts are
//! put together by their dimensions. A cube whose rows a join repeats is aggregated over its
//! distinct keys.

use std::collections::{BTreeSet, HashMap};

use ballpoint_postgres::ident::quote;

use super::error::QueryError;
use super::needs::collect_cubes;
use super::select::Select;
use crate::model::MemberId;

/// Sub-queries put together by their dimensions, which all of them have.
pub(super) struct Joined {
    pub(super) from: String,
    /// The column that holds each leaf measure.
    pub(super) columns: HashMap<MemberId, String>,
}

/// How a measure that aggregates rows has to be computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaf {
    /// Beside others, over the joined tables.
    Plain,
    /// Over the distinct keys of its cube, whose rows a join repeats.
    Repeated,
    /// Over a series of times.
    Rolling,
    /// Over the grouped result of other measures.
    Stage,
}

impl Select<'_> {
    pub(super) fn leaf_kind(&self, leaf: MemberId) -> Leaf {
        let model = self.writer.model;
        match model.member(leaf).measure() {
            Some(measure) if measure.stage.is_some() => Leaf::Stage,
            Some(measure) if measure.rolling_window.is_some() => Leaf::Rolling,
            _ if self.is_repeated(leaf) => Leaf::Repeated,
            _ => Leaf::Plain,
        }
    }

    pub(super) fn is_repeated(&self, leaf: MemberId) -> bool {
        !self.is_safe_when_repeated(leaf) && self.tree.multiplies(self.writer.model, leaf.cube)
    }

    /// The statement when some measures need sub-queries of their own.
    pub(super) fn combined(&mut self) -> Result<String, QueryError> {
        let leaves = self.leaves();
        let joined = self.parts(&leaves)?;
        let mut selected = self.first_dimensions();
        let outside = std::mem::replace(&mut self.writer.columns, joined.columns);
        for column in self.measures.clone() {
            selected.push(self.measure_column(&column)?);
        }
        let having = self.having_clause(" WHERE ")?;
        self.writer.columns = outside;
        Ok(format!(
            "SELECT {} FROM {}{having}",
            selected.join(", "),
            joined.from
        ))
    }

    /// The dimensions as the first part has them.
    pub(super) fn first_dimensions(&self) -> Vec<String> {
        self.dimensions
            .iter()
            .map(|column| format!("q_0.{0} AS {0}", quote(&column.alias)))
            .collect()
    }

    /// Computes leaf measures by the dimensions, each in the way it needs.
    pub(super) fn parts(&mut self, leaves: &[MemberId]) -> Result<Joined, QueryError> {
        let mut parts: Vec<String> = Vec::new();
        let mut columns = HashMap::new();
        let mut put = |parts: &mut Vec<String>, own: &[MemberId], part: String| {
            columns.extend(
                own.iter()
                    .map(|leaf| (*leaf, part_column(parts.len(), *leaf))),
            );
            parts.push(part);
        };
        let of = |select: &Self, kind: Leaf| -> Vec<MemberId> {
            let own = |leaf: &MemberId| select.leaf_kind(*leaf) == kind;
            leaves.iter().copied().filter(own).collect()
        };
        let plain = of(self, Leaf::Plain);
        if !plain.is_empty() || leaves.is_empty() {
            let part = self.part(&plain, "main__", |select| select.joined_tables())?;
            put(&mut parts, &plain, part);
        }
        let repeated = of(self, Leaf::Repeated);
        let mut cubes: Vec<usize> = repeated.iter().map(|leaf| leaf.cube).collect();
        cubes.sort_unstable();
        cubes.dedup();
        for cube in cubes {
            let own = repeated.iter().copied().filter(|leaf| leaf.cube == cube);
            let own: Vec<MemberId> = own.collect();
            let part = self.keyed_part(cube, &own)?;
            put(&mut parts, &own, part);
        }
        for leaf in of(self, Leaf::Rolling) {
            let part = self.rolling_part(leaf)?;
            put(&mut parts, &[leaf], part);
        }
        for leaf in of(self, Leaf::Stage) {
            let part = self.stage_part(leaf)?;
            put(&mut parts, &[leaf], part);
        }
        Ok(Joined {
            from: self.joined_parts(&parts),
            columns,
        })
    }

    fn joined_parts(&self, parts: &[String]) -> String {
        let mut from = String::new();
        for (number, part) in parts.iter().enumerate() {
            if number == 0 {
                from.push_str(&format!("({part}) AS q_0"));
                continue;
            }
            let on: Vec<String> = self
                .dimensions
                .iter()
                .map(|c| {
                    format!(
                        "q_0.{0} IS NOT DISTINCT FROM q_{number}.{0}",
                        quote(&c.alias)
                    )
                })
                .collect();
            let on = if on.is_empty() {
                "TRUE".to_owned()
            } else {
                on.join(" AND ")
            };
            from.push_str(&format!(" JOIN ({part}) AS q_{number} ON {on}"));
        }
        from
    }

    /// Dimensions and leaf measures over the joined tables.
    pub(super) fn part(
        &mut self,
        leaves: &[MemberId],
        prefix: &str,
        from: impl Fn(&mut Self) -> Result<String, QueryError>,
    ) -> Result<String, QueryError> {
        let outside = std::mem::replace(&mut self.writer.prefix, prefix.to_owned());
        let from = from(self)?;
        let mut columns = Vec::new();
        for column in self.dimensions.clone() {
            columns.push(self.dimension_column(&column)?);
        }
        for leaf in leaves {
            let sql = self.writer.member(*leaf)?;
            columns.push(format!("{sql} AS {}", leaf_alias(*leaf)));
        }
        let filter = self.where_clause()?;
        let group = self.group_clause(self.dimensions.len());
        self.writer.prefix = outside;
        Ok(format!(
            "SELECT {} FROM {from}{filter}{group}",
            columns.join(", ")
        ))
    }

    /// Leaf measures of a cube whose rows are repeated: its distinct keys first, its rows then.
    pub(super) fn keyed_part(
        &mut self,
        cube: usize,
        leaves: &[MemberId],
    ) -> Result<String, QueryError> {
        let model = self.writer.model;
        let keys = model.cubes[cube].primary_key.clone();
        if keys.is_empty() {
            return Err(QueryError::Unplannable(format!(
                "joins repeat the rows of '{0}': give '{0}' a primary_key dimension",
                model.cubes[cube].name
            )));
        }
        let prefix = format!("{}_key__", model.cubes[cube].alias);
        let outside = std::mem::replace(&mut self.writer.prefix, prefix);
        let from = self.joined_tables()?;
        let mut distinct = Vec::new();
        for column in self.dimensions.clone() {
            distinct.push(self.dimension_column(&column)?);
        }
        let mut on = Vec::new();
        for (at, key) in keys.iter().enumerate() {
            let sql = self.writer.key(*key)?;
            distinct.push(format!("{sql} AS key_{at}"));
            on.push(format!("keys.key_{at} = {sql}"));
        }
        let filter = self.where_clause()?;
        let mut columns: Vec<String> = self
            .dimensions
            .iter()
            .map(|c| format!("keys.{}", quote(&c.alias)))
            .collect();
        let multiplied = std::mem::take(&mut self.writer.multiplied);
        for leaf in leaves {
            self.check_own_columns(*leaf)?;
            let sql = self.writer.member(*leaf)?;
            columns.push(format!("{sql} AS {}", leaf_alias(*leaf)));
        }
        let table = self.writer.table(cube)?;
        self.writer.multiplied = multiplied;
        self.writer.prefix = outside;
        let group = self.group_clause(self.dimensions.len());
        Ok(format!(
            "SELECT {} FROM (SELECT DISTINCT {} FROM {from}{filter}) AS keys LEFT JOIN {table} ON {}{group}",
            columns.join(", "),
            distinct.join(", "),
            on.join(" AND ")
        ))
    }

    /// A repeated cube's measure can only be summed from that cube's own columns.
    fn check_own_columns(&self, leaf: MemberId) -> Result<(), QueryError> {
        let model = self.writer.model;
        let mut cubes = Vec::new();
        collect_cubes(model, leaf, &mut cubes, &mut BTreeSet::new());
        if cubes.iter().all(|cube| *cube == leaf.cube) {
            return Ok(());
        }
        Err(QueryError::Unplannable(format!(
            "'{}' mixes columns of several cubes while joins repeat its rows",
            model.member(leaf).full_name
        )))
    }
}

pub(super) fn leaf_alias(leaf: MemberId) -> String {
    format!("m_{}_{}", leaf.cube, leaf.index)
}

fn part_column(part: usize, leaf: MemberId) -> String {
    format!("q_{part}.m_{}_{}", leaf.cube, leaf.index)
}
