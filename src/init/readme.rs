//! The README of a made project: what is where, the next steps, and questions to begin with.

use super::layout::Layout;

/// The text.
pub(super) fn text(layout: &Layout, questions: &[String]) -> String {
    let mut out = format!("# {}\n\nAnalytics over ", layout.project);
    let sources: Vec<String> = layout
        .sources
        .iter()
        .enumerate()
        .map(|(at, source)| {
            let tables = layout
                .tables
                .iter()
                .filter(|table| table.source == at)
                .count();
            format!("`{}` ({tables} tables)", source.name)
        })
        .collect();
    out.push_str(&sources.join(", "));
    out.push_str(
        ".\n\n## Next steps\n\n\
         1. `ballpoint check --project .` - configuration, models and metrics, without changing anything.\n\
         2. `ballpoint up --project .` - loads the sources, builds and tests the models, and prints the page's address.\n\
         3. Ask, on the page or from a shell beside it:\n\n```console\n",
    );
    for question in questions {
        out.push_str(&format!("$ ballpoint ask --project . \"{question}\"\n"));
    }
    out.push_str(
        "```\n\n## What is where\n\n\
         | path | is |\n|---|---|\n\
         | `ballpoint.toml` | the sources, and which of their tables are loaded |\n\
         | `.env` | their URLs with passwords; only you can read it, and git ignores it |\n\
         | `warehouse/models/staging/` | a dbt model a table, with tests that hold of the data as it was found |\n\
         | `warehouse/metrics/` | a Cube data model: a cube a table, joined along its references |\n\n\
         The models and metrics are a start, made from names, keys and values. Add words that people use as \
         `meta.synonyms`, rates and ratios as measures of type `number`, and your own models under \
         `warehouse/models/`: a running Ballpoint takes changes up as you save them.\n",
    );
    out
}
