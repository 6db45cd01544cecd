//! The SQL of a plan: desired rows, current rows, and what differs, as set operations in the
//! warehouse. Columns are called `k0…` (key) and `c0…` (writable) there, all of them text.

use ballpoint_postgres::ident::{quote, quote_literal};

use uuid::Uuid;

use crate::definition::{Field, Mode, Sync};

/// Temporary tables of the planning transaction.
pub(crate) const DESIRED: &str = "pg_temp.ballpoint_desired";
pub(crate) const CURRENT: &str = "pg_temp.ballpoint_current";
const PROPOSED: &str = "pg_temp.ballpoint_proposed";
const OWNED: &str = "pg_temp.ballpoint_owned";
const DIFFERENCE: &str = "pg_temp.ballpoint_difference";
pub(crate) const PROBE: &str = "pg_temp.ballpoint_probe";

/// A raw value longer than this is cut in a complaint.
const SHOWN_CHARS: u32 = 60;

/// The relation that holds the desired rows, as a FROM item `r`.
pub(crate) fn relation(sync: &Sync) -> String {
    let from = match (&sync.model, &sync.query) {
        (Some(model), _) => {
            let (schema, name) = model.split_once('.').unwrap_or(("public", model));
            format!("{}.{}", quote(schema), quote(name))
        }
        (None, query) => {
            let query = query.as_deref().unwrap_or_default();
            format!("(\n{}\n) as q", query.trim().trim_end_matches(';'))
        }
    };
    match &sync.r#where {
        Some(condition) => format!("(select * from {from} where (\n{condition}\n)) as r"),
        None => format!("(select * from {from}) as r"),
    }
}

/// An empty table with the relation's columns: what their names and types are.
pub(crate) fn probe(sync: &Sync) -> String {
    format!(
        "create temp table ballpoint_probe on commit drop as select * from {} with no data",
        relation(sync)
    )
}

/// `k0, k1, …` with a prefix each.
fn list(prefix: &str, letter: char, count: usize) -> String {
    let names: Vec<String> = (0..count).map(|n| format!("{prefix}{letter}{n}")).collect();
    names.join(", ")
}

/// `a.k0 = b.k0 and …`
fn same_key(a: &str, b: &str, sync: &Sync) -> String {
    let each: Vec<String> = (0..sync.key.len())
        .map(|n| format!("{a}.k{n} = {b}.k{n}"))
        .collect();
    each.join(" and ")
}

/// `jsonb_build_object('id', a.k0, …)`
fn object(fields: &[Field], prefix: &str, letter: char) -> String {
    let pairs: Vec<String> = fields
        .iter()
        .enumerate()
        .map(|(n, field)| format!("{}, {prefix}{letter}{n}", quote_literal(&field.column)))
        .collect();
    format!("jsonb_build_object({})", pairs.join(", "))
}

/// Desired rows with the text that each value will have in the target, and why a row cannot be
/// written.
pub(crate) fn desired(sync: &Sync) -> String {
    let mut columns = Vec::new();
    let mut problems = Vec::new();
    for (letter, fields) in [('k', &sync.key), ('c', &sync.columns)] {
        for (n, field) in fields.iter().enumerate() {
            let value = format!("r.{}", quote(field.from()));
            let text = field.r#type.text(&value);
            let name = quote_literal(&field.column);
            if letter == 'k' {
                problems.push(format!(
                    "when {value} is null then 'key column ' || {name} || ' is null'"
                ));
            }
            let column = match field.r#type.fits(&value) {
                None => text,
                Some(fits) => {
                    problems.push(format!(
                        "when {value} is not null and not ({fits}) then {name} || ': ' || \
                         left(({value})::text, {SHOWN_CHARS}) || ' does not fit ' || {}",
                        quote_literal(&field.r#type.to_string())
                    ));
                    format!(
                        "case when {value} is null then null when {fits} then {text} else ({value})::text end"
                    )
                }
            };
            columns.push(format!("{column} as {letter}{n}"));
        }
    }
    format!(
        "create temp table ballpoint_desired on commit drop as
         select {}, case {} end as problem from {}",
        columns.join(",\n "),
        problems.join("\n "),
        relation(sync)
    )
}

