//! The shipped project's model compiles and has every member of the question catalogue.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use ballpoint_metrics::Model;
use serde_json::Value;

#[test]
fn every_member_of_the_question_catalogue_is_in_the_shipped_model() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let model = Model::load(&root.join("warehouse/metrics")).unwrap();
    let text = std::fs::read_to_string(root.join("tests/golden/questions/catalogue.json")).unwrap();
    let catalogue: Value = serde_json::from_str(&text).unwrap();
    let mut missing = Vec::new();
    for (cube, members) in catalogue["members"].as_object().unwrap() {
        let measures = members["measures"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| m.as_str().unwrap());
        let dimensions = members["dimensions"]
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str);
        for name in measures.chain(dimensions) {
            let full = format!("{cube}.{name}");
            if model.find(&full).is_none() {
                missing.push(full);
            }
        }
    }
    assert!(missing.is_empty(), "not in warehouse/metrics: {missing:?}");
}
