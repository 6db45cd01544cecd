//! The statements that write a table's changes. Their text is constant for a table, so that the
//! server prepares each once: what varies is a parameter or stands in the staging table.

use ballpoint_postgres::ident::{quote, quote_literal, quote_qualified};
use ballpoint_runtime::segment::{TableName, TableSpec};

use crate::target::{self, EXTRACTED_AT, GENERATION_ID};

/// What a staged row is for.
pub(super) const DELETE: i16 = 1;
pub(super) const PUT: i16 = 2;
pub(super) const PATCH: i16 = 3;
pub(super) const REJECT: i16 = 4;
/// Of each value of a rejected row, in characters.
const SHOWN_CHARS: u32 = 200;

const LSN: &str = "_ab_cdc_lsn";
const DELETED_AT: &str = "_ab_cdc_deleted_at";
/// `$1`: the extraction time in microseconds since 1970.
const AT: &str = "(timestamptz 'epoch' + $1::bigint * interval '1 microsecond')";

/// The statements of one table.
#[derive(Clone, Debug)]
pub(super) struct Statements {
    /// Makes the staging table, in this session.
    pub(super) create_stage: String,
    pub(super) clear_stage: String,
    pub(super) drop_stage: String,
    /// COPY, up to its options.
    pub(super) copy_stage: String,
    /// COPY of new rows to where they belong, up to its options.
    pub(super) copy_raw: String,
    /// Takes `$1`, and so do all that follow.
    pub(super) empty: String,
    pub(super) delete: String,
    pub(super) put: String,
    pub(super) patch: String,
    /// The staged PATCH row replaces the row that the staged DELETE row names.
    pub(super) shift: String,
    /// For rows that are named by all their values: as many copies as `_count` says.
    pub(super) remove_copies: String,
    pub(super) add_copies: String,
    /// Keeps the staged REJECT rows, whose `_count` is the number of the column; `$1` is the source.
    pub(super) reject: String,
    /// Forgets what was rejected earlier of rows that are staged, but for patched ones; `$1` is the source.
    pub(super) forget_rejected: String,
}

impl Statements {
    /// `number` tells the staging tables of one session apart.
    pub(super) fn new(spec: &TableSpec, raw: &TableName, generation: i64, number: usize) -> Self {
        let stage = format!("pg_temp._ballpoint_changes_{number}");
        let mut staged = spec.columns.clone();
        staged.iter_mut().for_each(|column| column.not_null = false);
        let rejected = quote_qualified(&raw.schema, "_rejected");
        let (raw, names) = (target::quoted(raw), target::names(&spec.columns));
        let soft = spec.options.soft_delete;
        let mark = format!("{DELETED_AT} = {AT}, {EXTRACTED_AT} = {AT}");
        let same_key = matching(&spec.primary_key);
        let insert = format!(
            "insert into {raw} ({names}, {EXTRACTED_AT}, {GENERATION_ID}, {LSN})
             select {names}, {AT}, {generation}, s._lsn from {stage} s"
        );
        Self {
            create_stage: format!(
                "create temporary table if not exists _ballpoint_changes_{number}
                 (_op smallint, _count bigint, _lsn pg_lsn, _kept bytea, {}) on commit delete rows",
                target::definitions(&staged)
            ),
            clear_stage: format!("truncate {stage}"),
            drop_stage: format!("drop table if exists {stage}"),
            copy_stage: format!("COPY {stage} (_op, _count, _lsn, _kept, {names}) FROM STDIN"),
            copy_raw: format!(
                "COPY {raw} ({names}, {EXTRACTED_AT}, {GENERATION_ID}, {LSN}) FROM STDIN"
            ),
            empty: match soft {
                true => format!("update {raw} set {mark}, {LSN} = $2::text::pg_lsn where {DELETED_AT} is null"),
                false => format!("delete from {raw} where $1::bigint > 0 and $2::text is not null"),
            },
            delete: match soft {
                true => format!(
                    "update {raw} r set {mark}, {LSN} = s._lsn from {stage} s
                     where s._op in ({DELETE}, {REJECT}) and {same_key}"
                ),
                false => format!(
                    "delete from {raw} r using {stage} s
                     where s._op in ({DELETE}, {REJECT}) and {same_key} and $1::bigint > 0"
                ),
            },
            put: format!("{insert} where s._op = {PUT} {}", on_conflict(spec)),
            patch: format!(
                "update {raw} r set {}, {EXTRACTED_AT} = {AT}, {GENERATION_ID} = {generation}, {LSN} = s._lsn
                 from {stage} s where s._op = {PATCH} and {same_key}",
                patched(spec)
            ),
            shift: format!(
                "update {raw} r set {}, {EXTRACTED_AT} = {AT}, {GENERATION_ID} = {generation}, {LSN} = s._lsn
                 from {stage} s, {stage} o
                 where s._op = {PATCH} and o._op = {DELETE} and {}",
                patched(spec),
                same_key.replace("s.", "o.")
            ),
            remove_copies: format!(
                "{} in (
                   select c.place from (
                     select r.ctid as place, s._count as copies,
                            row_number() over (partition by s.ctid) as nth
                     from {stage} s join {raw} r on {} {}
                     where s._op = {DELETE}) c
                   where c.nth <= c.copies) and $1::bigint > 0",
                match soft {
                    true => format!("update {raw} set {mark} where ctid"),
                    false => format!("delete from {raw} where ctid"),
                },
                same_row(spec),
                if soft { format!("and r.{DELETED_AT} is null") } else { String::new() },
            ),
            reject: reject(spec, &rejected, &stage),
            forget_rejected: format!(
                "delete from {rejected} r using {stage} s
                 where r.source = $1 and r.\"table\" = {} and r.key = {}
                   and s._op in ({DELETE}, {PUT}, {REJECT})",
                quote_literal(&spec.table.to_string()),
                shown_key(spec),
            ),
            add_copies: format!("{insert}, generate_series(1, s._count) where s._op = {PUT}"),
        }
    }
}

