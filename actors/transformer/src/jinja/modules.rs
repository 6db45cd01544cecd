//! `modules` and `exceptions`: what dbt lends to templates of Python's library.

use std::fmt;
use std::sync::Arc;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Span, ToSpan, Zoned};
use minijinja::value::{DynObject, Kwargs, Object, ObjectRepr, Rest, Tuple, Value};
use minijinja::{Error, ErrorKind, State};

use super::builtins::RaisedByTemplate;
use super::context::LogSink;
use super::macros::{Arguments, split_keywords, take};
use super::values::MutableList;

fn failed(message: impl ToString) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.to_string())
}

fn raised(message: String) -> Error {
    failed(&message).with_source(RaisedByTemplate(message))
}

/// `exceptions`: each raises what it is told, `warn` only says it.
pub(super) fn exceptions(log: LogSink) -> Value {
    let raise = Value::from_function(|message: Value, _: Arguments| -> Result<Value, Error> {
        Err(raised(message.to_string()))
    });
    let missing_types = Value::from_function(|args: Arguments| -> Result<Value, Error> {
        let (positional, mut keywords) = split_keywords(&args.into_values())?;
        let names = take(&mut keywords, "column_names").or_else(|| positional.first().cloned());
        Err(raised(format!(
            "Contracted models require data_type to be defined for each column.  Please ensure \
             that the column name and data_type are defined within the YAML configuration for the \
             {} column(s).",
            names.unwrap_or_default()
        )))
    });
    let warn = Value::from_function(move |message: Value, _: Arguments| {
        log.warn(&message.to_string());
        String::new()
    });
    let mut entries = vec![("warn", warn), ("column_type_missing", missing_types)];
    for name in [
        "raise_compiler_error",
        "raise_database_error",
        "raise_not_implemented",
        "raise_contract_error",
        "raise_fail_fast_error",
        "raise_dependency_error",
        "raise_duplicate_resource_name",
        "raise_invalid_property_yml_version",
        "raise_ambiguous_alias",
        "missing_config",
        "missing_materialization",
        "missing_relation",
        "relation_wrong_type",
        "warn_snapshot_timestamp_data_types",
    ] {
        entries.push((name, raise.clone()));
    }
    Value::from_pairs(entries)
}

/// `modules`. `now` is the time that the command began: renders read no clock.
pub(super) fn modules(now: &str) -> Value {
    let now = parse_time(now).unwrap_or_default();
    Value::from_pairs([
        ("re", re()),
        ("datetime", datetime(now)),
        ("pytz", pytz()),
        ("itertools", itertools()),
    ])
}

/// A time of RFC 3339 in UTC.
fn parse_time(text: &str) -> Option<DateTime> {
    let time: jiff::Timestamp = text.parse().ok()?;
    Some(time.to_zoned(TimeZone::UTC).datetime())
}

