//! What each column holds.

use std::collections::BTreeMap;

use super::{Compiler, check_decimals, check_share, in_column, ticks, ticks_of_range};
use crate::{
    calendar::within,
    draw::{SHUFFLE_MAX, salt},
    parameters::{Between, ColumnEntry, Flag, HourRange, Lookup, Only},
    plan::{BetweenPlan, Column, ColumnId, FailurePlan, FlagCondition, Problem, Rule},
};

impl Compiler {
    pub(super) fn columns(&mut self) -> Result<Vec<Column>, Problem> {
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

    /// A share of all units that only good units can have must leave room for the failed ones.
    pub(super) fn check_flags(
        &self,
        columns: &[Column],
        failure: &FailurePlan,
    ) -> Result<(), Problem> {
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
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 {
        a
    } else {
        greatest_common_divisor(b, a % b)
    }
}
