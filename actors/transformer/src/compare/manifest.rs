//! What both sides say of the nodes: verdicts, compiled SQL, names, places, parents.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use super::Difference;

/// Columns of a snapshot that hold the time of the run where no column of the source gives one.
const RUN_TIMES: &[&str] = &[
    "dbt_valid_from",
    "dbt_valid_to",
    "dbt_updated_at",
    "dbt_scd_id",
];

/// Differences between two maps, by key.
fn between(
    what: &'static str,
    theirs: &BTreeMap<String, String>,
    ours: &BTreeMap<String, String>,
    at: &dyn Fn(&str) -> String,
) -> Vec<Difference> {
    let keys: BTreeSet<&String> = theirs.keys().chain(ours.keys()).collect();
    let absent = || "(none)".to_owned();
    keys.into_iter()
        .filter(|key| theirs.get(*key) != ours.get(*key))
        .map(|key| Difference {
            what,
            of: at(key),
            dbt: theirs.get(key).cloned().unwrap_or_else(absent),
            ballpoint: ours.get(key).cloned().unwrap_or_else(absent),
        })
        .collect()
}

fn list(artifact: &Json) -> impl Iterator<Item = &Json> {
    artifact["results"].as_array().into_iter().flatten()
}

/// SQL without what no database sees: spaces, the case of words, the name of the database, a
/// semicolon at its end. What stands in quotes is left as it is.
fn normalised(sql: &str, database: &str) -> String {
    let sql = sql.replace(&format!("\"{database}\"."), "");
    let mut text = String::with_capacity(sql.len());
    let mut quote = None;
    for letter in sql.trim().trim_end_matches(';').chars() {
        match quote {
            Some(open) if letter == open => quote = None,
            None if matches!(letter, '\'' | '"') => quote = Some(letter),
            _ => {}
        }
        let in_word = |other: char| other.is_alphanumeric() || matches!(other, '_' | '\'' | '"');
        match (quote, letter.is_whitespace()) {
            (None, true) => {
                // A space counts only between two words; behind the first one it is not yet known.
                if text.ends_with(in_word) {
                    text.push(' ');
                }
            }
            (None, false) => {
                if text.ends_with(' ') && !in_word(letter) {
                    text.pop();
                }
                text.extend(letter.to_lowercase());
            }
            _ => {
                text.push(letter);
            }
        }
    }
    text.trim_end().to_owned()
}

