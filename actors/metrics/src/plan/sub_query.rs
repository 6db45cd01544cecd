//! Dimensions that are a measure of another cube (`sub_query: true`), joined by the cube's key.

use ballpoint_postgres::ident::quote;

use super::error::QueryError;
use super::filters::Condition;
use super::needs::no_path;
use super::resolve::find;
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
            .map(|key| self.writer.key(*key))
            .collect::<Result<_, _>>()?;
        let name = format!("{}{}_subquery", self.writer.prefix, dimension.alias);
        let mut cubes: Vec<usize> = sql
            .members()
            .map(|id| self.writer.resolve(id).cube)
            .collect();
        cubes.push(id.cube);
        let filters = self.policy_conditions(id)?;
        let mut filtered = Vec::new();
        filters.iter().for_each(|it| it.members(&mut filtered));
        cubes.extend(filtered.iter().map(|id| self.writer.resolve(*id).cube));
        let tree = JoinTree::find(model, &cubes, &[]).map_err(|pair| no_path(model, pair))?;
        let outside = (
            std::mem::replace(&mut self.writer.prefix, format!("{name}__")),
            std::mem::replace(&mut self.tree, tree),
            std::mem::take(&mut self.writer.columns),
            std::mem::take(&mut self.writer.multiplied),
            std::mem::take(&mut self.writer.ungrouped),
        );
        let inner = self.sub_query(sql, &keys, &filters);
        (
            self.writer.prefix,
            self.tree,
            self.writer.columns,
            self.writer.multiplied,
            self.writer.ungrouped,
        ) = outside;
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

    /// What the caller's policies say of the rows behind a dimension.
    fn policy_conditions(&self, id: MemberId) -> Result<Vec<Condition>, QueryError> {
        let find = |name: &str| find(self.writer.model, name);
        let filters = self.writer.inner_filters.get(&id).into_iter().flatten();
        let mut conditions = Vec::new();
        for filter in filters {
            let condition = self.writer.resolve_filter(filter, &find)?;
            if self.writer.is_on_measures(&condition)? {
                return Err(QueryError::Unplannable(
                    "a row policy on a measure cannot hold inside a sub-query dimension".to_owned(),
                ));
            }
            conditions.push(Condition::Policy(Box::new(condition)));
        }
        Ok(conditions)
    }

    fn sub_query(
        &mut self,
        sql: &Template,
        keys: &[MemberId],
        filters: &[Condition],
    ) -> Result<String, QueryError> {
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
            columns.push(format!("{} AS key_{at}", self.writer.key(*key)?));
        }
        columns.push(format!("{} AS value", self.writer.template(sql)?));
        let mut from = self.writer.table(self.tree.root)?;
        for (cube, index) in self.tree.edges.clone() {
            let join = &model.cubes[cube].joins[index];
            let table = self.writer.table(join.to)?;
            let condition = self.writer.unmasked(|it| it.template(&join.sql))?;
            from.push_str(&format!(" LEFT JOIN {table} ON {condition}"));
        }
        for (at, filter) in filters.iter().enumerate() {
            let condition = self.writer.condition(filter)?;
            let word = if at == 0 { "WHERE" } else { "AND" };
            from.push_str(&format!(" {word} {condition}"));
        }
        let group = self.group_clause(keys.len());
        Ok(format!("SELECT {} FROM {from}{group}", columns.join(", ")))
    }
}