/// `run_started_at`.
pub(super) fn started_at(text: &str) -> Value {
    match parse_time(text) {
        Some(time) => Moment {
            time,
            kind: Kind::Time,
            zone: Some(TimeZone::UTC),
        }
        .value(),
        None => Value::from(text),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Time,
    Date,
}

/// Python's `datetime` or `date`.
#[derive(Clone, Debug)]
struct Moment {
    time: DateTime,
    kind: Kind,
    zone: Option<TimeZone>,
}

impl Moment {
    fn value(self) -> Value {
        Value::from_object(self)
    }

    fn at(&self, time: DateTime) -> Value {
        Self {
            time,
            ..self.clone()
        }
        .value()
    }

    /// `%f` is microseconds for Python and any fraction for the formatter here.
    fn format(&self, format: &str) -> Result<String, Error> {
        let format = format.replace("%f", "%6f");
        let zone = self.zone.clone().unwrap_or(TimeZone::UTC);
        let zoned: Zoned = self.time.to_zoned(zone).map_err(failed)?;
        jiff::fmt::strtime::format(&format, &zoned).map_err(failed)
    }

    fn iso(&self, separator: char) -> String {
        let date = self.time.date();
        if self.kind == Kind::Date {
            return date.to_string();
        }
        let time = self.time.time();
        let micros = time.subsec_nanosecond() / 1_000;
        let fraction = if micros == 0 {
            String::new()
        } else {
            format!(".{micros:06}")
        };
        let zone = match &self.zone {
            Some(zone) => self
                .time
                .to_zoned(zone.clone())
                .map(|zoned| zoned.strftime("%:z").to_string())
                .unwrap_or_default(),
            None => String::new(),
        };
        format!(
            "{date}{separator}{:02}:{:02}:{:02}{fraction}{zone}",
            time.hour(),
            time.minute(),
            time.second()
        )
    }

    fn epoch(&self) -> f64 {
        let zone = self.zone.clone().unwrap_or(TimeZone::UTC);
        self.time
            .to_zoned(zone)
            .map(|zoned| zoned.timestamp().as_nanosecond() as f64 / 1e9)
            .unwrap_or_default()
    }

    fn replaced(&self, keywords: Vec<(String, Value)>) -> Result<Value, Error> {
        let (mut date, mut time) = (self.time.date(), self.time.time());
        let mut zone = self.zone.clone();
        for (name, value) in keywords {
            if name == "tzinfo" {
                zone = zone_of(&value);
                continue;
            }
            let number = value
                .as_i64()
                .ok_or_else(|| failed(format!("replace({name}=…) takes a number")))?;
            let small = number as i8;
            match name.as_str() {
                "year" => date = date.with().year(number as i16).build().map_err(failed)?,
                "month" => date = date.with().month(small).build().map_err(failed)?,
                "day" => date = date.with().day(small).build().map_err(failed)?,
                "hour" => time = time.with().hour(small).build().map_err(failed)?,
                "minute" => time = time.with().minute(small).build().map_err(failed)?,
                "second" => time = time.with().second(small).build().map_err(failed)?,
                "microsecond" => {
                    let nanos = (number * 1_000) as i32;
                    time = time
                        .with()
                        .subsec_nanosecond(nanos)
                        .build()
                        .map_err(failed)?;
                }
                _ => return Err(failed(format!("replace() knows no '{name}'"))),
            }
        }
        Ok(Self {
            time: date.to_datetime(time),
            kind: self.kind,
            zone,
        }
        .value())
    }
}

impl Object for Moment {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let time = self.time;
        Some(match key.as_str()? {
            "year" => Value::from(time.year()),
            "month" => Value::from(time.month()),
            "day" => Value::from(time.day()),
            "hour" => Value::from(time.hour()),
            "minute" => Value::from(time.minute()),
            "second" => Value::from(time.second()),
            "microsecond" => Value::from(time.subsec_nanosecond() / 1_000),
            "tzinfo" => match &self.zone {
                Some(zone) => Value::from_object(Zone(zone.clone())),
                None => Value::from(()),
            },
            _ => return None,
        })
    }

    fn custom_cmp(self: &Arc<Self>, other: &DynObject) -> Option<std::cmp::Ordering> {
        Some(self.time.cmp(&other.downcast_ref::<Self>()?.time))
    }

    fn call_method(
        self: &Arc<Self>,
        _state: &mut State<'_, '_>,
        method: &str,
        args: &[Value],
    ) -> Result<Value, Error> {
        let (positional, keywords) = split_keywords(args)?;
        Ok(match method {
            "strftime" => {
                let format = positional.first().map(ToString::to_string);
                Value::from(self.format(&format.unwrap_or_default())?)
            }
            "isoformat" => Value::from(self.iso('T')),
            "timestamp" => Value::from(self.epoch()),
            "date" => Self {
                kind: Kind::Date,
                time: self.time.date().to_datetime(jiff::civil::Time::midnight()),
                zone: None,
            }
            .value(),
            "weekday" => Value::from(self.time.weekday().to_monday_zero_offset()),
            "isoweekday" => Value::from(self.time.weekday().to_monday_one_offset()),
            "replace" => self.replaced(keywords)?,
            "astimezone" => {
                let zone = positional
                    .first()
                    .and_then(zone_of)
                    .unwrap_or(TimeZone::UTC);
                let here = self.zone.clone().unwrap_or(TimeZone::UTC);
                let zoned = self.time.to_zoned(here).map_err(failed)?;
                Self {
                    time: zoned.with_time_zone(zone.clone()).datetime(),
                    kind: self.kind,
                    zone: Some(zone),
                }
                .value()
            }
            // Templates with `… - modules.datetime.timedelta(…)` are rewritten to call these.
            "__add__" | "__sub__" => {
                let other = positional.first().cloned().unwrap_or_default();
                if let Some(other) = other.downcast_object_ref::<Self>() {
                    let span = self.epoch() - other.epoch();
                    return Ok(Value::from_object(Delta { seconds: span }));
                }
                let delta = other
                    .downcast_object_ref::<Delta>()
                    .ok_or_else(|| failed("a time takes a timedelta"))?;
                let sign = if method == "__add__" { 1.0 } else { -1.0 };
                let span: Span = ((delta.seconds * sign * 1e6) as i64).microseconds();
                self.at(self.time.checked_add(span).map_err(failed)?)
            }
            _ => return Err(Error::from(ErrorKind::UnknownMethod)),
        })
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.iso(' '))
    }
}

