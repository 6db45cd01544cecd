//! A model that is wrong is refused with the file, the line and the nearest right name.

#![allow(clippy::unwrap_used)]

use ballpoint_metrics::Model;
use ballpoint_metrics::model::SourceFile;

fn problems(text: &str) -> Vec<String> {
    let file = SourceFile {
        name: "m.yml".to_owned(),
        text: text.to_owned(),
    };
    let error = Model::compile(&[file]).unwrap_err();
    error.problems.iter().map(ToString::to_string).collect()
}

#[test]
fn each_mistake_is_named_with_its_line() {
    let cases = [
        (
            "cubes:\n  - name: A\n    sql_table: t\n    measuress: []\n",
            "m.yml:4: unknown key \"measuress\" in a cube, did you mean \"measures\"?",
        ),
        (
            "cubes:\n  - name: A\n    sql_table: t\n    measures:\n      - name: n\n        type: number\n        sql: \"{tota} / 2\"\n      - name: total\n        type: count\n",
            "m.yml:7: unknown reference {tota} in \"A\", did you mean \"total\"?",
        ),
        (
            "cubes:\n  - name: A\n",
            "m.yml:2: \"A\" needs \"sql_table\" or \"sql\"",
        ),
        (
            "cubes:\n  - name: A\n    sql_table: t\n    measures:\n      - name: a\n        type: number\n        sql: \"{b}\"\n      - name: b\n        type: number\n        sql: \"{a} + 1\"\n",
            "m.yml:5: \"a\" refers to itself",
        ),
        (
            "cubes:\n  - name: A\n    sql_table: t\n    joins:\n      - name: Bx\n        relationship: many_to_one\n        sql: x\n  - name: B\n    sql_table: u\n",
            "m.yml:5: join to unknown cube \"Bx\", did you mean \"B\"?",
        ),
        (
            "cubes:\n  - name: A\n    sql_table: t\n    joins: [{name: B, relationship: many_to_one, sql: x}]\n    measures: [{name: n, type: count}]\n  - name: B\n    sql_table: u\n    measures: [{name: n, type: count}]\nviews:\n  - name: V\n    cubes:\n      - {join_path: A, includes: [n]}\n      - {join_path: A.B, includes: '*'}\n",
            "m.yml:13: \"n\" is in \"V\" already: exclude it, or give it an alias",
        ),
    ];
    for (text, wanted) in cases {
        assert_eq!(problems(text).first().map(String::as_str), Some(wanted));
    }
}

#[test]
fn broken_yaml_is_named_with_its_line_and_all_files_are_listed() {
    let files = [
        "cubes:\n  - name: [\n",
        "cubes:\n  - name: A\n    sqltable: t\n",
    ]
    .iter()
    .enumerate()
    .map(|(at, text)| SourceFile {
        name: format!("{at}.yml"),
        text: (*text).to_owned(),
    })
    .collect::<Vec<_>>();
    let error = Model::compile(&files).unwrap_err().to_string();
    let lines: Vec<&str> = error.lines().collect();
    assert!(lines[0].starts_with("0.yml:"), "{error}");
    assert!(lines[0].contains("not valid YAML"), "{error}");
    assert!(lines[0].contains("more)"), "{error}");
    assert!(
        error.contains("1.yml:3: unknown key \"sqltable\""),
        "{error}"
    );
}

#[test]
fn the_hash_of_a_measure_follows_what_it_is_made_of() {
    let text = |amount: &str| {
        format!(
            "cubes:\n  - name: A\n    sql_table: t\n    measures:\n      - {{name: total, type: sum, sql: {amount}}}\n      - {{name: half, type: number, sql: \"{{total}} / 2\"}}\n      - {{name: count, type: count}}\n"
        )
    };
    let model = |amount: &str| {
        let file = SourceFile {
            name: "m.yml".to_owned(),
            text: text(amount),
        };
        Model::compile(&[file]).unwrap()
    };
    let (one, two) = (model("a"), model("b"));
    let hash = |model: &Model, name: &str| model.member(model.find(name).unwrap()).hash.clone();
    assert_ne!(hash(&one, "A.half"), hash(&two, "A.half"));
    assert_eq!(hash(&one, "A.count"), hash(&two, "A.count"));
}
