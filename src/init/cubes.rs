//! The Cube data model: a cube a table, joined along its references, with the words that people use.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::layout::{Layout, Reference, Table};
use super::measures::{Measure, own_measures};
use super::members::{Dimension, Kind, own_dimensions};
use super::names::{self, Taken};
use super::staging::description;
use super::text::yaml;

/// Dimensions that a cube takes over from others: more than a person reads in a list.
const BORROWED_MAX: usize = 40;
/// References followed one behind the other.
const DEPTH_MAX: usize = 3;

/// The file of one table: its cube, and the copies of cubes that it joins a second time.
pub(super) fn file(layout: &Layout, own: usize) -> String {
    let table = &layout.tables[own];
    let mut taken = Taken::default();
    let measures = own_measures(table, &mut taken);
    let mut dimensions = own_dimensions(table, &mut taken);
    let borrowed = borrow(layout, own, &dimensions, &measures, &mut taken);
    let time = time_of(table, &dimensions, &borrowed);
    dimensions.extend(borrowed);
    let mut meta = json!({ "grain": table.noun.join(" ") });
    if let Some(time) = time {
        meta["time"] = json!(time);
    }
    let mut cube = json!({
        "name": table.cube,
        "sql_table": format!("staging.{}", table.model),
        "title": names::title(&names::plural(&table.noun)),
        "description": description(layout, table),
        "meta": meta,
    });
    let joins: Vec<Value> = table.references.iter().map(|it| join(layout, it)).collect();
    if !joins.is_empty() {
        cube["joins"] = json!(joins);
    }
    cube["dimensions"] = dimensions.iter().map(Dimension::to_json).collect();
    cube["measures"] = measures
        .iter()
        .map(|it| Value::Object(it.0.clone()))
        .collect();
    let copies = table
        .references
        .iter()
        .filter(|it| it.is_copy(&layout.tables));
    let cubes: Vec<Value> = std::iter::once(cube)
        .chain(copies.map(|it| copy(layout, it)))
        .collect();
    yaml(&json!({ "cubes": cubes }))
}

fn join(layout: &Layout, reference: &Reference) -> Value {
    let pairs = reference.columns.iter().zip(&reference.target_columns);
    let conditions: Vec<String> = pairs
        .map(|(here, there)| format!("{{CUBE}}.{here} = {{{}}}.{there}", reference.cube))
        .collect();
    let target = &layout.tables[reference.target];
    debug_assert!(!target.model.is_empty());
    json!({ "name": reference.cube, "relationship": "many_to_one", "sql": conditions.join(" AND ") })
}

/// A table joined a second time needs a name of its own in the query.
fn copy(layout: &Layout, reference: &Reference) -> Value {
    let target = &layout.tables[reference.target];
    let dimensions = own_dimensions(target, &mut Taken::default());
    json!({
        "name": reference.cube,
        "sql_table": format!("staging.{}", target.model),
        "title": names::title(&reference.stem),
        "public": false,
        "dimensions": dimensions.iter().map(Dimension::to_json).collect::<Vec<_>>(),
    })
}

/// The default time: the table's own, else that of the nearest table it refers to.
fn time_of(table: &Table, own: &[Dimension], borrowed: &[Dimension]) -> Option<String> {
    let column = table.time().map(|column| column.name.as_str());
    let named = own
        .iter()
        .find(|it| it.kind == Kind::Time && column == Some(it.sql.as_str()));
    let first = borrowed.iter().find(|it| it.kind == Kind::Time);
    named.or(first).map(|it| it.name.clone())
}

/// A dimension of another table, on its way into a cube.
struct Offer {
    depth: usize,
    /// What the other row is to this one.
    stem: Vec<String>,
    cube: String,
    dimension: Dimension,
    noun: Vec<String>,
}