/// Python's `timedelta`.
#[derive(Clone, Debug)]
struct Delta {
    seconds: f64,
}

impl Object for Delta {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        Some(match key.as_str()? {
            "days" => Value::from((self.seconds / 86_400.0).floor() as i64),
            "seconds" => Value::from(self.seconds.rem_euclid(86_400.0) as i64),
            _ => return None,
        })
    }

    fn call_method(
        self: &Arc<Self>,
        _state: &mut State<'_, '_>,
        method: &str,
        _args: &[Value],
    ) -> Result<Value, Error> {
        match method {
            "total_seconds" => Ok(Value::from(self.seconds)),
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = (self.seconds / 86_400.0).floor() as i64;
        let rest = self.seconds.rem_euclid(86_400.0) as i64;
        if days != 0 {
            write!(f, "{days} day{}, ", if days.abs() == 1 { "" } else { "s" })?;
        }
        write!(f, "{}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60)
    }
}

#[derive(Debug)]
struct Zone(TimeZone);

impl Object for Zone {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call_method(
        self: &Arc<Self>,
        _state: &mut State<'_, '_>,
        method: &str,
        args: &[Value],
    ) -> Result<Value, Error> {
        let given = args
            .first()
            .and_then(|value| value.downcast_object_ref::<Moment>());
        match (method, given) {
            ("localize", Some(moment)) => Ok(Moment {
                zone: Some(self.0.clone()),
                ..moment.clone()
            }
            .value()),
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.iana_name().unwrap_or("UTC"))
    }
}

fn zone_of(value: &Value) -> Option<TimeZone> {
    value
        .downcast_object_ref::<Zone>()
        .map(|zone| zone.0.clone())
}

fn pytz() -> Value {
    let timezone = Value::from_function(|name: String| {
        let zone = TimeZone::get(&name).map_err(failed)?;
        Ok::<_, Error>(Value::from_object(Zone(zone)))
    });
    Value::from_pairs([
        ("timezone", timezone),
        ("utc", Value::from_object(Zone(TimeZone::UTC))),
        ("UTC", Value::from_object(Zone(TimeZone::UTC))),
    ])
}

/// `datetime.datetime`, `datetime.date`: called, they make a time; they hold the ways to get one.
#[derive(Debug)]
struct MomentClass {
    kind: Kind,
    now: DateTime,
}

impl MomentClass {
    fn made(&self, time: DateTime) -> Value {
        let kind = self.kind;
        Moment {
            time,
            kind,
            zone: None,
        }
        .value()
    }
}

impl Object for MomentClass {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, _state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        let (positional, mut keywords) = split_keywords(args)?;
        let names = [
            "year",
            "month",
            "day",
            "hour",
            "minute",
            "second",
            "microsecond",
        ];
        let mut parts = [0_i64; 7];
        for (index, name) in names.iter().enumerate() {
            let given = positional
                .get(index)
                .cloned()
                .or_else(|| take(&mut keywords, name));
            parts[index] = match given.as_ref() {
                Some(value) => match value.as_i64() {
                    Some(number) => number,
                    // Numbers that came as text of a YAML value.
                    None => value.to_string().parse().map_err(failed)?,
                },
                None if index < 3 => return Err(failed(format!("a date has no '{name}'"))),
                None => 0,
            };
        }
        let [year, month, day, hour, minute, second, micro] = parts;
        let time = DateTime::new(
            year as i16,
            month as i8,
            day as i8,
            hour as i8,
            minute as i8,
            second as i8,
            (micro * 1_000) as i32,
        );
        Ok(self.made(time.map_err(failed)?))
    }

    fn call_method(
        self: &Arc<Self>,
        _state: &mut State<'_, '_>,
        method: &str,
        args: &[Value],
    ) -> Result<Value, Error> {
        let (positional, mut keywords) = split_keywords(args)?;
        let text = |index: usize| {
            positional
                .get(index)
                .map(ToString::to_string)
                .unwrap_or_default()
        };
        Ok(match method {
            "now" | "utcnow" | "today" => {
                let zone = positional
                    .first()
                    .cloned()
                    .or_else(|| take(&mut keywords, "tz"));
                match zone.as_ref().and_then(zone_of) {
                    Some(zone) => {
                        let utc = self.now.to_zoned(TimeZone::UTC).map_err(failed)?;
                        let time = utc.with_time_zone(zone.clone()).datetime();
                        Moment {
                            time,
                            kind: Kind::Time,
                            zone: Some(zone),
                        }
                        .value()
                    }
                    None => self.made(self.now),
                }
            }
            "strptime" => {
                let parsed = jiff::fmt::strtime::parse(text(1), text(0)).map_err(failed)?;
                let time = parsed.to_datetime().or_else(|_| {
                    let date = parsed.to_date()?;
                    Ok::<_, jiff::Error>(date.to_datetime(jiff::civil::Time::midnight()))
                });
                self.made(time.map_err(failed)?)
            }
            "fromisoformat" => {
                let time: DateTime = text(0).parse().map_err(failed)?;
                self.made(time)
            }
            "fromtimestamp" | "utcfromtimestamp" => {
                let seconds: f64 = text(0).parse().map_err(failed)?;
                let time = jiff::Timestamp::from_nanosecond((seconds * 1e9) as i128);
                let zoned = time.map_err(failed)?.to_zoned(TimeZone::UTC);
                self.made(zoned.datetime())
            }
            "combine" => {
                let time = positional
                    .first()
                    .and_then(|value| value.downcast_object_ref::<Moment>())
                    .ok_or_else(|| failed("combine() takes a date and a time"))?;
                self.made(time.time)
            }
            _ => return Err(Error::from(ErrorKind::UnknownMethod)),
        })
    }
}

