//! One unit: from its hour and number to a line of COPY text.

use std::io::Write as _;

use crate::{
    calendar::Slot,
    draw::{below, fraction, mix, shuffled, unit_key},
    parameters::Swing,
    plan::{BetweenPlan, ColumnId, Episode, FlagCondition, LiftPlan, Plan, Rule, Symbol, Ticks},
};

/// The value of one column.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cell {
    Null,
    /// The moment of the inspection.
    Time,
    Symbol(Symbol),
    /// A number behind a prefix.
    Number(u32),
    Flag(bool),
    /// A number in units of its last decimal.
    Ticks(i64),
}

/// Makes rows one after the other, reusing its memory.
#[derive(Debug)]
pub(crate) struct RowMaker {
    table_key: u64,
    /// UTC days since 1970 of the day that is nought days ago.
    today: i64,
    cells: Vec<Cell>,
    /// Episodes the unit at hand is in.
    active: Vec<usize>,
}

/// A unit's place: its hour, its number within the hour, and when within the hour.
pub(crate) struct Unit<'a> {
    pub(crate) slot: &'a Slot,
    pub(crate) number: u64,
    pub(crate) millis: u32,
}

impl RowMaker {
    pub(crate) fn new(plan: &Plan, seed: u64, today: i64) -> Self {
        Self {
            table_key: mix(seed) ^ crate::draw::salt(&plan.table),
            today,
            cells: vec![Cell::Null; plan.columns.len()],
            active: Vec::new(),
        }
    }

    /// Appends the unit's line to `out`.
    pub(crate) fn write(&mut self, plan: &Plan, id: u64, unit: &Unit<'_>, out: &mut Vec<u8>) {
        self.make(plan, unit);
        write!(out, "{id}").expect("writing to memory succeeds");
        for (column, cell) in plan.columns.iter().zip(&self.cells) {
            out.push(b'\t');
            write_cell(plan, &column.rule, *cell, unit, out);
        }
        out.push(b'\n');
    }

    fn make(&mut self, plan: &Plan, unit: &Unit<'_>) {
        let key = unit_key(self.table_key, unit.slot.hour, unit.number);
        for &id in &plan.categories {
            self.cells[id] = self.category(plan, id, key, unit);
        }
        self.find_episodes(plan, unit.slot);
        let rate = plan.failure_rate(unit.slot);
        let draw = mix(key ^ plan.failure.salt);
        let forced = self
            .active
            .iter()
            .rev()
            .find_map(|&at| plan.episodes[at].failure_rate);
        let failed = fraction(draw) < forced.unwrap_or(rate);
        let defect = failed.then(|| self.defect(plan, mix(draw)));
        for &id in &plan.measurements {
            let draw = mix(key ^ plan.columns[id].salt);
            self.cells[id] = match &plan.columns[id].rule {
                Rule::Outcome { good, failed: bad } => {
                    Cell::Symbol(if failed { *bad } else { *good })
                }
                Rule::Defect => defect.map_or(Cell::Null, |at| {
                    Cell::Symbol(plan.failure.defects[at].symbol)
                }),
                Rule::Flag {
                    share,
                    condition: FlagCondition::Good,
                } => Cell::Flag(!failed && fraction(draw) < share / (1.0 - rate)),
                Rule::Flag { share, .. } => Cell::Flag(fraction(draw) < *share),
                Rule::Between(between) => {
                    Cell::Ticks(self.measure(plan, id, between, defect, unit.slot, draw))
                }
                Rule::Swing(swing) => Cell::Ticks(swing_ticks(swing, unit.slot)),
                _ => Cell::Null,
            };
        }
        for &at in &self.active {
            if let Some(lift) = &plan.episodes[at].lift {
                raise(plan, lift, &mut self.cells);
            }
        }
        for &id in &plan.derived {
            self.cells[id] = self.derived(plan, id, mix(key ^ plan.columns[id].salt));
        }
    }

    fn category(&self, plan: &Plan, id: ColumnId, key: u64, unit: &Unit<'_>) -> Cell {
        let column = &plan.columns[id];
        let slot = unit.slot;
        match &column.rule {
            Rule::Time => Cell::Time,
            Rule::Shares(entries) => {
                let length = i64::try_from(entries.len()).expect("at most 100 entries");
                let block = unit_key(
                    self.table_key ^ column.salt,
                    slot.hour.div_euclid(length),
                    unit.number,
                );
                let position = slot.hour.rem_euclid(length) as usize;
                Cell::Symbol(entries[shuffled(block, entries.len(), position)])
            }
            Rule::Lookup { of, values } => {
                let found = values
                    .iter()
                    .find(|(key, _)| Cell::Symbol(*key) == self.cells[*of]);
                found.map_or(Cell::Null, |(_, value)| Cell::Symbol(*value))
            }
            Rule::Batch(batch) => {
                let number = slot.hour.div_euclid(i64::from(batch.every_hours));
                let names = 10_i64.pow(u32::from(batch.digits.min(9)));
                Cell::Number(u32::try_from(number.rem_euclid(names)).unwrap_or_default())
            }
            Rule::Hours(symbols) => Cell::Symbol(symbols[usize::from(slot.hour_of_day)]),
            Rule::Numbered(numbered) => {
                let draw = mix(key ^ column.salt);
                let number = 1 + below(draw, u64::from(numbered.count));
                Cell::Number(u32::try_from(number).unwrap_or(numbered.count))
            }
            _ => Cell::Null,
        }
    }