/// The key as `_rejected` has it.
fn shown_key(spec: &TableSpec) -> String {
    let key = spec.primary_key.iter();
    let key: Vec<String> = key.map(|name| format!("s.{}::text", quote(name))).collect();
    match key.as_slice() {
        [] => "null::text".to_owned(),
        some => format!("concat_ws(', ', {})", some.join(", ")),
    }
}

fn reject(spec: &TableSpec, rejected: &str, stage: &str) -> String {
    let columns = || spec.columns.iter().map(|column| column.name.as_str());
    let names: Vec<String> = columns().map(quote_literal).collect();
    let shown = columns().map(|name| format!("left(s.{}::text, {SHOWN_CHARS})", quote(name)));
    format!(
        "insert into {rejected} (source, \"table\", key, \"column\", reason, \"row\")
         select $1, {}, {}, (array[{}])[s._count],
                'the value is longer than max_value_bytes = {}', row({})::text
         from {stage} s where s._op = {REJECT}",
        quote_literal(&spec.table.to_string()),
        shown_key(spec),
        names.join(", "),
        spec.options.max_value_bytes.unwrap_or_default(),
        shown.collect::<Vec<_>>().join(", "),
    )
}

fn matching(key: &[String]) -> String {
    let each = key.iter().map(|name| format!("r.{0} = s.{0}", quote(name)));
    let all = each.collect::<Vec<_>>().join(" and ");
    if all.is_empty() {
        "false".to_owned()
    } else {
        all
    }
}

/// Byte for byte, as the log names rows: it knows types that have no `=`, and null from null.
fn same_row(spec: &TableSpec) -> String {
    let image = |alias: &str| {
        let columns = spec
            .columns
            .iter()
            .map(|c| format!("{alias}.{}", quote(&c.name)));
        format!("row({})::record", columns.collect::<Vec<_>>().join(", "))
    };
    format!("{} operator(pg_catalog.*=) {}", image("r"), image("s"))
}

fn on_conflict(spec: &TableSpec) -> String {
    if spec.primary_key.is_empty() {
        return String::new();
    }
    let columns = spec.columns.iter().map(|column| quote(&column.name));
    let own = [EXTRACTED_AT, GENERATION_ID, LSN].map(str::to_owned);
    let set = columns
        .chain(own)
        .map(|name| format!("{name} = excluded.{name}"));
    format!(
        "on conflict ({}) do update set {}, {DELETED_AT} = null",
        target::quote_all(&spec.primary_key),
        set.collect::<Vec<_>>().join(", ")
    )
}

/// Every column: its new value, unless its bit says that the log did not repeat it.
fn patched(spec: &TableSpec) -> String {
    let set = spec.columns.iter().enumerate().map(|(at, column)| {
        let name = quote(&column.name);
        format!("{name} = case when get_bit(s._kept, {at}) = 1 then r.{name} else s.{name} end")
    });
    set.collect::<Vec<_>>().join(", ")
}