fn datetime(now: DateTime) -> Value {
    let class = |kind: Kind| Value::from_object(MomentClass { kind, now });
    let timedelta = Value::from_function(|args: Arguments| {
        let (positional, keywords) = split_keywords(&args.into_values())?;
        let unit = |name: &str| match name {
            "weeks" => 604_800.0,
            "days" => 86_400.0,
            "hours" => 3_600.0,
            "minutes" => 60.0,
            "milliseconds" => 1e-3,
            "microseconds" => 1e-6,
            _ => 1.0,
        };
        let number = |value: &Value| value.to_string().parse::<f64>().map_err(failed);
        let mut seconds = 0.0;
        for (value, name) in positional.iter().zip(["days", "seconds", "microseconds"]) {
            seconds += number(value)? * unit(name);
        }
        for (name, value) in keywords {
            seconds += number(&value)? * unit(&name);
        }
        Ok::<_, Error>(Value::from_object(Delta { seconds }))
    });
    let utc = Value::from_object(Zone(TimeZone::UTC));
    Value::from_pairs([
        ("datetime", class(Kind::Time)),
        ("date", class(Kind::Date)),
        ("timedelta", timedelta),
        ("timezone", Value::from_pairs([("utc", utc)])),
    ])
}

fn itertools() -> Value {
    let chain = Value::from_function(|lists: Rest<Value>| {
        let mut all = Vec::new();
        for list in lists.iter() {
            all.extend(list.try_iter()?);
        }
        Ok::<_, Error>(MutableList::value(all))
    });
    let product = Value::from_function(|lists: Rest<Value>| {
        let mut rows: Vec<Vec<Value>> = vec![Vec::new()];
        for list in lists.iter() {
            let items: Vec<Value> = list.try_iter()?.collect();
            rows = rows
                .into_iter()
                .flat_map(|row| {
                    items.iter().map(move |item| {
                        let mut row = row.clone();
                        row.push(item.clone());
                        row
                    })
                })
                .collect();
        }
        let rows = rows.into_iter().map(|row| Value::from(Tuple::new(row)));
        Ok::<_, Error>(MutableList::value(rows.collect()))
    });
    let combinations = Value::from_function(|list: Value, size: usize| {
        let items: Vec<Value> = list.try_iter()?.collect();
        let mut rows: Vec<Vec<usize>> = vec![Vec::new()];
        for _ in 0..size {
            rows = rows
                .into_iter()
                .flat_map(|row| {
                    let from = row.last().map_or(0, |last| last + 1);
                    (from..items.len()).map(move |next| {
                        let mut row = row.clone();
                        row.push(next);
                        row
                    })
                })
                .collect();
        }
        let rows = rows.into_iter().map(|row| {
            let row = row.into_iter().map(|index| items[index].clone());
            Value::from(Tuple::new(row.collect::<Vec<_>>()))
        });
        Ok::<_, Error>(MutableList::value(rows.collect()))
    });
    Value::from_pairs([
        ("chain", chain),
        ("product", product),
        ("combinations", combinations),
    ])
}