/// Marks rows whose key stands there more than once: which one is meant is unknown.
pub(crate) fn mark_duplicates(sync: &Sync) -> String {
    let keys = list("", 'k', sync.key.len());
    format!(
        "update {DESIRED} d set problem = 'duplicate key'
         from (select {keys} from {DESIRED} where problem is null group by {keys} having count(*) > 1) t
         where d.problem is null and {}",
        same_key("d", "t", sync)
    )
}

/// The table that current rows are copied into.
pub(crate) fn create_current(sync: &Sync) -> String {
    let columns: Vec<String> = (0..sync.key.len())
        .map(|n| format!("k{n} text"))
        .chain((0..sync.columns.len()).map(|n| format!("c{n} text")))
        .collect();
    format!(
        "create temp table ballpoint_current ({}) on commit drop",
        columns.join(", ")
    )
}

/// Reads the target's rows in the same text.
pub(crate) fn read_current(sync: &Sync) -> String {
    let columns: Vec<String> = sync
        .fields()
        .map(|field| field.r#type.text(&quote(&field.column)))
        .collect();
    let (schema, name) = sync.target();
    format!(
        "copy (select {} from {}.{}) to stdout",
        columns.join(", "),
        quote(schema),
        quote(name)
    )
}

/// Values that proposals set, by key: of one plan, or of every applied proposal of the sync, the
/// latest for each column.
pub(crate) fn proposed(sync: &Sync, own: Option<Uuid>) -> String {
    let whose = match own {
        Some(id) => format!("p.id = '{id}'"),
        None => format!(
            "p.sync = {} and p.state = 'applied'",
            quote_literal(&sync.name)
        ),
    };
    let keys: Vec<String> = sync
        .key
        .iter()
        .enumerate()
        .map(|(n, field)| {
            let value = format!("(set_by.key ->> {})", quote_literal(&field.column));
            format!("{} as k{n}", field.r#type.text(&value))
        })
        .collect();
    format!(
        "create temp table ballpoint_proposed on commit drop as
         select {}, set_by.given from (
             select key, jsonb_object_agg(name, value) as given from (
                 select distinct on (item -> 'key', s.name) item -> 'key' as key, s.name, s.value
                 from ballpoint.plans p
                 cross join jsonb_array_elements(p.proposal) as item
                 cross join jsonb_each_text(item -> 'set') as s(name, value)
                 where p.proposal is not null and {whose}
                 order by item -> 'key', s.name, p.applied_at desc
             ) latest group by key
         ) set_by",
        keys.join(", ")
    )
}

/// What a proposal leaves alone stays as the target has it; a row that the target lacks comes from
/// the warehouse. Rows that are not proposed are no part of the plan.
pub(crate) fn narrow_to_proposed(sync: &Sync) -> String {
    let columns: Vec<String> = (0..sync.columns.len())
        .map(|n| format!("case when c.k0 is null then d.c{n} else c.c{n} end as c{n}"))
        .collect();
    format!(
        "create temp table ballpoint_narrowed on commit drop as
         select {}, {}, case when d.k0 is null and c.k0 is null
             then 'no such row, neither in the warehouse nor in the target'
             when c.k0 is null then d.problem end as problem
         from {PROPOSED} p
         left join {DESIRED} d on {}
         left join {CURRENT} c on {};
         truncate {DESIRED};
         insert into {DESIRED} select * from pg_temp.ballpoint_narrowed",
        list("p.", 'k', sync.key.len()),
        columns.join(", "),
        same_key("d", "p", sync),
        same_key("c", "p", sync)
    )
}

/// Puts what proposals set in place of what the warehouse says.
pub(crate) fn put_proposed(sync: &Sync) -> String {
    let sets: Vec<String> = sync
        .columns
        .iter()
        .enumerate()
        .map(|(n, field)| {
            let name = quote_literal(&field.column);
            let value = format!("(p.given ->> {name})");
            format!(
                "c{n} = case when p.given ? {name} then {} else d.c{n} end",
                field.r#type.text(&value)
            )
        })
        .collect();
    format!(
        "update {DESIRED} d set {} from {PROPOSED} p where {}",
        sets.join(", "),
        same_key("d", "p", sync)
    )
}

/// Keys that applied plans of this sync added and none removed since: only these may a mirror
/// remove.
pub(crate) fn owned(sync: &Sync) -> String {
    let keys: Vec<String> = sync
        .key
        .iter()
        .enumerate()
        .map(|(n, field)| format!("key ->> {} as k{n}", quote_literal(&field.column)))
        .collect();
    format!(
        "create temp table ballpoint_owned on commit drop as
         select {} from (
             select distinct on (r.key) r.key, r.kind
             from ballpoint.plan_rows r join ballpoint.plans p on p.id = r.plan_id
             where p.sync = {} and p.state = 'applied' and r.kind in ('added', 'removed')
             order by r.key, p.applied_at desc
         ) latest where kind = 'added'",
        keys.join(", "),
        quote_literal(&sync.name)
    )
}

/// The difference in key order. Where `whole`, a mirror removes rows of its own that are not desired
/// any more; a proposal says nothing about rows that it does not name.
pub(crate) fn difference(sync: &Sync, whole: bool) -> String {
    let keys = sync.key.len();
    let values = sync.columns.len();
    let (mut joined, mut wanted) = (
        "left join",
        vec![
            "c.k0 is null or d.k0 is null or (".to_owned()
                + &list("d.", 'c', values)
                + ") is distinct from ("
                + &list("c.", 'c', values)
                + ")",
        ],
    );
    match sync.mode {
        Mode::Upsert => {}
        Mode::Update => wanted.push("c.k0 is not null".to_owned()),
        Mode::Mirror if !whole => {}
        Mode::Mirror => {
            joined = "full join";
            wanted.push(format!(
                "(d.k0 is not null or (exists (select from {OWNED} o where {})
                  and not exists (select from {DESIRED} i where i.problem is not null and {})))",
                same_key("o", "c", sync),
                same_key("i", "c", sync)
            ));
        }
    }
    let key: Vec<String> = (0..keys)
        .map(|n| format!("coalesce(d.k{n}, c.k{n}) as k{n}"))
        .collect();
    let names = list("", 'k', keys);
    format!(
        "create temp table ballpoint_difference on commit drop as
         select row_number() over (order by {names}, kind) as seq, kind, {key_object} as key, old,
                new, problem from (
             select {invalid_key}, 'invalid' as kind, null::jsonb as old, {new_invalid} as new, problem
             from {DESIRED} d where problem is not null
             union all
             select {key},
                    case when c.k0 is null then 'added' when d.k0 is null then 'removed' else 'changed' end,
                    case when c.k0 is not null then {old} end,
                    case when d.k0 is not null then {new} end, null
             from (select * from {DESIRED} where problem is null) d {joined} {CURRENT} c on {on}
             where {wanted}
         ) difference",
        key_object = object(&sync.key, "", 'k'),
        invalid_key = list("d.", 'k', keys),
        new_invalid = object(&sync.columns, "d.", 'c'),
        key = key.join(", "),
        old = object(&sync.columns, "c.", 'c'),
        new = object(&sync.columns, "d.", 'c'),
        on = same_key("d", "c", sync),
        wanted = wanted.iter().map(|w| format!("({w})")).collect::<Vec<_>>().join(" and "),
    )
}