fn database_of(results: &Json) -> String {
    let names = list(results).filter_map(|result| result["relation_name"].as_str());
    names
        .filter_map(|name| name.trim_start_matches('"').split('"').next())
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// Verdicts and compiled SQL of two `run_results.json`; how many nodes both have.
pub(super) fn results(
    theirs: &Json,
    ours: &Json,
    at: &dyn Fn(&str) -> String,
) -> (usize, Vec<Difference>) {
    let verdicts = |results: &Json| -> BTreeMap<String, String> {
        let verdict = |result: &Json| {
            let status = result["status"].as_str().unwrap_or_default();
            // What dbt counts for a test that passed depends on its kind.
            match (status, &result["failures"]) {
                ("fail" | "warn", failures) => format!("{status} {failures}"),
                _ => status.to_owned(),
            }
        };
        list(results)
            .filter_map(|result| Some((result["unique_id"].as_str()?.to_owned(), verdict(result))))
            .filter(|(id, _)| !id.starts_with("operation."))
            .collect()
    };
    let compiled = |results: &Json| -> BTreeMap<String, String> {
        let database = database_of(results);
        list(results)
            .filter_map(|result| {
                let sql = result["compiled_code"].as_str()?;
                let id = result["unique_id"].as_str()?;
                (!id.starts_with("unit_test.")).then(|| (id.to_owned(), normalised(sql, &database)))
            })
            .collect()
    };
    let (their_verdicts, our_verdicts) = (verdicts(theirs), verdicts(ours));
    let mut found = between("verdict", &their_verdicts, &our_verdicts, at);
    let (their_sql, our_sql) = (compiled(theirs), compiled(ours));
    let both = |id: &String| their_sql.contains_key(id) && our_sql.contains_key(id);
    let shared = |sql: &BTreeMap<String, String>| -> BTreeMap<String, String> {
        let kept = sql.iter().filter(|(id, _)| both(id));
        kept.map(|(id, sql)| (id.clone(), sql.clone())).collect()
    };
    found.extend(between(
        "compiled",
        &shared(&their_sql),
        &shared(&our_sql),
        at,
    ));
    let common = their_verdicts
        .keys()
        .filter(|id| our_verdicts.contains_key(*id));
    (common.count(), found)
}

/// Names, places and parents of every node in two `manifest.json`.
pub(super) fn nodes(theirs: &Json, ours: &Json, at: &dyn Fn(&str) -> String) -> Vec<Difference> {
    let facts = |manifest: &Json| -> BTreeMap<String, String> {
        let all = ["nodes", "sources"]
            .iter()
            .filter_map(|kind| manifest[*kind].as_object());
        all.flatten()
            .filter(|(id, _)| !id.starts_with("operation."))
            .map(|(id, node)| {
                // The database is named differently on purpose.
                let relation = node["relation_name"].as_str().unwrap_or_default();
                let relation = relation.split_once('.').map_or("", |(_, rest)| rest);
                let facts = format!(
                    "fqn {} alias {} schema {} materialized {} relation {relation} file {}",
                    node["fqn"],
                    node["alias"],
                    node["schema"],
                    node["config"]["materialized"],
                    node["original_file_path"],
                );
                (id.clone(), facts)
            })
            .collect()
    };
    let parents = |manifest: &Json| -> BTreeMap<String, String> {
        let map = manifest["parent_map"].as_object();
        map.into_iter()
            .flatten()
            .filter(|(id, _)| !id.starts_with("operation."))
            .map(|(id, parents)| {
                let mut parents: Vec<&str> = parents
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(Json::as_str)
                    .collect();
                parents.sort_unstable();
                parents.dedup();
                (id.clone(), parents.join(" "))
            })
            .collect()
    };
    let mut found = between("node", &facts(theirs), &facts(ours), at);
    found.extend(between("parents", &parents(theirs), &parents(ours), at));
    found
}

/// Columns, by `schema.relation`, that hold the time of the run.
pub(super) fn volatile_columns(manifest: &Json) -> BTreeMap<String, Vec<String>> {
    let nodes = manifest["nodes"].as_object();
    nodes
        .into_iter()
        .flatten()
        .filter(|(_, node)| {
            let config = &node["config"];
            let deletes = config["hard_deletes"]
                .as_str()
                .is_some_and(|it| it != "ignore")
                || config["invalidate_hard_deletes"] == true;
            node["resource_type"] == "snapshot" && (deletes || config["strategy"] == "check")
        })
        .filter_map(|(_, node)| {
            let name = format!("{}.{}", node["schema"].as_str()?, node["alias"].as_str()?);
            let given = &node["config"]["snapshot_meta_column_names"];
            let columns = RUN_TIMES
                .iter()
                .map(|column| given[*column].as_str().unwrap_or(column).to_owned());
            Some((name, columns.collect()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaces_and_case_do_not_count_but_what_is_quoted_does() {
        let one = normalised(
            "select  CAST( a as TEXT ) ,'X  y'\nfrom \"db\".\"s\".\"T\";",
            "db",
        );
        assert_eq!(
            one,
            normalised("select cast(a as text), 'X  y' from \"s\".\"T\"", "other")
        );
        assert_ne!(
            one,
            normalised("select cast(a as text), 'x  y' from \"s\".\"T\"", "other")
        );
        assert_ne!(normalised("select a b", ""), normalised("select ab", ""));
    }
}