    fn find_episodes(&mut self, plan: &Plan, slot: &Slot) {
        let days_ago = self.today - slot.day;
        let cells = &self.cells;
        let applies = |episode: &Episode| {
            (episode.last_day < days_ago && days_ago <= episode.first_day)
                && episode
                    .filter
                    .iter()
                    .all(|(id, symbol)| cells[*id] == Cell::Symbol(*symbol))
        };
        self.active.clear();
        let active = (0..plan.episodes.len()).filter(|at| applies(&plan.episodes[*at]));
        self.active.extend(active);
    }

    /// Index of one of the defects all active episodes allow, by weight.
    fn defect(&self, plan: &Plan, draw: u64) -> usize {
        let episodes = self.active.iter().map(|&at| &plan.episodes[at]);
        let allowed = episodes.fold(u64::MAX, |allowed, episode| {
            allowed & episode.defects_allowed
        });
        // Episodes that exclude each other's defects leave none: then any may occur.
        let allowed = if allowed == 0 { u64::MAX } else { allowed };
        let defects = || {
            let all = plan.failure.defects.iter().enumerate();
            all.filter(move |(at, _)| allowed >> at & 1 == 1)
        };
        let total: u64 = defects().map(|(_, defect)| u64::from(defect.weight)).sum();
        let mut left = below(draw, total);
        for (at, defect) in defects() {
            match left.checked_sub(u64::from(defect.weight)) {
                Some(rest) => left = rest,
                None => return at,
            }
        }
        0
    }

    fn measure(
        &self,
        plan: &Plan,
        id: ColumnId,
        between: &BetweenPlan,
        defect: Option<usize>,
        slot: &Slot,
        draw: u64,
    ) -> i64 {
        let out_of_range = defect.and_then(|at| {
            let own = &plan.failure.defects[at].measurements;
            own.iter()
                .chain(&plan.failure.measurements)
                .find(|(column, _)| *column == id)
        });
        if let Some((_, range)) = out_of_range {
            return within_ticks(*range, draw);
        }
        let mut value = within_ticks(self.range(between), draw);
        value += if slot.weekend { between.weekend } else { 0 };
        value += if slot.night { between.night } else { 0 };
        for &at in &self.active {
            let episode = &plan.episodes[at];
            if let Some((_, drift)) = episode.drift.iter().find(|(column, _)| *column == id) {
                let day = episode.first_day - (self.today - slot.day);
                let level = usize::try_from(day)
                    .ok()
                    .and_then(|day| drift.levels.get(day));
                let offset = (fraction(draw) * 2.0 - 1.0) * drift.spread;
                value = level.map_or(value, |level| round(level + offset));
            }
            if let Some((_, factor)) = episode.scale.iter().find(|(column, _)| *column == id) {
                value = round(to_float(value) * factor);
            }
        }
        value
    }

    fn range(&self, between: &BetweenPlan) -> Ticks {
        let special = between.by.as_ref().and_then(|(column, ranges)| {
            ranges
                .iter()
                .find(|(symbol, _)| self.cells[*column] == Cell::Symbol(*symbol))
        });
        special.map_or(between.range, |(_, range)| *range)
    }

    fn derived(&self, plan: &Plan, id: ColumnId, draw: u64) -> Cell {
        match &plan.columns[id].rule {
            Rule::Flag {
                share,
                condition: FlagCondition::Unless { flag, share: other },
            } => {
                let possible = self.cells[*flag] == Cell::Flag(false);
                Cell::Flag(possible && fraction(draw) < share / (1.0 - other))
            }
            Rule::Product { of, decimals } => {
                Cell::Ticks(product(plan, of, *decimals, &self.cells))
            }
            _ => Cell::Null,
        }
    }
}

impl Plan {
    /// The share of failed units in an hour, apart from episodes.
    fn failure_rate(&self, slot: &Slot) -> f64 {
        let failure = &self.failure;
        failure.rate
            + if slot.weekend { failure.weekend } else { 0.0 }
            + if slot.night { failure.night } else { 0.0 }
    }
}

