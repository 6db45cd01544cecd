//! Files and targets that do not fit are refused with their line, before anything is planned.

use crate::support::{Bench, SYNC};

#[tokio::test]
async fn what_is_wrong_in_a_file_is_named_with_its_line() {
    let bench = Bench::new().await;
    for (from, to, said) in [
        (
            "    mode: upsert\n",
            "    mode: upsert\n    colour: red\n",
            ":9: ",
        ),
        ("mode: upsert", "mode: overwrite", ":8: "),
        (
            "source: shop",
            "source: shed",
            ":5: sync scores: no source shed; there are shop",
        ),
        (
            "'numeric(5,2)'",
            "money",
            "type \"money\" cannot be written back",
        ),
        (
            "{column: note, type: text}",
            "{column: held, type: text}",
            "column held is named twice",
        ),
        (
            "    model: marts.scores\n",
            "",
            ":2: sync scores: `model` or `query` is missing",
        ),
        (
            "max_changed_percent: 100",
            "max_changed_percent: 101",
            ":16: sync scores: a percentage",
        ),
        (
            "model: marts.scores",
            "model: marts.absent",
            ":4: sync scores: relation \"marts.absent\" does not exist",
        ),
        (
            "from: hold",
            "from: halt",
            ":14: sync scores: no column halt in the warehouse",
        ),
        (
            "{column: note, type: text}",
            "{column: note, type: boolean}",
            ":15: sync scores: column note is text in the warehouse",
        ),
        (
            "    create_table: true\n",
            "",
            ":6: sync scores: source shop has no table public.feedback",
        ),
    ] {
        bench.write(&SYNC.replace(from, to));
        let error = bench.refusal().await;
        assert!(error.is_users(), "{error}");
        let text = error.to_string();
        assert!(
            text.contains("scores.yml:") && text.contains(said),
            "{to}: {text}"
        );
    }
}

#[tokio::test]
async fn a_target_that_does_not_fit_is_refused_before_anything_is_planned() {
    let bench = Bench::new().await;
    bench.target_sql("create table public.feedback (id varchar(10), part integer, score numeric(6,2), held boolean, owner text not null)").await;
    let text = bench.refusal().await.to_string();
    for said in [
        ":13: sync scores: column score is numeric(6,2) in source shop, not numeric(5,2)",
        ":15: sync scores: public.feedback has no column note in source shop",
        "public.feedback demands a value for column owner",
        ":9: sync scores: public.feedback has no unique index on (id, part)",
    ] {
        assert!(text.contains(said), "{said}\n{text}");
    }
    bench
        .target_sql("drop table public.feedback; create view public.feedback as select 1 as id")
        .await;
    let text = bench.refusal().await.to_string();
    assert!(text.contains("public.feedback is not a table"), "{text}");
}
