//! Random valid queries against an evaluation that shares nothing with the planner: rows fetched
//! once, joined, filtered, grouped and aggregated here, one by one.
//!
//! `BALLPOINT_FUZZ=10000` asks more of them than the few of a test run, `BALLPOINT_FUZZ_SEED` others.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test reads how many cases it is asked for, and says what it covered"
)]

use std::collections::{BTreeMap, BTreeSet};

use ballpoint_metrics::SecurityContext;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use serde_json::{Value, json};

use crate::support::Shop;
use crate::support::dice::Dice;
use crate::support::rows::{Joined, Line, Order, Tables};

const QUERIES: u64 = 300;
const ZONES: [&str; 3] = ["UTC", "Asia/Kolkata", "America/New_York"];

/// A query as this test means it.
#[derive(Clone, Debug, Default)]
struct Asked {
    measures: Vec<&'static str>,
    dimensions: Vec<&'static str>,
    granularity: Option<&'static str>,
    range: Option<(Date, Date)>,
    zone: &'static str,
    filters: Vec<(&'static str, &'static str, Vec<&'static str>)>,
    /// One of two filters, instead of both.
    either: bool,
    having: Option<i64>,
    heavy: bool,
}

const MEASURES: [&str; 12] = [
    "Orders.count",
    "Orders.total",
    "Orders.units",
    "Orders.least",
    "Orders.most",
    "Orders.mean",
    "Orders.kinds",
    "Orders.paid",
    "Orders.paidShare",
    "Customers.count",
    "Lines.count",
    "Lines.quantity",
];
const DIMENSIONS: [&str; 4] = [
    "Orders.status",
    "Customers.city",
    "Customers.vip",
    "Lines.product",
];
const GRANULARITIES: [&str; 6] = ["hour", "day", "week", "month", "quarter", "year"];

fn asked(dice: &mut Dice) -> Asked {
    let mut asked = Asked {
        measures: dice.some(&MEASURES, 4),
        dimensions: dice.some(&DIMENSIONS, 2),
        zone: dice.one(&ZONES),
        ..Asked::default()
    };
    if asked.measures.is_empty() {
        asked.measures.push("Orders.count");
    }
    if dice.roll(2) == 0 {
        asked.granularity = Some(dice.one(&GRANULARITIES));
    }
    if dice.roll(2) == 0 {
        let from = Date::constant(2025, 11, 1) + i64::try_from(dice.roll(300)).unwrap().days();
        let days = i64::try_from(dice.roll(200)).unwrap();
        asked.range = Some((from, from + days.days()));
    }
    for _ in 0..dice.roll(3) {
        let filter = match dice.roll(6) {
            0 => ("Orders.status", "equals", vec!["open"]),
            1 => ("Orders.status", "notEquals", vec!["paid"]),
            2 => ("Customers.city", "equals", vec!["Pune", "Lyon"]),
            3 => ("Customers.city", "notEquals", vec!["Pune"]),
            4 => ("Customers.city", dice.one(&["set", "notSet"]), vec![]),
            _ => ("Lines.product", "contains", vec!["N"]),
        };
        asked.filters.push(filter);
    }
    asked.either = asked.filters.len() == 2 && dice.roll(2) == 0;
    if asked.measures.contains(&"Orders.count") && dice.roll(3) == 0 {
        asked.having = Some(i64::try_from(dice.roll(20)).unwrap());
    }
    asked.heavy = dice.roll(6) == 0;
    let cubes = asked.cubes();
    if cubes.len() == 2 && !cubes.contains("Orders") {
        // Only orders lead to both of the others.
        asked.measures.push("Orders.count");
    }
    asked
}

impl Asked {
    fn cubes(&self) -> BTreeSet<&'static str> {
        let names = self
            .measures
            .iter()
            .chain(&self.dimensions)
            .chain(self.filters.iter().map(|(name, _, _)| name));
        let mut cubes: BTreeSet<&str> = names.map(|name| name.split('.').next().unwrap()).collect();
        if self.heavy || self.granularity.is_some() || self.range.is_some() {
            cubes.insert("Orders");
        }
        cubes
    }

    /// Whether a join repeats rows of a measure.
    fn fans_out(&self) -> bool {
        let cubes = self.cubes();
        let of = |cube: &str| self.measures.iter().any(|name| name.starts_with(cube));
        (cubes.contains("Lines") && (of("Orders") || of("Customers")))
            || (of("Customers") && cubes.len() > 1)
    }

