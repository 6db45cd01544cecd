//! What differs for a while.

use super::{Compiler, check_share};
use crate::{
    parameters::{Drift, EpisodeEntry},
    plan::{Column, ColumnId, DriftPlan, Episode, FailurePlan, LiftPlan, Problem, Rule},
};

impl Compiler {
    pub(super) fn episode(
        &mut self,
        entry: &EpisodeEntry,
        columns: &[Column],
        failure: &FailurePlan,
    ) -> Result<Episode, Problem> {
        self.episode_plan(entry, columns, failure)
            .map_err(|message| Problem {
                near: vec!["episodes:".to_owned(), format!("name: {}", entry.name)],
                message: format!("episode `{}`: {message}", entry.name),
            })
    }

    fn episode_plan(
        &mut self,
        entry: &EpisodeEntry,
        columns: &[Column],
        failure: &FailurePlan,
    ) -> Result<Episode, String> {
        let [first_day, last_day] = entry.days_ago;
        if first_day <= last_day {
            return Err("`days_ago` goes from the earlier day, the larger number".to_owned());
        }
        let mut filter = Vec::new();
        for (name, value) in &entry.filter {
            let id = self.ids.get(name).copied();
            let symbol = self.symbol(value);
            let id = id.ok_or_else(|| format!("`{name}` is no column"))?;
            let possible = match &columns[id].rule {
                Rule::Shares(entries) => entries.contains(&symbol),
                Rule::Lookup { values, .. } => values.iter().any(|(_, value)| *value == symbol),
                _ => return Err(format!("`{name}` is no column with shares or a lookup")),
            };
            if !possible {
                return Err(format!("`{name}` is never `{value}`"));
            }
            filter.push((id, symbol));
        }
        if let Some(rate) = entry.failure_rate {
            check_share(rate)?;
        }
        let mut scale = Vec::new();
        for (name, factor) in &entry.scale {
            scale.push((self.measurement(name, columns)?.0, *factor));
        }
        Ok(Episode {
            first_day,
            last_day,
            filter,
            failure_rate: entry.failure_rate,
            defects_allowed: self.defects_allowed(entry, failure)?,
            scale,
            lift: self.lift(entry, columns)?,
            drift: self.drift(entry, columns)?,
        })
    }

    fn defects_allowed(
        &mut self,
        entry: &EpisodeEntry,
        failure: &FailurePlan,
    ) -> Result<u64, String> {
        let mut bit = |name: &String| {
            let symbol = self.symbol(name);
            let at = failure
                .defects
                .iter()
                .position(|defect| defect.symbol == symbol);
            at.map(|at| 1_u64 << at)
                .ok_or_else(|| format!("no defect is called `{name}`"))
        };
        let mut allowed = match &entry.defect {
            Some(name) => bit(name)?,
            None => u64::MAX >> (64 - failure.defects.len()),
        };
        for name in &entry.without_defects {
            allowed &= !bit(name)?;
        }
        if allowed == 0 {
            Err("no defect is left".to_owned())
        } else {
            Ok(allowed)
        }
    }

    fn lift(&self, entry: &EpisodeEntry, columns: &[Column]) -> Result<Option<LiftPlan>, String> {
        let Some(lift) = &entry.lift else {
            return Ok(None);
        };
        let id = self.ids.get(&lift.product).copied();
        let factors = id.and_then(|id| match &columns[id].rule {
            Rule::Product { of, .. } => Some(of.clone()),
            _ => None,
        });
        let factors = factors.ok_or_else(|| format!("`{}` is no product", lift.product))?;
        if lift.by <= 0.0 || !(0.0..=1.0).contains(&lift.at_most) {
            return Err("`by` is above 0 and `at_most` within 0..1".to_owned());
        }
        Ok(Some(LiftPlan {
            factors,
            by: lift.by,
            at_most: lift.at_most,
        }))
    }

    fn drift(
        &self,
        entry: &EpisodeEntry,
        columns: &[Column],
    ) -> Result<Vec<(ColumnId, DriftPlan)>, String> {
        let days = entry.days_ago[0] - entry.days_ago[1];
        let resolve = |(name, drift): (&String, &Drift)| {
            let (id, between) = self.measurement(name, columns)?;
            if i64::try_from(drift.levels.len()) != Ok(days) {
                return Err(format!(
                    "`{name}` has {} levels for {days} days",
                    drift.levels.len()
                ));
            }
            let unit = 10_f64.powi(i32::from(between.decimals));
            let levels = drift.levels.iter().map(|level| level * unit).collect();
            Ok((
                id,
                DriftPlan {
                    levels,
                    spread: drift.spread * unit,
                },
            ))
        };
        entry.drift.iter().map(resolve).collect()
    }
}
