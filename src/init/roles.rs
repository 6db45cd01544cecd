//! What a column is for, judged by its type, its name and what its sample holds.

use ballpoint_source::profile::ColumnProfile;

/// The part that a column plays in questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Identifies a row, here or elsewhere: counted, never added up.
    Key,
    /// A moment or day.
    Time,
    /// A text that tells rows apart.
    Category,
    /// Yes or no.
    Flag,
    /// A number that adds up: an amount, a quantity.
    Additive,
    /// A number that does not add up: a temperature, a price, a score.
    Level,
    /// A number that names something: a year, a floor.
    Ordinal,
    /// Kept in the staging model, not asked about: documents, lists, bytes, secrets.
    Opaque,
}

impl Role {
    /// Whether measures are made of it.
    pub(crate) fn is_measured(self) -> bool {
        matches!(self, Self::Additive | Self::Level)
    }
}

#[rustfmt::skip]
const KEY_WORDS: &[&str] = &["id", "uuid", "guid", "key", "fk", "pk", "oid"];
#[rustfmt::skip]
const ORDINAL_WORDS: &[&str] = &[
    "year", "month", "day", "week", "weekday", "quarter", "hour", "minute", "semester", "term",
    "period", "floor", "room", "zip", "postcode", "postal", "code", "phone", "fax", "number", "no",
    "nr", "num", "seq", "sequence", "position", "sort", "version", "revision", "port", "lat",
    "latitude", "lon", "lng", "longitude", "class", "tier", "rank", "line", "house", "build",
];
#[rustfmt::skip]
const LEVEL_WORDS: &[&str] = &[
    "temperature", "temp", "humidity", "pressure", "price", "rate", "ratio", "percent", "pct",
    "percentage", "score", "grade", "rating", "age", "speed", "velocity", "voltage", "level",
    "height", "width", "depth", "gpa", "average", "avg", "mean", "median", "max", "min", "maximum",
    "minimum", "fraction", "share", "index", "density", "concentration", "threshold", "limit",
    "frequency", "ph", "salary", "wage", "margin", "factor", "coefficient", "stars", "mark",
    "reading", "measurement", "value", "tax", "size", "brightness", "co2", "offset", "drift",
];
#[rustfmt::skip]
const SECRET_WORDS: &[&str] = &["password", "passwd", "secret", "token", "hash", "salt", "apikey"];

/// Judges one column; `is_key` says that it is part of a primary or foreign key.
pub(crate) fn judge(column: &ColumnProfile, words: &[String], is_key: bool) -> Role {
    let has = |list: &[&str]| words.iter().any(|word| list.contains(&word.as_str()));
    if has(SECRET_WORDS) {
        return Role::Opaque;
    }
    let base = plain_type(&column.base_type);
    if column.base_type.ends_with("[]") {
        return Role::Opaque;
    }
    match base {
        _ if !column.enum_labels.is_empty() => Role::Category,
        "boolean" => Role::Flag,
        "date" => Role::Time,
        _ if base.starts_with("timestamp") => Role::Time,
        _ if is_key => Role::Key,
        "uuid" => Role::Key,
        "text" | "character varying" | "character" | "citext" | "name" => Role::Category,
        "money" | "interval" => Role::Additive,
        "smallint" | "integer" | "bigint" | "numeric" | "real" | "double precision" => {
            let last = words.last().map_or("", String::as_str);
            if KEY_WORDS.contains(&last) {
                Role::Key
            } else if names_a_place(&has) || names_a_rank(&has) && is_whole(base, column) {
                Role::Ordinal
            } else if has(LEVEL_WORDS) {
                Role::Level
            } else {
                Role::Additive
            }
        }
        _ => Role::Opaque,
    }
}

fn names_a_place(has: &impl Fn(&[&str]) -> bool) -> bool {
    has(&["latitude", "longitude", "lat", "lon", "lng"])
}

fn names_a_rank(has: &impl Fn(&[&str]) -> bool) -> bool {
    has(ORDINAL_WORDS) && !has(LEVEL_WORDS)
}

/// The name of a type without its modifier: `numeric(8,2)` → `numeric`.
pub(crate) fn plain_type(sql_type: &str) -> &str {
    let name = sql_type.split('(').next().unwrap_or_default().trim();
    if name == "\"char\"" {
        "character"
    } else {
        name
    }
}

fn is_whole(base: &str, column: &ColumnProfile) -> bool {
    matches!(base, "smallint" | "integer" | "bigint") || column.base_type.ends_with(",0)")
}

