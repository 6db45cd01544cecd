//! Python's `re`, look-around and back-references included.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use fancy_regex::{Regex, RegexBuilder};
use minijinja::value::{Kwargs, Object, ObjectRepr, Tuple, Value};
use minijinja::{Error, ErrorKind, State};

use super::failed;
use crate::jinja::macros::{Arguments, split_keywords, take};
use crate::jinja::values::MutableList;

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

/// Patterns that are kept compiled, as many as Python keeps: a macro asks with the same few of every
/// node of a project.
const KEPT_MAX: usize = 512;

type Kept = HashMap<(String, bool), Arc<Regex>>;

static KEPT: LazyLock<Mutex<Kept>> = LazyLock::new(Mutex::default);

fn compiled(pattern: &str, ignore_case: bool) -> Result<Arc<Regex>, Error> {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (pattern.to_owned(), ignore_case);
    if let Some(known) = kept.get(&key) {
        return Ok(known.clone());
    }
    let regex = RegexBuilder::new(pattern)
        .case_insensitive(ignore_case)
        .build();
    let regex = Arc::new(regex.map_err(failed)?);
    if kept.len() == KEPT_MAX {
        kept.clear();
    }
    kept.insert(key, regex.clone());
    Ok(regex)
}

fn matched(regex: &Arc<Regex>, text: &str) -> Result<Value, Error> {
    let Some(found) = regex.captures(text).map_err(failed)? else {
        return Ok(Value::from(()));
    };
    let whole = found.get(0).map_or((0, 0), |at| (at.start(), at.end()));
    let groups = found
        .iter()
        .map(|group| group.map(|group| group.as_str().to_owned()))
        .collect();
    let names = regex.capture_names().map(|name| name.map(str::to_owned));
    Ok(Value::from_object(Match {
        groups,
        names: names.collect(),
        span: whole,
    }))
}

static NUMBERED: LazyLock<regex::Regex> =
    LazyLock::new(|| regex::Regex::new(r"\\(\d+)").expect("a literal pattern"));
static NAMED: LazyLock<regex::Regex> =
    LazyLock::new(|| regex::Regex::new(r"\\g<(\w+)>").expect("a literal pattern"));

/// Python's `\1` and `\g<name>` as `${…}`.
fn replacement(text: &str) -> String {
    let escaped = text.replace('$', "$$");
    let once = NUMBERED.replace_all(&escaped, "$${$1}");
    NAMED.replace_all(&once, "$${$1}").into_owned()
}

pub(super) fn re() -> Value {
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
        let text_of = |group: Option<fancy_regex::Match<'_>>| {
            Value::from(group.map_or("", |group| group.as_str()))
        };
        let found = regex.captures_iter(&texts[1]).map(|groups| {
            let groups = groups.map_err(failed)?;
            Ok(match groups.len() {
                1 => text_of(groups.get(0)),
                2 => text_of(groups.get(1)),
                _ => Value::from(Tuple::new(
                    groups.iter().skip(1).map(text_of).collect::<Vec<_>>(),
                )),
            })
        });
        Ok(MutableList::value(found.collect::<Result<_, Error>>()?))
    };
    let sub = |texts: &[String], ignore_case: bool| {
        let text = texts.get(2).ok_or_else(|| failed("re.sub takes a text"))?;
        let regex = compiled(&texts[0], ignore_case)?;
        let with = replacement(&texts[1]);
        let replaced = regex.try_replacen(text, 0, with.as_str());
        Ok(Value::from(replaced.map_err(failed)?.into_owned()))
    };
    let split = |texts: &[String], ignore_case: bool| {
        let regex = compiled(&texts[0], ignore_case)?;
        let parts = regex.split(&texts[1]);
        let parts = parts.map(|part| part.map(Value::from).map_err(failed));
        Ok(MutableList::value(parts.collect::<Result<_, Error>>()?))
    };
    let escape = Value::from_function(|text: String, _: Kwargs| regex::escape(&text));
    Value::from_pairs([
        (
            "match",
            call(|texts, case| matched(&compiled(&format!("^(?:{})", texts[0]), case)?, &texts[1])),
        ),
        (
            "fullmatch",
            call(|texts, case| {
                matched(&compiled(&format!("^(?:{})$", texts[0]), case)?, &texts[1])
            }),
        ),
        (
            "search",
            call(|texts, case| matched(&compiled(&texts[0], case)?, &texts[1])),
        ),
        ("findall", call(findall)),
        ("sub", call(sub)),
        ("split", call(split)),
        ("escape", escape),
        ("IGNORECASE", Value::from("IGNORECASE")),
        ("I", Value::from("IGNORECASE")),
    ])
}
