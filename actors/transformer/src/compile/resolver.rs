//! What `ref()` and `source()` of a node that runs stand for.

use std::collections::HashMap;

use super::Compiler;
use super::ctes::cte_name;
use crate::catalog::RelationKind;
use crate::jinja::context::Resolve;
use crate::jinja::relation::{Quoting, Relation, RelationValue};
use crate::project::node::Materialization;

/// Resolves names to the relations of the run; a name that parsing did not see is an error, since
/// the node may run before what it reads.
pub(super) struct RunResolver {
    pub(super) compiler: Compiler,
    pub(super) node: String,
    pub(super) package: String,
    pub(super) depends_on: Vec<String>,
    /// Names of the rows that stand for relations, by unique id.
    pub(super) instead: HashMap<String, String>,
}

impl RunResolver {
    fn check(&self, id: &str, call: &str) -> Result<(), String> {
        if self.depends_on.iter().any(|known| known == id) {
            return Ok(());
        }
        Err(format!(
            "dbt was unable to infer all dependencies for the model \"{}\": it calls {call} only \
             when it runs; add a comment '-- depends_on: {{{{ {call} }}}}' to it",
            self.node,
        ))
    }

    fn value(&self, id: &str, relation: Relation, quoting: Quoting) -> RelationValue {
        if let Some(name) = self.instead.get(id) {
            return RelationValue::cte(relation, name.clone());
        }
        let kind = self.compiler.catalog.kind(&relation);
        self.limited(RelationValue::new(relation, kind.map(kind_name)).quoted(quoting))
    }

    fn limited(&self, value: RelationValue) -> RelationValue {
        match self.compiler.is_without_rows() {
            true => value.without_rows(),
            false => value,
        }
    }
}

/// A kind of relation in dbt's words.
pub(super) fn kind_name(kind: RelationKind) -> &'static str {
    match kind {
        RelationKind::Table => "table",
        RelationKind::View => "view",
        RelationKind::MaterializedView => "materialized_view",
    }
}

impl Resolve for RunResolver {
    fn reference(&self, package: Option<&str>, name: &str) -> Result<RelationValue, String> {
        let project = &self.compiler.project;
        let node = project
            .find_ref_from(&self.package, package, name)
            .ok_or_else(|| format!("there is no model '{name}'"))?;
        self.check(&node.unique_id, &format!("ref('{name}')"))?;
        let stands = self.instead.contains_key(&node.unique_id);
        if node.materialization == Materialization::Ephemeral && !stands {
            let cte = RelationValue::cte(node.relation.clone(), cte_name(node));
            return Ok(self.limited(cte));
        }
        let relation = self.compiler.relation_of(node);
        Ok(self.value(&node.unique_id, relation, node.quoting))
    }

    fn source(&self, source: &str, table: &str) -> Result<RelationValue, String> {
        let found = self
            .compiler
            .project
            .find_source(source, table)
            .ok_or_else(|| format!("there is no source '{source}.{table}'"))?;
        self.check(&found.unique_id, &format!("source('{source}', '{table}')"))?;
        Ok(self.value(&found.unique_id, found.relation.clone(), found.quoting))
    }
}
