//! Whether one PostgreSQL type takes every value of another.
//!
//! Types are compared as `format_type` spells them. What takes every old value, unchanged in meaning,
//! is a widening; PostgreSQL changes some of them in its catalog alone, the others by writing the
//! table anew.

/// How a column's new type stands to its old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    Same,
    /// A widening that rewrites no row.
    InPlace,
    /// A widening that rewrites the rows.
    Rewritten,
    /// Some old value has no place in the new type, or another meaning.
    Misfit,
}

/// Compares `old` with `new`.
pub fn fit(old: &str, new: &str) -> Fit {
    if old == new {
        return Fit::Same;
    }
    let (old, new) = (Spelled::read(old), Spelled::read(new));
    if old.array != new.array {
        // A list's text form is taken by text, as everything's is.
        return match new.array {
            false if new.is_text() => Fit::Rewritten,
            _ => Fit::Misfit,
        };
    }
    let fit = elements(&old, &new);
    // The elements of an array are stored with their type's id.
    match (old.array, fit) {
        (true, Fit::InPlace) if old.name != new.name => Fit::Rewritten,
        _ => fit,
    }
}

/// A type taken apart: `numeric(6,2)[]` is `numeric`, `[6, 2]`, an array.
struct Spelled {
    name: String,
    modifier: Vec<i64>,
    array: bool,
}

impl Spelled {
    fn read(text: &str) -> Self {
        let (text, array) = match text.strip_suffix("[]") {
            Some(element) => (element, true),
            None => (text, false),
        };
        let Some((before, rest)) = text.split_once('(') else {
            let name = text.to_owned();
            return Self {
                name,
                modifier: Vec::new(),
                array,
            };
        };
        // The modifier may stand inside the name: timestamp(3) with time zone.
        let (inside, after) = rest.split_once(')').unwrap_or((rest, ""));
        let numbers = inside.split(',').filter_map(|n| n.trim().parse().ok());
        Self {
            name: format!("{before}{after}"),
            modifier: numbers.collect(),
            array,
        }
    }

    /// Takes any text of any length.
    fn is_text(&self) -> bool {
        self.name == "text" || (self.name == "character varying" && self.modifier.is_empty())
    }

    /// Digits before and after the point; `None`: as many as there are.
    fn digits(&self) -> Option<(i64, i64)> {
        match (self.name.as_str(), self.modifier.as_slice()) {
            ("smallint", _) => Some((5, 0)),
            ("integer", _) => Some((10, 0)),
            ("bigint", _) => Some((19, 0)),
            ("numeric", [precision, scale]) => Some((precision - scale, *scale)),
            ("numeric", [precision]) => Some((*precision, 0)),
            _ => None,
        }
    }
}

const INTEGERS: [&str; 3] = ["smallint", "integer", "bigint"];

/// Types whose modifier is a limit that PostgreSQL raises without looking at a row.
const LIMITED: [&str; 6] = [
    "bit varying",
    "timestamp without time zone",
    "timestamp with time zone",
    "time without time zone",
    "time with time zone",
    "interval",
];

fn elements(old: &Spelled, new: &Spelled) -> Fit {
    let rank = |name: &str| INTEGERS.iter().position(|known| *known == name);
    match (old.name.as_str(), new.name.as_str()) {
        (from, to) if rank(from).is_some() && rank(to).is_some() => {
            if rank(from) < rank(to) {
                Fit::Rewritten
            } else {
                Fit::Misfit
            }
        }
        (from, "numeric") if from == "numeric" || rank(from).is_some() => numeric(old, new),
        ("real", "double precision") => Fit::Rewritten,
        ("smallint", "real" | "double precision") | ("integer", "double precision") => {
            Fit::Rewritten
        }
        ("date", "timestamp without time zone") if new.modifier.is_empty() => Fit::Rewritten,
        ("cidr", "inet") => Fit::InPlace,
        ("json", "jsonb") => Fit::Rewritten,
        ("character varying", "text" | "character varying") | ("text", "character varying") => {
            longer(old, new)
        }
        (from, to) if from == to && LIMITED.contains(&from) => longer(old, new),
        ("character", "character") => match longer(old, new) {
            Fit::InPlace => Fit::Rewritten,
            other => other,
        },
        _ if new.is_text() => Fit::Rewritten,
        _ => Fit::Misfit,
    }
}

