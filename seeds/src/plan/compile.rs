//! From the document to the plan, refusing whatever contradicts itself.

use std::collections::BTreeMap;

use super::{
    BetweenPlan, Column, ColumnId, Defect, DriftPlan, Episode, FailurePlan, FlagCondition,
    LiftPlan, Plan, Problem, Rule, Symbol, Ticks,
};
use crate::{
    calendar::within,
    draw::{SHUFFLE_MAX, salt},
    parameters::{
        Between, ColumnEntry, Document, EpisodeEntry, Failure, Flag, HourRange, Lookup, Only,
    },
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

    fn columns(&mut self) -> Result<Vec<Column>, Problem> {
        let entries = std::mem::take(&mut self.entries);
        let columns = entries
            .iter()
            .map(|entry| {
                let rule = self
                    .rule(entry, &entries)
                    .map_err(|message| in_column(&entry.name, &message))?;
                Ok(Column {
                    name: entry.name.clone(),
                    salt: salt(&entry.name),
                    rule,
                })
            })
            .collect();
        self.entries = entries;
        columns
    }

    fn rule(&mut self, entry: &ColumnEntry, all: &[ColumnEntry]) -> Result<Rule, String> {
        let mut rules = Vec::new();
        if entry.time.is_some() {
            rules.push(Rule::Time);
        }
        if let Some(shares) = &entry.shares {
            rules.push(self.shares(shares)?);
        }
        if let Some(lookup) = &entry.lookup {
            rules.push(self.lookup(lookup, all)?);
        }
        if let Some(batch) = &entry.batch {
            if batch.every_hours == 0 {
                return Err("`every_hours` is at least 1".to_owned());
            }
            rules.push(Rule::Batch(batch.clone()));
        }
        if let Some(ranges) = &entry.hours {
            rules.push(self.hours(ranges)?);
        }
        if let Some(numbered) = &entry.numbered {
            if numbered.count == 0 {
                return Err("`count` is at least 1".to_owned());
            }
            rules.push(Rule::Numbered(numbered.clone()));
        }
        if let Some(outcome) = &entry.outcome {
            let (good, failed) = (self.symbol(&outcome.good), self.symbol(&outcome.failed));
            rules.push(Rule::Outcome { good, failed });
        }
        if entry.defect == Some(true) {
            rules.push(Rule::Defect);
        }
        if let Some(flag) = &entry.flag {
            rules.push(self.flag(flag, all)?);
        }
        if let Some(between) = &entry.between {
            rules.push(Rule::Between(self.between(between, all)?));
        }
        if let Some(swing) = &entry.swing {
            check_decimals(swing.decimals)?;
            rules.push(Rule::Swing(swing.clone()));
        }
        if let Some(product) = &entry.product {
            check_decimals(product.decimals)?;
            let of = product.of.iter().map(|name| {
                let id = self.ids.get(name).copied();
                id.filter(|id| all[*id].between.is_some() || all[*id].swing.is_some())
                    .ok_or_else(|| format!("`{name}` is no column with numbers"))
            });
            let of = of.collect::<Result<_, _>>()?;
            rules.push(Rule::Product {
                of,
                decimals: product.decimals,
            });
        }
        match (rules.pop(), rules.is_empty()) {
            (Some(rule), true) => Ok(rule),
            (None, _) => Err("nothing says what it holds".to_owned()),
            (Some(_), false) => Err("more than one key says what it holds".to_owned()),
        }
    }

    fn shares(&mut self, shares: &BTreeMap<String, u32>) -> Result<Rule, String> {
        let divisor = shares
            .values()
            .copied()
            .fold(0, greatest_common_divisor)
            .max(1);
        let mut entries = Vec::new();
        for (value, share) in shares {
            let symbol = self.symbol(value);
            entries.extend(std::iter::repeat_n(symbol, (share / divisor) as usize));
        }
        match entries.len() {
            0 => Err("the shares are all zero".to_owned()),
            1..=SHUFFLE_MAX => Ok(Rule::Shares(entries)),
            many => Err(format!(
                "the shares reduce to {many} parts, at most {SHUFFLE_MAX} are possible"
            )),
        }
    }

    /// A column of `shares`, whose values others may follow from.
    fn category(&self, name: &str, all: &[ColumnEntry]) -> Result<ColumnId, String> {
        let id = self.ids.get(name).copied();
        id.filter(|id| all[*id].shares.is_some())
            .ok_or_else(|| format!("`{name}` is no column with shares"))
    }

    fn lookup(&mut self, lookup: &Lookup, all: &[ColumnEntry]) -> Result<Rule, String> {
        let of = self.category(&lookup.of, all)?;
        let keys: Vec<&String> = all[of].shares.iter().flat_map(BTreeMap::keys).collect();
        for key in &keys {
            if !lookup.values.contains_key(*key) {
                return Err(format!("no value for `{key}` of `{}`", lookup.of));
            }
        }
        for key in lookup.values.keys() {
            if !keys.contains(&key) {
                return Err(format!("`{}` is never `{key}`", lookup.of));
            }
        }
        let values = lookup.values.iter();
        let values = values
            .map(|(key, value)| (self.symbol(key), self.symbol(value)))
            .collect();
        Ok(Rule::Lookup { of, values })
    }

    fn hours(&mut self, ranges: &[HourRange]) -> Result<Rule, String> {
        let mut hours = [0; 24];
        for (hour, symbol) in (0_u8..).zip(hours.iter_mut()) {
            let mut covering = ranges
                .iter()
                .filter(|range| within(hour, range.from, range.to));
            let range = covering
                .next()
                .ok_or_else(|| format!("no value for the hour {hour}"))?;
            if covering.next().is_some() {
                return Err(format!("two values for the hour {hour}"));
            }
            *symbol = self.symbol(&range.value);
        }
        Ok(Rule::Hours(hours))
    }

    fn flag(&self, flag: &Flag, all: &[ColumnEntry]) -> Result<Rule, String> {
        check_share(flag.share)?;
        let condition = match (flag.only, &flag.unless) {
            (None, None) => FlagCondition::Any,
            (Some(Only::Good), None) => FlagCondition::Good,
            (None, Some(other)) => {
                let id = self.ids.get(other).copied();
                let found = id.and_then(|id| Some((id, all[id].flag.as_ref()?)));
                let (id, other_flag) =
                    found.ok_or_else(|| format!("`{other}` is no column with a flag"))?;
                if other_flag.unless.is_some() {
                    return Err(format!("`{other}` itself depends on a flag"));
                }
                if flag.share > 1.0 - other_flag.share {
                    return Err(format!("its share leaves no room beside that of `{other}`"));
                }
                FlagCondition::Unless {
                    flag: id,
                    share: other_flag.share,
                }
            }
            (Some(_), Some(_)) => return Err("either `only` or `unless`, not both".to_owned()),
        };
        Ok(Rule::Flag {
            share: flag.share,
            condition,
        })
    }

    fn between(&mut self, between: &Between, all: &[ColumnEntry]) -> Result<BetweenPlan, String> {
        check_decimals(between.decimals)?;
        let decimals = between.decimals;
        let by = match &between.by {
            None => None,
            Some(by) => {
                let column = self.category(&by.column, all)?;
                let known = all[column].shares.as_ref();
                let mut ranges = Vec::new();
                for (value, range) in &by.ranges {
                    if !known.is_some_and(|known| known.contains_key(value)) {
                        return Err(format!("`{}` is never `{value}`", by.column));
                    }
                    ranges.push((self.symbol(value), ticks_of_range(*range, decimals)?));
                }
                Some((column, ranges))
            }
        };
        Ok(BetweenPlan {
            decimals,
            range: ticks_of_range(between.range, decimals)?,
            weekend: ticks(between.weekend, decimals)?,
            night: ticks(between.night, decimals)?,
            by,
        })
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

    /// A share of all units that only good units can have must leave room for the failed ones.
    fn check_flags(&self, columns: &[Column], failure: &FailurePlan) -> Result<(), Problem> {
        let good = 1.0 - (failure.rate + failure.weekend.max(0.0) + failure.night.max(0.0));
        for column in columns {
            if let Rule::Flag {
                share,
                condition: FlagCondition::Good,
            } = column.rule
                && share > good + 1e-9
            {
                return Err(in_column(
                    &column.name,
                    "its share leaves no room for failed units",
                ));
            }
        }
        Ok(())
    }

    fn episode(
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
        let resolve = |(name, drift): (&String, &crate::parameters::Drift)| {
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

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 {
        a
    } else {
        greatest_common_divisor(b, a % b)
    }
}