    fn query(&self) -> Value {
        let mut query = json!({ "measures": self.measures, "dimensions": self.dimensions, "timezone": self.zone, "limit": 50_000 });
        let mut time = json!({ "dimension": "Orders.placedAt" });
        if let Some(granularity) = self.granularity {
            time["granularity"] = json!(granularity);
        }
        if let Some((from, to)) = self.range {
            time["dateRange"] = json!([from.to_string(), to.to_string()]);
        }
        if self.granularity.is_some() || self.range.is_some() {
            query["timeDimensions"] = json!([time]);
        }
        let one = |(member, operator, values): &(&str, &str, Vec<&str>)| {
            let mut filter = json!({ "member": member, "operator": operator });
            if !values.is_empty() {
                filter["values"] = json!(values);
            }
            filter
        };
        let mut filters: Vec<Value> = self.filters.iter().map(one).collect();
        if self.either {
            filters = vec![json!({ "or": filters })];
        }
        if let Some(least) = self.having {
            filters.push(json!({ "member": "Orders.count", "operator": "gt", "values": [least.to_string()] }));
        }
        query["filters"] = json!(filters);
        if self.heavy {
            query["segments"] = json!(["Orders.heavy"]);
        }
        query
    }

    fn keeps(&self, row: &Joined<'_>) -> bool {
        let (order, customer, line) = row;
        if self.heavy && !order.is_some_and(|it| it.weight > 1.0) {
            return false;
        }
        if let Some((from, to)) = self.range {
            let zone = TimeZone::get(self.zone).unwrap();
            let start = from.to_zoned(zone.clone()).unwrap().timestamp();
            let end = to.tomorrow().unwrap().to_zoned(zone).unwrap().timestamp();
            if !order
                .and_then(|it| it.at)
                .is_some_and(|at| at >= start && at < end)
            {
                return false;
            }
        }
        let holds = |(member, operator, values): &(&str, &str, Vec<&str>)| {
            let value: Option<&str> = match *member {
                "Orders.status" => order.map(|it| it.status.as_str()),
                "Customers.city" => customer.and_then(|it| it.city.as_deref()),
                _ => line.map(|it| it.product.as_str()),
            };
            match *operator {
                "equals" => value.is_some_and(|value| values.contains(&value)),
                "notEquals" => value.is_none_or(|value| !values.contains(&value)),
                "set" => value.is_some(),
                "notSet" => value.is_none(),
                _ => value
                    .is_some_and(|value| value.to_lowercase().contains(&values[0].to_lowercase())),
            }
        };
        match self.either {
            true => self.filters.iter().any(holds),
            false => self.filters.iter().all(holds),
        }
    }

    fn key(&self, (order, customer, line): &Joined<'_>) -> Vec<Option<String>> {
        let mut key: Vec<Option<String>> = Vec::new();
        for name in &self.dimensions {
            key.push(match *name {
                "Orders.status" => order.map(|it| it.status.clone()),
                "Customers.city" => customer.and_then(|it| it.city.clone()),
                "Customers.vip" => customer.map(|it| it.vip.to_string()),
                _ => line.map(|it| it.product.clone()),
            });
        }
        if let Some(granularity) = self.granularity {
            let at = order.and_then(|it| it.at);
            key.push(at.map(|at| bucket(at, granularity, self.zone)));
        }
        key
    }

    /// The rows of the answer, each as its dimensions and measures.
    fn evaluate(&self, tables: &Tables) -> BTreeMap<Vec<Option<String>>, Vec<Option<f64>>> {
        let joined = tables.joined(&self.cubes());
        let mut groups: BTreeMap<Vec<Option<String>>, Vec<Joined<'_>>> = BTreeMap::new();
        if self.dimensions.is_empty() && self.granularity.is_none() {
            groups.insert(Vec::new(), Vec::new());
        }
        for row in joined.into_iter().filter(|row| self.keeps(row)) {
            groups.entry(self.key(&row)).or_default().push(row);
        }
        let many = |rows: &Vec<Joined<'_>>| {
            self.having.is_none_or(|least| {
                measure("Orders.count", rows).is_some_and(|count| count > least as f64)
            })
        };
        let shown = groups.into_iter().filter(|(_, rows)| many(rows));
        shown
            .map(|(key, rows)| {
                (
                    key,
                    self.measures
                        .iter()
                        .map(|name| measure(name, &rows))
                        .collect(),
                )
            })
            .collect()
    }
}

fn bucket(at: Timestamp, granularity: &str, zone: &str) -> String {
    let local = at.to_zoned(TimeZone::get(zone).unwrap()).datetime();
    let date = local.date();
    let day = match granularity {
        "hour" | "day" => date,
        "week" => date - i64::from(date.weekday().to_monday_zero_offset()).days(),
        "month" => date.first_of_month(),
        "quarter" => Date::new(date.year(), (date.month() - 1) / 3 * 3 + 1, 1).unwrap(),
        _ => Date::new(date.year(), 1, 1).unwrap(),
    };
    let hour = if granularity == "hour" {
        local.hour()
    } else {
        0
    };
    let start: DateTime = day.at(hour, 0, 0, 0);
    start.strftime("%Y-%m-%dT%H:%M:%S.000").to_string()
}

