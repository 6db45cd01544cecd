//! Names that a column shares with the measures made of it.

use ballpoint_metrics::catalog::{CubeInfo, MemberInfo};

use super::Meaning;
use crate::frame::local;
use crate::normalise::words;

/// Whether a numeric dimension is a column that measures aggregate: its name then asks for them, as
/// nobody splits by an amount.
pub(super) fn is_measured(dimension: &MemberInfo, measures: &[MemberInfo]) -> bool {
    const OPENINGS: [&str; 7] = [
        "total ", "sum ", "average ", "mean ", "avg ", "max ", "min ",
    ];
    let own = words(&dimension.short_title);
    dimension.member_type == "number"
        && measures
            .iter()
            .any(|it| rest(it, &OPENINGS).is_some_and(|rest| words(&rest) == own))
}

/// The words for how a measure is aggregated that its name is said without: an average's, and those
/// of a sum of a column that has the name, which it is before an average of it.
pub(super) fn openings(
    measure: &MemberInfo,
    siblings: &[MemberInfo],
    dimensions: &[MemberInfo],
) -> &'static [&'static str] {
    const SUMS: &[&str] = &["total ", "sum "];
    const MEANS: &[&str] = &["average ", "mean ", "avg "];
    let column = |name: &String| {
        let own = words(name);
        let number = |it: &&MemberInfo| it.member_type == "number";
        dimensions
            .iter()
            .filter(number)
            .any(|it| words(&it.short_title) == own)
    };
    if measure.member_type == "sum" {
        return if rest(measure, SUMS).as_ref().is_some_and(column) {
            SUMS
        } else {
            &[]
        };
    }
    let name = rest(measure, MEANS);
    let summed = siblings
        .iter()
        .any(|it| rest(it, SUMS) == name && name.as_ref().is_some_and(column));
    if summed { &[] } else { MEANS }
}

/// A measure's short title without the word for how it is aggregated.
pub(super) fn rest(measure: &MemberInfo, openings: &[&str]) -> Option<String> {
    let title = measure.short_title.to_lowercase();
    let rest = openings.iter().find_map(|it| title.strip_prefix(it))?;
    Some(rest.to_owned())
}

/// The count of a cube that is called by what its rows are: `Customers.count`.
pub(super) fn rows(cube: &CubeInfo) -> Option<Meaning> {
    let is_count = |it: &&MemberInfo| it.member_type == "count" && local(&it.name) == "count";
    let count = cube.measures.iter().find(is_count)?;
    let plural = cube.name.ends_with('s') && !cube.name.ends_with("ss");
    plural.then(|| Meaning::Measure(count.name.clone()))
}