/// The dimensions of the tables that this one refers to, nearest first, as if they were its own:
/// a question then needs one cube, and the join is made when it is asked.
fn borrow(
    layout: &Layout,
    own: usize,
    dimensions: &[Dimension],
    measures: &[Measure],
    taken: &mut Taken,
) -> Vec<Dimension> {
    let offers = offers(layout, own);
    let mut said: BTreeSet<String> = dimensions
        .iter()
        .flat_map(|it| it.synonyms.clone())
        .collect();
    said.extend(dimensions.iter().map(|it| it.words.join(" ")));
    said.extend(measures.iter().flat_map(Measure::synonyms));
    let nearest = |phrase: &str, offer: &Offer| {
        let same = offers
            .iter()
            .filter(|it| bare(it).contains(&phrase.to_owned()));
        same.filter(|it| it.depth <= offer.depth).count() == 1
    };
    let own_time = layout.tables[own].time().is_some();
    let mut out: Vec<Dimension> = Vec::new();
    for offer in &offers {
        let is_time = offer.dimension.kind == Kind::Time;
        let has_time = own_time || out.iter().any(|it| it.kind == Kind::Time);
        if out.len() >= BORROWED_MAX || is_time && has_time {
            continue;
        }
        let words = match offer.dimension.is_label {
            true => offer.stem.clone(),
            false => [offer.stem.clone(), offer.dimension.words.clone()].concat(),
        };
        let mut synonyms: Vec<String> = Vec::new();
        if offer.dimension.is_label {
            synonyms.push(names::plural(&offer.stem).join(" "));
            synonyms.push(
                [offer.stem.clone(), offer.dimension.words.clone()]
                    .concat()
                    .join(" "),
            );
        }
        let free = bare(offer)
            .into_iter()
            .filter(|it| !said.contains(it) && nearest(it, offer));
        synonyms.extend(free);
        let wanted = names::camel(&words);
        out.push(Dimension {
            name: taken.give(&wanted),
            sql: format!("{{{}.{}}}", offer.cube, offer.dimension.name),
            words,
            synonyms,
            is_label: false,
            is_key: false,
            ..offer.dimension.clone()
        });
    }
    out
}

/// What a borrowed dimension may be called without saying whose it is.
fn bare(offer: &Offer) -> Vec<String> {
    let mut phrases = match offer.dimension.is_label {
        true => vec![offer.noun.join(" "), names::plural(&offer.noun).join(" ")],
        false => vec![offer.dimension.words.join(" ")],
    };
    phrases.extend(
        offer
            .dimension
            .synonyms
            .iter()
            .filter(|_| !offer.dimension.is_label)
            .cloned(),
    );
    phrases.dedup();
    phrases
}

fn offers(layout: &Layout, own: usize) -> Vec<Offer> {
    let mut out = Vec::new();
    let mut reached: BTreeSet<usize> = BTreeSet::from([own]);
    let mut level: Vec<usize> = vec![own];
    for depth in 1..=DEPTH_MAX {
        let mut next = Vec::new();
        for &from in &level {
            for reference in &layout.tables[from].references {
                let is_copy = reference.is_copy(&layout.tables);
                if is_copy && from != own || !is_copy && !reached.insert(reference.target) {
                    continue;
                }
                let target = &layout.tables[reference.target];
                let given = own_dimensions(target, &mut Taken::default());
                let time = target.time().map(|it| it.name.clone());
                let wanted = given.into_iter().filter(|it| {
                    it.lends() || it.kind == Kind::Time && time.as_deref() == Some(it.sql.as_str())
                });
                out.extend(wanted.map(|dimension| Offer {
                    depth,
                    stem: reference.stem.clone(),
                    cube: reference.cube.clone(),
                    dimension,
                    noun: target.noun.clone(),
                }));
                if !is_copy {
                    next.push(reference.target);
                }
            }
        }
        level = next;
    }
    // Labels first: they are what people group by.
    out.sort_by_key(|offer| (offer.depth, !offer.dimension.is_label));
    out
}

/// An object with the entries that hold something.
pub(super) fn object(entries: Vec<(&str, Value)>) -> Map<String, Value> {
    let filled = entries.into_iter().filter(|(_, value)| match value {
        Value::Null => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
        _ => true,
    });
    filled.map(|(key, value)| (key.to_owned(), value)).collect()
}