/// A measure over the distinct rows of its own cube.
#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn measure(name: &str, rows: &[Joined<'_>]) -> Option<f64> {
    let orders: BTreeMap<i64, &Order> = rows
        .iter()
        .filter_map(|it| it.0)
        .map(|it| (it.id, it))
        .collect();
    let customers: BTreeSet<i64> = rows.iter().filter_map(|it| it.1).map(|it| it.id).collect();
    let lines: BTreeMap<i64, &Line> = rows
        .iter()
        .filter_map(|it| it.2)
        .map(|it| (it.id, it))
        .collect();
    let amounts: Vec<i64> = orders.values().filter_map(|it| it.amount).collect();
    let paid = || orders.values().filter(|it| it.status == "paid").count() as f64;
    let count = orders.len() as f64;
    let sum = |values: &mut dyn Iterator<Item = i64>| {
        values.fold(None, |sum: Option<i64>, it| Some(sum.unwrap_or(0) + it))
    };
    let hundredths = |value: i64| value as f64 / 100.0;
    match name {
        "Orders.count" => Some(count),
        "Orders.total" => sum(&mut amounts.iter().copied()).map(hundredths),
        "Orders.units" => sum(&mut orders.values().map(|it| it.units)).map(|it| it as f64),
        "Orders.least" => amounts.iter().min().copied().map(hundredths),
        "Orders.most" => amounts.iter().max().copied().map(hundredths),
        "Orders.mean" => {
            sum(&mut amounts.iter().copied()).map(|it| hundredths(it) / amounts.len() as f64)
        }
        "Orders.kinds" => Some(
            orders
                .values()
                .map(|it| it.units)
                .collect::<BTreeSet<_>>()
                .len() as f64,
        ),
        "Orders.paid" => Some(paid()),
        "Orders.paidShare" => (count > 0.0).then(|| 100.0 * paid() / count),
        "Customers.count" => Some(customers.len() as f64),
        "Lines.count" => Some(lines.len() as f64),
        _ => sum(&mut lines.values().map(|it| it.quantity)).map(|it| it as f64),
    }
}

/// The reply's rows in the same form.
fn found(asked: &Asked, body: &Value) -> BTreeMap<Vec<Option<String>>, Vec<Option<f64>>> {
    let text = |value: &Value| match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    let mut rows = BTreeMap::new();
    for row in body["data"].as_array().unwrap() {
        let mut key: Vec<Option<String>> = asked
            .dimensions
            .iter()
            .map(|name| text(&row[*name]))
            .collect();
        if let Some(granularity) = asked.granularity {
            key.push(text(&row[format!("Orders.placedAt.{granularity}")]));
        }
        let values = asked
            .measures
            .iter()
            .map(|name| text(&row[*name]).map(|it| it.parse().unwrap()));
        assert!(
            rows.insert(key, values.collect()).is_none(),
            "a group twice: {row}"
        );
    }
    rows
}

fn near(a: &[Option<f64>], b: &[Option<f64>]) -> bool {
    a.iter().zip(b).all(|pair| match pair {
        (None, None) => true,
        (Some(a), Some(b)) => (a - b).abs() <= 1e-9 * a.abs().max(1.0),
        _ => false,
    })
}

#[tokio::test]
async fn random_queries_give_what_an_evaluation_of_its_own_gives() {
    let number = |name: &str, otherwise: u64| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(otherwise)
    };
    let (queries, seed) = (
        number("BALLPOINT_FUZZ", QUERIES),
        number("BALLPOINT_FUZZ_SEED", 7),
    );
    let shop = Shop::open().await;
    let service = shop
        .rolled_up(&["Orders.byDay", "Orders.exact", "Orders.withLines"])
        .await;
    let tables = Tables::fetch(&shop).await;
    let mut dice = Dice(seed);
    let (mut fans, mut abroad, mut rolled, mut empty) = (0_u64, 0_u64, 0_u64, 0_u64);
    for at in 0..queries {
        let asked = asked(&mut dice);
        fans += u64::from(asked.fans_out());
        let timed = asked.granularity.is_some() || asked.range.is_some();
        abroad += u64::from(timed && asked.zone != "UTC");
        let request = json!({ "query": asked.query() });
        let nobody = SecurityContext::default();
        rolled += u64::from(
            service
                .explain(&request, &nobody)
                .unwrap()
                .iter()
                .any(|it| it.used),
        );
        let reply = service.load(&request, &nobody).await;
        assert_eq!(reply.status, 200, "query {at}: {request}: {}", reply.body);
        let (expected, found) = (asked.evaluate(&tables), found(&asked, &reply.body));
        empty += u64::from(expected.is_empty());
        let keys = |of: &BTreeMap<Vec<Option<String>>, Vec<Option<f64>>>| {
            of.keys().cloned().collect::<Vec<_>>()
        };
        assert_eq!(keys(&found), keys(&expected), "query {at}: {request}");
        for (key, values) in &expected {
            assert!(
                near(values, &found[key]),
                "query {at}: {request}: {key:?}: {values:?} {:?}",
                found[key]
            );
        }
    }
    let share = |part: u64| part * 100 / queries;
    println!(
        "{queries} queries of seed {seed} agree: joins with fan-out {} %, other time zones {} %, answered by a rollup {} %, without a row {} %",
        share(fans),
        share(abroad),
        share(rolled),
        share(empty)
    );
    assert!(share(fans) >= 20 && share(abroad) >= 20 && share(empty) <= 50);
    shop.close().await;
}
