//! What is wrong with a project is said with its file and line.
#![allow(clippy::unwrap_used)]

use ballpoint_transformer::{LoadOptions, Project, Target};

use crate::support;

/// The error of the shop with these files changed.
fn error_of(files: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let shop = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/projects/shop");
    support::copy(&shop, folder.path());
    for (file, text) in files {
        let path = folder.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let options = LoadOptions::new(folder.path(), Target::named("d", "s"));
    Project::load(&options).unwrap_err().to_string()
}

fn check(files: &[(&str, &str)], expected: &str) {
    assert_eq!(error_of(files), expected);
}

#[test]
fn a_missing_model_is_named_with_the_nearest_one() {
    check(
        &[(
            "models/marts/late.sql",
            "select 1\nfrom {{ ref('orderz') }}",
        )],
        "models/marts/late.sql:2: model.shop.late refers to model 'orderz', which does not exist (did you mean 'orders'?)",
    );
}

#[test]
fn a_missing_source_is_named_with_the_nearest_one() {
    check(
        &[(
            "models/marts/late.sql",
            "\n\nselect * from {{ source('app', 'order') }}",
        )],
        "models/marts/late.sql:3: model.shop.late refers to source 'app.order', which is not declared (did you mean 'app.orders'?)",
    );
}

#[test]
fn a_ring_is_shown_whole() {
    let error = error_of(&[
        ("models/a.sql", "select * from {{ ref('b') }}"),
        ("models/b.sql", "select * from {{ ref('a') }}"),
    ]);
    assert!(error.contains("depend on each other in a cycle"), "{error}");
    assert!(error.starts_with("models/"), "{error}");
}

#[test]
fn two_models_of_one_name_show_both_places() {
    check(
        &[("models/other/orders.sql", "select 1")],
        "models/other/orders.sql:1: model 'orders' is already defined in models/marts/orders.sql:1",
    );
}

#[test]
fn two_macros_of_one_name_show_both_places() {
    let error = error_of(&[(
        "macros/z.sql",
        "\n{% macro cents_to_euros(x) %}{% endmacro %}",
    )]);
    assert!(
        error.starts_with(
            "macros/z.sql:2: macro 'cents_to_euros' is already defined in macros/names.sql:"
        ),
        "{error}"
    );
}

#[test]
fn yaml_that_does_not_parse_shows_its_line() {
    let error = error_of(&[(
        "models/marts/schema.yml",
        "models:\n  - name: orders\n   columns: [",
    )]);
    assert!(error.starts_with("models/marts/schema.yml:3"), "{error}");
}

#[test]
fn jinja_that_does_not_parse_shows_its_line() {
    let error = error_of(&[("models/marts/late.sql", "select 1\n{% if x %}\nselect 2")]);
    assert!(error.starts_with("models/marts/late.sql:"), "{error}");
}

#[test]
fn an_error_raised_by_a_macro_shows_its_line_and_its_words() {
    check(
        &[
            (
                "macros/strict.sql",
                "{% macro strict() %}\n{{ exceptions.raise_compiler_error('give a name') }}\n{% endmacro %}",
            ),
            ("models/late.sql", "{{ strict() }} select 1"),
        ],
        "macros/strict.sql:2: give a name\n  > in macro strict (macros/strict.sql:2)\n  > called by \
         models/late.sql:1",
    );
}

#[test]
fn a_variable_that_is_not_set_is_named() {
    let error = error_of(&[(
        "models/late.sql",
        "select 1\nwhere {{ var('minimum_totl') }}",
    )]);
    assert!(
        error.starts_with("models/late.sql:2: Required var 'minimum_totl' not found"),
        "{error}"
    );
    assert!(error.contains("minimum_total"), "{error}");
}

#[test]
fn a_test_that_does_not_exist_shows_where_it_is_declared() {
    let error = error_of(&[(
        "models/more.yml",
        "models:\n  - name: valid_orders\n    data_tests:\n      - positiv",
    )]);
    assert!(error.starts_with("models/more.yml:2: "), "{error}");
}

#[test]
fn what_is_not_supported_is_named_and_placed() {
    check(
        &[("models/p.py", "def model(dbt, session): pass")],
        "models/p.py:1: a Python model is not supported",
    );
    check(
        &[(
            "models/mv.sql",
            "-- note\n{{ config(materialized='dynamic_table') }} select 1",
        )],
        "models/mv.sql:2: the materialization 'dynamic_table' of model 'mv' is not supported",
    );
}