/// Keeps the difference as the plan's rows: of those to be written, and of those that cannot be, no
/// more than the sync may write at all. A plan with more of them is refused anyway.
pub(crate) fn keep_difference(sync: &Sync, plan: Uuid) -> String {
    format!(
        "insert into ballpoint.plan_rows (plan_id, seq, kind, key, old, new, problem)
         select '{plan}', seq, kind, key, old, new, problem from (
             select *, row_number() over (partition by kind = 'invalid' order by seq) as nth
             from {DIFFERENCE}
         ) d where nth <= {}",
        sync.limits.max_rows
    )
}

/// How many rows are added, changed, removed and invalid.
pub(crate) fn kinds() -> String {
    format!(
        "select count(*) filter (where kind = 'added'), count(*) filter (where kind = 'changed'),
                count(*) filter (where kind = 'removed'), count(*) filter (where kind = 'invalid')
         from {DIFFERENCE}"
    )
}

/// How many desired rows can be written, how many of them the target lacks, and how many rows it has.
pub(crate) fn totals(sync: &Sync) -> String {
    format!(
        "select (select count(*) from {DESIRED} where problem is null),
                (select count(*) from {DESIRED} d left join {CURRENT} c on {}
                 where d.problem is null and c.k0 is null),
                (select count(*) from {CURRENT})",
        same_key("d", "c", sync)
    )
}