/// Raises each factor to the power that makes their product `by` times itself: all move towards 1
/// and none beyond it, which a common multiple would not keep.
fn raise(plan: &Plan, lift: &LiftPlan, cells: &mut [Cell]) {
    let unit = |id: ColumnId| {
        let decimals = plan.columns[id].rule.decimals().unwrap_or_default();
        10_f64.powi(i32::from(decimals))
    };
    let value = |id: ColumnId, cells: &[Cell]| match cells[id] {
        Cell::Ticks(ticks) => to_float(ticks) / unit(id),
        _ => 1.0,
    };
    let before: f64 = lift.factors.iter().map(|id| value(*id, cells)).product();
    if !(0.0..1.0).contains(&before) || before == 0.0 {
        return;
    }
    let after = (before * lift.by).min(lift.at_most).max(before);
    let power = after.ln() / before.ln();
    for &id in &lift.factors {
        cells[id] = Cell::Ticks(round(value(id, cells).powf(power) * unit(id)));
    }
}

/// The product of stored values, rounded half away from zero as PostgreSQL's `round` does.
fn product(plan: &Plan, of: &[ColumnId], decimals: u8, cells: &[Cell]) -> i64 {
    let mut ticks: i128 = 1;
    let mut scale: u32 = 0;
    for &id in of {
        if let Cell::Ticks(factor) = cells[id] {
            ticks *= i128::from(factor);
            scale += u32::from(plan.columns[id].rule.decimals().unwrap_or_default());
        }
    }
    let wanted = u32::from(decimals);
    let rounded = if scale > wanted {
        let divisor = 10_i128.pow(scale - wanted);
        (ticks + ticks.signum() * (divisor / 2)) / divisor
    } else {
        ticks * 10_i128.pow(wanted - scale)
    };
    i64::try_from(rounded).unwrap_or(i64::MAX)
}

fn within_ticks(range: Ticks, draw: u64) -> i64 {
    let width = (range.high - range.low).unsigned_abs() + 1;
    range.low + below(draw, width).cast_signed()
}

fn swing_ticks(swing: &Swing, slot: &Slot) -> i64 {
    let turn = std::f64::consts::TAU;
    let day = (f64::from(slot.hour_of_day) - swing.warmest_hour) / 24.0;
    let year = (f64::from(slot.day_of_year) - swing.warmest_day) / 365.25;
    let value = swing.mean + swing.daily * (turn * day).cos() + swing.yearly * (turn * year).cos();
    round(value * 10_f64.powi(i32::from(swing.decimals)))
}

#[expect(clippy::cast_precision_loss, reason = "ticks are far below 2^53")]
fn to_float(ticks: i64) -> f64 {
    ticks as f64
}

#[expect(clippy::cast_possible_truncation, reason = "ticks are far below 2^53")]
fn round(value: f64) -> i64 {
    value.round() as i64
}

fn write_cell(plan: &Plan, rule: &Rule, cell: Cell, unit: &Unit<'_>, out: &mut Vec<u8>) {
    let written = match (cell, rule) {
        (Cell::Null, _) => out.write_all(b"\\N"),
        (Cell::Time, _) => write_time(unit, out),
        (Cell::Symbol(symbol), _) => out.write_all(plan.symbols[symbol as usize].as_bytes()),
        (Cell::Flag(flag), _) => out.write_all(if flag { b"t" } else { b"f" }),
        (Cell::Number(number), Rule::Batch(batch)) => {
            write!(
                out,
                "{}{number:0width$}",
                batch.prefix,
                width = usize::from(batch.digits)
            )
        }
        (Cell::Number(number), Rule::Numbered(numbered)) => {
            write!(
                out,
                "{}{number:0width$}",
                numbered.prefix,
                width = usize::from(numbered.digits)
            )
        }
        (Cell::Number(number), _) => write!(out, "{number}"),
        (Cell::Ticks(ticks), rule) => write_ticks(ticks, rule.decimals().unwrap_or_default(), out),
    };
    written.expect("writing to memory succeeds");
}

fn write_time(unit: &Unit<'_>, out: &mut Vec<u8>) -> std::io::Result<()> {
    let (seconds, millis) = (unit.millis / 1_000, unit.millis % 1_000);
    let (minute, second) = (seconds / 60, seconds % 60);
    write!(out, "{}:{minute:02}:{second:02}", unit.slot.prefix)?;
    if millis > 0 {
        write!(out, ".{millis:03}")?;
    }
    out.write_all(b"+00")
}

fn write_ticks(ticks: i64, decimals: u8, out: &mut Vec<u8>) -> std::io::Result<()> {
    if ticks < 0 {
        out.push(b'-');
    }
    let unit = 10_u64.pow(u32::from(decimals));
    let (whole, part) = (ticks.unsigned_abs() / unit, ticks.unsigned_abs() % unit);
    match decimals {
        0 => write!(out, "{whole}"),
        _ => write!(out, "{whole}.{part:0width$}", width = usize::from(decimals)),
    }
}
