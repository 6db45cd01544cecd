//! Ephemeral models: each is a CTE of what reads it.

use super::Compiler;
use crate::error::{Place, ProjectError};
use crate::project::node::{Materialization, Node};

pub(super) fn cte_name(node: &Node) -> String {
    format!("__dbt__cte__{}", node.relation.identifier)
}

impl Compiler {
    /// The CTEs of the ephemeral models below a node, each after those it reads.
    pub(super) fn ctes(&self, node: &Node) -> Result<Vec<(String, String)>, ProjectError> {
        let mut ctes: Vec<(String, String)> = Vec::new();
        for parent in node
            .depends_on
            .iter()
            .filter_map(|id| self.project.nodes.get(id))
        {
            self.add_cte(parent, &mut ctes)?;
        }
        Ok(ctes)
    }

    pub(super) fn add_cte(
        &self,
        parent: &Node,
        ctes: &mut Vec<(String, String)>,
    ) -> Result<(), ProjectError> {
        if parent.materialization != Materialization::Ephemeral {
            return Ok(());
        }
        for (name, sql) in self.ctes(parent)? {
            if ctes.iter().all(|(known, _)| *known != name) {
                ctes.push((name, sql));
            }
        }
        if ctes.iter().all(|(known, _)| *known != cte_name(parent)) {
            let scope = self.scope(parent, false, Vec::new());
            let place = Place::file(parent.file());
            let sql = self
                .project
                .engine
                .render(&parent.template, &place, scope.value())?;
            ctes.push((cte_name(parent), sql));
        }
        Ok(())
    }
}

/// Puts CTEs before a query that may have its own.
pub(crate) fn with_ctes(sql: &str, ctes: &[(String, String)]) -> String {
    if ctes.is_empty() {
        return sql.to_owned();
    }
    let list: Vec<String> = ctes
        .iter()
        .map(|(name, sql)| format!(" {name} as (\n{sql}\n)"))
        .collect();
    let list = list.join(",");
    let start = first_word(sql);
    match sql
        .get(start..start + 4)
        .filter(|word| word.eq_ignore_ascii_case("with"))
    {
        Some(_) => {
            let (before, after) = (&sql[..start], &sql[start + 4..]);
            let rest = after.trim_start();
            match rest
                .get(..9)
                .filter(|word| word.eq_ignore_ascii_case("recursive"))
            {
                Some(_) => format!("{before}with recursive{list}, {}", &rest[9..]),
                None => format!("{before}with{list}, {after}"),
            }
        }
        None => format!("with{list}\n{sql}"),
    }
}

/// Where the query begins, behind spaces and comments.
fn first_word(sql: &str) -> usize {
    let mut at = 0;
    loop {
        let rest = &sql[at..];
        let trimmed = rest.trim_start();
        at += rest.len() - trimmed.len();
        let skipped = if trimmed.starts_with("--") {
            trimmed.find('\n').map(|end| end + 1)
        } else if trimmed.starts_with("/*") {
            trimmed.find("*/").map(|end| end + 2)
        } else {
            None
        };
        match skipped {
            Some(length) => at += length,
            None => return at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ctes_of_ephemeral_models_come_before_the_query_s_own() {
        let ctes = [("__dbt__cte__e".to_owned(), "select 1".to_owned())];
        assert_eq!(
            with_ctes("select 2", &ctes),
            "with __dbt__cte__e as (\nselect 1\n)\nselect 2"
        );
        let merged = with_ctes("-- note\nWith a as (select 2) select * from a", &ctes);
        assert_eq!(
            merged,
            "-- note\nwith __dbt__cte__e as (\nselect 1\n),  a as (select 2) select * from a"
        );
    }
}