fn numeric(old: &Spelled, new: &Spelled) -> Fit {
    let Some((before, after)) = new.digits() else {
        // Without limits: the same digits, which are not written again if they were numeric.
        return match old.name.as_str() {
            "numeric" => Fit::InPlace,
            _ => Fit::Rewritten,
        };
    };
    match old.digits() {
        Some((had_before, had_after)) if had_before <= before && had_after <= after => {
            if old.name == "numeric" && had_after == after {
                Fit::InPlace
            } else {
                Fit::Rewritten
            }
        }
        _ => Fit::Misfit,
    }
}

/// A limit that grew or went away.
fn longer(old: &Spelled, new: &Spelled) -> Fit {
    match (old.modifier.first(), new.modifier.first()) {
        (_, None) => Fit::InPlace,
        (Some(had), Some(has)) if had <= has => Fit::InPlace,
        _ => Fit::Misfit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_that_takes_every_old_value_is_a_widening_and_no_other_is() {
        for (old, new, expected) in [
            ("integer", "integer", Fit::Same),
            (
                "character varying(10)",
                "character varying(20)",
                Fit::InPlace,
            ),
            ("character varying(10)", "character varying", Fit::InPlace),
            ("character varying(10)", "text", Fit::InPlace),
            ("character varying", "text", Fit::InPlace),
            ("text", "character varying", Fit::InPlace),
            ("text", "character varying(10)", Fit::Misfit),
            (
                "character varying(20)",
                "character varying(10)",
                Fit::Misfit,
            ),
            ("character(3)", "character(5)", Fit::Rewritten),
            ("character(5)", "character(3)", Fit::Misfit),
            ("bit varying(3)", "bit varying(9)", Fit::InPlace),
            ("bit(3)", "bit(9)", Fit::Misfit),
            ("smallint", "integer", Fit::Rewritten),
            ("integer", "bigint", Fit::Rewritten),
            ("bigint", "integer", Fit::Misfit),
            ("bigint", "numeric", Fit::Rewritten),
            ("integer", "numeric(10,0)", Fit::Rewritten),
            ("integer", "numeric(10,2)", Fit::Misfit),
            ("integer", "numeric(12,2)", Fit::Rewritten),
            ("integer", "double precision", Fit::Rewritten),
            ("bigint", "double precision", Fit::Misfit),
            ("real", "double precision", Fit::Rewritten),
            ("double precision", "real", Fit::Misfit),
            ("numeric(6,2)", "numeric(8,2)", Fit::InPlace),
            ("numeric(6,2)", "numeric(8,3)", Fit::Rewritten),
            ("numeric(6,2)", "numeric(6,3)", Fit::Misfit),
            ("numeric(6,2)", "numeric(5,2)", Fit::Misfit),
            ("numeric(6,2)", "numeric", Fit::InPlace),
            ("numeric", "numeric(6,2)", Fit::Misfit),
            ("numeric", "double precision", Fit::Misfit),
            ("date", "timestamp without time zone", Fit::Rewritten),
            ("date", "timestamp with time zone", Fit::Misfit),
            ("timestamp without time zone", "date", Fit::Misfit),
            (
                "timestamp(3) without time zone",
                "timestamp without time zone",
                Fit::InPlace,
            ),
            (
                "timestamp(3) with time zone",
                "timestamp(6) with time zone",
                Fit::InPlace,
            ),
            (
                "timestamp with time zone",
                "timestamp(3) with time zone",
                Fit::Misfit,
            ),
            (
                "timestamp without time zone",
                "timestamp with time zone",
                Fit::Misfit,
            ),
            ("uuid", "text", Fit::Rewritten),
            ("text", "uuid", Fit::Misfit),
            ("text", "integer", Fit::Misfit),
            ("json", "jsonb", Fit::Rewritten),
            ("jsonb", "json", Fit::Misfit),
            ("integer[]", "bigint[]", Fit::Rewritten),
            ("bigint[]", "integer[]", Fit::Misfit),
            ("integer[]", "integer", Fit::Misfit),
            ("integer", "integer[]", Fit::Misfit),
            ("integer[]", "text", Fit::Rewritten),
            ("cidr", "inet", Fit::InPlace),
            ("inet", "cidr", Fit::Misfit),
            ("boolean", "integer", Fit::Misfit),
        ] {
            assert_eq!(fit(old, new), expected, "{old} to {new}");
        }
    }
}
