//! Resolving the `{references}` of a model's SQL against the names of its cubes and members.

use std::collections::HashMap;

use super::MemberId;
use super::source::{Node, Place, Problems, hint};
use super::template::{Part, RawPart, Template, is_bare_column, split};

/// Granularities that every time dimension has.
pub(crate) const GRANULARITIES: [&str; 8] = [
    "second", "minute", "hour", "day", "week", "month", "quarter", "year",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Measure,
    Dimension,
    Segment,
}

/// A cube before its expressions are resolved: the names that others may refer to.
pub(crate) struct Draft<'a> {
    pub(crate) name: String,
    pub(crate) node: Node<'a>,
    /// The nodes of the cubes it extends, nearest first.
    pub(crate) ancestors: Vec<Node<'a>>,
    pub(crate) is_view: bool,
    pub(crate) members: Vec<(Kind, String, Node<'a>)>,
    pub(crate) by_name: HashMap<String, usize>,
}

/// The names of a model.
pub(crate) struct Names<'a> {
    pub(crate) drafts: Vec<Draft<'a>>,
    pub(crate) by_name: HashMap<String, usize>,
}

impl Names<'_> {
    /// A member of `cube` by short name, or of another cube by `cube.member`.
    pub(crate) fn member(&self, cube: usize, name: &str) -> Option<MemberId> {
        let (cube, name) = match name.split_once('.') {
            Some(("CUBE", name)) => (cube, name),
            Some((other, name)) => (*self.by_name.get(other)?, name),
            None => (cube, name),
        };
        let index = *self.drafts[cube].by_name.get(name)?;
        Some(MemberId { cube, index })
    }

    /// Resolves an expression of `cube`; a bare column gets the cube's alias before it.
    pub(crate) fn template(
        &self,
        cube: usize,
        sql: &str,
        place: &Place<'_>,
        problems: &mut Problems,
    ) -> Template {
        let source = sql.trim().to_owned();
        if is_bare_column(&source) {
            let parts = vec![Part::Cube(cube), Part::Text(format!(".{source}"))];
            return Template { parts, source };
        }
        self.query(cube, &source, place, problems)
    }

    /// Resolves SQL in which a bare word is not a column.
    pub(crate) fn query(
        &self,
        cube: usize,
        sql: &str,
        place: &Place<'_>,
        problems: &mut Problems,
    ) -> Template {
        let source = sql.trim().to_owned();
        let raw = split(&source).unwrap_or_else(|message| {
            problems.add(place, message);
            Vec::new()
        });
        let mut parts = Vec::with_capacity(raw.len());
        for part in raw {
            match part {
                RawPart::Text(text) => parts.push(Part::Text(text)),
                RawPart::Reference(name) => match self.reference(cube, &name) {
                    Ok(part) => parts.push(part),
                    Err(message) => problems.add(place, message),
                },
            }
        }
        Template { parts, source }
    }

    fn reference(&self, cube: usize, name: &str) -> Result<Part, String> {
        if let Some(called) = self.call(cube, name)? {
            return Ok(called);
        }
        if let Some(claim) = name
            .strip_prefix("securityContext.")
            .or_else(|| name.strip_prefix("SECURITY_CONTEXT."))
        {
            return Ok(Part::Claim(
                claim.trim_end_matches(".unsafeValue()").to_owned(),
            ));
        }
        let mut segments: Vec<&str> = name.split('.').collect();
        let mut at = cube;
        let mut named = false;
        while let Some(&first) = segments.first() {
            let is_member = self.drafts[at].by_name.contains_key(first);
            let is_self = first == "CUBE" || first == "TABLE";
            match self.by_name.get(first) {
                _ if is_self && !named => {}
                Some(&other) if !is_member => at = other,
                _ => break,
            }
            named = true;
            segments.remove(0);
        }
        match segments.as_slice() {
            [] if named => Ok(Part::Cube(at)),
            [member] => self.known(at, member, name).map(Part::Member),
            [member, granularity] => {
                let id = self.known(at, member, name)?;
                self.check_granularity(id, granularity)?;
                Ok(Part::Granularity(id, (*granularity).to_owned()))
            }
            _ => Err(self.unknown(cube, name)),
        }
    }

    /// `FILTER_PARAMS.cube.member.filter('column')`, `SQL_UTILS.convertTz('column')`,
    /// `SECURITY_CONTEXT.claim.filter('column')`.
    fn call(&self, cube: usize, name: &str) -> Result<Option<Part>, String> {
        let Some((path, argument)) = name.strip_suffix(')').and_then(|n| n.split_once('(')) else {
            return Ok(None);
        };
        let Some((path, method)) = path.rsplit_once('.') else {
            return Ok(None);
        };
        let argument = argument.trim();
        if argument.is_empty() && method == "unsafeValue" {
            return Ok(None);
        }
        let quoted = ['\'', '"'].iter().find_map(|quote| {
            let inner = argument.strip_prefix(*quote)?.strip_suffix(*quote)?;
            (!inner.contains(*quote)).then(|| inner.to_owned())
        });
        let Some(column) = quoted else {
            return Err(format!(
                "{{{name}}}: the argument must be a column in quotes"
            ));
        };
        let claim = ["SECURITY_CONTEXT.", "securityContext.", "security_context."];
        let claim = claim.iter().find_map(|prefix| path.strip_prefix(*prefix));
        match (path, method, claim) {
            ("SQL_UTILS", "convertTz", _) => Ok(Some(Part::Localized(column))),
            (_, "filter" | "requiredFilter", Some(path)) => Ok(Some(Part::ClaimFilter {
                path: path.to_owned(),
                column,
                required: method == "requiredFilter",
            })),
            (path, "filter", None) if path.starts_with("FILTER_PARAMS.") => {
                let member = path.trim_start_matches("FILTER_PARAMS.");
                let member = self
                    .member(cube, member)
                    .ok_or_else(|| self.unknown(cube, member))?;
                Ok(Some(Part::FilterParams { member, column }))
            }
            _ => Err(format!("{{{name}}} is not known")),
        }
    }

    fn known(&self, cube: usize, member: &str, whole: &str) -> Result<MemberId, String> {
        let index = self.drafts[cube].by_name.get(member).copied();
        index
            .map(|index| MemberId { cube, index })
            .ok_or_else(|| self.unknown(cube, whole))
    }

    fn check_granularity(&self, id: MemberId, granularity: &str) -> Result<(), String> {
        let (_, name, node) = &self.drafts[id.cube].members[id.index];
        let own = node.nodes("granularities", &mut Problems::default());
        let own: Vec<String> = own
            .iter()
            .filter_map(|g| g.text("name", &mut Problems::default()))
            .collect();
        let known = || {
            GRANULARITIES
                .into_iter()
                .chain(own.iter().map(String::as_str))
        };
        if known().any(|g| g == granularity) {
            return Ok(());
        }
        Err(format!(
            "\"{name}\" has no granularity \"{granularity}\"{}",
            hint(granularity, known())
        ))
    }

    fn unknown(&self, cube: usize, name: &str) -> String {
        let own = &self.drafts[cube];
        let last = name.rsplit('.').next().unwrap_or(name);
        let members = own.members.iter().map(|(_, name, _)| name.as_str());
        let cubes = self.drafts.iter().map(|draft| draft.name.as_str());
        format!(
            "unknown reference {{{name}}} in \"{}\"{}",
            own.name,
            hint(last, members.chain(cubes))
        )
    }
}
