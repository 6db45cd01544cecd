//! Dimensions that are a measure of another cube (`sub_query: true`), joined by the cube's key.

use ballpoint_postgres::ident::quote;

use super::error::QueryError;
use super::needs::no_path;
use super::select::Select;
use crate::model::joins::JoinTree;
use crate::model::{DimensionSql, MemberId, Template};

impl Select<'_> {
    /// Dimensions of type `sub_query` among those evaluated: each is a measure of another cube.
    pub(super) fn sub_query_dimensions(&self) -> Vec<MemberId> {
        let model = self.writer.model;
        let mut found: Vec<MemberId> = Vec::new();
        for id in self.members() {
            let id = self.writer.resolve(id);
            let is_sub_query = model.member(id).dimension().is_some_and(|d| d.sub_query);
            if is_sub_query && !found.contains(&id) {
                found.push(id);
            }
        }
        found
    }

    /// Joins the measure behind a `sub_query` dimension, grouped by the cube's key.
    pub(super) fn sub_query_join(&mut self, id: MemberId) -> Result<String, QueryError> {
        let model = self.writer.model;
        let dimension = model.member(id);
        let Some(DimensionSql::Expression(sql)) =
            dimension.dimension().map(|dimension| &dimension.sql)
        else {
            return Ok(String::new());
        };
        let keys = model.cubes[id.cube].primary_key.clone();
        let outer: Vec<String> = keys
            .iter()
            .map(|key| self.writer.member(*key))
            .collect::<Result<_, _>>()?;
        let name = format!("{}{}_subquery", self.writer.prefix, dimension.alias);
        let mut cubes: Vec<usize> = sql
            .members()
            .map(|id| self.writer.resolve(id).cube)
            .collect();
        cubes.push(id.cube);
        let tree = JoinTree::find(model, &cubes, &[]).map_err(|pair| no_path(model, pair))?;
        let outside = (
            std::mem::replace(&mut self.writer.prefix, format!("{name}__")),
            std::mem::replace(&mut self.tree, tree),
            std::mem::take(&mut self.writer.columns),
        );
        let inner = self.sub_query(sql, &keys);
        (self.writer.prefix, self.tree, self.writer.columns) = outside;
        self.writer
            .columns
            .insert(id, format!("{}.value", quote(&name)));
        let on: Vec<String> = outer
            .iter()
            .enumerate()
            .map(|(at, outer)| format!("{}.key_{at} = {outer}", quote(&name)))
            .collect();
        Ok(format!(
            " LEFT JOIN ({}) AS {} ON {}",
            inner?,
            quote(&name),
            on.join(" AND ")
        ))
    }

    fn sub_query(&mut self, sql: &Template, keys: &[MemberId]) -> Result<String, QueryError> {
        let model = self.writer.model;
        let multiplied = |cube: &usize| self.tree.multiplies(model, *cube);
        if sql
            .members()
            .any(|id| multiplied(&self.writer.resolve(id).cube))
        {
            return Err(QueryError::Unplannable(
                "a sub-query dimension whose measure is repeated by its joins is not supported"
                    .to_owned(),
            ));
        }
        let mut columns = Vec::new();
        for (at, key) in keys.iter().enumerate() {
            columns.push(format!("{} AS key_{at}", self.writer.member(*key)?));
        }
        columns.push(format!("{} AS value", self.writer.template(sql)?));
        let mut from = self.writer.table(self.tree.root)?;
        for (cube, index) in self.tree.edges.clone() {
            let join = &model.cubes[cube].joins[index];
            let table = self.writer.table(join.to)?;
            let condition = self.writer.template(&join.sql)?;
            from.push_str(&format!(" LEFT JOIN {table} ON {condition}"));
        }
        let group = self.group_clause(keys.len());
        Ok(format!("SELECT {} FROM {from}{group}", columns.join(", ")))
    }
}