/// A match of a regular expression.
#[derive(Debug)]
struct Match {
    groups: Vec<Option<String>>,
    names: Vec<Option<String>>,
    span: (usize, usize),
}

impl Match {
    fn group(&self, key: Option<&Value>) -> Value {
        let index = match key {
            None => Some(0),
            Some(key) => match key.as_str() {
                Some(name) => self
                    .names
                    .iter()
                    .position(|known| known.as_deref() == Some(name)),
                None => key.as_usize(),
            },
        };
        let found = index
            .and_then(|index| self.groups.get(index))
            .cloned()
            .flatten();
        found.map_or_else(|| Value::from(()), Value::from)
    }
}

impl Object for Match {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call_method(
        self: &Arc<Self>,
        _state: &mut State<'_, '_>,
        method: &str,
        args: &[Value],
    ) -> Result<Value, Error> {
        Ok(match method {
            "group" => self.group(args.first()),
            "groups" => {
                let groups = self.groups.iter().skip(1).cloned();
                let groups = groups.map(|text| text.map_or_else(|| Value::from(()), Value::from));
                Value::from(Tuple::new(groups.collect::<Vec<_>>()))
            }
            "start" => Value::from(self.span.0),
            "end" => Value::from(self.span.1),
            _ => return Err(Error::from(ErrorKind::UnknownMethod)),
        })
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<re.Match object; match={:?}>", self.groups.first())
    }
}

fn compiled(pattern: &str, ignore_case: bool) -> Result<regex::Regex, Error> {
    regex::RegexBuilder::new(pattern)
        .case_insensitive(ignore_case)
        .build()
        .map_err(failed)
}