/// A unit at the end of a name, with how to write it.
#[rustfmt::skip]
const UNITS: &[(&str, &str)] = &[
    ("c", "°C"), ("celsius", "°C"), ("f", "°F"), ("fahrenheit", "°F"), ("pct", "percent"),
    ("percent", "percent"), ("kg", "kg"), ("g", "g"), ("grams", "g"), ("mm", "mm"), ("cm", "cm"),
    ("m", "m"), ("km", "km"), ("eur", "EUR"), ("usd", "USD"), ("gbp", "GBP"), ("cents", "cents"),
    ("seconds", "seconds"), ("secs", "seconds"), ("sec", "seconds"), ("ms", "ms"),
    ("minutes", "minutes"), ("mins", "minutes"), ("hours", "hours"), ("hrs", "hours"),
    ("ppm", "ppm"), ("hpa", "hPa"), ("kpa", "kPa"), ("pa", "Pa"), ("lux", "lux"), ("db", "dB"),
    ("kwh", "kWh"), ("kw", "kW"), ("mv", "mV"), ("hz", "Hz"), ("rpm", "rpm"), ("kmh", "km/h"),
    ("l", "l"), ("ml", "ml"), ("m3", "m³"),
];

/// The words without a unit at their end, and the unit.
pub(crate) fn unit(words: &[String]) -> (&[String], Option<&'static str>) {
    let found = words
        .split_last()
        .filter(|(_, rest)| !rest.is_empty())
        .and_then(|(last, rest)| {
            let (_, unit) = UNITS.iter().find(|(short, _)| short == last)?;
            Some((rest, *unit))
        });
    found.map_or((words, None), |(rest, unit)| (rest, Some(unit)))
}

/// How well a time column says when a row happened; the greatest is the table's own time.
pub(crate) fn happening(words: &[String], noun: &[String]) -> u8 {
    let has = |list: &[&str]| words.iter().any(|word| list.contains(&word.as_str()));
    let late = [
        "updated", "modified", "changed", "synced", "deleted", "expires", "expired", "expiry",
        "birth", "birthday", "dob", "born", "due", "end", "ended", "until", "valid", "last",
        "next",
    ];
    let after = [
        "shipped",
        "delivered",
        "closed",
        "cancelled",
        "canceled",
        "completed",
        "returned",
        "finished",
        "resolved",
        "confirmed",
        "paid",
    ];
    let own = [
        "timestamp",
        "time",
        "ts",
        "datetime",
        "recorded",
        "measured",
        "occurred",
        "ordered",
        "placed",
        "sold",
        "started",
        "enrolled",
        "issued",
        "booked",
        "event",
        "raised",
        "graded",
        "taken",
        "start",
    ];
    if has(&late) {
        0
    } else if has(&after) && !words.iter().any(|word| noun.contains(word)) {
        1
    } else if has(&["created", "inserted", "loaded"]) {
        2
    } else if has(&own) || words.iter().any(|word| noun.contains(word)) || words == ["date"] {
        4
    } else {
        3
    }
}

#[cfg(test)]
mod tests {
    use super::super::names::words;
    use super::*;

    fn role(name: &str, base_type: &str) -> Role {
        let column = ColumnProfile {
            name: name.to_owned(),
            base_type: base_type.to_owned(),
            ..ColumnProfile::default()
        };
        judge(&column, &words(name), false)
    }

    #[test]
    fn a_column_is_judged_by_type_and_name() {
        for (name, base_type, expected) in [
            ("amount", "numeric(8,2)", Role::Additive),
            ("quantity", "integer", Role::Additive),
            ("unit_price", "numeric(8,2)", Role::Level),
            ("temperature_c", "double precision", Role::Level),
            ("external_id", "bigint", Role::Key),
            ("year", "integer", Role::Ordinal),
            ("postcode", "integer", Role::Ordinal),
            ("latitude", "double precision", Role::Ordinal),
            ("is_open", "boolean", Role::Flag),
            ("placed_at", "timestamp with time zone", Role::Time),
            ("country", "character varying(40)", Role::Category),
            ("tags", "text[]", Role::Opaque),
            ("payload", "jsonb", Role::Opaque),
            ("password_hash", "text", Role::Opaque),
            ("duration", "interval", Role::Additive),
        ] {
            assert_eq!(role(name, base_type), expected, "{name} {base_type}");
        }
    }

    #[test]
    fn the_time_at_which_something_happened_comes_first() {
        let noun = words("order");
        let mut names = [
            "updated_at",
            "created_at",
            "shipped_at",
            "ordered_at",
            "due_date",
        ];
        names.sort_by_key(|name| std::cmp::Reverse(happening(&words(name), &noun)));
        assert_eq!(names[..3], ["ordered_at", "created_at", "shipped_at"]);
    }

    #[test]
    fn a_unit_is_no_part_of_what_is_measured() {
        let name = words("temperature_c");
        assert_eq!(unit(&name), (&name[..1], Some("°C")));
        let alone = words("seconds");
        assert_eq!(unit(&alone), (&alone[..], None));
    }
}
