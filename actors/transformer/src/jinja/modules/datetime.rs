//! Python's `datetime` and `pytz`: moments, spans of time, time zones.

use std::fmt;
use std::sync::Arc;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Span, ToSpan, Zoned};
use minijinja::value::{DynObject, Object, ObjectRepr, Value};
use minijinja::{Error, ErrorKind, State};

use super::failed;
use crate::jinja::macros::{Arguments, split_keywords, take};

/// A time of RFC 3339 in UTC.
pub(super) fn parse_time(text: &str) -> Option<DateTime> {
    let time: jiff::Timestamp = text.parse().ok()?;
    Some(time.to_zoned(TimeZone::UTC).datetime())
}

/// `run_started_at`.
pub(in crate::jinja) fn started_at(text: &str) -> Value {
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
        match self.time.to_zoned(zone) {
            Ok(zoned) => zoned.timestamp().as_nanosecond() as f64 / 1e9,
            // The first and the last day of the calendar are no moments in every zone.
            Err(_) => {
                let unix = jiff::civil::date(1970, 1, 1).at(0, 0, 0, 0);
                self.time.duration_since(unix).as_secs_f64()
            }
        }
    }

    fn replaced(&self, keywords: Vec<(String, Value)>) -> Result<Value, Error> {
        let (mut date, mut time) = (self.time.date(), self.time.time());
        let mut zone = self.zone.clone();
        for (name, value) in keywords {
            if name == "tzinfo" {
                zone = zone_of(&value).map(unlocalized);
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
        let other = other.downcast_ref::<Self>()?;
        // Two that have zones are moments; one without is a reading of a clock.
        match (&self.zone, &other.zone) {
            (Some(_), Some(_)) => self.epoch().partial_cmp(&other.epoch()),
            _ => Some(self.time.cmp(&other.time)),
        }
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

/// A zone of pytz as it is before it is told a time: its oldest offset, to the minute. Who gives it
/// to a time instead of `localize` gets that.
fn unlocalized(zone: TimeZone) -> TimeZone {
    let seconds = zone.to_offset(jiff::Timestamp::MIN).seconds();
    let minutes = (f64::from(seconds) / 60.0).round() as i32;
    jiff::tz::Offset::from_seconds(minutes * 60).map_or(zone, TimeZone::fixed)
}

fn zone_of(value: &Value) -> Option<TimeZone> {
    value
        .downcast_object_ref::<Zone>()
        .map(|zone| zone.0.clone())
}

pub(super) fn pytz() -> Value {
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
        self.made_in(time, None)
    }

    fn made_in(&self, time: DateTime, zone: Option<TimeZone>) -> Value {
        let kind = self.kind;
        Moment { time, kind, zone }.value()
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
        let zone = take(&mut keywords, "tzinfo").or_else(|| positional.get(7).cloned());
        let zone = zone.as_ref().and_then(zone_of).map(unlocalized);
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
        Ok(self.made_in(time.map_err(failed)?, zone))
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
                let text = text(0);
                let pieces = jiff::fmt::temporal::Pieces::parse(&text).map_err(failed)?;
                let midnight = jiff::civil::Time::midnight();
                let time = pieces.date().to_datetime(pieces.time().unwrap_or(midnight));
                self.made_in(time, pieces.to_numeric_offset().map(TimeZone::fixed))
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

pub(super) fn datetime(now: DateTime) -> Value {
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