fn matched(regex: &regex::Regex, text: &str) -> Value {
    let Some(found) = regex.captures(text) else {
        return Value::from(());
    };
    let whole = found.get(0).map_or((0, 0), |at| (at.start(), at.end()));
    let groups = found
        .iter()
        .map(|group| group.map(|group| group.as_str().to_owned()))
        .collect();
    let names = regex.capture_names().map(|name| name.map(str::to_owned));
    Value::from_object(Match {
        groups,
        names: names.collect(),
        span: whole,
    })
}

/// Python's `\1` and `\g<name>` as `${…}`.
fn replacement(text: &str) -> String {
    let escaped = text.replace('$', "$$");
    let numbered = regex::Regex::new(r"\\(\d+)").expect("a literal pattern");
    let named = regex::Regex::new(r"\\g<(\w+)>").expect("a literal pattern");
    let once = numbered.replace_all(&escaped, "$${$1}");
    named.replace_all(&once, "$${$1}").into_owned()
}

fn re() -> Value {
    // Flags come as one of the names below, by position or as `flags=`.
    let call = |run: fn(&[String], bool) -> Result<Value, Error>| {
        Value::from_function(move |args: Arguments| {
            let (positional, mut keywords) = split_keywords(&args.into_values())?;
            let given = take(&mut keywords, "flags");
            let flag = |value: &Value| value.as_str() == Some("IGNORECASE");
            let ignore_case = given.iter().chain(&positional).any(flag);
            let texts: Vec<String> = positional
                .iter()
                .filter(|value| !flag(value))
                .map(ToString::to_string)
                .collect();
            if texts.len() < 2 {
                return Err(failed(
                    "a function of modules.re takes a pattern and a text",
                ));
            }
            run(&texts, ignore_case)
        })
    };
    let findall = |texts: &[String], ignore_case: bool| {
        let regex = compiled(&texts[0], ignore_case)?;
        let found = regex
            .captures_iter(&texts[1])
            .map(|groups| match groups.len() {
                1 => Value::from(&groups[0]),
                2 => Value::from(groups.get(1).map_or("", |group| group.as_str())),
                _ => {
                    let row = groups.iter().skip(1);
                    let row =
                        row.map(|group| Value::from(group.map_or("", |group| group.as_str())));
                    Value::from(Tuple::new(row.collect::<Vec<_>>()))
                }
            });
        Ok(MutableList::value(found.collect()))
    };
    let sub = |texts: &[String], ignore_case: bool| {
        let text = texts.get(2).ok_or_else(|| failed("re.sub takes a text"))?;
        let regex = compiled(&texts[0], ignore_case)?;
        let replaced = regex.replace_all(text, replacement(&texts[1]).as_str());
        Ok(Value::from(replaced.into_owned()))
    };
    let split = |texts: &[String], ignore_case: bool| {
        let regex = compiled(&texts[0], ignore_case)?;
        let parts = regex.split(&texts[1]).map(Value::from);
        Ok(MutableList::value(parts.collect()))
    };
    let escape = Value::from_function(|text: String, _: Kwargs| regex::escape(&text));
    Value::from_pairs([
        (
            "match",
            call(|texts, case| {
                Ok(matched(
                    &compiled(&format!("^(?:{})", texts[0]), case)?,
                    &texts[1],
                ))
            }),
        ),
        (
            "fullmatch",
            call(|texts, case| {
                Ok(matched(
                    &compiled(&format!("^(?:{})$", texts[0]), case)?,
                    &texts[1],
                ))
            }),
        ),
        (
            "search",
            call(|texts, case| Ok(matched(&compiled(&texts[0], case)?, &texts[1]))),
        ),
        ("findall", call(findall)),
        ("sub", call(sub)),
        ("split", call(split)),
        ("escape", escape),
        ("IGNORECASE", Value::from("IGNORECASE")),
        ("I", Value::from("IGNORECASE")),
    ])
}
