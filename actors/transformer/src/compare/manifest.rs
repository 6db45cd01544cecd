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

/// SQL without what no database sees: comments, spaces, the case of words, the name of the database,
/// a semicolon at its end. What stands in quotes is left as it is.
fn normalised(sql: &str, database: &str) -> String {
    let sql = sql.replace(database, "database");
    let mut text = String::with_capacity(sql.len());
    let mut rest = sql.trim().trim_end_matches(';');
    while let Some(letter) = rest.chars().next() {
        let comment_end = match (rest.starts_with("--"), rest.starts_with("/*")) {
            (true, _) => Some(rest.find('\n').unwrap_or(rest.len())),
            (_, true) => Some(rest.find("*/").map_or(rest.len(), |at| at + 2)),
            _ => None,
        };
        if let Some(end) = comment_end {
            push_space(&mut text);
            rest = &rest[end..];
        } else if matches!(letter, '\'' | '"') {
            let end = rest[1..].find(letter).map_or(rest.len(), |at| at + 2);
            push_word(&mut text, &rest[..end]);
            rest = &rest[end..];
        } else if letter.is_whitespace() {
            push_space(&mut text);
            rest = rest.trim_start();
        } else {
            let (word, after) = rest.split_at(letter.len_utf8());
            push_word(&mut text, &word.to_lowercase());
            rest = after;
        }
    }
    text.trim_end().to_owned()
}

fn is_in_word(letter: char) -> bool {
    letter.is_alphanumeric() || matches!(letter, '_' | '\'' | '"')
}

/// A space counts only between two words; behind the first one it is not yet known.
fn push_space(text: &mut String) {
    if text.ends_with(is_in_word) {
        text.push(' ');
    }
}

fn push_word(text: &mut String, word: &str) {
    if text.ends_with(' ') && !word.starts_with(is_in_word) {
        text.pop();
    }
    text.push_str(word);
}

/// Verdicts and compiled SQL of two `run_results.json` of two databases; how many nodes both have.
pub(super) fn results(
    (theirs, their_database): (&Json, &str),
    (ours, our_database): (&Json, &str),
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
    let compiled = |results: &Json, database: &str| -> BTreeMap<String, String> {
        list(results)
            .filter_map(|result| {
                let sql = result["compiled_code"].as_str()?;
                let id = result["unique_id"].as_str()?;
                (!id.starts_with("unit_test.")).then(|| (id.to_owned(), normalised(sql, database)))
            })
            .collect()
    };
    let (their_verdicts, our_verdicts) = (verdicts(theirs), verdicts(ours));
    let mut found = between("verdict", &their_verdicts, &our_verdicts, at);
    let their_sql = compiled(theirs, their_database);
    let our_sql = compiled(ours, our_database);
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

/// Whether dbt left a node in its manifest that it disabled: a test of something that is not there.
fn is_disabled(manifest: &Json, id: &str) -> bool {
    manifest["nodes"][id]["config"]["enabled"] == false
}

/// Names, places and parents of every node in two `manifest.json`.
pub(super) fn nodes(theirs: &Json, ours: &Json, at: &dyn Fn(&str) -> String) -> Vec<Difference> {
    let facts = |manifest: &Json| -> BTreeMap<String, String> {
        let all = ["nodes", "sources"]
            .iter()
            .filter_map(|kind| manifest[*kind].as_object());
        all.flatten()
            .filter(|(id, _)| !id.starts_with("operation.") && !is_disabled(manifest, id))
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
            .filter(|(id, _)| !id.starts_with("operation.") && !is_disabled(manifest, id))
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
    use serde_json::json;

    #[test]
    fn spaces_case_and_comments_do_not_count_but_what_is_quoted_does() {
        let one = normalised(
            "-- it's a comment\nselect  CAST( a as TEXT ) ,'X  y' /* won't */\nfrom \"db\".\"s\".\"T\";",
            "db",
        );
        let other = |text: &str| {
            let sql = format!("select cast(a as text), '{text}' from \"other\".\"s\".\"T\"");
            normalised(&sql, "other")
        };
        assert_eq!(one, other("X  y"));
        assert_ne!(one, other("x  y"));
        assert_ne!(
            normalised("select a b", "db"),
            normalised("select ab", "db")
        );
        assert_ne!(
            normalised("select a--\nb", "db"),
            normalised("select ab", "db")
        );
    }

    #[test]
    fn a_disabled_test_that_dbt_leaves_in_its_manifest_is_no_difference() {
        let theirs = json!({"nodes": {"test.p.x": {"config": {"enabled": false}},
                                      "test.p.y": {"config": {"enabled": true}}},
                            "parent_map": {"test.p.x": ["seed.p.a"]}});
        let found = nodes(&theirs, &json!({"nodes": {}}), &|of| of.to_owned());
        let names: Vec<&str> = found.iter().map(|one| one.of.as_str()).collect();
        assert_eq!(names, ["test.p.y"]);
    }
}
