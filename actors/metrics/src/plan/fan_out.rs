//! Measures whose rows a join repeats: each such cube is aggregated over its distinct keys, and the
//! parts are put together by their dimensions.

use std::collections::{BTreeSet, HashMap};

use ballpoint_postgres::ident::quote;

use super::error::QueryError;
use super::select::{Select, collect_cubes};
use crate::model::MemberId;

impl Select<'_> {
    /// The parts of a query whose joins repeat rows, put together by their dimensions.
    pub(super) fn combined(
        &mut self,
        repeated: &[usize],
        plain: bool,
    ) -> Result<String, QueryError> {
        let leaves = self.leaves();
        let mut parts: Vec<String> = Vec::new();
        let mut columns = HashMap::new();
        if plain {
            let own: Vec<MemberId> = leaves
                .iter()
                .copied()
                .filter(|leaf| self.is_safe_when_repeated(*leaf) || !repeated.contains(&leaf.cube))
                .collect();
            parts.push(self.part(&own, "main__", |select| select.joined_tables())?);
            for leaf in own {
                columns.insert(leaf, part_column(0, leaf));
            }
        }
        for &cube in repeated {
            let own: Vec<MemberId> = leaves
                .iter()
                .copied()
                .filter(|leaf| leaf.cube == cube && !self.is_safe_when_repeated(*leaf))
                .collect();
            let number = parts.len();
            parts.push(self.keyed_part(cube, &own)?);
            for leaf in own {
                columns.insert(leaf, part_column(number, leaf));
            }
        }
        let mut selected = Vec::new();
        for column in &self.dimensions {
            selected.push(format!("q_0.{0} AS {0}", quote(&column.alias)));
        }
        let outside = std::mem::replace(&mut self.writer.columns, columns);
        for column in self.measures.clone() {
            let sql = self.writer.member(column.member)?;
            selected.push(format!("{sql} AS {}", quote(&column.alias)));
        }
        let having = self.having_clause(" WHERE ")?;
        self.writer.columns = outside;
        let mut from = format!("({}) AS q_0", parts[0]);
        for (number, part) in parts.iter().enumerate().skip(1) {
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
        Ok(format!(
            "SELECT {} FROM {from}{having}",
            selected.join(", ")
        ))
    }

    /// Dimensions and leaf measures over the joined tables.
    fn part(
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
    fn keyed_part(&mut self, cube: usize, leaves: &[MemberId]) -> Result<String, QueryError> {
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
            let sql = self.writer.member(*key)?;
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

fn leaf_alias(leaf: MemberId) -> String {
    format!("m_{}_{}", leaf.cube, leaf.index)
}

fn part_column(part: usize, leaf: MemberId) -> String {
    format!("q_{part}.m_{}_{}", leaf.cube, leaf.index)
}
