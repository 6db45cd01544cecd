//! From the document to the plan, refusing whatever contradicts itself.

mod columns;
mod episodes;

use std::collections::BTreeMap;

use super::{
    BetweenPlan, Column, ColumnId, Defect, FailurePlan, FlagCondition, Plan, Problem, Rule, Symbol,
    Ticks,
};
use crate::{
    draw::salt,
    parameters::{ColumnEntry, Document, Failure},
};

/// Decimals beyond this would overflow the ticks of a product.
const DECIMALS_MAX: u8 = 6;

impl Plan {
    pub(crate) fn compile(document: Document) -> Result<Self, Problem> {
        let near_table = vec!["table:".to_owned()];
        if document.table.split('.').count() != 2 {
            return Err(Problem {
                near: near_table,
                message: "`table` is schema.table".to_owned(),
            });
        }
        let days = document.window.days;
        if days == 0 {
            let near = vec!["window:".to_owned()];
            return Err(Problem {
                near,
                message: "the window has no day".to_owned(),
            });
        }
        let mut compiler = Compiler::over(document.columns)?;
        let columns = compiler.columns()?;
        let failure = compiler.failure(&document.failure, &columns)?;
        compiler.check_flags(&columns, &failure)?;
        let episodes = document
            .episodes
            .iter()
            .map(|entry| compiler.episode(entry, &columns, &failure))
            .collect::<Result<_, _>>()?;
        let of_rank = |wanted: u8| -> Vec<ColumnId> {
            let mut ids: Vec<_> = (0..columns.len())
                .filter(|id| rank(&columns[*id].rule).0 == wanted)
                .collect();
            ids.sort_by_key(|id| rank(&columns[*id].rule).1);
            ids
        };
        Ok(Self {
            table: document.table,
            days,
            calendar: document.calendar,
            categories: of_rank(0),
            measurements: of_rank(1),
            derived: of_rank(2),
            failure,
            columns,
            episodes,
            symbols: compiler.symbols,
        })
    }
}

/// When a column is made: categories (0), then, the outcome known, what does not depend on other
/// measurements (1), then what does (2); within the first, lookups come last.
fn rank(rule: &Rule) -> (u8, u8) {
    match rule {
        Rule::Lookup { .. } => (0, 1),
        Rule::Time | Rule::Shares(_) | Rule::Batch(_) | Rule::Hours(_) | Rule::Numbered(_) => {
            (0, 0)
        }
        Rule::Flag {
            condition: FlagCondition::Unless { .. },
            ..
        }
        | Rule::Product { .. } => (2, 0),
        Rule::Outcome { .. }
        | Rule::Defect
        | Rule::Flag { .. }
        | Rule::Between(_)
        | Rule::Swing(_) => (1, 0),
    }
}

struct Compiler {
    entries: Vec<ColumnEntry>,
    ids: BTreeMap<String, ColumnId>,
    symbols: Vec<String>,
}

impl Compiler {
    fn over(entries: Vec<ColumnEntry>) -> Result<Self, Problem> {
        let mut ids = BTreeMap::new();
        for (id, entry) in entries.iter().enumerate() {
            if ids.insert(entry.name.clone(), id).is_some() {
                return Err(in_column(&entry.name, "it is listed twice"));
            }
        }
        Ok(Self {
            entries,
            ids,
            symbols: Vec::new(),
        })
    }

    fn symbol(&mut self, text: &str) -> Symbol {
        let escaped = text
            .replace('\\', "\\\\")
            .replace('\t', "\\t")
            .replace('\n', "\\n")
            .replace('\r', "\\r");
        let known = self.symbols.iter().position(|symbol| *symbol == escaped);
        let index = known.unwrap_or_else(|| {
            self.symbols.push(escaped);
            self.symbols.len() - 1
        });
        Symbol::try_from(index).expect("a parameter file holds fewer than 2^32 texts")
    }

    fn ranges(
        &self,
        ranges: &BTreeMap<String, [f64; 2]>,
        columns: &[Column],
    ) -> Result<Vec<(ColumnId, Ticks)>, String> {
        let resolve = |(name, range): (&String, &[f64; 2])| {
            let (id, between) = self.measurement(name, columns)?;
            Ok((id, ticks_of_range(*range, between.decimals)?))
        };
        ranges.iter().map(resolve).collect()
    }

    fn measurement<'a>(
        &self,
        name: &str,
        columns: &'a [Column],
    ) -> Result<(ColumnId, &'a BetweenPlan), String> {
        let id = self.ids.get(name).copied();
        id.and_then(|id| match &columns[id].rule {
            Rule::Between(between) => Some((id, between)),
            _ => None,
        })
        .ok_or_else(|| format!("`{name}` is no column with a range"))
    }

    fn failure(&mut self, failure: &Failure, columns: &[Column]) -> Result<FailurePlan, Problem> {
        let near = |more: &str| vec!["failure:".to_owned(), format!("{more}:")];
        let problem = |at: &str, message: String| Problem {
            near: near(at),
            message,
        };
        let highest = failure.rate + failure.weekend.max(0.0) + failure.night.max(0.0);
        check_share(failure.rate).map_err(|message| problem("rate", message))?;
        check_share(highest).map_err(|message| problem("rate", message))?;
        if failure.defects.is_empty() || failure.defects.len() > 64 {
            return Err(problem(
                "defects",
                "between 1 and 64 defects are possible".to_owned(),
            ));
        }
        let mut defects = Vec::new();
        for (name, defect) in &failure.defects {
            if defect.weight == 0 {
                return Err(problem(name, "`weight` is at least 1".to_owned()));
            }
            let measurements = self
                .ranges(&defect.measurements, columns)
                .map_err(|message| problem(name, message))?;
            defects.push(Defect {
                symbol: self.symbol(name),
                weight: defect.weight,
                measurements,
            });
        }
        let measurements = self
            .ranges(&failure.measurements, columns)
            .map_err(|message| problem("measurements", message))?;
        Ok(FailurePlan {
            rate: failure.rate,
            weekend: failure.weekend,
            night: failure.night,
            salt: salt("failure"),
            measurements,
            defects,
        })
    }
}

fn in_column(name: &str, message: &str) -> Problem {
    Problem {
        near: vec!["columns:".to_owned(), format!("name: {name}")],
        message: format!("column `{name}`: {message}"),
    }
}

fn check_share(share: f64) -> Result<(), String> {
    if (0.0..=1.0).contains(&share) {
        Ok(())
    } else {
        Err(format!("{share} is no share: it lies outside 0..1"))
    }
}

fn check_decimals(decimals: u8) -> Result<(), String> {
    if decimals <= DECIMALS_MAX {
        Ok(())
    } else {
        Err(format!("at most {DECIMALS_MAX} decimals"))
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "rounded, and checked to be near the value"
)]
fn ticks(value: f64, decimals: u8) -> Result<i64, String> {
    let exact = value * 10_f64.powi(i32::from(decimals));
    let rounded = exact.round();
    if (exact - rounded).abs() > 1e-6 || rounded.abs() > 1e12 {
        return Err(format!("{value} does not fit {decimals} decimals"));
    }
    Ok(rounded as i64)
}

fn ticks_of_range([low, high]: [f64; 2], decimals: u8) -> Result<Ticks, String> {
    let range = Ticks {
        low: ticks(low, decimals)?,
        high: ticks(high, decimals)?,
    };
    if range.low > range.high {
        return Err("the range ends below its start".to_owned());
    }
    Ok(range)
}
