//! Jinja in model files, rendered before they are read as YAML. Files whose names end in `.jinja`
//! hold macros for the others.

use std::borrow::Cow;

use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value, context};

use super::source::{Problem, SourceFile};

/// The files of a model as templates of each other.
pub(super) struct Templates<'a> {
    environment: Environment<'a>,
    problems: Vec<Problem>,
}

impl<'a> Templates<'a> {
    pub(super) fn new(files: &'a [SourceFile]) -> Self {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
        // YAML is no format to escape for: a template writes what it means.
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_global(
            "COMPILE_CONTEXT",
            context! { securityContext => context! {} },
        );
        let mut problems = Vec::new();
        for file in files.iter().filter(|file| is_templated(file)) {
            if let Err(error) = environment.add_template(&file.name, &file.text) {
                problems.push(problem(file, &error));
            }
        }
        Self {
            environment,
            problems,
        }
    }

    /// The YAML of a file; `None` for one that only holds macros.
    pub(super) fn render(&self, file: &'a SourceFile) -> Result<Option<Cow<'a, str>>, Problem> {
        let wrong = self
            .problems
            .iter()
            .find(|problem| problem.file == file.name);
        if let Some(wrong) = wrong {
            return Err(wrong.clone());
        }
        if is_macros(&file.name) {
            return Ok(None);
        }
        if !is_templated(file) {
            return Ok(Some(Cow::Borrowed(&file.text)));
        }
        let template = self.environment.get_template(&file.name);
        let rendered = template.and_then(|template| template.render(Value::UNDEFINED));
        let rendered = rendered.map_err(|error| problem(file, &error))?;
        Ok(Some(Cow::Owned(rendered)))
    }
}

/// JSON as expressions see it.
pub(super) fn value(json: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match json {
        Json::Null => Value::from(()),
        Json::Bool(flag) => Value::from(*flag),
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => items.iter().map(value).collect(),
        Json::Object(entries) => Value::from_pairs(
            entries
                .iter()
                .map(|(key, item)| (key.as_str(), value(item))),
        ),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Value::from(whole),
            (None, Some(real)) => Value::from(real),
            (None, None) => Value::from(()),
        },
    }
}

fn is_macros(name: &str) -> bool {
    name.ends_with(".jinja") && !name.ends_with(".yml.jinja") && !name.ends_with(".yaml.jinja")
}

/// Cube's own rule, but for closing braces alone: YAML's flow mappings end in them too.
fn is_templated(file: &SourceFile) -> bool {
    file.name.ends_with(".jinja") || file.text.contains("{%") || file.text.contains("{{")
}

/// The innermost cause, where it stands: it may be in a file that this one imports.
fn problem(file: &SourceFile, error: &minijinja::Error) -> Problem {
    let mut place = (file.name.clone(), error.line().unwrap_or(1));
    let mut message = describe(error);
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(inner) = inner.downcast_ref::<minijinja::Error>() {
            message = describe(inner);
            if let (Some(name), Some(line)) = (inner.name(), inner.line()) {
                place = (name.to_owned(), line);
            }
        }
        source = inner.source();
    }
    Problem {
        file: place.0,
        line: place.1,
        message: format!("Jinja: {message}"),
    }
}

fn describe(error: &minijinja::Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn file(name: &str, text: &str) -> SourceFile {
        SourceFile {
            name: name.to_owned(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn loops_and_imported_macros_are_rendered() {
        let files = [
            file(
                "a.yml",
                "{% import 'm.jinja' as m %}{% for n in ['x', 'y'] %}{{ m.item(n) }}{% endfor %}",
            ),
            file(
                "m.jinja",
                "{% macro item(n) %}- {{ n.upper() }}\n{% endmacro %}",
            ),
            file("plain.yml", "a: {b: {c: 1}}"),
        ];
        let templates = Templates::new(&files);
        assert_eq!(templates.render(&files[0]).unwrap().unwrap(), "- X\n- Y\n");
        assert!(templates.render(&files[1]).unwrap().is_none());
        assert_eq!(templates.render(&files[2]).unwrap().unwrap(), files[2].text);
    }

    #[test]
    fn what_cannot_be_rendered_says_where() {
        let files = [
            file("a.yml", "a: 1\nb: {{ nobody }}\n"),
            file("b.yml", "x\n{% if %}"),
        ];
        let templates = Templates::new(&files);
        let problem = templates.render(&files[0]).unwrap_err();
        assert_eq!((problem.file.as_str(), problem.line), ("a.yml", 2));
        let problem = templates.render(&files[1]).unwrap_err();
        assert_eq!((problem.file.as_str(), problem.line), ("b.yml", 2));
    }
}
