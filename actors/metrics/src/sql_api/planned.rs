//! What a SELECT asks of the planner, and the planner's statement as a table.

use ballpoint_postgres::ident::quote;
use serde_json::json;

use super::SqlError;
use super::block::{Block, Wanted};
use crate::model::{Definition, MemberId};
use crate::plan;

/// What stands for a cube in a statement.
pub(super) struct Piece {
    pub(super) sql: String,
    /// What the planner was asked.
    pub(super) query: serde_json::Value,
    /// Members that are read inside expressions.
    pub(super) inside: Vec<String>,
}

impl Block<'_> {
    /// The planner's statement for what was asked for, with its columns numbered.
    pub(super) fn table(mut self) -> Result<Piece, SqlError> {
        if self.wanted.is_empty() {
            // `select 1 from cube`: as many rows as there are.
            let first = self.model.cubes[self.cube]
                .members
                .iter()
                .position(|it| it.dimension().is_some());
            let index =
                first.ok_or_else(|| SqlError::unsupported("the cube has no dimension to read"))?;
            self.column(Wanted::Member(MemberId {
                cube: self.cube,
                index,
            }));
        }
        let name = |id: &MemberId| self.model.member(*id).full_name.clone();
        let (mut measures, mut dimensions, mut times) = (Vec::new(), Vec::new(), Vec::new());
        for wanted in &self.wanted {
            match wanted {
                Wanted::Time(id, granularity) => {
                    times.push(json!({ "dimension": name(id), "granularity": granularity }));
                }
                Wanted::Member(id) => match self.model.member(*id).definition {
                    Definition::Measure(_) => measures.push(name(id)),
                    _ => dimensions.push(name(id)),
                },
            }
        }
        let mut query = json!({
            "measures": measures, "dimensions": dimensions, "timeDimensions": times,
            "segments": self.segments.iter().map(name).collect::<Vec<_>>(),
            "timezone": self.zone,
        });
        if !self.grouped {
            query["ungrouped"] = json!(true);
        }
        let (_, mut queries) = plan::normalize(&query, self.service.clock.business_now())?;
        let mut normalized = queries
            .pop()
            .ok_or_else(|| SqlError::new("42601", "nothing is asked for"))?;
        normalized.query.limit = Some(u32::MAX);
        normalized.order = Some(Vec::new());
        let (mut rollups, _) = self.service.usable_rollups();
        // The statement runs when the client wants it: what can only be asked at that moment is not.
        rollups.retain(|it| it.watched.is_none());
        let plan = plan::plan_with(&self.model, &normalized, self.context, &rollups)?;
        self.service.collected.note(&plan);
        let mut columns = Vec::new();
        for (at, wanted) in self.wanted.iter().enumerate() {
            let key = match wanted {
                Wanted::Member(id) => name(id),
                Wanted::Time(id, granularity) => format!("{}.{granularity}", name(id)),
            };
            let column = plan.columns.iter().find(|column| column.key == key);
            let alias = column.map_or(key.as_str(), |column| column.alias.as_str());
            columns.push(format!("{} AS \"__c{at}\"", quote(alias)));
        }
        let sql = plan.statement.literal_sql();
        Ok(Piece {
            sql: format!("(SELECT {} FROM ({sql}) AS planned)", columns.join(", ")),
            inside: self.inside.iter().map(name).collect(),
            query,
        })
    }
}
